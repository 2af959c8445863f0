//! The paged KV cache. One layer is a list of pages, a page a list of kv heads; a head holds
//! - keys, transposed: [head_width][page_tokens rounded up to 4], so that lanes run over tokens;
//! - at `value_offset`, values: [page_tokens][head_width rounded up to 4];
//! - at `scale_offset` (int8 only), float32 scales of the keys, then of the values, one per token
//!   (page_tokens rounded up to 4 each).

use crate::half::f32_to_f16;
use crate::quantize::round_to_i8;
use crate::record::WriteKv;
use crate::simd::Vector;
use crate::team::{Fault, Team};

pub fn round_up_4(count: usize) -> usize {
    count.div_ceil(4) * 4
}

/// How one element is stored.
pub trait Element {
    /// Whether head rows have a scale.
    const SCALED: bool;
    /// Four elements from index `at`.
    unsafe fn load<V: Vector>(from: *const u8, at: usize) -> V;
    unsafe fn store(to: *mut u8, at: usize, value: f32);
}

pub struct F32Element;
pub struct F16Element;
pub struct I8Element;

impl Element for F32Element {
    const SCALED: bool = false;
    #[inline(always)]
    unsafe fn load<V: Vector>(from: *const u8, at: usize) -> V {
        V::load(from.cast::<f32>().add(at))
    }
    unsafe fn store(to: *mut u8, at: usize, value: f32) {
        to.cast::<f32>().add(at).write(value);
    }
}

impl Element for F16Element {
    const SCALED: bool = false;
    #[inline(always)]
    unsafe fn load<V: Vector>(from: *const u8, at: usize) -> V {
        V::load_f16(from.cast::<u16>().add(at))
    }
    unsafe fn store(to: *mut u8, at: usize, value: f32) {
        to.cast::<u16>().add(at).write(f32_to_f16(value));
    }
}

impl Element for I8Element {
    const SCALED: bool = true;
    #[inline(always)]
    unsafe fn load<V: Vector>(from: *const u8, at: usize) -> V {
        V::load_i8(from.cast::<i8>().add(at))
    }
    /// `value` is already scaled.
    unsafe fn store(to: *mut u8, at: usize, value: f32) {
        to.cast::<i8>().add(at).write(round_to_i8(value));
    }
}

pub unsafe fn write_kv(op: &WriteKv, team: &Team) {
    match op.format {
        0 => write_as::<F32Element>(op, team),
        1 => write_as::<F16Element>(op, team),
        _ => write_as::<I8Element>(op, team),
    }
}

unsafe fn write_as<E: Element>(op: &WriteKv, team: &Team) {
    let token_stride = round_up_4(op.page_tokens);
    let value_stride = round_up_4(op.head_width);
    for row in team.share(op.rows, 1) {
        let slot = *op.slot.add(row);
        if slot < 0 {
            continue;
        }
        let slot = team.check(slot, op.pages * op.page_tokens, Fault::Slot);
        let (page, token) = (slot / op.page_tokens, slot % op.page_tokens);
        for head in 0..op.kv_heads {
            let to = op.cache.add((page * op.kv_heads + head) * op.head_bytes);
            let from = (row * op.kv_heads + head) * op.head_width;
            let scales = to.add(op.scale_offset).cast::<f32>();
            let (key, value) = (op.key.add(from), op.value.add(from));
            let factor = scale_row::<E>(key, op.head_width, scales.add(token));
            for d in 0..op.head_width {
                E::store(to, d * token_stride + token, *key.add(d) * factor);
            }
            let factor = scale_row::<E>(value, op.head_width, scales.add(token_stride + token));
            let values = to.add(op.value_offset);
            for d in 0..op.head_width {
                E::store(values, token * value_stride + d, *value.add(d) * factor);
            }
        }
    }
}

/// Stores a head row's scale, when the format has one; returns what its values are multiplied by.
unsafe fn scale_row<E: Element>(row: *const f32, width: usize, scale: *mut f32) -> f32 {
    if !E::SCALED {
        return 1.0;
    }
    let largest = (0..width).fold(0.0f32, |largest, d| largest.max((*row.add(d)).abs()));
    *scale = largest / 127.0;
    if largest == 0.0 {
        0.0
    } else {
        127.0 / largest
    }
}
