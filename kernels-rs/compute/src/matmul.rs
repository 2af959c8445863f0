//! Matrix products. An output is one lane: its sum over the columns starts at 0 and runs in one
//! order, with the same instructions in every register blocking, so that a row's result does not
//! depend on how many rows or threads there are. Blockings differ in speed alone.

use crate::pack::{Format, GROUP, GROUP_BYTES, PANEL_ROWS};
use crate::record::{ExpertMatmul, Matmul};
use crate::simd::Vector;
use crate::team::{Fault, Team};
use std::ops::Range;

/// Rows that run together through a panel: a block whose inputs stay in the second-level cache.
const BLOCK_ROWS: usize = 128;

/// One panel's sums for one row.
type Sums<V> = [V; 2];

/// How one weight format multiplies.
trait Kernel {
    /// What a row of input looks like to this kernel.
    type Row: Copy;
    /// Sums of T rows x P panels; `panel_bytes` separates the panels.
    unsafe fn sums<V: Vector, const T: usize, const P: usize>(
        rows: [Self::Row; T],
        panels: *const u8,
        panel_bytes: usize,
        columns: usize,
    ) -> [[Sums<V>; P]; T];
}

/// A float format: how to load the eight weights of one column.
trait FloatWeights {
    const BYTES: usize;
    unsafe fn load<V: Vector>(from: *const u8) -> [V; 2];
}

struct F32;
struct Bf16;
struct F16;

impl FloatWeights for F32 {
    const BYTES: usize = 4;
    #[inline(always)]
    unsafe fn load<V: Vector>(from: *const u8) -> [V; 2] {
        [V::load(from.cast()), V::load(from.cast::<f32>().add(4))]
    }
}

impl FloatWeights for Bf16 {
    const BYTES: usize = 2;
    #[inline(always)]
    unsafe fn load<V: Vector>(from: *const u8) -> [V; 2] {
        V::load_bf16(from.cast())
    }
}

impl FloatWeights for F16 {
    const BYTES: usize = 2;
    #[inline(always)]
    unsafe fn load<V: Vector>(from: *const u8) -> [V; 2] {
        [V::load_f16(from.cast()), V::load_f16(from.cast::<u16>().add(4))]
    }
}

impl<W: FloatWeights> Kernel for W {
    type Row = *const f32;

    #[inline(always)]
    unsafe fn sums<V: Vector, const T: usize, const P: usize>(
        rows: [*const f32; T],
        panels: *const u8,
        panel_bytes: usize,
        columns: usize,
    ) -> [[Sums<V>; P]; T] {
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
}

/// A quantised row: int8 codes as i16, and one scale per group.
#[derive(Clone, Copy)]
struct QuantizedRow {
    codes: *const i16,
    scales: *const f32,
}

struct Q8;

impl Kernel for Q8 {
    type Row = QuantizedRow;

    #[inline(always)]
    unsafe fn sums<V: Vector, const T: usize, const P: usize>(
        rows: [QuantizedRow; T],
        panels: *const u8,
        panel_bytes: usize,
        columns: usize,
    ) -> [[Sums<V>; P]; T] {
        let mut sums = [[[V::splat(0.0); 2]; P]; T];
        for group in 0..columns.div_ceil(GROUP) {
            let mut dots = [[[V::int_zero(); 2]; P]; T];
            for pair in 0..GROUP / 2 {
                for p in 0..P {
                    let offset = group * GROUP_BYTES + 2 * PANEL_ROWS * (1 + pair);
                    let weights = V::load_pairs(panels.add(p * panel_bytes + offset).cast());
                    for t in 0..T {
                        let x = V::splat_pair(rows[t].codes.add(group * GROUP + 2 * pair));
                        for half in 0..2 {
                            dots[t][p][half] = V::dot_add(dots[t][p][half], weights[half], x);
                        }
                    }
                }
            }
            for p in 0..P {
                let from = panels.add(p * panel_bytes + group * GROUP_BYTES);
                let weight_scales = V::load_bf16(from.cast());
                for t in 0..T {
                    let row_scale = V::load_splat(rows[t].scales.add(group));
                    for half in 0..2 {
                        // In this order: the product of two tiny scales would lose bits.
                        let dot = V::from_int(dots[t][p][half]).mul(weight_scales[half]);
                        sums[t][p][half] = dot.madd(row_scale, sums[t][p][half]);
                    }
                }
            }
        }
        sums
    }
}

/// Weights and epilogue of a product, without its rows.
struct Product {
    weight: *const u8,
    panel_bytes: usize,
    columns: usize,
    /// Output width.
    width: usize,
    /// Null for none.
    bias: *const f32,
}

impl Product {
    fn panels(&self) -> usize {
        self.width.div_ceil(PANEL_ROWS)
    }

