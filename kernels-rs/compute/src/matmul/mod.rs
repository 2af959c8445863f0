//! Matrix products. An output is one lane: its sum over the columns starts at 0 and runs in one
//! order, with the same instructions in every register blocking, so that a row's result does not
//! depend on how many rows or threads there are. Blockings differ in speed alone.

mod float;
pub mod integer;

use crate::dot::Dot;
use crate::pack::{Format, PANEL_ROWS};
use crate::record::{ExpertMatmul, Matmul};
use crate::simd::Vector;
use crate::team::{Fault, Team};
use float::FloatFormat;
use integer::{GroupFormat, QuantizedRows, TILE_ROWS};
use std::ops::Range;

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

/// A thread's working memory for rows that it multiplies together.
struct Block {
    at: *mut u8,
    /// A multiple of a tile's rows.
    rows: usize,
}

impl Product {
    fn panels(&self) -> usize {
        self.width.div_ceil(PANEL_ROWS)
    }

    /// All of `panels` for float rows; `input` and `out` give a row's places.
    unsafe fn run_float<V: Vector, W: FloatFormat>(
        &self,
        rows: Range<usize>,
        panels: Range<usize>,
        block: &Block,
        input: &impl Fn(usize) -> *const f32,
        out: &impl Fn(usize) -> *mut f32,
    ) {
        for start in rows.clone().step_by(block.rows) {
            let end = rows.end.min(start + block.rows);
            let tiles_end = start + (end - start) / float::TILE_ROWS * float::TILE_ROWS;
            let tiles = (start..tiles_end).step_by(float::TILE_ROWS);
            let tile = |row: usize| block.at.cast::<f32>().add((row - start) * self.columns);
            for row in tiles.clone() {
                let from = std::array::from_fn(|t| input(row + t));
                float::pack_tile(from, self.columns, tile(row));
            }
            for panel in panels.clone() {
                let weights = self.weight.add(panel * self.panel_bytes);
                for row in tiles.clone() {
                    let sums = float::tile_sums::<V, W>(tile(row), weights, self.columns);
                    for (t, row_sums) in sums.into_iter().enumerate() {
                        self.finish(row_sums, panel, out(row + t));
                    }
                }
            }
            match end - tiles_end {
                1 => self.float_strip::<V, W, 1, 4>(tiles_end, panels.clone(), input, out),
                2 => self.float_strip::<V, W, 2, 2>(tiles_end, panels.clone(), input, out),
                3 => self.float_strip::<V, W, 3, 1>(tiles_end, panels.clone(), input, out),
                _ => {}
            }
        }
    }

    /// T rows through all panels, P at a time.
    unsafe fn float_strip<V: Vector, W: FloatFormat, const T: usize, const P: usize>(
        &self,
        row: usize,
        panels: Range<usize>,
        input: &impl Fn(usize) -> *const f32,
        out: &impl Fn(usize) -> *mut f32,
    ) {
        let mut panel = panels.start;
        while panel + P <= panels.end {
            self.float_tile::<V, W, T, P>(row, panel, input, out);
            panel += P;
        }
        while panel < panels.end {
            self.float_tile::<V, W, T, 1>(row, panel, input, out);
            panel += 1;
        }
    }

    #[inline(never)]
    unsafe fn float_tile<V: Vector, W: FloatFormat, const T: usize, const P: usize>(
        &self,
        row: usize,
        panel: usize,
        input: &impl Fn(usize) -> *const f32,
        out: &impl Fn(usize) -> *mut f32,
    ) {
        let weights = self.weight.add(panel * self.panel_bytes);
        let rows = std::array::from_fn(|t| input(row + t));
        let sums = float::sums::<V, W, T, P>(rows, weights, self.panel_bytes, self.columns);
        for (t, row_sums) in sums.into_iter().enumerate() {
            for (p, panel_sums) in row_sums.into_iter().enumerate() {
                self.finish(panel_sums, panel + p, out(row + t));
            }
        }
    }

