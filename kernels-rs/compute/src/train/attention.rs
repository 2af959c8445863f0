//! Attention over packed rows and its gradient, which computes the probabilities again. A unit is
//! one kv head of one sequence: all that it writes is its own, so units are shared out.

use super::gemm::{gemm, Across, Along, Finish, Shape, Target};
use super::record::{PackedAttention, PackedAttentionGrad};
use crate::math::{exp, lane_max, lane_sum};
use crate::norm::map_row;
use crate::simd::Vector;
use crate::team::{Fault, Team};

/// Query rows whose scores exist together; `training_ops.ts` has the same.
const QUERY_BLOCK: usize = 64;

/// What both ops say of their operands.
struct Layout {
    rows: usize,
    segment_rows: usize,
    row_length: *const i32,
    heads: usize,
    kv_heads: usize,
    head_width: usize,
}

impl Layout {
    fn query_stride(&self) -> usize {
        self.heads * self.head_width
    }

    fn key_stride(&self) -> usize {
        self.kv_heads * self.head_width
    }

    fn is_causal(&self) -> bool {
        !self.row_length.is_null()
    }

    /// The end of the sequence that starts at row `start`.
    unsafe fn sequence_end(&self, start: usize, team: &Team) -> usize {
        if !self.is_causal() {
            return start + self.segment_rows;
        }
        let mut end = start;
        while end < self.rows {
            let length = *self.row_length.add(end);
            if length == 1 && end > start {
                break;
            }
            if length as usize != end - start + 1 {
                team.refuse(Fault::Position, length);
            }
            end += 1;
        }
        end
    }

    /// Calls `f(first row, rows, kv head)` for the units of this thread.
    unsafe fn for_units(&self, team: &Team, mut f: impl FnMut(usize, usize, usize)) {
        let (mut start, mut unit) = (0, 0);
        while start < self.rows {
            let end = self.sequence_end(start, team);
            for kv_head in 0..self.kv_heads {
                if unit % team.threads == team.thread {
                    f(start, end - start, kv_head);
                }
                unit += 1;
            }
            start = end;
        }
    }
}

/// Scratch memory of one thread.
#[derive(Clone, Copy)]
struct Scratch {
    scores: *mut f32,
    slopes: *mut f32,
    packed: *mut f32,
}

impl Scratch {
    unsafe fn of(thread: usize, memory: *mut f32, thread_floats: usize, tokens: usize) -> Self {
        let scores = memory.add(thread * thread_floats);
        let block = QUERY_BLOCK * tokens.next_multiple_of(8);
        assert!(2 * block <= thread_floats);
        Self { scores, slopes: scores.add(block), packed: scores.add(2 * block) }
    }
}

const WRITE: Finish = Finish { scale: 1.0, accumulate: false };
const ADD: Finish = Finish { scale: 1.0, accumulate: true };