    /// All of `panels` for `rows`; `input` and `out` give a row's places.
    unsafe fn run<V: Vector, K: Kernel>(
        &self,
        rows: Range<usize>,
        panels: Range<usize>,
        input: &impl Fn(usize) -> K::Row,
        out: &impl Fn(usize) -> *mut f32,
    ) {
        for start in rows.clone().step_by(BLOCK_ROWS) {
            let end = rows.end.min(start + BLOCK_ROWS);
            let tiles_end = start + (end - start) / 4 * 4;
            for panel in panels.clone() {
                for row in (start..tiles_end).step_by(4) {
                    self.tile::<V, K, 4, 1>(row, panel, input, out);
                }
            }
            match end - tiles_end {
                1 => self.strip::<V, K, 1, 4>(tiles_end, panels.clone(), input, out),
                2 => self.strip::<V, K, 2, 2>(tiles_end, panels.clone(), input, out),
                3 => self.strip::<V, K, 3, 1>(tiles_end, panels.clone(), input, out),
                _ => {}
            }
        }
    }

    /// T rows through all panels, P at a time.
    unsafe fn strip<V: Vector, K: Kernel, const T: usize, const P: usize>(
        &self,
        row: usize,
        panels: Range<usize>,
        input: &impl Fn(usize) -> K::Row,
        out: &impl Fn(usize) -> *mut f32,
    ) {
        let mut panel = panels.start;
        while panel + P <= panels.end {
            self.tile::<V, K, T, P>(row, panel, input, out);
            panel += P;
        }
        while panel < panels.end {
            self.tile::<V, K, T, 1>(row, panel, input, out);
            panel += 1;
        }
    }

    #[inline(never)]
    unsafe fn tile<V: Vector, K: Kernel, const T: usize, const P: usize>(
        &self,
        row: usize,
        panel: usize,
        input: &impl Fn(usize) -> K::Row,
        out: &impl Fn(usize) -> *mut f32,
    ) {
        let weights = self.weight.add(panel * self.panel_bytes);
        let rows = std::array::from_fn(|t| input(row + t));
        let sums = K::sums::<V, T, P>(rows, weights, self.panel_bytes, self.columns);
        for (t, row_sums) in sums.into_iter().enumerate() {
            for (p, panel_sums) in row_sums.into_iter().enumerate() {
                self.finish(panel_sums, (panel + p) * PANEL_ROWS, out(row + t));
            }
        }
    }

    /// Adds the bias and stores the outputs that exist.
    #[inline(always)]
    unsafe fn finish<V: Vector>(&self, sums: Sums<V>, first: usize, out: *mut f32) {
        for (half, sum) in sums.into_iter().enumerate() {
            let at = first + 4 * half;
            if at + 4 <= self.width {
                let biased =
                    if self.bias.is_null() { sum } else { sum.add(V::load(self.bias.add(at))) };
                biased.store(out.add(at));
            } else {
                for (lane, value) in sum.lanes().into_iter().enumerate() {
                    if at + lane < self.width {
                        let bias =
                            if self.bias.is_null() { 0.0 } else { *self.bias.add(at + lane) };
                        *out.add(at + lane) =
                            if self.bias.is_null() { value } else { value + bias };
                    }
                }
            }
        }
    }
}

/// Activations as int8: codes [rows, groups * 32] i16, then scales [rows, groups] f32.
struct Quantized {
    codes: *mut i16,
    scales: *mut f32,
    groups: usize,
}

impl Quantized {
    unsafe fn at(scratch: *mut u8, rows: usize, columns: usize) -> Self {
        let groups = columns.div_ceil(GROUP);
        let scales = scratch.add(rows * groups * GROUP * 2).cast();
        Self { codes: scratch.cast(), scales, groups }
    }

    fn row(&self, row: usize) -> QuantizedRow {
        let group = row * self.groups;
        QuantizedRow {
            codes: self.codes.wrapping_add(group * GROUP),
            scales: self.scales.wrapping_add(group),
        }
    }