    /// All of `panels` for quantised rows; `input` and `out` give a row's places.
    unsafe fn run_quantized<V: Dot, F: GroupFormat>(
        &self,
        rows: Range<usize>,
        panels: Range<usize>,
        source: (&QuantizedRows, &Block),
        input: &impl Fn(usize) -> *const u8,
        out: &impl Fn(usize) -> *mut f32,
    ) {
        let (quantized, block) = source;
        for start in rows.clone().step_by(block.rows) {
            let rows = start..rows.end.min(start + block.rows);
            if rows.len() == 1 {
                self.row_strip::<V, F>(start, panels.clone(), input(start), out);
                continue;
            }
            let tile = |row: usize| block.at.add((row - start) * quantized.row_bytes());
            let mut row = start;
            while row < rows.end {
                let count = tile_rows(rows.end - row);
                quantized.pack_tile(row..row + count, input, tile(row));
                row += count;
            }
            let wide_end = start + rows.len() / TILE_ROWS * TILE_ROWS;
            for panel in panels.clone() {
                for half in 0..2 {
                    let tiles = (start..wide_end).step_by(TILE_ROWS);
                    self.wide_tiles::<V, F>(tiles, (panel, half), &tile, out);
                }
                let mut row = wide_end;
                while row < rows.end {
                    let count = tile_rows(rows.end - row);
                    let at = tile(row);
                    match count {
                        1 => self.narrow_tile::<V, F, 1>(at, panel, row, out),
                        2 => self.narrow_tile::<V, F, 2>(at, panel, row, out),
                        3 => self.narrow_tile::<V, F, 3>(at, panel, row, out),
                        _ => self.narrow_tile::<V, F, 4>(at, panel, row, out),
                    }
                    row += count;
                }
            }
        }
    }

    /// One row through all panels, those of the first half beside those of the second: two long
    /// streams, which mostly enter new pages of memory together and wait for them once.
    unsafe fn row_strip<V: Dot, F: GroupFormat>(
        &self,
        row: usize,
        panels: Range<usize>,
        input: *const u8,
        out: &impl Fn(usize) -> *mut f32,
    ) {
        let pairs = panels.len() / 2;
        for panel in panels.start..panels.start + pairs {
            self.pair_tile::<V, F>(input, [panel, panel + pairs], row, out);
        }
        for panel in panels.start + 2 * pairs..panels.end {
            self.narrow_tile::<V, F, 1>(input, panel, row, out);
        }
    }

    #[inline(never)]
    unsafe fn pair_tile<V: Dot, F: GroupFormat>(
        &self,
        tile: *const u8,
        panels: [usize; 2],
        row: usize,
        out: &impl Fn(usize) -> *mut f32,
    ) {
        let weights = self.weight.add(panels[0] * self.panel_bytes);
        let stride = (panels[1] - panels[0]) * self.panel_bytes;
        let groups = self.panel_bytes / F::GROUP_BYTES;
        let sums = integer::pair_sums::<V, F>(tile, weights, stride, groups);
        for (panel_sums, panel) in sums.into_iter().zip(panels) {
            self.finish(panel_sums, panel, out(row));
        }
    }

    #[inline(never)]
    unsafe fn narrow_tile<V: Dot, F: GroupFormat, const T: usize>(
        &self,
        tile: *const u8,
        panel: usize,
        row: usize,
        out: &impl Fn(usize) -> *mut f32,
    ) {
        let weights = self.weight.add(panel * self.panel_bytes);
        let groups = self.panel_bytes / F::GROUP_BYTES;
        let sums = integer::narrow_sums::<V, F, T>(tile, weights, groups);
        for (t, row_sums) in sums.into_iter().enumerate() {
            self.finish(row_sums, panel, out(row + t));
        }
    }

