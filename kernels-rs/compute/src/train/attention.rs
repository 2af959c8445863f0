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

macro_rules! layout_of {
    ($op:expr) => {
        Layout {
            rows: $op.rows,
            segment_rows: $op.segment_rows,
            row_length: $op.row_length,
            heads: $op.heads,
            kv_heads: $op.kv_heads,
            head_width: $op.head_width,
        }
    };
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

    /// Calls `f` for the units of this thread.
    unsafe fn for_units(&self, team: &Team, mut f: impl FnMut(Unit)) {
        let (mut start, mut number) = (0, 0);
        while start < self.rows {
            let end = self.sequence_end(start, team);
            for kv_head in 0..self.kv_heads {
                if number % team.threads == team.thread {
                    f(Unit { start, tokens: end - start, kv_head });
                }
                number += 1;
            }
            start = end;
        }
    }

    /// Place of a unit's first key.
    fn key_at(&self, unit: &Unit) -> usize {
        unit.start * self.key_stride() + unit.kv_head * self.head_width
    }

    fn blocks<'a>(&'a self, unit: &'a Unit) -> impl Iterator<Item = Block> + 'a {
        let group = self.heads / self.kv_heads;
        let heads = unit.kv_head * group..(unit.kv_head + 1) * group;
        heads.flat_map(move |head| {
            (0..unit.tokens).step_by(QUERY_BLOCK).map(move |first| {
                let rows = QUERY_BLOCK.min(unit.tokens - first);
                let row = unit.start + first;
                Block {
                    row,
                    first,
                    rows,
                    seen: if self.is_causal() { first + rows } else { unit.tokens },
                    head,
                    at: row * self.query_stride() + head * self.head_width,
                    key_at: self.key_at(unit),
                }
            })
        })
    }

    /// Keys that a row of the block attends to.
    fn length(&self, block: &Block, row: usize) -> usize {
        if self.is_causal() {
            block.first + row + 1
        } else {
            block.seen
        }
    }
}

/// One kv head of one sequence.
struct Unit {
    start: usize,
    tokens: usize,
    kv_head: usize,
}

/// Query rows of one head, and the keys that they see.
struct Block {
    /// Among all rows, and in the sequence.
    row: usize,
    first: usize,
    rows: usize,
    seen: usize,
    head: usize,
    /// Places of the first query and of the first key.
    at: usize,
    key_at: usize,
}

/// One thread at a unit: it multiplies alone, in memory of its own.
struct Worker<'a> {
    layout: &'a Layout,
    alone: Team<'a>,
    scores: *mut f32,
    slopes: *mut f32,
    packed: *mut f32,
}

impl<'a> Worker<'a> {
    unsafe fn of(
        layout: &'a Layout,
        team: &Team<'a>,
        (memory, thread_floats): (*mut f32, usize),
        tokens: usize,
    ) -> Self {
        let scores = memory.add(team.thread * thread_floats);
        let block = QUERY_BLOCK * tokens.next_multiple_of(8);
        assert!(2 * block <= thread_floats);
        Self {
            layout,
            alone: Team { thread: 0, threads: 1, control: team.control },
            scores,
            slopes: scores.add(block),
            packed: scores.add(2 * block),
        }
    }

    /// Products of the block's rows with the keys that they see, [rows, seen].
    unsafe fn row_products<V: Vector>(
        &self,
        block: &Block,
        (rows, keys): (*const f32, *const f32),
        scale: f32,
        to: *mut f32,
    ) {
        let shape = Shape { rows: block.rows, columns: block.seen, k: self.layout.head_width };
        let operands = (
            Across { at: rows.add(block.at), stride: self.layout.query_stride() },
            Across { at: keys.add(block.key_at), stride: self.layout.key_stride() },
        );
        let finish = Finish { scale, accumulate: false };
        let target = Target::rows(to, block.seen);
        gemm::<V>(&self.alone, shape, operands, target, finish, self.packed);
    }

