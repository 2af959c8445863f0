//! The accurate integer inverse DCT of libjpeg (`jidctint.c`; Loeffler, Ligtenberg and Moschytz 1989).

use std::num::Wrapping;

/// Natural (row-major) position of each zigzag position.
pub const ZIGZAG: [usize; 64] = [
    0, 1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5, 12, 19, 26, 33, 40, 48, 41, 34, 27, 20,
    13, 6, 7, 14, 21, 28, 35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51, 58, 59,
    52, 45, 38, 31, 39, 46, 53, 60, 61, 54, 47, 55, 62, 63,
];

const CONST_BITS: usize = 13;
/// Extra precision kept between the passes.
const PASS1_BITS: usize = 2;

/// Corrupt coefficients may overflow; any pixels will do for them.
type W = Wrapping<i32>;

/// Dequantises a block (natural order), transforms it and writes 8 x 8 samples.
pub fn transform(coefficients: &[i16; 64], quant: &[u16; 64], out: &mut [u8], stride: usize) {
    if coefficients[1..].iter().all(|&value| value == 0) {
        return fill(coefficients[0], quant[0], out, stride);
    }
    let mut work = [Wrapping(0i32); 64];
    for column in 0..8 {
        let at = |row: usize| {
            let index = row * 8 + column;
            Wrapping(i32::from(coefficients[index])) * Wrapping(i32::from(quant[index]))
        };
        let sums = butterfly([at(0), at(1), at(2), at(3), at(4), at(5), at(6), at(7)]);
        for (row, sum) in sums.into_iter().enumerate() {
            work[row * 8 + column] = descale(sum, CONST_BITS - PASS1_BITS);
        }
    }
    for (row, line) in work.chunks_exact(8).zip(out.chunks_mut(stride)) {
        let input: [W; 8] = [row[0], row[1], row[2], row[3], row[4], row[5], row[6], row[7]];
        for (sample, sum) in line[..8].iter_mut().zip(butterfly(input)) {
            *sample = to_sample(descale(sum, CONST_BITS + PASS1_BITS + 3));
        }
    }
}

/// A block with a DC coefficient only: what both passes make of it.
fn fill(dc: i16, quant: u16, out: &mut [u8], stride: usize) {
    let value = (Wrapping(i32::from(dc)) * Wrapping(i32::from(quant))) << PASS1_BITS;
    let sample = to_sample(descale(value, PASS1_BITS + 3));
    for line in out.chunks_mut(stride).take(8) {
        line[..8].fill(sample);
    }
}

fn descale(value: W, bits: usize) -> W {
    (value + (Wrapping(1) << (bits - 1))) >> bits
}

fn to_sample(value: W) -> u8 {
    value.0.saturating_add(128).clamp(0, 255) as u8
}

/// One dimension; results are scaled up by `sqrt(8) << CONST_BITS`.
#[inline]
fn butterfly(v: [W; 8]) -> [W; 8] {
    const FIX_0_298631336: W = Wrapping(2446);
    const FIX_0_390180644: W = Wrapping(3196);
    const FIX_0_541196100: W = Wrapping(4433);
    const FIX_0_765366865: W = Wrapping(6270);
    const FIX_0_899976223: W = Wrapping(7373);
    const FIX_1_175875602: W = Wrapping(9633);
    const FIX_1_501321110: W = Wrapping(12299);
    const FIX_1_847759065: W = Wrapping(15137);
    const FIX_1_961570560: W = Wrapping(16069);
    const FIX_2_053119869: W = Wrapping(16819);
    const FIX_2_562915447: W = Wrapping(20995);
    const FIX_3_072711026: W = Wrapping(25172);

    // Even part.
    let z = (v[2] + v[6]) * FIX_0_541196100;
    let e2 = z - v[6] * FIX_1_847759065;
    let e3 = z + v[2] * FIX_0_765366865;
    let e0 = (v[0] + v[4]) << CONST_BITS;
    let e1 = (v[0] - v[4]) << CONST_BITS;
    let even = [e0 + e3, e1 + e2, e1 - e2, e0 - e3];

    // Odd part.
    let (z1, z2, z3, z4) = (v[7] + v[1], v[5] + v[3], v[7] + v[3], v[5] + v[1]);
    let z5 = (z3 + z4) * FIX_1_175875602;
    let z1 = -z1 * FIX_0_899976223;
    let z2 = -z2 * FIX_2_562915447;
    let z3 = z5 - z3 * FIX_1_961570560;
    let z4 = z5 - z4 * FIX_0_390180644;
    let odd = [
        v[1] * FIX_1_501321110 + z1 + z4,
        v[3] * FIX_3_072711026 + z2 + z3,
        v[5] * FIX_2_053119869 + z2 + z4,
        v[7] * FIX_0_298631336 + z1 + z3,
    ];
    [
        even[0] + odd[0],
        even[1] + odd[1],
        even[2] + odd[2],
        even[3] + odd[3],
        even[3] - odd[3],
        even[2] - odd[2],
        even[1] - odd[1],
        even[0] - odd[0],
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The definition, in floating point.
    fn exact(coefficients: &[i16; 64]) -> Vec<f64> {
        let scale = |k: usize| if k == 0 { 0.5f64.sqrt() } else { 1.0 };
        let wave = |x: usize, u: usize| {
            (std::f64::consts::PI * (2 * x + 1) as f64 * u as f64 / 16.0).cos() * scale(u)
        };
        let mut out = Vec::new();
        for y in 0..8 {
            for x in 0..8 {
                let sum: f64 = (0..64)
                    .map(|k| f64::from(coefficients[k]) * wave(y, k / 8) * wave(x, k % 8))
                    .sum();
                out.push((sum / 4.0 + 128.0).clamp(0.0, 255.0));
            }
        }
        out
    }

    #[test]
    fn transform_is_within_one_level_of_the_definition() {
        let mut state = 1u32;
        let mut random = || {
            state = state.wrapping_mul(1664525).wrapping_add(1013904223);
            (state >> 24) as i16 - 128
        };
        for round in 0..50 {
            let mut block = [0i16; 64];
            block[0] = random() * 4;
            for value in block.iter_mut().skip(1).take(round) {
                *value = random() / 2;
            }
            let mut out = [0u8; 64];
            transform(&block, &[1; 64], &mut out, 8);
            for (sample, wanted) in out.iter().zip(exact(&block)) {
                assert!((f64::from(*sample) - wanted).abs() <= 1.0, "{sample} {wanted}");
            }
        }
    }

    #[test]
    fn transform_survives_extreme_coefficients() {
        transform(&[i16::MIN; 64], &[u16::MAX; 64], &mut [0; 64], 8);
        let mut block = [0; 64];
        block[0] = i16::MAX;
        let mut out = [0; 64];
        transform(&block, &[8; 64], &mut out, 8);
        assert_eq!(out, [255; 64]);
    }
}
