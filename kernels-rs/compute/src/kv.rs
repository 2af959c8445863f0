//! The paged KV cache. One layer is a list of pages, a page a list of kv heads; a head holds
//! - keys, transposed: [head_width][page_tokens rounded up to 16], so that lanes run over tokens;
//! - at `value_offset`, values: [head_width / 16][page_tokens][16], so that sums over tokens stream;
//! - at `scale_offset` (int8 only), float32 scales of the keys, then of the values, one per token
//!   (page_tokens rounded up to 16 each).
//!
//! Sixteen neighbours are read together. Formats that widen hold them in split order, in which a
//! 16-byte vector is widened by shifts alone: the low part of each 32-bit lane gives the first
//! four values, the next part the following four, and so on.

use crate::half::f32_to_f16_finite;
use crate::quantize::round_to_i8;
use crate::record::WriteKv;
use crate::simd::Vector;
use crate::team::{Fault, Team};

/// Values that are read together; rows of them are padded to a multiple.
pub const TOGETHER: usize = 16;
/// Widest head.
pub const HEAD_WIDTH_MAX: usize = 256;

pub fn padded(count: usize) -> usize {
    count.next_multiple_of(TOGETHER)
}

/// Where the sixteen values of a token begin that hold dimension `d`.
#[inline(always)]
pub fn value_place(page_tokens: usize, token: usize, d: usize) -> usize {
    (d / TOGETHER * page_tokens + token) * TOGETHER
}

/// How one element is stored.
pub trait Element {
    type Stored: Copy + Default;
    /// Whether head rows have a scale.
    const SCALED: bool;
    /// Values of one 16-byte vector.
    const VECTOR: usize = 16 / size_of::<Self::Stored>();

    /// The sixteen values from index `at`, a multiple of sixteen.
    unsafe fn load<V: Vector>(from: *const u8, at: usize) -> [V; 4];
    /// `value` is already scaled.
    fn convert(value: f32) -> Self::Stored;

    /// Where the value of this index lies.
    #[inline(always)]
    fn place(index: usize) -> usize {
        let within = index % Self::VECTOR;
        index - within + within % 4 * (Self::VECTOR / 4) + within / 4
    }
}

pub struct F32Element;
/// Half precision; magnitudes above 65504 are stored as 65504, so that reading needs no care.
pub struct F16Element;
pub struct I8Element;

impl Element for F32Element {
    type Stored = f32;
    const SCALED: bool = false;
    #[inline(always)]
    unsafe fn load<V: Vector>(from: *const u8, at: usize) -> [V; 4] {
        let from = from.cast::<f32>().add(at);
        [V::load(from), V::load(from.add(4)), V::load(from.add(8)), V::load(from.add(12))]
    }
    #[inline(always)]
    fn convert(value: f32) -> f32 {
        value
    }
}

impl Element for F16Element {
    type Stored = u16;
    const SCALED: bool = false;
    #[inline(always)]
    unsafe fn load<V: Vector>(from: *const u8, at: usize) -> [V; 4] {
        let from = from.cast::<u16>().add(at);
        let ([a, b], [c, d]) = (V::load_split_f16(from), V::load_split_f16(from.add(8)));
        [a, b, c, d]
    }
    #[inline(always)]
    fn convert(value: f32) -> u16 {
        f32_to_f16_finite(value)
    }
}

impl Element for I8Element {
    type Stored = i8;
    const SCALED: bool = true;
    #[inline(always)]
    unsafe fn load<V: Vector>(from: *const u8, at: usize) -> [V; 4] {
        V::load_split_i8(from.cast::<i8>().add(at))
    }
    #[inline(always)]
    fn convert(value: f32) -> i8 {
        round_to_i8(value)
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
    let width = op.head_width;
    let token_stride = padded(op.page_tokens);
    let mut stored = [E::Stored::default(); HEAD_WIDTH_MAX];
    for unit in team.share(op.rows * op.kv_heads, 1) {
        let (row, head) = (unit / op.kv_heads, unit % op.kv_heads);
        let slot = *op.slot.add(row);
        if slot < 0 {
            continue;
        }
        let slot = team.check(slot, op.pages * op.page_tokens, Fault::Slot);
        let (page, token) = (slot / op.page_tokens, slot % op.page_tokens);
        let to = op.cache.add((page * op.kv_heads + head) * op.head_bytes);
        let scales = to.add(op.scale_offset).cast::<f32>();
        let from = (row * op.kv_heads + head) * width;

        convert_row::<E>(op.key.add(from), &mut stored[..width], scales.add(token));
        let keys = to.cast::<E::Stored>().add(E::place(token));
        for (d, &value) in stored[..width].iter().enumerate() {
            keys.add(d * token_stride).write(value);
        }
        let scale = scales.add(token_stride + token);
        convert_row::<E>(op.value.add(from), &mut stored[..width], scale);
        let values = to.add(op.value_offset).cast::<E::Stored>();
        for (d, &value) in stored[..width].iter().enumerate() {
            let at = value_place(op.page_tokens, token, d);
            values.add(at + E::place(d % TOGETHER)).write(value);
        }
    }
}

/// Brings a head row into the stored format; its scale goes to `scale` if there is one.
unsafe fn convert_row<E: Element>(row: *const f32, stored: &mut [E::Stored], scale: *mut f32) {
    let row = std::slice::from_raw_parts(row, stored.len());
    let mut factor = 1.0;
    if E::SCALED {
        let largest = row.iter().fold(0.0f32, |largest, x| largest.max(x.abs()));
        *scale = largest / 127.0;
        factor = if largest == 0.0 { 0.0 } else { 127.0 / largest };
    }
    for (to, &x) in stored.iter_mut().zip(row) {
        *to = E::convert(if E::SCALED { x * factor } else { x });
    }
}
