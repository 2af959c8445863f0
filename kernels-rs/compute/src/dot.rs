//! Integer products of quantised groups: signed int8 activations with unsigned weight codes of at
//! most seven bits. A vector holds four quads of four bytes; lane by lane, the products of two quads
//! are summed, so that four outputs grow side by side. All implementations give the same integers;
//! with relaxed SIMD one instruction multiplies sixteen pairs (`i16x8_relaxed_dot_i8x16_i7x16`,
//! portable because the second operand has seven bits).
//!
//! Sums over a group: with codes of four bits they stay below 2^15, so that 16-bit lanes take them
//! (two lanes per output, 8 x 2 x 15 x 127 = 30480, start included); seven bits need 32-bit lanes.

use crate::simd::Vector;

/// # Safety
/// Pointers must be valid for the stated number of values; no alignment is required.
pub trait Dot: Vector {
    /// Sixteen bytes: four quads.
    type Bytes: Copy;
    /// Running sums of four outputs with codes of four bits.
    type NarrowSum: Copy;
    /// Running sums of four outputs with codes of seven bits.
    type WideSum: Copy;
    /// What inner loops need again and again.
    type Constants: Copy;

    /// To be taken once before a loop: compilers cannot see what is inside, and so do not build the
    /// constants anew in every turn.
    fn constants() -> Self::Constants;
    /// The same sums; the compiler to WebAssembly computes them before what follows.
    fn complete<T: Copy, const N: usize>(sums: [[T; 2]; N]) -> [[T; 2]; N] {
        sums
    }
    unsafe fn load_bytes(from: *const u8) -> Self::Bytes;
    unsafe fn store_bytes(bytes: Self::Bytes, to: *mut u8);
    /// Whole numbers from 0 to 127, four columns of four rows in the lanes: a quad for each row.
    fn join_codes(columns: [Self; 4]) -> Self::Bytes;
    /// Four bytes as all four quads.
    unsafe fn splat_quad(from: *const u8) -> Self::Bytes;
    /// One quad as all four.
    fn spread_quad(bytes: Self::Bytes, quad: usize) -> Self::Bytes;
    fn low_nibbles(bytes: Self::Bytes, constants: Self::Constants) -> Self::Bytes;
    fn high_nibbles(bytes: Self::Bytes, constants: Self::Constants) -> Self::Bytes;

    /// Each output starts at the sum of the pair at `from`.
    unsafe fn narrow_start(from: *const i16) -> Self::NarrowSum;
    /// Each output starts at the sum of its own pair.
    unsafe fn narrow_starts(from: *const i16) -> Self::NarrowSum;
    fn narrow_add(sum: Self::NarrowSum, x: Self::Bytes, codes: Self::Bytes) -> Self::NarrowSum;
    /// The same where the compiler must not add in another order: it would keep all products first,
    /// for which there are too few registers.
    fn narrow_add_next(sum: Self::NarrowSum, x: Self::Bytes, codes: Self::Bytes)
        -> Self::NarrowSum;
    fn narrow_total(sum: Self::NarrowSum, constants: Self::Constants) -> Self;

    /// Each output starts at the value at `from`.
    unsafe fn wide_start(from: *const i32) -> Self::WideSum;
    /// Each output starts at its own value.
    unsafe fn wide_starts(from: *const i32) -> Self::WideSum;
    fn wide_add(
        sum: Self::WideSum,
        x: Self::Bytes,
        codes: Self::Bytes,
        constants: Self::Constants,
    ) -> Self::WideSum;
    fn wide_total(sum: Self::WideSum) -> Self;

    /// Bits of a sum, as activations for a probe: no compiler can know the next product.
    fn narrow_bytes(sum: Self::NarrowSum) -> Self::Bytes;
    fn wide_bytes(sum: Self::WideSum) -> Self::Bytes;
}

#[cfg(not(target_family = "wasm"))]
impl Dot for crate::simd::scalar::Scalar {
    type Bytes = [u8; 16];
    type NarrowSum = [i32; 4];
    type WideSum = [i32; 4];
    type Constants = ();

