//! Huffman tables: a look-up for short codes, canonical search for long ones (ITU-T T.81, F.2.2.3).

use super::bits::BitReader;
use super::damaged;
use crate::error::Result;

const LOOKUP_BITS: u32 = 9;

pub struct HuffmanTable {
    /// `length << 8 | symbol` by the next `LOOKUP_BITS` bits; 0 where the code is longer.
    lookup: [u16; 1 << LOOKUP_BITS],
    /// Largest code of each length, or -1.
    code_max: [i32; 17],
    /// Index of a length's first symbol minus its first code.
    symbol_offset: [i32; 17],
    symbols: [u8; 256],
}

impl HuffmanTable {
    /// `counts[i]` codes have length `i + 1`; `symbols` are in code order.
    pub fn new(counts: &[u8], symbols: &[u8]) -> Result<Self> {
        if symbols.len() > 256 {
            return Err(damaged("bad Huffman table"));
        }
        let mut table = HuffmanTable {
            lookup: [0; 1 << LOOKUP_BITS],
            code_max: [-1; 17],
            symbol_offset: [0; 17],
            symbols: [0; 256],
        };
        table.symbols[..symbols.len()].copy_from_slice(symbols);
        let (mut code, mut index) = (0u32, 0usize);
        for length in 1..=16u32 {
            let count = u32::from(counts[length as usize - 1]);
            if code + count > 1 << length {
                return Err(damaged("bad Huffman table"));
            }
            table.symbol_offset[length as usize] = index as i32 - code as i32;
            for _ in 0..count {
                if length <= LOOKUP_BITS {
                    let shift = LOOKUP_BITS - length;
                    let entry = (length as u16) << 8 | u16::from(symbols[index]);
                    table.lookup[(code << shift) as usize..((code + 1) << shift) as usize]
                        .fill(entry);
                }
                code += 1;
                index += 1;
            }
            if count > 0 {
                table.code_max[length as usize] = code as i32 - 1;
            }
            code <<= 1;
        }
        Ok(table)
    }

    /// The next symbol. A code that does not exist reads as symbol 0, as in libjpeg: the file is
    /// corrupt there, yet the rest may be readable.
    #[inline]
    pub fn decode(&self, bits: &mut BitReader) -> u8 {
        let entry = self.lookup[bits.peek(LOOKUP_BITS) as usize];
        if entry != 0 {
            bits.skip(u32::from(entry >> 8));
            return entry as u8;
        }
        self.decode_long(bits)
    }

    #[cold]
    fn decode_long(&self, bits: &mut BitReader) -> u8 {
        for length in LOOKUP_BITS + 1..=16 {
            let code = bits.peek(length) as i32;
            if code <= self.code_max[length as usize] {
                bits.skip(length);
                return self.symbols[(code + self.symbol_offset[length as usize]) as usize & 255];
            }
        }
        bits.skip(16);
        0
    }
}
