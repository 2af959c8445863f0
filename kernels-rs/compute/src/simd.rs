//! Four-lane vectors. Kernels are generic over `Vector`; one implementation is chosen per artefact:
//! `Scalar` (native tests), `Simd128` and `Relaxed` (fused multiply-add) on WebAssembly.

/// Four float32 lanes, with the integer operations that the kernels need beside them.
///
/// # Safety of the loads and stores
/// Pointers must be valid for the stated number of elements; no alignment is required.
pub trait Vector: Copy {
    /// Four i32 lanes.
    type Int: Copy;

    fn splat(value: f32) -> Self;
    fn from_lanes(lanes: [f32; 4]) -> Self;
    fn lanes(self) -> [f32; 4];
    /// One lane in all lanes.
    fn spread(self, lane: usize) -> Self;
    unsafe fn load(from: *const f32) -> Self;
    /// One value in all lanes.
    unsafe fn load_splat(from: *const f32) -> Self;
    unsafe fn store(self, to: *mut f32);

    fn add(self, other: Self) -> Self;
    fn sub(self, other: Self) -> Self;
    fn mul(self, other: Self) -> Self;
    fn div(self, other: Self) -> Self;
    fn min(self, other: Self) -> Self;
    fn max(self, other: Self) -> Self;
    fn abs(self) -> Self;
    fn sqrt(self) -> Self;
    /// Nearest integer, ties to even.
    fn nearest(self) -> Self;
    /// `self * factor + addend`, fused or not, but always the same way in one artefact.
    fn madd(self, factor: Self, addend: Self) -> Self;

    /// Eight bfloat16 values as two vectors.
    unsafe fn load_bf16(from: *const u16) -> [Self; 2];
    /// Four bfloat16 values.
    unsafe fn load_bf16_half(from: *const u16) -> Self;
    /// Four half-precision values.
    unsafe fn load_f16(from: *const u16) -> Self;

    /// Four i32 values.
    unsafe fn load_int(from: *const i32) -> Self::Int;
    fn from_int(value: Self::Int) -> Self;
    /// Whole numbers as they are, cut to 32 bits; NaN becomes 0.
    fn to_int(self) -> Self::Int;
    /// Integers and floats of the same bits.
    fn bits(self) -> Self::Int;
    fn from_bits(bits: Self::Int) -> Self;
    fn add_int(left: Self::Int, right: Self::Int) -> Self::Int;
    fn int_lanes(value: Self::Int) -> [i32; 4];
    /// Sixteen integers as int8, cut to its range.
    unsafe fn store_i8(values: [Self::Int; 4], to: *mut i8);
    /// 2^n for integral n in [-126, 127].
    fn power_of_two(exponent: Self) -> Self;

    /// One lane in all lanes. Cheaper than another load, whose bounds the engine checks.
    fn lane<const LANE: usize>(self) -> Self;
    /// `least` where `self` is below it, else `self`, also when that is NaN. Unlike `max` one
    /// instruction.
    fn at_least(self, least: Self) -> Self;
    /// `most` where `self` is above it, else `self`, also when that is NaN.
    fn at_most(self, most: Self) -> Self;
    /// Lanes of `yes` where `left < right`, else of `no`.
    fn pick_less(left: Self, right: Self, yes: Self, no: Self) -> Self;
    /// Eight finite half-precision values in split order (see `kv.rs`); others come out wrong.
    unsafe fn load_split_f16(from: *const u16) -> [Self; 2];
    /// Sixteen int8 values in split order.
    unsafe fn load_split_i8(from: *const i8) -> [Self; 4];
}

#[cfg(not(target_family = "wasm"))]
pub type Active = scalar::Scalar;
#[cfg(all(target_family = "wasm", not(target_feature = "relaxed-simd")))]
pub type Active = wasm::Simd128;
#[cfg(all(target_family = "wasm", target_feature = "relaxed-simd"))]
pub type Active = wasm::Relaxed;

/// Plain Rust: the implementation that the others are compared with.
#[cfg(not(target_family = "wasm"))]
pub mod scalar {
    use super::Vector;
    use crate::half::{bf16_to_f32, f16_to_f32};

    #[derive(Clone, Copy)]
    pub struct Scalar([f32; 4]);

    impl Scalar {
        fn map(self, f: impl Fn(f32) -> f32) -> Self {
            Self(self.0.map(f))
        }
        fn zip(self, other: Self, f: impl Fn(f32, f32) -> f32) -> Self {
            Self(std::array::from_fn(|i| f(self.0[i], other.0[i])))
        }
    }

