//! Products of quantised rows with quantised weights. Sums inside a group are integers; groups are
//! added as floats, in ascending order.

use crate::dot::Dot;
use crate::pack::{GROUP, PANEL_ROWS, Q4_GROUP_BYTES, Q8_GROUP_BYTES, SCALES_BYTES};
use crate::quantize::{quantize_activations, ActivationGroup, ACTIVATION_BYTES};
use crate::team::Team;
use std::mem::offset_of;

/// Rows of a tile.
pub const TILE_ROWS: usize = 4;
/// Four columns, whose activations one load spreads over four weight rows.
const QUAD: usize = 4;

/// How one format multiplies the groups of a tile of T rows: the fields of T `ActivationGroup`s side
/// by side, codes by quads: [8 quads][T rows][4 codes], [T] scales, [T] starts of q8, [T] of q4. So
/// one row alone is a tile as it was quantised, and one pointer serves all rows.
pub trait GroupFormat {
    const GROUP_BYTES: usize;
    unsafe fn dots<V: Dot, const T: usize>(tile: *const u8, group: *const u8) -> [[V; 2]; T];
}

pub struct Q8;
pub struct Q4;

const SCALE: usize = offset_of!(ActivationGroup, scale);
const START_Q8: usize = offset_of!(ActivationGroup, start_q8);
const START_Q4: usize = offset_of!(ActivationGroup, start_q4);

impl GroupFormat for Q8 {
    const GROUP_BYTES: usize = Q8_GROUP_BYTES;

    #[inline(always)]
    unsafe fn dots<V: Dot, const T: usize>(tile: *const u8, group: *const u8) -> [[V; 2]; T] {
        let start = tile.add(T * START_Q8).cast::<i32>();
        let mut sums: [[V::WideSum; 2]; T] =
            std::array::from_fn(|t| [V::wide_start(start.add(t)); 2]);
        for quad in 0..GROUP / QUAD {
            let from = group.add(SCALES_BYTES + 32 * quad);
            let codes = [V::load_bytes(from), V::load_bytes(from.add(16))];
            for t in 0..T {
                let x = V::splat_quad(tile.add(QUAD * (quad * T + t)).cast());
                for half in 0..2 {
                    sums[t][half] = V::wide_add(sums[t][half], x, codes[half]);
                }
            }
        }
        sums.map(|row| row.map(V::wide_total))
    }
}

impl GroupFormat for Q4 {
    const GROUP_BYTES: usize = Q4_GROUP_BYTES;

    #[inline(always)]
    unsafe fn dots<V: Dot, const T: usize>(tile: *const u8, group: *const u8) -> [[V; 2]; T] {
        let start = tile.add(T * START_Q4).cast::<i16>();
        let mut sums: [[V::NarrowSum; 2]; T] =
            std::array::from_fn(|t| [V::narrow_start(start.add(2 * t)); 2]);
        for quad in 0..GROUP / QUAD / 2 {
            let from = group.add(SCALES_BYTES + 32 * quad);
            let bytes = [V::load_bytes(from), V::load_bytes(from.add(16))];
            for (place, codes) in
                [(quad, bytes.map(V::low_nibbles)), (quad + 4, bytes.map(V::high_nibbles))]
            {
                for t in 0..T {
                    let x = V::splat_quad(tile.add(QUAD * (place * T + t)).cast());
                    for half in 0..2 {
                        sums[t][half] = V::narrow_add(sums[t][half], x, codes[half]);
                    }
                }
            }
        }
        sums.map(|row| row.map(V::narrow_total))
    }
}

/// Sums of a tile with one panel.
#[inline(always)]
pub unsafe fn sums<V: Dot, F: GroupFormat, const T: usize>(
    mut tile: *const u8,
    mut panel: *const u8,
    groups: usize,
) -> [[V; 2]; T] {
    let mut sums = [[V::splat(0.0); 2]; T];
    for _ in 0..groups {
        let dots = F::dots::<V, T>(tile, panel);
        let weight_scales = V::load_bf16(panel.cast());
        for t in 0..T {
            let scale = V::load_splat(tile.add(T * SCALE).cast::<f32>().add(t));
            for half in 0..2 {
                // In this order: the product of two tiny scales would lose bits.
                sums[t][half] = dots[t][half].mul(scale).madd(weight_scales[half], sums[t][half]);
            }
        }
        tile = tile.add(T * ACTIVATION_BYTES);
        panel = panel.add(F::GROUP_BYTES);
    }
    sums
}

/// Quantised rows: [rows, groups] of `ActivationGroup`.
#[derive(Clone, Copy)]
pub struct QuantizedRows {
    at: *mut u8,
    pub groups: usize,
}

impl QuantizedRows {
    pub fn new(at: *mut u8, columns: usize) -> Self {
        Self { at, groups: columns.div_ceil(GROUP) }
    }

    pub fn row_bytes(&self) -> usize {
        self.groups * ACTIVATION_BYTES
    }

    pub fn row(&self, row: usize) -> *const u8 {
        self.at.wrapping_add(row * self.row_bytes())
    }

    /// Quantises `rows` of `input`, the team together; complete when this returns.
    pub unsafe fn fill<V: Dot>(&self, input: *const f32, rows: usize, columns: usize, team: &Team) {
        for index in team.share(rows * self.groups, PANEL_ROWS) {
            let (row, first) = (index / self.groups, index % self.groups * GROUP);
            let from = input.add(row * columns + first);
            let to = self.at.cast::<ActivationGroup>().add(index);
            quantize_activations::<V>(from, GROUP.min(columns - first), to);
        }
        team.meet();
    }

    /// Writes T rows as one tile of `T * row_bytes()` bytes.
    pub unsafe fn pack_tile<const T: usize>(&self, rows: [*const u8; T], to: *mut u8) {
        for group in 0..self.groups {
            let to = to.add(group * T * ACTIVATION_BYTES).cast::<u32>();
            for (t, row) in rows.iter().enumerate() {
                let from = row.add(group * ACTIVATION_BYTES).cast::<u32>();
                // All fields are words, and each has T places side by side.
                for word in 0..ACTIVATION_BYTES / 4 {
                    *to.add(word * T + t) = *from.add(word);
                }
            }
        }
    }
}