    /// Tiles of eight rows, at `tile(row)`, with half a panel.
    unsafe fn wide_tiles<V: Dot, F: GroupFormat>(
        &self,
        rows: impl Iterator<Item = usize>,
        (panel, half): (usize, usize),
        tile: &impl Fn(usize) -> *mut u8,
        out: &impl Fn(usize) -> *mut f32,
    ) {
        let weights = self.weight.add(panel * self.panel_bytes);
        let groups = self.panel_bytes / F::GROUP_BYTES;
        for row in rows {
            let sums = integer::wide_sums::<V, F>(tile(row), weights, half, groups);
            let lanes = sums.map(|output| output.map(V::lanes));
            for t in 0..TILE_ROWS {
                let outputs = V::from_lanes(std::array::from_fn(|i| lanes[i][t / 4][t % 4]));
                self.finish_half(outputs, panel * PANEL_ROWS + 4 * half, out(row + t));
            }
        }
    }

    /// Adds the bias and stores the outputs of one panel that exist.
    #[inline(always)]
    unsafe fn finish<V: Vector>(&self, sums: [V; 2], panel: usize, out: *mut f32) {
        for (half, sum) in sums.into_iter().enumerate() {
            self.finish_half(sum, panel * PANEL_ROWS + 4 * half, out);
        }
    }

    /// The same for four outputs from `at`.
    #[inline(always)]
    unsafe fn finish_half<V: Vector>(&self, sum: V, at: usize, out: *mut f32) {
        if at + 4 <= self.width {
            let biased =
                if self.bias.is_null() { sum } else { sum.add(V::load(self.bias.add(at))) };
            biased.store(out.add(at));
            return;
        }
        for (lane, value) in sum.lanes().into_iter().enumerate() {
            if at + lane < self.width {
                let bias = if self.bias.is_null() { 0.0 } else { *self.bias.add(at + lane) };
                *out.add(at + lane) = if self.bias.is_null() { value } else { value + bias };
            }
        }
    }
}

/// Rows of the next tile when `rest` are left.
fn tile_rows(rest: usize) -> usize {
    match rest {
        0..=4 => rest,
        5..=7 => 4,
        _ => TILE_ROWS,
    }
}

/// Which rows and panels this thread computes: panels if there are enough, else rows.
fn divide(team: &Team, rows: usize, panels: usize) -> (Range<usize>, Range<usize>) {
    if panels < 4 * team.threads && rows >= 8 * team.threads {
        (team.share(rows, 4), 0..panels)
    } else {
        (0..rows, team.share(panels, 1))
    }
}

/// This thread's block of `rows` among those of the team at `blocks`.
fn own_block(blocks: *mut u8, rows: usize, row_bytes: usize, team: &Team) -> Block {
    // As the host lays them out: whole cache lines.
    let block_bytes = (rows * row_bytes).next_multiple_of(64);
    Block { at: blocks.wrapping_add(team.thread * block_bytes), rows }
}

/// Bytes of a row in a block: as floats or quantised.
fn block_row_bytes(format: Format, columns: usize, quantized: &QuantizedRows) -> usize {
    if format.codes().is_some() {
        quantized.row_bytes()
    } else {
        columns * size_of::<f32>()
    }
}

/// The rows that a product quantises, and where it keeps them.
#[derive(PartialEq)]
struct Source {
    input: *const f32,
    rows: usize,
    columns: usize,
    scratch: *mut u8,
}

impl Source {
    /// That of a record, with the end of what its product writes; none unless it quantises.
    unsafe fn of(record: *const u64) -> Option<(Self, Range<*const f32>)> {
        let (source, format, out, outputs) = match record.read() {
            Matmul::OPCODE => {
                let Matmul { rows, input, columns, scratch, format, out, width, .. } =
                    Matmul::read(record);
                (Self { input, rows, columns, scratch }, format, out, rows * width)
            }
            ExpertMatmul::OPCODE => {
                let ExpertMatmul { input_rows, input, columns, scratch, format, .. } =
                    ExpertMatmul::read(record);
                let ExpertMatmul { out, places, width, .. } = ExpertMatmul::read(record);
                (Self { input, rows: input_rows, columns, scratch }, format, out, places * width)
            }
            _ => return None,
        };
        let out = out.cast_const();
        Format::of(format).codes().map(|_| (source, out..out.wrapping_add(outputs)))
    }
}

