//! Products of quantised rows with quantised weights. Sums inside a group are integers; groups are
//! added as floats, in ascending order.

use crate::dot::Dot;
use crate::pack::{GROUP, PANEL_ROWS, Q4_GROUP_BYTES, Q8_GROUP_BYTES, SCALES_BYTES};
use crate::quantize::{quantize_row_group, ActivationGroup, ACTIVATION_BYTES};
use crate::team::Team;
use std::mem::offset_of;
use std::ops::Range;

/// Rows of the widest tile.
pub const TILE_ROWS: usize = 8;
/// Bytes of a quad: four neighbouring columns.
const QUAD: usize = 4;
const QUADS: usize = GROUP / QUAD;

/// How one format multiplies a group of a tile with a group of a panel.
///
/// A tile of T rows holds the fields of T `ActivationGroup`s side by side: codes by quads [8 quads]
/// [T rows][4 codes], [T] scales, [T] starts of q8, [T] of q4. So one row alone is a tile as it was
/// quantised, and one pointer serves all rows. Narrow tiles keep eight weight rows in the lanes and
/// spread the activations; wide ones keep eight activation rows in the lanes and spread the weights,
/// which takes the fewest instructions. (Each load costs three, since WebAssembly checks addresses.)
/// Quads are written out one after the other, and each is complete before the next begins.
pub trait GroupFormat {
    const GROUP_BYTES: usize;
    /// Sums that are not floats yet, of four outputs.
    type Sum<V: Dot>: Copy;
    /// T rows with eight outputs.
    unsafe fn narrow<V: Dot, const T: usize>(
        tile: *const u8,
        codes: *const u8,
        constants: V::Constants,
    ) -> [[Self::Sum<V>; 2]; T];
    /// One row with eight outputs each of two panels, whose codes are `stride` bytes apart.
    unsafe fn pair<V: Dot>(
        tile: *const u8,
        codes: *const u8,
        stride: usize,
        constants: V::Constants,
    ) -> [[Self::Sum<V>; 2]; 2];
    fn total<V: Dot>(sum: Self::Sum<V>, constants: V::Constants) -> V;
    /// Eight rows, in two vectors, with four outputs.
    unsafe fn wide<V: Dot>(
        tile: *const u8,
        codes: *const u8,
        constants: V::Constants,
    ) -> [[V; 2]; 4];
}

pub struct Q8;
pub struct Q4;

const SCALE: usize = offset_of!(ActivationGroup, scale);
const START_Q8: usize = offset_of!(ActivationGroup, start_q8);
const START_Q4: usize = offset_of!(ActivationGroup, start_q4);

/// A quad of one row of a narrow tile, in all lanes.
#[inline(always)]
unsafe fn spread_row<V: Dot, const T: usize>(tile: *const u8, quad: usize, row: usize) -> V::Bytes {
    let index = quad * T + row;
    if T == 1 || T == 4 {
        V::spread_quad(V::load_bytes(tile.add(16 * (index / 4))), index % 4)
    } else {
        V::splat_quad(tile.add(QUAD * index))
    }
}

/// Four columns of a wide tile, with four outputs.
#[inline(always)]
unsafe fn wide_quad<V: Dot, S: Copy>(
    mut sums: [[S; 2]; 4],
    x: *const u8,
    outputs: V::Bytes,
    add: impl Fn(S, V::Bytes, V::Bytes) -> S,
) -> [[S; 2]; 4] {
    let x = [V::load_bytes(x), V::load_bytes(x.add(16))];
    for output in 0..4 {
        let codes = V::spread_quad(outputs, output);
        for v in 0..2 {
            sums[output][v] = add(sums[output][v], x[v], codes);
        }
    }
    V::complete(sums)
}

impl GroupFormat for Q8 {
    const GROUP_BYTES: usize = Q8_GROUP_BYTES;
    type Sum<V: Dot> = V::WideSum;

    #[inline(always)]
    unsafe fn narrow<V: Dot, const T: usize>(
        tile: *const u8,
        codes: *const u8,
        constants: V::Constants,
    ) -> [[V::WideSum; 2]; T] {
        let start = tile.add(T * START_Q8).cast::<i32>();
        let mut sums: [[V::WideSum; 2]; T] =
            std::array::from_fn(|t| [V::wide_start(start.add(t)); 2]);
        for quad in 0..QUADS {
            let from = codes.add(32 * quad);
            let codes = [V::load_bytes(from), V::load_bytes(from.add(16))];
            for t in 0..T {
                let x = spread_row::<V, T>(tile, quad, t);
                for half in 0..2 {
                    sums[t][half] = V::wide_add(sums[t][half], x, codes[half], constants);
                }
            }
        }
        sums
    }

