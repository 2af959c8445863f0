//! Rounding rules of quantised values: weights when they are packed, activations on the fly. The
//! same as `src/kernels/reference/quantize.ts`, bit for bit.

use crate::half::{bf16_to_f32, f32_to_bf16};
use crate::math::{lane_max, lane_sum};
use crate::pack::GROUP;
use crate::simd::Vector;

/// How the values of a group become codes: (c - zero) * scale.
#[derive(Clone, Copy)]
pub struct Codes {
    /// The code of zero; the largest is twice that, less one.
    zero: f32,
    /// First of the places where the value of largest magnitude may come to lie, less zero.
    first_anchor: f32,
}

const ANCHOR_STEP: f32 = -0.3125;
const ANCHORS: usize = 8;
/// Groups below 2^-100 vanish: their reciprocal would not be a float32.
pub const SMALLEST_EXTREME: f32 = 7.888_609e-31;

impl Codes {
    pub const SEVEN_BITS: Self = Self { zero: 64.0, first_anchor: -62.75 };
    pub const FOUR_BITS: Self = Self { zero: 8.0, first_anchor: -7.25 };

    /// A code less zero.
    pub fn value(self, code: u8) -> f32 {
        f32::from(code) - self.zero
    }

    #[inline(always)]
    fn round<V: Vector>(self, values: V) -> V {
        values.nearest().max(V::splat(-self.zero)).min(V::splat(self.zero - 1.0))
    }
}

/// Bits of a group's bf16 scale, and its codes; see the reference for the rule.
pub unsafe fn quantize_weights<V: Vector>(
    values: &[f32; GROUP],
    codes: Codes,
) -> (u16, [u8; GROUP]) {
    let zeros = [codes.zero as u8; GROUP];
    let extreme = values.iter().fold(0.0f32, |a, &b| if b.abs() > a.abs() { b } else { a });
    if extreme.abs() < SMALLEST_EXTREME {
        return (0, zeros);
    }
    let load = |i: usize| V::load(values.as_ptr().add(4 * i));
    let inverse = V::splat(1.0 / extreme);
    let ratios: [V; GROUP / 4] = std::array::from_fn(|i| load(i).mul(inverse));
    let (mut best_score, mut best_ratio) = (-1.0, 0.0);
    for anchor in 0..ANCHORS {
        let anchor = V::splat(codes.first_anchor + anchor as f32 * ANCHOR_STEP);
        let (mut products, mut squares) = (V::splat(0.0), V::splat(0.0));
        for ratio in ratios {
            let code = codes.round(ratio.mul(anchor));
            // Not `madd`: the codes are the same on every machine.
            products = products.add(ratio.mul(code));
            squares = squares.add(code.mul(code));
        }
        let (product, square) = (lane_sum(products), lane_sum(squares));
        let score = product * product / square;
        if score > best_score {
            (best_score, best_ratio) = (score, product / square);
        }
    }
    let bits = f32_to_bf16(extreme * best_ratio);
    let scale = bf16_to_f32(bits);
    if scale == 0.0 {
        return (bits, zeros);
    }
    let mut rounded = zeros;
    for i in 0..GROUP / 4 {
        let lanes = codes.round(load(i).div(V::splat(scale))).lanes();
        for (lane, value) in lanes.into_iter().enumerate() {
            rounded[4 * i + lane] = (value + codes.zero) as u8;
        }
    }
    (bits, rounded)
}

/// A quantised group of activations: int8 codes, and what a product needs beside them.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ActivationGroup {
    pub codes: [i8; GROUP],
    pub scale: f32,
    /// Where the sums of a product with q8 codes start: -64 times the sum of these codes.
    pub start_q8: i32,
    /// The same for q4, -8 times the sum, as two halves of 16 bits.
    pub start_q4: [i16; 2],
}

pub const ACTIVATION_BYTES: usize = size_of::<ActivationGroup>();

/// Quantises one group of a row of `columns` into its place among the row's groups.
#[inline(always)]
pub unsafe fn quantize_row_group<V: Vector>(
    row: *const f32,
    columns: usize,
    group: usize,
    groups: *mut ActivationGroup,
) {
    let first = group * GROUP;
    quantize_activations::<V>(row.add(first), GROUP.min(columns - first), groups.add(group));
}

/// Quantises `count` values (at most a group; the rest counts as zeros).
#[inline(always)]
unsafe fn quantize_activations<V: Vector>(
    from: *const f32,
    count: usize,
    to: *mut ActivationGroup,
) {
    if count == GROUP {
        return quantize_whole_group::<V>(from, to);
    }
    let mut values = [0.0; GROUP];
    values.as_mut_ptr().copy_from_nonoverlapping(from, count);
    quantize_whole_group::<V>(values.as_ptr(), to);
}

#[inline(always)]
unsafe fn quantize_whole_group<V: Vector>(from: *const f32, to: *mut ActivationGroup) {
    let values: [V; GROUP / 4] = std::array::from_fn(|i| V::load(from.add(4 * i)));
    // NaN counts as zero.
    let largest = values.iter().fold(V::splat(0.0), |largest, value| largest.at_least(value.abs()));
    let largest = lane_max(largest);
    let inverse = V::splat(if largest == 0.0 { 0.0 } else { 127.0 / largest });
    let (low, high) = (V::splat(-127.0), V::splat(127.0));
    let codes: [V::Int; GROUP / 4] =
        values.map(|value| value.mul(inverse).nearest().at_least(low).at_most(high).to_int());
    let sum: i32 =
        codes.into_iter().reduce(V::add_int).map_or(0, |sum| V::int_lanes(sum).iter().sum());
    let place = (&raw mut (*to).codes).cast::<i8>();
    V::store_i8([codes[0], codes[1], codes[2], codes[3]], place);
    V::store_i8([codes[4], codes[5], codes[6], codes[7]], place.add(GROUP / 2));
    (*to).scale = largest / 127.0;
    (*to).start_q8 = -64 * sum;
    (*to).start_q4 = [-4 * sum as i16; 2];
}

/// One value of a KV head row as int8.
pub fn round_to_i8(value: f32) -> i8 {
    value.round_ties_even().clamp(-127.0, 127.0) as i8
}