/// Whether the product of `record` finds its rows quantised by that of `previous`, the record before
/// it.
pub unsafe fn finds_rows(previous: *const u64, record: *const u64) -> bool {
    let (Some((left, written)), Some((needed, _))) = (Source::of(previous), Source::of(record))
    else {
        return false;
    };
    let input_end = needed.input.wrapping_add(needed.rows * needed.columns);
    let is_overwritten = written.start < input_end && needed.input < written.end;
    left == needed && !is_overwritten
}

/// With `has_rows`, the quantised rows are in their place already.
pub unsafe fn matmul<V: Dot>(op: &Matmul, has_rows: bool, team: &Team) {
    let product = Product {
        weight: op.weight,
        panel_bytes: op.panel_bytes,
        columns: op.columns,
        width: op.width,
        bias: op.bias,
    };
    let format = Format::of(op.format);
    let quantized = QuantizedRows::new(op.scratch, op.columns);
    if format.codes().is_some() && !has_rows {
        quantized.fill::<V>(op.input, op.rows, op.columns, team);
    }
    let row_bytes = block_row_bytes(format, op.columns, &quantized);
    let block = &own_block(op.blocks, op.block_rows, row_bytes, team);
    let source = (&quantized, block);
    let (rows, panels) = divide(team, op.rows, product.panels());
    let out = |row: usize| op.out.add(row * op.width);
    let input = |row: usize| op.input.add(row * op.columns);
    let groups = |row: usize| quantized.row(row);
    match format {
        Format::F32 => product.run_float::<V, float::F32>(rows, panels, block, &input, &out),
        Format::Bf16 => product.run_float::<V, float::Bf16>(rows, panels, block, &input, &out),
        Format::F16 => product.run_float::<V, float::F16>(rows, panels, block, &input, &out),
        Format::Q8 => product.run_quantized::<V, integer::Q8>(rows, panels, source, &groups, &out),
        Format::Q4 => product.run_quantized::<V, integer::Q4>(rows, panels, source, &groups, &out),
    }
}