    #[inline(always)]
    unsafe fn pair<V: Dot>(
        tile: *const u8,
        codes: *const u8,
        stride: usize,
        constants: V::Constants,
    ) -> [[V::WideSum; 2]; 2] {
        [codes, codes.add(stride)].map(|codes| Self::narrow::<V, 1>(tile, codes, constants)[0])
    }

    #[inline(always)]
    fn total<V: Dot>(sum: V::WideSum, _: V::Constants) -> V {
        V::wide_total(sum)
    }

    #[inline(always)]
    unsafe fn wide<V: Dot>(
        tile: *const u8,
        codes: *const u8,
        constants: V::Constants,
    ) -> [[V; 2]; 4] {
        let start = tile.add(TILE_ROWS * START_Q8).cast::<i32>();
        let mut sums = [[V::wide_starts(start), V::wide_starts(start.add(4))]; 4];
        let add = |sum, x, codes| V::wide_add(sum, x, codes, constants);
        sums = wide_quad::<V, _>(sums, tile, V::load_bytes(codes), add);
        sums = wide_quad::<V, _>(sums, tile.add(32), V::load_bytes(codes.add(32)), add);
        sums = wide_quad::<V, _>(sums, tile.add(64), V::load_bytes(codes.add(64)), add);
        sums = wide_quad::<V, _>(sums, tile.add(96), V::load_bytes(codes.add(96)), add);
        sums = wide_quad::<V, _>(sums, tile.add(128), V::load_bytes(codes.add(128)), add);
        sums = wide_quad::<V, _>(sums, tile.add(160), V::load_bytes(codes.add(160)), add);
        sums = wide_quad::<V, _>(sums, tile.add(192), V::load_bytes(codes.add(192)), add);
        sums = wide_quad::<V, _>(sums, tile.add(224), V::load_bytes(codes.add(224)), add);
        sums.map(|row| row.map(V::wide_total))
    }
}

impl GroupFormat for Q4 {
    const GROUP_BYTES: usize = Q4_GROUP_BYTES;
    type Sum<V: Dot> = V::NarrowSum;

    #[inline(always)]
    unsafe fn narrow<V: Dot, const T: usize>(
        tile: *const u8,
        codes: *const u8,
        constants: V::Constants,
    ) -> [[V::NarrowSum; 2]; T] {
        let start = tile.add(T * START_Q4).cast::<i16>();
        let mut sums: [[V::NarrowSum; 2]; T] =
            std::array::from_fn(|t| [V::narrow_start(start.add(2 * t)); 2]);
        if T == 1 {
            // Written out: each quad is another constant of an instruction.
            Self::narrow_quad::<V, T>(&mut sums, tile, codes, 0, constants);
            Self::narrow_quad::<V, T>(&mut sums, tile, codes, 1, constants);
            Self::narrow_quad::<V, T>(&mut sums, tile, codes, 2, constants);
            Self::narrow_quad::<V, T>(&mut sums, tile, codes, 3, constants);
        } else {
            for quad in 0..QUADS / 2 {
                Self::narrow_quad::<V, T>(&mut sums, tile, codes, quad, constants);
            }
        }
        sums
    }

    #[inline(always)]
    unsafe fn pair<V: Dot>(
        tile: *const u8,
        codes: *const u8,
        stride: usize,
        constants: V::Constants,
    ) -> [[V::NarrowSum; 2]; 2] {
        let mut sums = [[V::narrow_start(tile.add(START_Q4).cast::<i16>()); 2]; 2];
        let x = [V::load_bytes(tile), V::load_bytes(tile.add(16))];
        // Written out: each quad is another constant of an instruction.
        Self::pair_quad::<V>(&mut sums, x, codes, stride, 0, constants);
        Self::pair_quad::<V>(&mut sums, x, codes, stride, 1, constants);
        Self::pair_quad::<V>(&mut sums, x, codes, stride, 2, constants);
        Self::pair_quad::<V>(&mut sums, x, codes, stride, 3, constants);
        sums
    }

    #[inline(always)]
    fn total<V: Dot>(sum: V::NarrowSum, constants: V::Constants) -> V {
        V::narrow_total(sum, constants)
    }

