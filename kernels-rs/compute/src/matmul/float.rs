//! Products of float32 rows with weights stored as floats.

use crate::pack::PANEL_ROWS;
use crate::simd::Vector;

/// A float format: how to load the eight weights of one column.
pub trait FloatFormat {
    const BYTES: usize;
    unsafe fn load<V: Vector>(from: *const u8) -> [V; 2];
}

pub struct F32;
pub struct Bf16;
pub struct F16;

impl FloatFormat for F32 {
    const BYTES: usize = 4;
    #[inline(always)]
    unsafe fn load<V: Vector>(from: *const u8) -> [V; 2] {
        [V::load(from.cast()), V::load(from.cast::<f32>().add(4))]
    }
}

impl FloatFormat for Bf16 {
    const BYTES: usize = 2;
    #[inline(always)]
    unsafe fn load<V: Vector>(from: *const u8) -> [V; 2] {
        V::load_bf16(from.cast())
    }
}

impl FloatFormat for F16 {
    const BYTES: usize = 2;
    #[inline(always)]
    unsafe fn load<V: Vector>(from: *const u8) -> [V; 2] {
        [V::load_f16(from.cast()), V::load_f16(from.cast::<u16>().add(4))]
    }
}

/// Sums of T rows x P panels; `panel_bytes` separates the panels.
#[inline(always)]
pub unsafe fn sums<V: Vector, W: FloatFormat, const T: usize, const P: usize>(
    rows: [*const f32; T],
    panels: *const u8,
    panel_bytes: usize,
    columns: usize,
) -> [[[V; 2]; P]; T] {
    let mut sums = [[[V::splat(0.0); 2]; P]; T];
    for column in 0..columns {
        // One panel's weights at a time: all of them together would not fit the registers.
        let x: [V; T] = std::array::from_fn(|t| V::load_splat(rows[t].add(column)));
        for p in 0..P {
            let from = panels.add(p * panel_bytes + column * PANEL_ROWS * W::BYTES);
            let weights = W::load::<V>(from);
            for t in 0..T {
                for half in 0..2 {
                    sums[t][p][half] = x[t].madd(weights[half], sums[t][p][half]);
                }
            }
        }
    }
    sums
}

/// Rows of a packed tile.
pub const TILE_ROWS: usize = 4;

/// Writes the rows at `from` as a tile: [columns][4 rows].
pub unsafe fn pack_tile(from: [*const f32; TILE_ROWS], columns: usize, to: *mut f32) {
    for column in 0..columns {
        for (t, row) in from.into_iter().enumerate() {
            *to.add(column * TILE_ROWS + t) = *row.add(column);
        }
    }
}

/// Sums of a packed tile with one panel, with the roundings of `sums`. One load brings all rows of a
/// column; the lanes are spread afterwards, since every load pays for the check of its address.
#[inline(always)]
pub unsafe fn tile_sums<V: Vector, W: FloatFormat>(
    tile: *const f32,
    panel: *const u8,
    columns: usize,
) -> [[V; 2]; TILE_ROWS] {
    let mut sums = [[V::splat(0.0); 2]; TILE_ROWS];
    for column in 0..columns {
        let rows = V::load(tile.add(column * TILE_ROWS));
        let weights = W::load::<V>(panel.add(column * PANEL_ROWS * W::BYTES));
        for t in 0..TILE_ROWS {
            let x = rows.spread(t);
            for half in 0..2 {
                sums[t][half] = x.madd(weights[half], sums[t][half]);
            }
        }
    }
    sums
}