    impl Vector for Scalar {
        type Int = [i32; 4];

        fn splat(value: f32) -> Self {
            Self([value; 4])
        }
        fn from_lanes(lanes: [f32; 4]) -> Self {
            Self(lanes)
        }
        fn lanes(self) -> [f32; 4] {
            self.0
        }
        fn spread(self, lane: usize) -> Self {
            Self([self.0[lane]; 4])
        }
        unsafe fn load(from: *const f32) -> Self {
            Self(from.cast::<[f32; 4]>().read_unaligned())
        }
        unsafe fn load_splat(from: *const f32) -> Self {
            Self([from.read_unaligned(); 4])
        }
        unsafe fn store(self, to: *mut f32) {
            to.cast::<[f32; 4]>().write_unaligned(self.0);
        }
        fn add(self, other: Self) -> Self {
            self.zip(other, |a, b| a + b)
        }
        fn sub(self, other: Self) -> Self {
            self.zip(other, |a, b| a - b)
        }
        fn mul(self, other: Self) -> Self {
            self.zip(other, |a, b| a * b)
        }
        fn div(self, other: Self) -> Self {
            self.zip(other, |a, b| a / b)
        }
        fn min(self, other: Self) -> Self {
            self.zip(other, |a, b| if b < a || b.is_nan() { b } else { a })
        }
        fn max(self, other: Self) -> Self {
            self.zip(other, |a, b| if b > a || b.is_nan() { b } else { a })
        }
        fn abs(self) -> Self {
            self.map(f32::abs)
        }
        fn sqrt(self) -> Self {
            self.map(f32::sqrt)
        }
        fn nearest(self) -> Self {
            self.map(f32::round_ties_even)
        }
        fn madd(self, factor: Self, addend: Self) -> Self {
            self.mul(factor).add(addend)
        }
        unsafe fn load_bf16(from: *const u16) -> [Self; 2] {
            let bits = from.cast::<[u16; 8]>().read_unaligned();
            [0, 4].map(|half| Self(std::array::from_fn(|i| bf16_to_f32(bits[half + i]))))
        }
        unsafe fn load_bf16_half(from: *const u16) -> Self {
            Self(from.cast::<[u16; 4]>().read_unaligned().map(bf16_to_f32))
        }
        unsafe fn load_f16(from: *const u16) -> Self {
            Self(from.cast::<[u16; 4]>().read_unaligned().map(f16_to_f32))
        }
        unsafe fn load_int(from: *const i32) -> [i32; 4] {
            from.cast::<[i32; 4]>().read_unaligned()
        }
        fn from_int(value: [i32; 4]) -> Self {
            Self(value.map(|lane| lane as f32))
        }
        fn to_int(self) -> [i32; 4] {
            self.0.map(|lane| lane as i32)
        }
        fn bits(self) -> [i32; 4] {
            self.0.map(|lane| lane.to_bits() as i32)
        }
        fn from_bits(bits: [i32; 4]) -> Self {
            Self(bits.map(|lane| f32::from_bits(lane as u32)))
        }
        fn add_int(left: [i32; 4], right: [i32; 4]) -> [i32; 4] {
            std::array::from_fn(|i| left[i].wrapping_add(right[i]))
        }
        fn int_lanes(value: [i32; 4]) -> [i32; 4] {
            value
        }
        unsafe fn store_i8(values: [[i32; 4]; 4], to: *mut i8) {
            for (i, value) in values.into_iter().flatten().enumerate() {
                *to.add(i) = value.clamp(-128, 127) as i8;
            }
        }
        fn power_of_two(exponent: Self) -> Self {
            exponent.map(|n| f32::from_bits(((n as i32 + 127) << 23) as u32))
        }
        fn lane<const LANE: usize>(self) -> Self {
            Self([self.0[LANE]; 4])
        }
        fn at_least(self, least: Self) -> Self {
            self.zip(least, |a, b| if a < b { b } else { a })
        }
        fn at_most(self, most: Self) -> Self {
            self.zip(most, |a, b| if b < a { b } else { a })
        }
        fn pick_less(left: Self, right: Self, yes: Self, no: Self) -> Self {
            let pick = |i: usize| if left.0[i] < right.0[i] { yes.0[i] } else { no.0[i] };
            Self(std::array::from_fn(pick))
        }
        unsafe fn load_split_f16(from: *const u16) -> [Self; 2] {
            let bits = from.cast::<[u16; 8]>().read_unaligned();
            [0, 1].map(|part| Self(std::array::from_fn(|i| f16_to_f32(bits[2 * i + part]))))
        }
        unsafe fn load_split_i8(from: *const i8) -> [Self; 4] {
            let bytes = from.cast::<[i8; 16]>().read_unaligned();
            [0, 1, 2, 3].map(|part| Self(std::array::from_fn(|i| f32::from(bytes[4 * i + part]))))
        }
    }
}