    #[inline(always)]
    unsafe fn wide<V: Dot>(
        tile: *const u8,
        codes: *const u8,
        constants: V::Constants,
    ) -> [[V; 2]; 4] {
        let start = tile.add(TILE_ROWS * START_Q4).cast::<i16>();
        let mut sums = [[V::narrow_starts(start), V::narrow_starts(start.add(8))]; 4];
        sums = Self::wide_quads::<V>(sums, tile, codes, constants);
        sums = Self::wide_quads::<V>(sums, tile.add(32), codes.add(32), constants);
        sums = Self::wide_quads::<V>(sums, tile.add(64), codes.add(64), constants);
        sums = Self::wide_quads::<V>(sums, tile.add(96), codes.add(96), constants);
        sums.map(|row| row.map(|sum| V::narrow_total(sum, constants)))
    }
}

impl Q4 {
    /// Four columns and those sixteen further on, of eight rows with four outputs.
    #[inline(always)]
    unsafe fn wide_quads<V: Dot>(
        sums: [[V::NarrowSum; 2]; 4],
        x: *const u8,
        codes: *const u8,
        constants: V::Constants,
    ) -> [[V::NarrowSum; 2]; 4] {
        let bytes = V::load_bytes(codes);
        let sums = wide_quad::<V, _>(sums, x, V::low_nibbles(bytes, constants), V::narrow_add);
        let high = V::high_nibbles(bytes, constants);
        wide_quad::<V, _>(sums, x.add(32 * (QUADS / 2)), high, V::narrow_add)
    }

    /// Four columns and those sixteen further on, of one row with two panels.
    #[inline(always)]
    unsafe fn pair_quad<V: Dot>(
        sums: &mut [[V::NarrowSum; 2]; 2],
        x: [V::Bytes; 2],
        codes: *const u8,
        stride: usize,
        quad: usize,
        constants: V::Constants,
    ) {
        let x = x.map(|bytes| V::spread_quad(bytes, quad));
        for panel in 0..2 {
            for half in 0..2 {
                let bytes = V::load_bytes(codes.add(panel * stride + 32 * quad + 16 * half));
                let sum = sums[panel][half];
                let sum = V::narrow_add_next(sum, x[0], V::low_nibbles(bytes, constants));
                let high = V::high_nibbles(bytes, constants);
                sums[panel][half] = V::narrow_add_next(sum, x[1], high);
            }
        }
        *sums = V::complete(*sums);
    }

    /// Four columns and those sixteen further on.
    #[inline(always)]
    unsafe fn narrow_quad<V: Dot, const T: usize>(
        sums: &mut [[V::NarrowSum; 2]; T],
        tile: *const u8,
        codes: *const u8,
        quad: usize,
        constants: V::Constants,
    ) {
        let from = codes.add(32 * quad);
        let bytes = [V::load_bytes(from), V::load_bytes(from.add(16))];
        let low = bytes.map(|bytes| V::low_nibbles(bytes, constants));
        let high = bytes.map(|bytes| V::high_nibbles(bytes, constants));
        for (quad, codes) in [(quad, low), (quad + QUADS / 2, high)] {
            for t in 0..T {
                let x = spread_row::<V, T>(tile, quad, t);
                for half in 0..2 {
                    sums[t][half] = V::narrow_add_next(sums[t][half], x, codes[half]);
                }
            }
        }
    }
}

/// Sums of a tile of T rows with one panel: [row][half of the panel].
///
/// A group's sums become floats only after those of the next have been taken: that chain of single
/// steps would hold up a processor that has nothing else to do meanwhile.
#[inline(always)]
pub unsafe fn narrow_sums<V: Dot, F: GroupFormat, const T: usize>(
    mut tile: *const u8,
    mut panel: *const u8,
    groups: usize,
) -> [[V; 2]; T] {
    let constants = V::constants();
    let mut sums = [[V::splat(0.0); 2]; T];
    if groups == 0 {
        return sums;
    }
    let mut dots = F::narrow::<V, T>(tile, panel.add(SCALES_BYTES), constants);
    for _ in 1..groups {
        let (next_tile, next_panel) = (tile.add(T * ACTIVATION_BYTES), panel.add(F::GROUP_BYTES));
        let next = F::narrow::<V, T>(next_tile, next_panel.add(SCALES_BYTES), constants);
        add_group::<V, F, T>(&mut sums, dots, tile, panel, constants);
        (dots, tile, panel) = (next, next_tile, next_panel);
    }
    add_group::<V, F, T>(&mut sums, dots, tile, panel, constants);
    sums
}