pub unsafe fn packed_attention<V: Vector>(op: &PackedAttention, team: &Team) {
    let layout = Layout {
        rows: op.rows,
        segment_rows: op.segment_rows,
        row_length: op.row_length,
        heads: op.heads,
        kv_heads: op.kv_heads,
        head_width: op.head_width,
    };
    let alone = Team { thread: 0, threads: 1, control: team.control };
    let width = op.head_width;
    let group = op.heads / op.kv_heads;
    let (query_stride, key_stride) = (layout.query_stride(), layout.key_stride());
    layout.for_units(team, |start, tokens, kv_head| {
        let scratch = Scratch::of(team.thread, op.scratch, op.thread_floats, tokens);
        let kv = start * key_stride + kv_head * width;
        for head in kv_head * group..(kv_head + 1) * group {
            for first in (0..tokens).step_by(QUERY_BLOCK) {
                let rows = QUERY_BLOCK.min(tokens - first);
                let seen = if layout.is_causal() { first + rows } else { tokens };
                let at = (start + first) * query_stride + head * width;
                let shape = Shape { rows, columns: seen, k: width };
                let operands = (
                    Across { at: op.query.add(at), stride: query_stride },
                    Across { at: op.key.add(kv), stride: key_stride },
                );
                let scores = Target::rows(scratch.scores, seen);
                let scaled = Finish { scale: op.scale, accumulate: false };
                gemm::<V>(&alone, shape, operands, scores, scaled, scratch.packed);
                for row in 0..rows {
                    let line = scratch.scores.add(row * seen);
                    let length = if layout.is_causal() { first + row + 1 } else { tokens };
                    let log_sum = soften::<V>(line, length, seen);
                    *op.log_sum.add((start + first + row) * op.heads + head) = log_sum;
                }
                let shape = Shape { rows, columns: width, k: seen };
                let operands = (
                    Across { at: scratch.scores, stride: seen },
                    Along { at: op.value.add(kv), stride: key_stride },
                );
                let target =
                    Target { row_stride: query_stride, ..Target::rows(op.out.add(at), width) };
                gemm::<V>(&alone, shape, operands, target, WRITE, scratch.packed);
            }
        }
    });
}

/// Scores become probabilities, those beyond `length` 0; returns the logarithm of their sum.
unsafe fn soften<V: Vector>(line: *mut f32, length: usize, seen: usize) -> f32 {
    let whole = length & !3;
    let mut top = V::splat(f32::NEG_INFINITY);
    for i in (0..whole).step_by(4) {
        top = top.max(V::load(line.add(i)));
    }
    let mut largest = lane_max(top);
    for i in whole..length {
        largest = largest.max(*line.add(i));
    }
    map_row::<V>(length, line, |i| exp(i.of::<V>(line).sub(V::splat(largest))));
    let mut sums = V::splat(0.0);
    for i in (0..whole).step_by(4) {
        sums = sums.add(V::load(line.add(i)));
    }
    let mut total = lane_sum(sums);
    for i in whole..length {
        total += *line.add(i);
    }
    map_row::<V>(length, line, |i| i.of::<V>(line).div(V::splat(total)));
    std::slice::from_raw_parts_mut(line.add(length), seen - length).fill(0.0);
    largest + total.ln()
}

pub unsafe fn packed_attention_grad<V: Vector>(op: &PackedAttentionGrad, team: &Team) {
    let layout = Layout {
        rows: op.rows,
        segment_rows: op.segment_rows,
        row_length: op.row_length,
        heads: op.heads,
        kv_heads: op.kv_heads,
        head_width: op.head_width,
    };
    let width = op.head_width;
    let group = op.heads / op.kv_heads;
    let key_stride = layout.key_stride();
    layout.for_units(team, |start, tokens, kv_head| {
        let scratch = Scratch::of(team.thread, op.scratch, op.thread_floats, tokens);
        let kv = start * key_stride + kv_head * width;
        for token in 0..tokens {
            for grad in [op.key_grad, op.value_grad] {
                let row = grad.add(kv + token * key_stride);
                std::slice::from_raw_parts_mut(row, width).fill(0.0);
            }
        }
        for head in kv_head * group..(kv_head + 1) * group {
            for first in (0..tokens).step_by(QUERY_BLOCK) {
                let rows = QUERY_BLOCK.min(tokens - first);
                let seen = if layout.is_causal() { first + rows } else { tokens };
                let block = Block { row: start + first, first, rows, seen, head, kv };
                slopes::<V>(op, &layout, &block, scratch, team);
                block_grads::<V>(op, &layout, &block, scratch, team);
            }
        }
    });
}

/// Query rows of one head, and the keys that they see.
struct Block {
    /// Among all rows, and in the sequence.
    row: usize,
    first: usize,
    rows: usize,
    seen: usize,
    head: usize,
    /// Place of the first key.
    kv: usize,
}