#[cfg(target_family = "wasm")]
pub mod wasm {
    use super::Vector;
    use core::arch::wasm::*;

    macro_rules! wasm_vector {
        ($(#[$doc:meta])* $name:ident, $madd:expr) => {
            $(#[$doc])*
            #[derive(Clone, Copy)]
            pub struct $name(v128);

            impl Vector for $name {
                type Int = v128;

                #[inline(always)]
                fn splat(value: f32) -> Self {
                    Self(f32x4_splat(value))
                }
                #[inline(always)]
                fn from_lanes(lanes: [f32; 4]) -> Self {
                    Self(f32x4(lanes[0], lanes[1], lanes[2], lanes[3]))
                }
                #[inline(always)]
                fn lanes(self) -> [f32; 4] {
                    [
                        f32x4_extract_lane::<0>(self.0),
                        f32x4_extract_lane::<1>(self.0),
                        f32x4_extract_lane::<2>(self.0),
                        f32x4_extract_lane::<3>(self.0),
                    ]
                }
                #[inline(always)]
                fn spread(self, lane: usize) -> Self {
                    let v = self.0;
                    Self(match lane {
                        0 => i32x4_shuffle::<0, 0, 0, 0>(v, v),
                        1 => i32x4_shuffle::<1, 1, 1, 1>(v, v),
                        2 => i32x4_shuffle::<2, 2, 2, 2>(v, v),
                        _ => i32x4_shuffle::<3, 3, 3, 3>(v, v),
                    })
                }
                #[inline(always)]
                unsafe fn load(from: *const f32) -> Self {
                    Self(v128_load(from.cast()))
                }
                #[inline(always)]
                unsafe fn load_splat(from: *const f32) -> Self {
                    Self(v128_load32_splat(from.cast()))
                }
                #[inline(always)]
                unsafe fn store(self, to: *mut f32) {
                    v128_store(to.cast(), self.0);
                }
                #[inline(always)]
                fn add(self, other: Self) -> Self {
                    Self(f32x4_add(self.0, other.0))
                }
                #[inline(always)]
                fn sub(self, other: Self) -> Self {
                    Self(f32x4_sub(self.0, other.0))
                }
                #[inline(always)]
                fn mul(self, other: Self) -> Self {
                    Self(f32x4_mul(self.0, other.0))
                }
                #[inline(always)]
                fn div(self, other: Self) -> Self {
                    Self(f32x4_div(self.0, other.0))
                }
                #[inline(always)]
                fn min(self, other: Self) -> Self {
                    Self(f32x4_min(self.0, other.0))
                }
                #[inline(always)]
                fn max(self, other: Self) -> Self {
                    Self(f32x4_max(self.0, other.0))
                }
                #[inline(always)]
                fn abs(self) -> Self {
                    Self(f32x4_abs(self.0))
                }
                #[inline(always)]
                fn sqrt(self) -> Self {
                    Self(f32x4_sqrt(self.0))
                }
                #[inline(always)]
                fn nearest(self) -> Self {
                    Self(f32x4_nearest(self.0))
                }
                #[inline(always)]
                fn madd(self, factor: Self, addend: Self) -> Self {
                    Self($madd(self.0, factor.0, addend.0))
                }
                // One load, whose address is checked once; unpacking above zeros shifts as well.
                #[inline(always)]
                unsafe fn load_bf16(from: *const u16) -> [Self; 2] {
                    let zero = i16x8_splat(0);
                    let bits = v128_load(from.cast());
                    [
                        Self(i16x8_shuffle::<0, 8, 1, 9, 2, 10, 3, 11>(zero, bits)),
                        Self(i16x8_shuffle::<4, 12, 5, 13, 6, 14, 7, 15>(zero, bits)),
                    ]
                }
                #[inline(always)]
                unsafe fn load_bf16_half(from: *const u16) -> Self {
                    Self(u32x4_shl(u32x4_load_extend_u16x4(from), 16))
                }
                /// Shifting the bits gives value * 2^-112 (also for subnormals); infinities and
                /// NaN get their exponent back.
                #[inline(always)]
                unsafe fn load_f16(from: *const u16) -> Self {
                    let bits = i32x4_load_extend_i16x4(from.cast());
                    let shifted = v128_and(i32x4_shl(bits, 13), u32x4_splat(0x8fff_e000));
                    let scaled = f32x4_mul(shifted, f32x4_splat(5.192_296_9e33));
                    let exponent = u32x4_splat(0x7c00);
                    let special = i32x4_eq(v128_and(bits, exponent), exponent);
                    Self(v128_or(scaled, v128_and(special, u32x4_splat(0x7f80_0000))))
                }
                #[inline(always)]
                unsafe fn load_int(from: *const i32) -> v128 {
                    v128_load(from.cast())
                }
                #[inline(always)]
                fn from_int(value: v128) -> Self {
                    Self(f32x4_convert_i32x4(value))
                }
                #[inline(always)]
                fn to_int(self) -> v128 {
                    i32x4_trunc_sat_f32x4(self.0)
                }
                #[inline(always)]
                fn bits(self) -> v128 {
                    self.0
                }
                #[inline(always)]
                fn from_bits(bits: v128) -> Self {
                    Self(bits)
                }
                #[inline(always)]
                fn add_int(left: v128, right: v128) -> v128 {
                    i32x4_add(left, right)
                }
                #[inline(always)]
                fn int_lanes(value: v128) -> [i32; 4] {
                    [
                        i32x4_extract_lane::<0>(value),
                        i32x4_extract_lane::<1>(value),
                        i32x4_extract_lane::<2>(value),
                        i32x4_extract_lane::<3>(value),
                    ]
                }
                #[inline(always)]
                unsafe fn store_i8(values: [v128; 4], to: *mut i8) {
                    let low = i16x8_narrow_i32x4(values[0], values[1]);
                    let high = i16x8_narrow_i32x4(values[2], values[3]);
                    v128_store(to.cast(), i8x16_narrow_i16x8(low, high));
                }
                #[inline(always)]
                fn power_of_two(exponent: Self) -> Self {
                    // 1.5 * 2^23 + n has n in its low bits; converting saturates, at more steps.
                    let bits = f32x4_add(exponent.0, f32x4_splat(12_582_912.0));
                    Self(i32x4_add(i32x4_shl(bits, 23), i32x4_splat(127 << 23)))
                }
                #[inline(always)]
                fn lane<const LANE: usize>(self) -> Self {
                    Self(i32x4_shuffle::<LANE, LANE, LANE, LANE>(self.0, self.0))
                }
                #[inline(always)]
                fn at_least(self, least: Self) -> Self {
                    Self(f32x4_pmax(self.0, least.0))
                }
                #[inline(always)]
                fn at_most(self, most: Self) -> Self {
                    Self(f32x4_pmin(self.0, most.0))
                }
                #[inline(always)]
                fn pick_less(left: Self, right: Self, yes: Self, no: Self) -> Self {
                    Self(v128_bitselect(yes.0, no.0, f32x4_lt(left.0, right.0)))
                }
                /// Sign, exponent and mantissa at their places give value * 2^-112.
                #[inline(always)]
                unsafe fn load_split_f16(from: *const u16) -> [Self; 2] {
                    let bits = v128_load(from.cast());
                    let kept = u32x4_splat(0x8fff_e000);
                    let factor = f32x4_splat(5.192_296_9e33);
                    [i32x4_shl(bits, 16), bits]
                        .map(|high| Self(f32x4_mul(v128_and(i32x4_shr(high, 3), kept), factor)))
                }
                #[inline(always)]
                unsafe fn load_split_i8(from: *const i8) -> [Self; 4] {
                    let bytes = v128_load(from.cast());
                    [i32x4_shl(bytes, 24), i32x4_shl(bytes, 16), i32x4_shl(bytes, 8), bytes]
                        .map(|high| Self(f32x4_convert_i32x4(i32x4_shr(high, 24))))
                }
            }
        };
    }

    #[cfg(not(target_feature = "relaxed-simd"))]
    wasm_vector!(
        /// 128-bit SIMD of the core specification; multiply and add round separately.
        Simd128,
        |a, b, c| f32x4_add(f32x4_mul(a, b), c)
    );

    #[cfg(target_feature = "relaxed-simd")]
    wasm_vector!(
        /// With relaxed SIMD: fused multiply-add where the machine has it.
        Relaxed,
        |a, b, c| f32x4_relaxed_madd(a, b, c)
    );
}