    /// Sums of keys by weights [rows, seen], into the block's rows of `to`.
    unsafe fn key_sums<V: Vector>(
        &self,
        block: &Block,
        (weights, keys): (*const f32, *const f32),
        to: *mut f32,
    ) {
        let width = self.layout.head_width;
        let shape = Shape { rows: block.rows, columns: width, k: block.seen };
        let operands = (
            Across { at: weights, stride: block.seen },
            Along { at: keys.add(block.key_at), stride: self.layout.key_stride() },
        );
        let rows = Target::rows(to.add(block.at), width);
        let target = Target { row_stride: self.layout.query_stride(), ..rows };
        gemm::<V>(&self.alone, shape, operands, target, WRITE, self.packed);
    }

    /// Adds sums of the block's rows by weights [rows, seen] to the keys of `to`.
    unsafe fn add_row_sums<V: Vector>(
        &self,
        block: &Block,
        (weights, rows): (*const f32, *const f32),
        to: *mut f32,
    ) {
        let width = self.layout.head_width;
        let shape = Shape { rows: block.seen, columns: width, k: block.rows };
        let operands = (
            Along { at: weights, stride: block.seen },
            Along { at: rows.add(block.at), stride: self.layout.query_stride() },
        );
        let keys = Target::rows(to.add(block.key_at), width);
        let target = Target { row_stride: self.layout.key_stride(), ..keys };
        gemm::<V>(&self.alone, shape, operands, target, ADD, self.packed);
    }
}

const WRITE: Finish = Finish { scale: 1.0, accumulate: false };
const ADD: Finish = Finish { scale: 1.0, accumulate: true };

pub unsafe fn packed_attention<V: Vector>(op: &PackedAttention, team: &Team) {
    let layout = layout_of!(op);
    layout.for_units(team, |unit| {
        let memory = (op.scratch, op.thread_floats);
        let worker = Worker::of(&layout, team, memory, unit.tokens);
        for block in layout.blocks(&unit) {
            worker.row_products::<V>(&block, (op.query, op.key), op.scale, worker.scores);
            for row in 0..block.rows {
                let line = worker.scores.add(row * block.seen);
                let log_sum = soften::<V>(line, layout.length(&block, row), block.seen);
                *op.log_sum.add((block.row + row) * op.heads + block.head) = log_sum;
            }
            worker.key_sums::<V>(&block, (worker.scores, op.value), op.out);
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
    let layout = layout_of!(op);
    let key_stride = layout.key_stride();
    layout.for_units(team, |unit| {
        let memory = (op.scratch, op.thread_floats);
        let worker = Worker::of(&layout, team, memory, unit.tokens);
        for token in 0..unit.tokens {
            for grad in [op.key_grad, op.value_grad] {
                let row = grad.add(layout.key_at(&unit) + token * key_stride);
                std::slice::from_raw_parts_mut(row, op.head_width).fill(0.0);
            }
        }
        for block in layout.blocks(&unit) {
            slopes::<V>(op, &block, &worker);
            worker.key_sums::<V>(&block, (worker.slopes, op.key), op.query_grad);
            worker.add_row_sums::<V>(&block, (worker.slopes, op.query), op.key_grad);
            worker.add_row_sums::<V>(&block, (worker.scores, op.out_grad), op.value_grad);
        }
    });
}

/// Probabilities into `scores`, gradients of the scores into `slopes`.
unsafe fn slopes<V: Vector>(op: &PackedAttentionGrad, block: &Block, worker: &Worker) {
    let (layout, seen) = (worker.layout, block.seen);
    worker.row_products::<V>(block, (op.query, op.key), op.scale, worker.scores);
    worker.row_products::<V>(block, (op.out_grad, op.value), 1.0, worker.slopes);
    for row in 0..block.rows {
        let length = layout.length(block, row);
        let log_sum = *op.log_sum.add((block.row + row) * op.heads + block.head);
        let at = block.at + row * layout.query_stride();
        let weighted = V::splat(dot::<V>(op.out_grad.add(at), op.out.add(at), op.head_width));
        let line = worker.scores.add(row * seen);
        let slope = worker.slopes.add(row * seen);
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