/// With `has_rows`, the quantised rows are in their place already.
pub unsafe fn expert_matmul<V: Dot>(op: &ExpertMatmul, has_rows: bool, team: &Team) {
    let format = Format::of(op.format);
    let quantized = QuantizedRows::new(op.scratch, op.columns);
    if format.codes().is_some() && !has_rows {
        quantized.fill::<V>(op.input, op.input_rows, op.columns, team);
    }
    let row_bytes = block_row_bytes(format, op.columns, &quantized);
    let block = &own_block(op.blocks, op.block_rows, row_bytes, team);
    let source = (&quantized, block);
    let source_row = |place: usize| {
        if op.choices == 0 {
            return place;
        }
        let pair = team.check(*op.grouped_pair.add(place), op.places, Fault::RowIndex);
        pair / op.choices
    };
    let input = |place: usize| op.input.add(source_row(place) * op.columns);
    let groups = |place: usize| quantized.row(source_row(place));
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
            Format::F32 => {
                product.run_float::<V, float::F32>(start..end, panels, block, &input, &out)
            }
            Format::Bf16 => {
                product.run_float::<V, float::Bf16>(start..end, panels, block, &input, &out)
            }
            Format::F16 => {
                product.run_float::<V, float::F16>(start..end, panels, block, &input, &out)
            }
            Format::Q8 => {
                product.run_quantized::<V, integer::Q8>(start..end, panels, source, &groups, &out);
            }
            Format::Q4 => {
                product.run_quantized::<V, integer::Q4>(start..end, panels, source, &groups, &out);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pack::GROUP;
    use crate::quantize::ACTIVATION_BYTES;
    use crate::record::RECORD_BYTES;
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
        let row_bytes = (columns.div_ceil(GROUP) * ACTIVATION_BYTES).max(4 * columns);
        let mut scratch = vec![0u64; rows * row_bytes / 8 + 1];
        let block_rows = 16;
        let mut blocks = vec![0u64; threads * (block_rows * row_bytes / 8 + 8)];
        let (out_at, scratch_at) = (out.as_mut_ptr() as usize, scratch.as_mut_ptr() as usize);
        let blocks_at = blocks.as_mut_ptr() as usize;
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
                blocks: blocks_at as *mut u8,
                block_rows,
            };
            matmul::<Scalar>(&op, false, team);
        });
        out
    }

    #[test]
    fn rows_quantised_by_the_record_before_are_found() {
        let memory = [0f32; 64];
        let (input, other) = (memory.as_ptr() as u64, memory[32..].as_ptr() as u64);
        let record = |input: u64, format: u64, out: u64| {
            let mut record = [0u64; RECORD_BYTES / 8];
            let slots = [1, input, 0, format, 0, 16, 8, 0, out, 1 << 20, 0, 8];
            record[0] = Matmul::OPCODE;
            record[1..=slots.len()].copy_from_slice(&slots);
            record
        };
        let finds = |previous: [u64; RECORD_BYTES / 8], record: [u64; RECORD_BYTES / 8]| unsafe {
            finds_rows(previous.as_ptr(), record.as_ptr())
        };
        let first = record(input, 4, other);
        assert!(finds(first, record(input, 4, other + 32)));
        assert!(finds(first, record(input, 3, other + 32)));
        assert!(!finds(first, record(other, 4, input)), "another input");
        assert!(!finds(record(input, 0, other), first), "floats before");
        assert!(!finds(first, record(input, 0, other)), "floats after");
        assert!(!finds(record(input, 4, input + 60), first), "its last value is overwritten");
        let mut norm = first;
        norm[0] = crate::record::RmsNorm::OPCODE;
        assert!(!finds(norm, first), "something else before");
    }

    /// Input values as the format's kernel sees them.
    fn seen(input: &[f32], columns: usize, format: usize) -> Vec<f32> {
        if format < 3 {
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
            for format in 0..5 {
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
        for format in 0..5 {
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
        // A code may lie half a step of the largest scale away, or at the end of the range.
        let steps =
            [(0, 0.0), (1, 1.0 / 256.0), (2, 1.0 / 2048.0), (3, 2.0 / 62.7), (4, 2.0 / 7.2)];
        for (format, step) in steps {
            let matrix = PackedMatrix::new(&values, rows, columns, format);
            for (stored, value) in matrix.stored.iter().zip(&values) {
                assert!((stored - value).abs() <= step / 2.0 + 1e-9, "{stored} {value}");
            }
        }
    }

    #[test]
    fn extreme_codes_and_activations_do_not_overflow() {
        // All weights at the lowest code, all activations at one end or changing ends.
        for format in [3, 4] {
            let columns = 64;
            for pattern in [[1.0, 1.0], [-1.0, -1.0], [1.0, -1.0]] {
                let input: Vec<f32> = (0..columns).map(|i| pattern[i / 4 % 2]).collect();
                for weight_pattern in [[-1.0, -1.0], [-1.0, 1.0], [1.0, -1.0]] {
                    let weights: Vec<f32> =
                        (0..8 * columns).map(|i| weight_pattern[i / 4 % 2]).collect();
                    let matrix = PackedMatrix::new(&weights, 8, columns, format);
                    let out = product(&input, &matrix, columns, None, 1);
                    for (output, &value) in out.iter().enumerate() {
                        let terms = (0..columns).map(|k| {
                            f64::from(input[k]) * f64::from(matrix.stored[output * columns + k])
                        });
                        assert_close(value, terms.sum::<f64>(), 1e-5);
                    }
                }
            }
        }
    }
}