    /// Quantises `rows` of `input`, the team together; complete when this returns.
    unsafe fn fill<V: Vector>(&self, input: *const f32, rows: usize, columns: usize, team: &Team) {
        for index in team.share(rows * self.groups, 4) {
            let (row, first) = (index / self.groups, index % self.groups * GROUP);
            let count = GROUP.min(columns - first);
            let mut values = [0.0; GROUP];
            values.as_mut_ptr().copy_from_nonoverlapping(input.add(row * columns + first), count);
            let scale = quantize_group::<V>(&values, self.codes.add(index * GROUP));
            *self.scales.add(index) = scale;
        }
        team.meet();
    }
}

/// Codes of one group; returns its scale.
#[inline(always)]
unsafe fn quantize_group<V: Vector>(values: &[f32; GROUP], codes: *mut i16) -> f32 {
    let mut largest = V::splat(0.0);
    for i in (0..GROUP).step_by(4) {
        largest = largest.max(V::load(values.as_ptr().add(i)).abs());
    }
    let largest = crate::math::lane_max(largest);
    let inverse = V::splat(if largest == 0.0 { 0.0 } else { 127.0 / largest });
    let (low, high) = (V::splat(-127.0), V::splat(127.0));
    for i in (0..GROUP).step_by(4) {
        let scaled = V::load(values.as_ptr().add(i)).mul(inverse);
        let rounded = scaled.nearest().max(low).min(high).lanes();
        for (lane, value) in rounded.into_iter().enumerate() {
            *codes.add(i + lane) = value as i16;
        }
    }
    largest / 127.0
}

/// Which rows and panels this thread computes: panels if there are enough, else rows.
fn divide(team: &Team, rows: usize, panels: usize) -> (Range<usize>, Range<usize>) {
    if panels < 4 * team.threads && rows >= 8 * team.threads {
        (team.share(rows, 4), 0..panels)
    } else {
        (0..rows, team.share(panels, 1))
    }
}

pub unsafe fn matmul<V: Vector>(op: &Matmul, team: &Team) {
    let product = Product {
        weight: op.weight,
        panel_bytes: op.panel_bytes,
        columns: op.columns,
        width: op.width,
        bias: op.bias,
    };
    let (rows, panels) = divide(team, op.rows, product.panels());
    let out = |row: usize| op.out.add(row * op.width);
    let input = |row: usize| op.input.add(row * op.columns);
    match Format::of(op.format) {
        Format::F32 => product.run::<V, F32>(rows, panels, &input, &out),
        Format::Bf16 => product.run::<V, Bf16>(rows, panels, &input, &out),
        Format::F16 => product.run::<V, F16>(rows, panels, &input, &out),
        Format::Q8 => {
            let quantized = Quantized::at(op.scratch, op.rows, op.columns);
            quantized.fill::<V>(op.input, op.rows, op.columns, team);
            product.run::<V, Q8>(rows, panels, &|row| quantized.row(row), &out);
        }
    }
}

pub unsafe fn expert_matmul<V: Vector>(op: &ExpertMatmul, team: &Team) {
    let format = Format::of(op.format);
    let quantized = Quantized::at(op.scratch, op.input_rows, op.columns);
    if format == Format::Q8 {
        quantized.fill::<V>(op.input, op.input_rows, op.columns, team);
    }
    let source = |place: usize| {
        if op.choices == 0 {
            return place;
        }
        let pair = team.check(*op.grouped_pair.add(place), op.places, Fault::RowIndex);
        pair / op.choices
    };
    let input = |place: usize| op.input.add(source(place) * op.columns);
    let out = |place: usize| op.out.add(place * op.width);
    for expert in 0..op.experts {
        let bound = op.places + 1;
        let start = team.check(*op.expert_start.add(expert), bound, Fault::Expert);
        let end = team.check(*op.expert_start.add(expert + 1), bound, Fault::Expert);
        let product = Product {
            weight: op.weight.add(expert * op.expert_bytes),
            panel_bytes: op.panel_bytes,
            columns: op.columns,
            width: op.width,
            bias: std::ptr::null(),
        };
        let panels = team.share(product.panels(), 1);
        match format {
            Format::F32 => product.run::<V, F32>(start..end, panels, &input, &out),
            Format::Bf16 => product.run::<V, Bf16>(start..end, panels, &input, &out),
            Format::F16 => product.run::<V, F16>(start..end, panels, &input, &out),
            Format::Q8 => {
                let row = |place: usize| quantized.row(source(place));
                product.run::<V, Q8>(start..end, panels, &row, &out);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::scalar::Scalar;
    use crate::team::tests::with_team;
    use crate::testing::{assert_close, PackedMatrix, Random};

    /// The product by the kernel, on a team of `threads`.
    fn product(
        input: &[f32],
        matrix: &PackedMatrix,
        columns: usize,
        bias: Option<&[f32]>,
        threads: usize,
    ) -> Vec<f32> {
        let rows = input.len() / columns;
        let width = matrix.stored.len() / columns;
        let mut out = vec![f32::NAN; rows * width];
        let mut scratch = vec![0u64; rows * columns.div_ceil(GROUP) * 9];
        let (out_at, scratch_at) = (out.as_mut_ptr() as usize, scratch.as_mut_ptr() as usize);
        with_team(threads, |team| unsafe {
            let op = Matmul {
                rows,
                input: input.as_ptr(),
                weight: matrix.bytes.as_ptr().cast(),
                format: matrix.format,
                panel_bytes: matrix.panel_bytes,
                columns,
                width,
                bias: bias.map_or(std::ptr::null(), <[f32]>::as_ptr),
                out: out_at as *mut f32,
                scratch: scratch_at as *mut u8,
            };
            matmul::<Scalar>(&op, team);
        });
        out
    }

    /// Input values as the format's kernel sees them.
    fn seen(input: &[f32], columns: usize, format: usize) -> Vec<f32> {
        if format != 3 {
            return input.to_vec();
        }
        let mut seen = Vec::new();
        for group in input.chunks(columns).flat_map(|row| row.chunks(GROUP)) {
            let largest = group.iter().fold(0.0f32, |a, &b| a.max(b.abs()));
            let code = |x: &f32| (x * (127.0 / largest)).round_ties_even() * (largest / 127.0);
            seen.extend(group.iter().map(code));
        }
        seen
    }

    #[test]
    fn products_match_float64_in_every_format_and_shape() {
        let mut random = Random::new(3);
        for (rows, columns, width) in
            [(0, 8, 8), (1, 1, 1), (1, 70, 33), (2, 64, 24), (3, 33, 9), (9, 40, 65), (7, 31, 5)]
        {
            let input = random.floats(rows * columns);
            let weights = random.floats(width * columns);
            let bias = random.floats(width);
            for format in 0..4 {
                let matrix = PackedMatrix::new(&weights, width, columns, format);
                let out = product(&input, &matrix, columns, Some(&bias), 2);
                let input = seen(&input, columns, format);
                for (i, &value) in out.iter().enumerate() {
                    let (row, output) = (i / width, i % width);
                    let terms = (0..columns).map(|k| {
                        f64::from(input[row * columns + k])
                            * f64::from(matrix.stored[output * columns + k])
                    });
                    assert_close(value, terms.sum::<f64>() + f64::from(bias[output]), 1e-5);
                }
            }
        }
    }

    #[test]
    fn a_row_has_the_same_bits_alone_and_in_any_batch_and_team() {
        let mut random = Random::new(4);
        let (columns, width) = (77, 100);
        let input = random.floats(17 * columns);
        let weights = random.floats(width * columns);
        for format in 0..4 {
            let matrix = PackedMatrix::new(&weights, width, columns, format);
            let whole = product(&input, &matrix, columns, None, 1);
            for threads in [2, 3] {
                assert_eq!(whole, product(&input, &matrix, columns, None, threads));
            }
            for rows in 1..7 {
                for first in [0, 5, 17 - rows] {
                    let part = &input[first * columns..(first + rows) * columns];
                    let out = product(part, &matrix, columns, None, 1);
                    assert_eq!(out, whole[first * width..(first + rows) * width]);
                }
            }
        }
    }

    #[test]
    fn stored_values_are_within_half_a_step() {
        let mut random = Random::new(5);
        let (rows, columns) = (11, 70);
        let mut values = random.floats(rows * columns);
        values[3 * columns..3 * columns + 40].fill(0.0);
        for (format, step) in [(0, 0.0), (1, 1.0 / 256.0), (2, 1.0 / 2048.0), (3, 1.02 / 127.0)] {
            let matrix = PackedMatrix::new(&values, rows, columns, format);
            for (stored, value) in matrix.stored.iter().zip(&values) {
                assert!((stored - value).abs() <= step / 2.0 + 1e-9, "{stored} {value}");
            }
        }
    }
}
