//! The one EXIF value that matters here: orientation (TIFF tag 0x0112 of IFD 0).

const TAG_ORIENTATION: u16 = 0x0112;
const TYPE_SHORT: u16 = 3;

/// Orientation 1..=8, or 1 (upright) when it is missing or the block is malformed.
/// `exif` is a TIFF structure, optionally preceded by `Exif\0\0`.
pub fn orientation(exif: &[u8]) -> u8 {
    read_orientation(exif.strip_prefix(b"Exif\0\0").unwrap_or(exif)).unwrap_or(1)
}

fn read_orientation(tiff: &[u8]) -> Option<u8> {
    let little_endian = match tiff.get(..4)? {
        [b'I', b'I', 42, 0] => true,
        [b'M', b'M', 0, 42] => false,
        _ => return None,
    };
    let u16_at = |at: usize| -> Option<u16> {
        let bytes: [u8; 2] = tiff.get(at..at.checked_add(2)?)?.try_into().ok()?;
        Some(if little_endian { u16::from_le_bytes(bytes) } else { u16::from_be_bytes(bytes) })
    };
    let high = usize::from(u16_at(if little_endian { 6 } else { 4 })?);
    let low = usize::from(u16_at(if little_endian { 4 } else { 6 })?);
    let directory = (high << 16) | low;
    let entries = usize::from(u16_at(directory)?);
    for index in 0..entries {
        let entry = directory.checked_add(2 + index * 12)?;
        if u16_at(entry)? == TAG_ORIENTATION {
            if u16_at(entry + 2)? != TYPE_SHORT {
                return None;
            }
            let value = u16_at(entry + 8)?;
            return (1..=8).contains(&value).then_some(value as u8);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(little_endian: bool, value: u16) -> Vec<u8> {
        let word = |v: u16| if little_endian { v.to_le_bytes() } else { v.to_be_bytes() };
        let long = |v: u32| if little_endian { v.to_le_bytes() } else { v.to_be_bytes() };
        let mut out = if little_endian { b"II".to_vec() } else { b"MM".to_vec() };
        out.extend(word(42));
        out.extend(long(8));
        out.extend(word(1));
        out.extend(word(TAG_ORIENTATION));
        out.extend(word(TYPE_SHORT));
        out.extend(long(1));
        out.extend(word(value));
        out.extend([0; 6]);
        out
    }

    #[test]
    fn orientation_reads_both_byte_orders() {
        assert_eq!(orientation(&block(true, 6)), 6);
        assert_eq!(orientation(&block(false, 8)), 8);
        assert_eq!(orientation(&[b"Exif\0\0".as_slice(), &block(false, 3)].concat()), 3);
    }

    #[test]
    fn orientation_is_upright_when_malformed() {
        assert_eq!(orientation(&[]), 1);
        assert_eq!(orientation(&block(true, 9)), 1);
        for cut in 0..18 {
            assert_eq!(orientation(&block(true, 6)[..cut]), 1);
        }
        let mut far = block(true, 6);
        far[4..8].copy_from_slice(&[0xff; 4]);
        assert_eq!(orientation(&far), 1);
    }
}