    fn constants() {}
    unsafe fn load_bytes(from: *const u8) -> [u8; 16] {
        from.cast::<[u8; 16]>().read_unaligned()
    }
    unsafe fn store_bytes(bytes: [u8; 16], to: *mut u8) {
        to.cast::<[u8; 16]>().write_unaligned(bytes);
    }
    fn join_codes([a, b, c, d]: [Self; 4]) -> [u8; 16] {
        let [low, high] = [(a, b), (c, d)].map(|(even, odd)| {
            let pair = even.add(odd.mul(Self::splat(256.0)));
            Self::bits(pair.add(Self::splat(12_582_912.0)))
        });
        std::array::from_fn(|i| {
            let pair = [low, high][i % 4 / 2][i / 4];
            (pair >> (8 * (i % 2))) as u8
        })
    }
    unsafe fn splat_quad(from: *const u8) -> [u8; 16] {
        let quad = from.cast::<[u8; 4]>().read_unaligned();
        std::array::from_fn(|i| quad[i % 4])
    }
    fn spread_quad(bytes: [u8; 16], quad: usize) -> [u8; 16] {
        std::array::from_fn(|i| bytes[4 * quad + i % 4])
    }
    fn low_nibbles(bytes: [u8; 16], (): ()) -> [u8; 16] {
        bytes.map(|byte| byte & 15)
    }
    fn high_nibbles(bytes: [u8; 16], (): ()) -> [u8; 16] {
        bytes.map(|byte| byte >> 4)
    }
    unsafe fn narrow_start(from: *const i16) -> [i32; 4] {
        let [low, high] = from.cast::<[i16; 2]>().read_unaligned();
        [i32::from(low) + i32::from(high); 4]
    }
    unsafe fn narrow_starts(from: *const i16) -> [i32; 4] {
        std::array::from_fn(|i| Self::narrow_start(from.add(2 * i))[0])
    }
    fn narrow_add(sum: [i32; 4], x: [u8; 16], codes: [u8; 16]) -> [i32; 4] {
        Self::wide_add(sum, x, codes, ())
    }
    fn narrow_add_next(sum: [i32; 4], x: [u8; 16], codes: [u8; 16]) -> [i32; 4] {
        Self::wide_add(sum, x, codes, ())
    }
    fn narrow_total(sum: [i32; 4], (): ()) -> Self {
        Self::from_int(sum)
    }
    unsafe fn wide_start(from: *const i32) -> [i32; 4] {
        [from.read_unaligned(); 4]
    }
    unsafe fn wide_starts(from: *const i32) -> [i32; 4] {
        from.cast::<[i32; 4]>().read_unaligned()
    }
    fn wide_add(mut sum: [i32; 4], x: [u8; 16], codes: [u8; 16], (): ()) -> [i32; 4] {
        for i in 0..16 {
            assert!(codes[i] < 128, "a code of eight bits");
            let product = i32::from(x[i] as i8) * i32::from(codes[i]);
            sum[i / 4] = sum[i / 4].wrapping_add(product);
        }
        sum
    }
    fn wide_total(sum: [i32; 4]) -> Self {
        Self::from_int(sum)
    }
    fn narrow_bytes(sum: [i32; 4]) -> [u8; 16] {
        std::array::from_fn(|i| sum[i / 4].to_le_bytes()[i % 4])
    }
    fn wide_bytes(sum: [i32; 4]) -> [u8; 16] {
        Self::narrow_bytes(sum)
    }
}

#[cfg(target_family = "wasm")]
#[derive(Clone, Copy)]
pub struct WasmConstants {
    /// Bytes of 15.
    nibble: core::arch::wasm::v128,
    /// 16-bit ones.
    ones: core::arch::wasm::v128,
}