/// Sums of one row with two panels, `stride` bytes apart: [panel][half of the panel].
#[inline(always)]
pub unsafe fn pair_sums<V: Dot, F: GroupFormat>(
    mut tile: *const u8,
    mut panel: *const u8,
    stride: usize,
    groups: usize,
) -> [[V; 2]; 2] {
    let constants = V::constants();
    let mut sums = [[V::splat(0.0); 2]; 2];
    if groups == 0 {
        return sums;
    }
    let mut dots = F::pair::<V>(tile, panel.add(SCALES_BYTES), stride, constants);
    for _ in 1..groups {
        let (next_tile, next_panel) = (tile.add(ACTIVATION_BYTES), panel.add(F::GROUP_BYTES));
        let next = F::pair::<V>(next_tile, next_panel.add(SCALES_BYTES), stride, constants);
        for (p, dots) in dots.into_iter().enumerate() {
            let sums = std::array::from_mut(&mut sums[p]);
            add_group::<V, F, 1>(sums, [dots], tile, panel.add(p * stride), constants);
        }
        (dots, tile, panel) = (next, next_tile, next_panel);
    }
    for (p, dots) in dots.into_iter().enumerate() {
        let sums = std::array::from_mut(&mut sums[p]);
        add_group::<V, F, 1>(sums, [dots], tile, panel.add(p * stride), constants);
    }
    sums
}

/// Adds a group's sums by its scales.
#[inline(always)]
unsafe fn add_group<V: Dot, F: GroupFormat, const T: usize>(
    sums: &mut [[V; 2]; T],
    dots: [[F::Sum<V>; 2]; T],
    tile: *const u8,
    panel: *const u8,
    constants: V::Constants,
) {
    let weight_scales = V::load_bf16(panel.cast());
    for t in 0..T {
        let scale = V::load_splat(tile.add(T * SCALE).cast::<f32>().add(t));
        for half in 0..2 {
            let dot = F::total::<V>(dots[t][half], constants);
            // In this order: the product of two tiny scales would lose bits.
            sums[t][half] = dot.mul(scale).madd(weight_scales[half], sums[t][half]);
        }
    }
}

/// Sums of a tile of eight rows with half a panel: [output][row / 4], rows in the lanes.
#[inline(always)]
pub unsafe fn wide_sums<V: Dot, F: GroupFormat>(
    mut tile: *const u8,
    mut panel: *const u8,
    half: usize,
    groups: usize,
) -> [[V; 2]; 4] {
    let constants = V::constants();
    let mut sums = [[V::splat(0.0); 2]; 4];
    for _ in 0..groups {
        let dots = F::wide::<V>(tile, panel.add(SCALES_BYTES + 16 * half), constants);
        let weight_scales = V::load_bf16_half(panel.cast::<u16>().add(4 * half));
        let scale = tile.add(TILE_ROWS * SCALE).cast::<f32>();
        let row_scales = [V::load(scale), V::load(scale.add(4))];
        for output in 0..4 {
            let weight_scale = weight_scales.spread(output);
            for v in 0..2 {
                // The same two roundings as in a narrow tile.
                let dot = dots[output][v].mul(row_scales[v]);
                sums[output][v] = dot.madd(weight_scale, sums[output][v]);
            }
        }
        tile = tile.add(TILE_ROWS * ACTIVATION_BYTES);
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
            let (row, group) = (index / self.groups, index % self.groups);
            let to = self.at.add(row * self.row_bytes()).cast();
            quantize_row_group::<V>(input.add(row * columns), columns, group, to);
        }
        team.meet();
    }

    /// Writes `rows`, one of the widths of a tile, as one of `rows.len() * row_bytes()` bytes.
    pub unsafe fn pack_tile(
        &self,
        rows: Range<usize>,
        input: &impl Fn(usize) -> *const u8,
        to: *mut u8,
    ) {
        let width = rows.len();
        for (t, row) in rows.enumerate() {
            let from = input(row);
            for group in 0..self.groups {
                let from = from.add(group * ACTIVATION_BYTES).cast::<u32>();
                let to = to.add(group * width * ACTIVATION_BYTES).cast::<u32>();
                // All fields are words, and each has a place for every row.
                for word in 0..ACTIVATION_BYTES / 4 {
                    *to.add(word * width + t) = *from.add(word);
                }
            }
        }
    }
}
