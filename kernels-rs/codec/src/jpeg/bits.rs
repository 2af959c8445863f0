//! Bits of entropy-coded data: unstuffs `FF 00`, stops at markers (ITU-T T.81, F.2.2.5).

/// Reads most significant bit first. Past a marker or the end of the file it reads zeros.
pub struct BitReader<'a> {
    bytes: &'a [u8],
    position: usize,
    /// The low `count` bits are the next ones.
    buffer: u64,
    count: u32,
    /// How many of the buffered bits were made up after the end of the file.
    made_up: u32,
    at_marker: bool,
}

impl<'a> BitReader<'a> {
    pub fn new(bytes: &'a [u8], position: usize) -> Self {
        Self { bytes, position, buffer: 0, count: 0, made_up: 0, at_marker: false }
    }

    #[cold]
    fn refill(&mut self) {
        while self.count <= 48 {
            let byte = self.next_byte();
            self.buffer = self.buffer << 8 | u64::from(byte);
            self.count += 8;
        }
    }

    fn next_byte(&mut self) -> u8 {
        if self.at_marker {
            return 0;
        }
        match self.bytes.get(self.position..) {
            Some([0xff, 0, ..]) => {
                self.position += 2;
                0xff
            }
            Some([0xff, ..]) => self.fill_or_marker(),
            Some([byte, ..]) => {
                self.position += 1;
                *byte
            }
            _ => {
                self.made_up += 8;
                0
            }
        }
    }

    /// `FF FF`... is fill before a marker or before a stuffed zero.
    fn fill_or_marker(&mut self) -> u8 {
        let mut next = self.position;
        while self.bytes.get(next) == Some(&0xff) {
            next += 1;
        }
        match self.bytes.get(next) {
            Some(0) => {
                self.position = next + 1;
                0xff
            }
            Some(_) => {
                self.at_marker = true;
                0
            }
            None => {
                self.position = next;
                self.made_up += 8;
                0
            }
        }
    }

    /// The next `count` (at most 16) bits, not taken.
    #[inline]
    pub fn peek(&mut self, count: u32) -> u32 {
        if self.count < count {
            self.refill();
        }
        (self.buffer >> (self.count - count)) as u32 & ((1 << count) - 1)
    }

    /// Takes bits that were peeked.
    #[inline]
    pub fn skip(&mut self, count: u32) {
        self.count -= count;
    }

    #[inline]
    pub fn take(&mut self, count: u32) -> u32 {
        let value = self.peek(count);
        self.skip(count);
        value
    }

    /// A signed value of `size` (0..=15) bits (ITU-T T.81, F.2.2.1: RECEIVE and EXTEND).
    #[inline]
    pub fn take_signed(&mut self, size: u32) -> i32 {
        if size == 0 {
            return 0;
        }
        let value = self.take(size) as i32;
        if value < 1 << (size - 1) { value - (1 << size) + 1 } else { value }
    }

    /// True when bits were taken that the file does not have.
    pub fn is_exhausted(&self) -> bool {
        self.count < self.made_up
    }

    /// Drops the rest of the bits and steps over the restart marker that should follow. Data up to
    /// a marker are skipped; another marker is left in place, and zeros are read from then on.
    pub fn restart(&mut self) {
        (self.buffer, self.count) = (0, 0);
        self.at_marker = false;
        while let Some(pair) = self.bytes.get(self.position..self.position + 2) {
            match pair {
                [0xff, 0xd0..=0xd7] => {
                    self.position += 2;
                    return;
                }
                [0xff, 1..=0xfe] => {
                    self.at_marker = true;
                    return;
                }
                _ => self.position += 1,
            }
        }
    }

    /// Where the marker search goes on. Whole bytes that are still buffered are not data of
    /// another segment: they precede the marker.
    pub fn position(&self) -> usize {
        self.position
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn take_unstuffs_and_stops_at_markers() {
        let mut bits = BitReader::new(&[0xab, 0xff, 0x00, 0xff, 0xd9], 0);
        assert_eq!(bits.take(8), 0xab);
        assert_eq!(bits.take(8), 0xff);
        assert_eq!(bits.take(16), 0);
        assert!(!bits.is_exhausted());
        assert_eq!(bits.position(), 3);
    }

    #[test]
    fn is_exhausted_tells_a_truncated_file() {
        let mut bits = BitReader::new(&[0xab], 0);
        bits.take(8);
        assert!(!bits.is_exhausted());
        bits.take(1);
        assert!(bits.is_exhausted());
    }

    #[test]
    fn take_signed_extends() {
        let mut bits = BitReader::new(&[0b0100_1100, 0], 0);
        assert_eq!([1, 1, 2, 2].map(|size| bits.take_signed(size)), [-1, 1, -3, 3]);
    }

    #[test]
    fn restart_skips_to_the_restart_marker() {
        let mut bits = BitReader::new(&[0x12, 0x34, 0xff, 0xd3, 0x56], 0);
        bits.take(3);
        bits.restart();
        assert_eq!(bits.take(8), 0x56);
    }
}