#[cfg(target_family = "wasm")]
macro_rules! common_bytes {
    () => {
        type Bytes = v128;
        type Constants = WasmConstants;

        #[inline(always)]
        fn constants() -> WasmConstants {
            std::hint::black_box(WasmConstants { nibble: u8x16_splat(15), ones: i16x8_splat(1) })
        }
        // Left alone, LLVM takes all loads of a group first, for which there are too few registers;
        // a loop costs more than a tenth. So the sums are used in a branch on a zero that LLVM
        // cannot see. The engine sees it: no instruction of this is left.
        #[inline(always)]
        fn complete<T: Copy, const N: usize>(sums: [[T; 2]; N]) -> [[T; 2]; N] {
            let mut zero = 0;
            // SAFETY: the assembly is a comment, so that the branch is never taken.
            unsafe {
                std::arch::asm!(
                    "# {0}",
                    inout(local) zero,
                    options(nomem, nostack, preserves_flags),
                );
                if zero != 0 {
                    let used = zero as usize as *mut T;
                    for i in 0..N {
                        used.write_volatile(sums[i][0]);
                        used.write_volatile(sums[i][1]);
                    }
                    core::arch::wasm::unreachable();
                }
            }
            sums
        }
        #[inline(always)]
        unsafe fn load_bytes(from: *const u8) -> v128 {
            v128_load(from.cast())
        }
        #[inline(always)]
        unsafe fn store_bytes(bytes: v128, to: *mut u8) {
            v128_store(to.cast(), bytes);
        }
        // Two columns as one number, which adding 1.5 * 2^23 leaves in the low bits: fewer
        // instructions than converting, which saturates.
        #[inline(always)]
        fn join_codes([a, b, c, d]: [Self; 4]) -> v128 {
            let [low, high] = [(a, b), (c, d)].map(|(even, odd)| {
                let pair = even.add(odd.mul(Self::splat(256.0)));
                Self::bits(pair.add(Self::splat(12_582_912.0)))
            });
            v128_or(v128_and(low, i32x4_splat(0xffff)), i32x4_shl(high, 16))
        }
        #[inline(always)]
        unsafe fn splat_quad(from: *const u8) -> v128 {
            v128_load32_splat(from.cast())
        }
        #[inline(always)]
        fn spread_quad(bytes: v128, quad: usize) -> v128 {
            match quad {
                0 => i32x4_shuffle::<0, 0, 0, 0>(bytes, bytes),
                1 => i32x4_shuffle::<1, 1, 1, 1>(bytes, bytes),
                2 => i32x4_shuffle::<2, 2, 2, 2>(bytes, bytes),
                _ => i32x4_shuffle::<3, 3, 3, 3>(bytes, bytes),
            }
        }
        #[inline(always)]
        fn low_nibbles(bytes: v128, constants: WasmConstants) -> v128 {
            v128_and(bytes, constants.nibble)
        }
        // A 16-bit shift: machines have none of bytes.
        #[inline(always)]
        fn high_nibbles(bytes: v128, constants: WasmConstants) -> v128 {
            v128_and(u16x8_shr(bytes, 4), constants.nibble)
        }
    };
}

#[cfg(all(target_family = "wasm", target_feature = "relaxed-simd"))]
mod relaxed {
    use super::{Dot, WasmConstants};
    use crate::simd::wasm::Relaxed;
    use crate::simd::Vector;
    use core::arch::wasm::*;

    impl Dot for Relaxed {
        common_bytes!();
        /// Eight i16: two per output.
        type NarrowSum = v128;
        type WideSum = v128;