/// Probabilities into `scores`, gradients of the scores into `slopes`.
unsafe fn slopes<V: Vector>(
    op: &PackedAttentionGrad,
    layout: &Layout,
    block: &Block,
    scratch: Scratch,
    team: &Team,
) {
    let alone = Team { thread: 0, threads: 1, control: team.control };
    let (query_stride, key_stride) = (layout.query_stride(), layout.key_stride());
    let width = op.head_width;
    let at = block.row * query_stride + block.head * width;
    let seen = block.seen;
    let shape = Shape { rows: block.rows, columns: seen, k: width };
    let rows_of = |from: *const f32| Across { at: from.add(at), stride: query_stride };
    let keys_of = |from: *const f32| Across { at: from.add(block.kv), stride: key_stride };
    let scaled = Finish { scale: op.scale, accumulate: false };
    let operands = (rows_of(op.query), keys_of(op.key));
    gemm::<V>(&alone, shape, operands, Target::rows(scratch.scores, seen), scaled, scratch.packed);
    let operands = (rows_of(op.out_grad), keys_of(op.value));
    gemm::<V>(&alone, shape, operands, Target::rows(scratch.slopes, seen), WRITE, scratch.packed);
    for row in 0..block.rows {
        let length = if layout.is_causal() { block.first + row + 1 } else { seen };
        let log_sum = *op.log_sum.add((block.row + row) * op.heads + block.head);
        let (grad, out) =
            (op.out_grad.add(at + row * query_stride), op.out.add(at + row * query_stride));
        let weighted = V::splat(dot::<V>(grad, out, width));
        let line = scratch.scores.add(row * seen);
        let slope = scratch.slopes.add(row * seen);
        map_row::<V>(length, line, |i| exp(i.of::<V>(line).sub(V::splat(log_sum))));
        map_row::<V>(length, slope, |i| {
            let inner = i.of::<V>(slope).sub(weighted).mul(V::splat(op.scale));
            i.of::<V>(line).mul(inner)
        });
        for values in [line, slope] {
            std::slice::from_raw_parts_mut(values.add(length), seen - length).fill(0.0);
        }
    }
}

unsafe fn block_grads<V: Vector>(
    op: &PackedAttentionGrad,
    layout: &Layout,
    block: &Block,
    scratch: Scratch,
    team: &Team,
) {
    let alone = Team { thread: 0, threads: 1, control: team.control };
    let (query_stride, key_stride) = (layout.query_stride(), layout.key_stride());
    let width = op.head_width;
    let at = block.row * query_stride + block.head * width;
    let seen = block.seen;
    let shape = Shape { rows: block.rows, columns: width, k: seen };
    let operands = (
        Across { at: scratch.slopes, stride: seen },
        Along { at: op.key.add(block.kv), stride: key_stride },
    );
    let target = Target { row_stride: query_stride, ..Target::rows(op.query_grad.add(at), width) };
    gemm::<V>(&alone, shape, operands, target, WRITE, scratch.packed);
    let shape = Shape { rows: seen, columns: width, k: block.rows };
    for (from, to, rows) in
        [(scratch.slopes, op.key_grad, op.query), (scratch.scores, op.value_grad, op.out_grad)]
    {
        let operands =
            (Along { at: from, stride: seen }, Along { at: rows.add(at), stride: query_stride });
        let target = Target { row_stride: key_stride, ..Target::rows(to.add(block.kv), width) };
        gemm::<V>(&alone, shape, operands, target, ADD, scratch.packed);
    }
}

unsafe fn dot<V: Vector>(left: *const f32, right: *const f32, width: usize) -> f32 {
    let whole = width & !3;
    let mut sums = V::splat(0.0);
    for i in (0..whole).step_by(4) {
        sums = V::load(left.add(i)).madd(V::load(right.add(i)), sums);
    }
    let mut total = lane_sum(sums);
    for i in whole..width {
        total += *left.add(i) * *right.add(i);
    }
    total
}
