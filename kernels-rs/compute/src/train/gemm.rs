//! Matrix products of training in all transpositions: both operands are packed into strips, four
//! rows and eight columns of the result wide, whatever their layout. A sum over k is cut into
//! blocks at absolute places, each block's sum is added in order.

use crate::simd::Vector;
use crate::team::Team;

/// Rows and columns of a register tile.
pub const TILE: usize = 4;
pub const PANEL: usize = 8;
/// Steps of k whose strips lie in the cache together.
pub const K_BLOCK: usize = 512;
/// Tiles that one panel passes over before the next panel comes.
const GROUP_TILES: usize = 64;

/// Elements (lane, k) of an operand; lanes are rows of the result for A, columns for B.
pub trait Operand: Copy {
    /// Packs k in [first, end) of lanes [lane, lane + L) as [k][L]; lanes from `lanes` on are 0.
    unsafe fn pack<V: Vector, const L: usize>(
        &self,
        lane: usize,
        lanes: usize,
        k: (usize, usize),
        to: *mut f32,
    );
}

/// (lane, k) at `at[lane * stride + k]`.
#[derive(Clone, Copy)]
pub struct Across {
    pub at: *const f32,
    pub stride: usize,
}

impl Operand for Across {
    #[inline(always)]
    unsafe fn pack<V: Vector, const L: usize>(
        &self,
        lane: usize,
        lanes: usize,
        (first, end): (usize, usize),
        to: *mut f32,
    ) {
        let count = lanes.saturating_sub(lane).min(L);
        if count < L {
            std::slice::from_raw_parts_mut(to, (end - first) * L).fill(0.0);
            for i in 0..count {
                let row = self.at.add((lane + i) * self.stride);
                for k in first..end {
                    *to.add((k - first) * L + i) = *row.add(k);
                }
            }
            return;
        }
        for half in (0..L).step_by(4) {
            let rows: [*const f32; 4] =
                std::array::from_fn(|i| self.at.add((lane + half + i) * self.stride));
            for k in first..end {
                let lanes = std::array::from_fn(|i| *rows[i].add(k));
                V::from_lanes(lanes).store(to.add((k - first) * L + half));
            }
        }
    }
}

/// (lane, k) at `at[k * stride + lane]`.
#[derive(Clone, Copy)]
pub struct Along {
    pub at: *const f32,
    pub stride: usize,
}

/// Packs rows k, at `row(k)`, whose elements are the lanes.
#[inline(always)]
unsafe fn pack_rows<V: Vector, const L: usize>(
    row: impl Fn(usize) -> *const f32,
    lane: usize,
    lanes: usize,
    (first, end): (usize, usize),
    to: *mut f32,
) {
    let count = lanes.saturating_sub(lane).min(L);
    for k in first..end {
        let (from, to) = (row(k).add(lane), to.add((k - first) * L));
        if count == L {
            for half in (0..L).step_by(4) {
                V::load(from.add(half)).store(to.add(half));
            }
            continue;
        }
        for i in 0..L {
            *to.add(i) = if i < count { *from.add(i) } else { 0.0 };
        }
    }
}

impl Operand for Along {
    #[inline(always)]
    unsafe fn pack<V: Vector, const L: usize>(
        &self,
        lane: usize,
        lanes: usize,
        k: (usize, usize),
        to: *mut f32,
    ) {
        pack_rows::<V, L>(|k| self.at.add(k * self.stride), lane, lanes, k, to);
    }
}

/// As `Along`, where k counts places of pairs, and the row is the pair's.
#[derive(Clone, Copy)]
pub struct AlongPairs {
    pub at: *const f32,
    pub stride: usize,
    pub pair: *const i32,
    pub choices: usize,
}

impl Operand for AlongPairs {
    #[inline(always)]
    unsafe fn pack<V: Vector, const L: usize>(
        &self,
        lane: usize,
        lanes: usize,
        k: (usize, usize),
        to: *mut f32,
    ) {
        let row = |k| self.at.add(*self.pair.add(k) as usize / self.choices * self.stride);
        pack_rows::<V, L>(row, lane, lanes, k, to);
    }
}

/// A packed weight [outputs, columns] whose outputs are lanes, its columns k.
#[derive(Clone, Copy)]
pub struct WeightOutputs {
    pub at: *const f32,
    pub columns: usize,
}