        #[inline(always)]
        unsafe fn narrow_start(from: *const i16) -> v128 {
            v128_load32_splat(from.cast())
        }
        #[inline(always)]
        unsafe fn narrow_starts(from: *const i16) -> v128 {
            v128_load(from.cast())
        }
        #[inline(always)]
        fn narrow_add(sum: v128, x: v128, codes: v128) -> v128 {
            i16x8_add(sum, i16x8_relaxed_dot_i8x16_i7x16(x, codes))
        }
        // Nothing is ever saturated; but such sums have no other order.
        #[inline(always)]
        fn narrow_add_next(sum: v128, x: v128, codes: v128) -> v128 {
            i16x8_add_sat(sum, i16x8_relaxed_dot_i8x16_i7x16(x, codes))
        }
        #[inline(always)]
        fn narrow_total(sum: v128, constants: WasmConstants) -> Self {
            Self::from_int(i32x4_dot_i16x8(sum, constants.ones))
        }
        #[inline(always)]
        unsafe fn wide_start(from: *const i32) -> v128 {
            v128_load32_splat(from.cast())
        }
        #[inline(always)]
        unsafe fn wide_starts(from: *const i32) -> v128 {
            v128_load(from.cast())
        }
        // Faster than `relaxed_dot_add` where that is not one instruction of the machine.
        #[inline(always)]
        fn wide_add(sum: v128, x: v128, codes: v128, constants: WasmConstants) -> v128 {
            let pairs = i16x8_relaxed_dot_i8x16_i7x16(x, codes);
            i32x4_add(sum, i32x4_dot_i16x8(pairs, constants.ones))
        }
        #[inline(always)]
        fn wide_total(sum: v128) -> Self {
            Self::from_int(sum)
        }
        #[inline(always)]
        fn narrow_bytes(sum: v128) -> v128 {
            sum
        }
        #[inline(always)]
        fn wide_bytes(sum: v128) -> v128 {
            sum
        }
    }
}

#[cfg(all(target_family = "wasm", not(target_feature = "relaxed-simd")))]
mod plain {
    use super::{Dot, WasmConstants};
    use crate::simd::wasm::Simd128;
    use crate::simd::Vector;
    use core::arch::wasm::*;

    /// Two lanes per output: the first two outputs, the other two. Starts are in the even lanes.
    fn lanes_of_starts(starts: v128) -> [v128; 2] {
        [u64x2_extend_low_u32x4(starts), u64x2_extend_high_u32x4(starts)]
    }

    impl Dot for Simd128 {
        common_bytes!();
        type NarrowSum = [v128; 2];
        type WideSum = [v128; 2];

        #[inline(always)]
        unsafe fn narrow_start(from: *const i16) -> [v128; 2] {
            let pairs = v128_load32_splat(from.cast());
            lanes_of_starts(i32x4_dot_i16x8(pairs, i16x8_splat(1)))
        }
        #[inline(always)]
        unsafe fn narrow_starts(from: *const i16) -> [v128; 2] {
            lanes_of_starts(i32x4_dot_i16x8(v128_load(from.cast()), i16x8_splat(1)))
        }
        #[inline(always)]
        fn narrow_add(sum: [v128; 2], x: v128, codes: v128) -> [v128; 2] {
            let low = i32x4_dot_i16x8(i16x8_extend_low_i8x16(x), i16x8_extend_low_u8x16(codes));
            let high = i32x4_dot_i16x8(i16x8_extend_high_i8x16(x), i16x8_extend_high_u8x16(codes));
            [i32x4_add(sum[0], low), i32x4_add(sum[1], high)]
        }
        #[inline(always)]
        fn narrow_add_next(sum: [v128; 2], x: v128, codes: v128) -> [v128; 2] {
            Self::narrow_add(sum, x, codes)
        }
        #[inline(always)]
        fn narrow_total(sum: [v128; 2], _: WasmConstants) -> Self {
            Self::wide_total(sum)
        }
        #[inline(always)]
        unsafe fn wide_start(from: *const i32) -> [v128; 2] {
            lanes_of_starts(v128_load32_splat(from.cast()))
        }
        #[inline(always)]
        unsafe fn wide_starts(from: *const i32) -> [v128; 2] {
            lanes_of_starts(v128_load(from.cast()))
        }
        #[inline(always)]
        fn wide_add(sum: [v128; 2], x: v128, codes: v128, _: WasmConstants) -> [v128; 2] {
            Self::narrow_add(sum, x, codes)
        }
        #[inline(always)]
        fn wide_total([low, high]: [v128; 2]) -> Self {
            let even = i32x4_shuffle::<0, 2, 4, 6>(low, high);
            let odd = i32x4_shuffle::<1, 3, 5, 7>(low, high);
            Self::from_int(i32x4_add(even, odd))
        }
        #[inline(always)]
        fn narrow_bytes([low, _]: [v128; 2]) -> v128 {
            low
        }
        #[inline(always)]
        fn wide_bytes([low, _]: [v128; 2]) -> v128 {
            low
        }
    }
}
