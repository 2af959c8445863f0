//! Conversions between float32 and the two 16-bit formats. Rounding is to nearest, ties to even.

pub fn bf16_to_f32(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

pub fn f32_to_bf16(value: f32) -> u16 {
    if value.is_nan() {
        return 0x7fc0;
    }
    let bits = value.to_bits();
    ((bits + 0x7fff + ((bits >> 16) & 1)) >> 16) as u16
}

pub fn f16_to_f32(bits: u16) -> f32 {
    let sign = u32::from(bits & 0x8000) << 16;
    let magnitude = u32::from(bits & 0x7fff);
    let value = if magnitude >= 0x7c00 {
        f32::from_bits(0x7f80_0000 | (magnitude & 0x3ff) << 13)
    } else {
        // The shifted bits are value * 2^-112, also for subnormals.
        f32::from_bits(magnitude << 13) * f32::from_bits((112 + 127) << 23)
    };
    f32::from_bits(value.to_bits() | sign)
}

pub fn f32_to_f16(value: f32) -> u16 {
    let bits = value.to_bits();
    let sign = (bits >> 16) as u16 & 0x8000;
    let magnitude = bits & 0x7fff_ffff;
    if magnitude > 0x7f80_0000 {
        return sign | 0x7e00;
    }
    if magnitude >= 0x477f_f000 {
        return sign | 0x7c00;
    }
    if magnitude < 0x3880_0000 {
        // Subnormal: the value in units of 2^-24.
        let units = (value.abs() * f32::from_bits((24 + 127) << 23)).round_ties_even();
        return sign | units as u16;
    }
    let rounded = magnitude + 0xfff + ((magnitude >> 13) & 1);
    sign | ((rounded - 0x3800_0000) >> 13) as u16
}

/// As `f32_to_f16`, but magnitudes that would become infinite become 65504. Without branches, so
/// that a loop over a row becomes vector code.
pub fn f32_to_f16_finite(value: f32) -> u16 {
    let bits = value.to_bits();
    let sign = (bits >> 16) as u16 & 0x8000;
    let magnitude = (bits & 0x7fff_ffff).min(0x477f_e000);
    // Adding 1/2 rounds to units of 2^-24, the subnormals' step, and leaves them in the low bits.
    let half = 0.5f32;
    let subnormal = (f32::from_bits(magnitude) + half).to_bits() - half.to_bits();
    let rounded = magnitude + 0xfff + ((magnitude >> 13) & 1);
    let normal = rounded.wrapping_sub(0x3800_0000) >> 13;
    sign | if magnitude < 0x3880_0000 { subnormal } else { normal } as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_f16_survives_a_round_trip() {
        for bits in 0..=u16::MAX {
            let value = f16_to_f32(bits);
            if !value.is_nan() {
                assert_eq!(f32_to_f16(value), bits);
            }
        }
    }

    #[test]
    fn finite_halves_are_the_halves_up_to_the_largest() {
        let mut magnitude = 0;
        while magnitude <= 0x7fc0_0000 {
            for value in [f32::from_bits(magnitude), -f32::from_bits(magnitude)] {
                let plain = f32_to_f16(value);
                let largest = plain & 0x8000 | 0x7bff;
                let expected = if plain & 0x7fff >= 0x7c00 { largest } else { plain };
                assert_eq!(f32_to_f16_finite(value), expected, "{value:e}");
            }
            magnitude += 997;
        }
    }

    #[test]
    fn rounding_is_to_nearest_even() {
        assert_eq!(f32_to_f16(1.0 + 1.0 / 2048.0), 0x3c00);
        assert_eq!(f32_to_f16(1.0 + 3.0 / 2048.0), 0x3c02);
        assert_eq!(f32_to_f16(65_520.0), 0x7c00);
        assert_eq!(f32_to_f16(65_519.0), 0x7bff);
        assert_eq!(f32_to_bf16(f32::from_bits(0x3f80_8000)), 0x3f80);
        assert_eq!(f32_to_bf16(f32::from_bits(0x3f81_8000)), 0x3f82);
    }
}