impl Operand for WeightOutputs {
    #[inline(always)]
    unsafe fn pack<V: Vector, const L: usize>(
        &self,
        lane: usize,
        _lanes: usize,
        (first, end): (usize, usize),
        to: *mut f32,
    ) {
        // Padding of the last panel is zero already.
        assert!(L == PANEL && lane.is_multiple_of(PANEL));
        let from = self.at.add(lane * self.columns + first * PANEL);
        to.copy_from_nonoverlapping(from, (end - first) * PANEL);
    }
}

/// A packed weight [outputs, columns] whose columns are lanes, its outputs k.
#[derive(Clone, Copy)]
pub struct WeightColumns {
    pub at: *const f32,
    pub columns: usize,
}

impl Operand for WeightColumns {
    #[inline(always)]
    unsafe fn pack<V: Vector, const L: usize>(
        &self,
        lane: usize,
        lanes: usize,
        (first, end): (usize, usize),
        to: *mut f32,
    ) {
        let count = lanes.saturating_sub(lane).min(L);
        for k in first..end {
            let panel = self.at.add(k / PANEL * PANEL * self.columns + k % PANEL);
            let to = to.add((k - first) * L);
            if count == L {
                for half in (0..L).step_by(4) {
                    let value = |i: usize| *panel.add((lane + half + i) * PANEL);
                    V::from_lanes(std::array::from_fn(value)).store(to.add(half));
                }
                continue;
            }
            for i in 0..L {
                *to.add(i) = if i < count { *panel.add((lane + i) * PANEL) } else { 0.0 };
            }
        }
    }
}

/// Where the result goes: element (row, column) at
/// `at[row * row_stride + column / 8 * panel_stride + column % 8]`.
#[derive(Clone, Copy)]
pub struct Target {
    pub at: *mut f32,
    pub row_stride: usize,
    pub panel_stride: usize,
    /// Columns beyond the result may be written (they hold zeros).
    pub padded: bool,
}

impl Target {
    /// Row-major [rows, width].
    pub fn rows(at: *mut f32, width: usize) -> Self {
        Self { at, row_stride: width, panel_stride: PANEL, padded: false }
    }

    /// The gradient of a packed weight, whose columns are the rows of the result.
    pub fn weight(at: *mut f32, columns: usize) -> Self {
        Self { at, row_stride: PANEL, panel_stride: PANEL * columns, padded: true }
    }
}

#[derive(Clone, Copy)]
pub struct Shape {
    pub rows: usize,
    pub columns: usize,
    pub k: usize,
}

/// How a product ends.
#[derive(Clone, Copy)]
pub struct Finish {
    pub scale: f32,
    pub accumulate: bool,
}

/// target (+)= scale * A * B^T, by the whole team. Operands and result do not overlap.
pub unsafe fn gemm<V: Vector>(
    team: &Team,
    shape: Shape,
    (a, b): (impl Operand, impl Operand),
    target: Target,
    finish: Finish,
    scratch: *mut f32,
) {
    let tiles = shape.rows.div_ceil(TILE);
    let panels = shape.columns.div_ceil(PANEL);
    let mut first = 0;
    loop {
        let end = shape.k.min(first + K_BLOCK);
        let count = end - first;
        let strips_b = scratch.add(tiles * TILE * count);
        for tile in team.share(tiles, 1) {
            let to = scratch.add(tile * TILE * count);
            a.pack::<V, TILE>(tile * TILE, shape.rows, (first, end), to);
        }
        for panel in team.share(panels, 1) {
            let to = strips_b.add(panel * PANEL * count);
            b.pack::<V, PANEL>(panel * PANEL, shape.columns, (first, end), to);
        }
        team.meet();
        let finish = Finish { accumulate: finish.accumulate || first > 0, ..finish };
        let (tile_share, panel_share) = if tiles >= panels {
            (team.share(tiles, 1), 0..panels)
        } else {
            (0..tiles, team.share(panels, 1))
        };
        for group in tile_share.clone().step_by(GROUP_TILES) {
            let group_end = tile_share.end.min(group + GROUP_TILES);
            for panel in panel_share.clone() {
                let strip_b = strips_b.add(panel * PANEL * count);
                for tile in group..group_end {
                    let strip_a = scratch.add(tile * TILE * count);
                    let sums = tile_sums::<V>(strip_a, strip_b, count);
                    store::<V>(&shape, (tile, panel), &target, &finish, sums);
                }
            }
        }
        first = end;
        if first >= shape.k {
            return;
        }
        team.meet();
    }
}

#[inline(always)]
unsafe fn tile_sums<V: Vector>(a: *const f32, b: *const f32, count: usize) -> [[V; 2]; TILE] {
    let mut sums = [[V::splat(0.0); 2]; TILE];
    for k in 0..count {
        let rows = V::load(a.add(k * TILE));
        let columns = [V::load(b.add(k * PANEL)), V::load(b.add(k * PANEL + 4))];
        let lanes = [rows.lane::<0>(), rows.lane::<1>(), rows.lane::<2>(), rows.lane::<3>()];
        for (sum, lane) in sums.iter_mut().zip(lanes) {
            for half in 0..2 {
                sum[half] = lane.madd(columns[half], sum[half]);
            }
        }
    }
    sums
}

#[inline(always)]
unsafe fn store<V: Vector>(
    shape: &Shape,
    (tile, panel): (usize, usize),
    target: &Target,
    finish: &Finish,
    sums: [[V; 2]; TILE],
) {
    let scale = V::splat(finish.scale);
    let columns = (shape.columns - panel * PANEL).min(PANEL);
    let rows = (shape.rows - tile * TILE).min(TILE);
    let start = target.at.add(tile * TILE * target.row_stride + panel * target.panel_stride);
    for (i, row) in sums.into_iter().enumerate().take(rows) {
        let at = start.add(i * target.row_stride);
        for (half, sum) in row.into_iter().enumerate() {
            let at = at.add(4 * half);
            let sum = sum.mul(scale);
            if target.padded || columns >= 4 * half + 4 {
                let sum = if finish.accumulate { V::load(at).add(sum) } else { sum };
                sum.store(at);
                continue;
            }
            for (lane, value) in sum.lanes().into_iter().enumerate() {
                if 4 * half + lane < columns {
                    let before = if finish.accumulate { *at.add(lane) } else { 0.0 };
                    *at.add(lane) = before + value;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::scalar::Scalar;
    use crate::team::tests::with_team;
    use crate::testing::{assert_close, Random};

    /// [rows, columns] transposed.
    fn transposed(values: &[f32], rows: usize, columns: usize) -> Vec<f32> {
        (0..rows * columns).map(|i| values[i % rows * columns + i / rows]).collect()
    }

    fn product(
        shape: Shape,
        operands: (impl Operand + Sync, impl Operand + Sync),
        threads: usize,
    ) -> Vec<f32> {
        let mut out = vec![1.0; shape.rows * shape.columns];
        let mut scratch = vec![0.0f32; K_BLOCK * (shape.rows + shape.columns + 16)];
        let (to, memory) = (out.as_mut_ptr() as usize, scratch.as_mut_ptr() as usize);
        let finish = Finish { scale: 2.0, accumulate: true };
        with_team(threads, |team| unsafe {
            let target = Target::rows(to as *mut f32, shape.columns);
            gemm::<Scalar>(team, shape, operands, target, finish, memory as *mut f32);
        });
        out
    }

    unsafe impl Sync for Across {}
    unsafe impl Sync for Along {}

    #[test]
    fn products_match_float64_in_every_layout_with_the_same_bits_in_every_team() {
        let mut random = Random::new(9);
        for (rows, columns, k) in [(1, 1, 1), (5, 9, 3), (33, 17, 700), (8, 24, 1024), (3, 8, 0)] {
            let shape = Shape { rows, columns, k };
            let a = random.floats(rows * k);
            let b = random.floats(columns * k);
            let (a_along, b_along) = (transposed(&a, rows, k), transposed(&b, columns, k));
            let across =
                (Across { at: a.as_ptr(), stride: k }, Across { at: b.as_ptr(), stride: k });
            let along = (
                Along { at: a_along.as_ptr(), stride: rows },
                Along { at: b_along.as_ptr(), stride: columns },
            );
            let out = product(shape, across, 1);
            for (i, &value) in out.iter().enumerate() {
                let (row, column) = (i / columns, i % columns);
                let terms =
                    (0..k).map(|j| f64::from(a[row * k + j]) * f64::from(b[column * k + j]));
                assert_close(value, 1.0 + 2.0 * terms.sum::<f64>(), 2e-5);
            }
            for threads in [1, 2, 3] {
                assert_eq!(out, product(shape, across, threads));
                assert_eq!(out, product(shape, along, threads));
            }
        }
    }
}
