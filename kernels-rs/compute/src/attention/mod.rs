//! Attention of a few query lines over keys and values held in blocks of tokens.
//!
//! Keys go by in chunks whose borders depend only on the token's absolute index and the block
//! size, with a running maximum and sum per line (online softmax). A score is one lane: its sum
//! over the head starts at 0 and runs in one order; values are added in token order. So a line's
//! result does not depend on the lines beside it.

pub mod paged;
pub mod segment;

use crate::kv::{round_up_4, Element};
use crate::math::{exp, lane_max, lane_sum};
use crate::simd::Vector;
use std::ops::Range;

/// Widest head: the running outputs live on the stack.
pub const HEAD_WIDTH_MAX: usize = 256;
/// Most tokens of one chunk.
const CHUNK: usize = 128;
/// Lines that run together.
pub const LINES: usize = 4;

/// One query head of one row.
#[derive(Clone, Copy)]
pub struct Line {
    pub query: *const f32,
    pub out: *mut f32,
    /// Tokens that it attends to.
    pub length: usize,
}

/// Where the keys and values of one block of tokens are: keys [width][token stride], values
/// [token][value stride], and scales per token where the format has them.
#[derive(Clone, Copy)]
pub struct Block {
    pub keys: *const u8,
    pub values: *const u8,
    pub key_scales: *const f32,
    pub value_scales: *const f32,
}

pub struct Shape {
    pub head_width: usize,
    pub block_tokens: usize,
    pub scale: f32,
}

impl Shape {
    /// End of the chunk that starts at token `start`.
    fn chunk_end(&self, start: usize) -> usize {
        if self.block_tokens <= CHUNK {
            start + CHUNK / self.block_tokens * self.block_tokens
        } else {
            start + CHUNK.min(self.block_tokens - start % self.block_tokens)
        }
    }
}

/// A running softmax of one line.
struct State {
    largest: f32,
    total: f32,
    /// Sum of probability * value so far.
    sums: [f32; HEAD_WIDTH_MAX],
    /// Scores, then probabilities, of the current chunk. Stores may run over by three.
    weights: [f32; CHUNK + 4],
}

/// Computes all `lines` (at most `LINES`); `block` finds a block by its index.
pub unsafe fn attend<V: Vector, E: Element>(
    shape: &Shape,
    lines: &[Line],
    block: &impl Fn(usize) -> Block,
) {
    let mut states: [State; LINES] = std::array::from_fn(|_| State {
        largest: f32::NEG_INFINITY,
        total: 0.0,
        sums: [0.0; HEAD_WIDTH_MAX],
        weights: [0.0; CHUNK + 4],
    });
    let states = &mut states[..lines.len()];
    let longest = lines.iter().map(|line| line.length).max().unwrap_or(0);
    let mut start = 0;
    while start < longest {
        let end = shape.chunk_end(start).min(longest);
        let chunk = start..end;
        for_blocks(shape, &chunk, |index, tokens| {
            score_block::<V, E>(shape, lines, states, block(index), tokens, start);
        });
        let counts: [usize; LINES] = std::array::from_fn(|i| {
            lines.get(i).map_or(0, |line| line.length.min(end).saturating_sub(start))
        });
        for (state, &count) in states.iter_mut().zip(&counts) {
            soften::<V>(state, count, shape.head_width);
        }
        add_values::<V, E>(shape, states, &counts, block, start);
        start = end;
    }
    for (state, line) in states.iter().zip(lines) {
        let total = if line.length == 0 { 1.0 } else { state.total };
        for d in 0..shape.head_width {
            *line.out.add(d) = state.sums[d] / total;
        }
    }
}

/// Calls `f(block index, tokens)` for the part of each block inside `tokens`, ascending.
fn for_blocks(shape: &Shape, tokens: &Range<usize>, mut f: impl FnMut(usize, Range<usize>)) {
    let mut at = tokens.start;
    while at < tokens.end {
        let index = at / shape.block_tokens;
        let end = ((index + 1) * shape.block_tokens).min(tokens.end);
        f(index, at..end);
        at = end;
    }
}

/// Scores of one block's tokens for all lines, into their `weights` from chunk start `start`.
unsafe fn score_block<V: Vector, E: Element>(
    shape: &Shape,
    lines: &[Line],
    states: &mut [State],
    block: Block,
    tokens: Range<usize>,
    start: usize,
) {
    // A chunk begins at a block's start or at a multiple of CHUNK inside it: aligned either way.
    let first = tokens.start % shape.block_tokens;
    let vectors = tokens.len().div_ceil(4);
    let mut vector = 0;
    while vector < vectors {
        let wide = vectors - vector >= 2;
        let at = first + 4 * vector;
        let to = tokens.start - start + 4 * vector;
        let mut line = 0;
        while line < lines.len() {
            let (lines, states) = (&lines[line..], &mut states[line..]);
            line += match (lines.len(), wide) {
                (4.., true) => scores::<V, E, 4, 2>(shape, lines, states, block, at, to),
                (4.., false) => scores::<V, E, 4, 1>(shape, lines, states, block, at, to),
                (2.., true) => scores::<V, E, 2, 2>(shape, lines, states, block, at, to),
                (2.., false) => scores::<V, E, 2, 1>(shape, lines, states, block, at, to),
                (_, true) => scores::<V, E, 1, 2>(shape, lines, states, block, at, to),
                (_, false) => scores::<V, E, 1, 1>(shape, lines, states, block, at, to),
            };
        }
        vector += if wide { 2 } else { 1 };
    }
}

/// T lines x N vectors of tokens; returns T.
#[inline(always)]
unsafe fn scores<V: Vector, E: Element, const T: usize, const N: usize>(
    shape: &Shape,
    lines: &[Line],
    states: &mut [State],
    block: Block,
    at: usize,
    to: usize,
) -> usize {
    let stride = round_up_4(shape.block_tokens);
    let mut sums = [[V::splat(0.0); N]; T];
    for d in 0..shape.head_width {
        let keys: [V; N] = std::array::from_fn(|n| E::load(block.keys, d * stride + at + 4 * n));
        for t in 0..T {
            let q = V::load_splat(lines[t].query.add(d));
            for n in 0..N {
                sums[t][n] = q.madd(keys[n], sums[t][n]);
            }
        }
    }
    for n in 0..N {
        let mut scale = V::splat(shape.scale);
        if E::SCALED {
            scale = scale.mul(V::load(block.key_scales.add(at + 4 * n)));
        }
        for t in 0..T {
            sums[t][n].mul(scale).store(states[t].weights.as_mut_ptr().add(to + 4 * n));
        }
    }
    T
}

/// Turns the first `count` scores into probabilities relative to the running maximum.
#[inline(always)]
unsafe fn soften<V: Vector>(state: &mut State, count: usize, head_width: usize) {
    if count == 0 {
        return;
    }
    let padded = round_up_4(count);
    state.weights[count..padded].fill(f32::NEG_INFINITY);
    let weights = state.weights.as_mut_ptr();
    let mut largest = V::splat(state.largest);
    for i in (0..padded).step_by(4) {
        largest = largest.max(V::load(weights.add(i)));
    }
    let largest = lane_max(largest);
    for i in (0..padded).step_by(4) {
        exp(V::load(weights.add(i)).sub(V::splat(largest))).store(weights.add(i));
    }
    state.weights[count..padded].fill(0.0);
    let mut sum = V::splat(0.0);
    for i in (0..padded).step_by(4) {
        sum = sum.add(V::load(weights.add(i)));
    }
    if largest != state.largest {
        let shrink = exp(V::splat(state.largest - largest));
        for d in (0..head_width).step_by(4) {
            let sums = state.sums.as_mut_ptr().add(d);
            V::load(sums).mul(shrink).store(sums);
        }
        state.total *= shrink.lanes()[0];
        state.largest = largest;
    }
    state.total += lane_sum(sum);
}

/// Adds probability * value of the chunk at `start`: `counts` tokens per line.
unsafe fn add_values<V: Vector, E: Element>(
    shape: &Shape,
    states: &mut [State],
    counts: &[usize; LINES],
    block: &impl Fn(usize) -> Block,
    start: usize,
) {
    let counts = &counts[..states.len()];
    let end = start + counts.iter().max().unwrap_or(&0);
    let together = start + counts.iter().min().unwrap_or(&0);
    for_blocks(shape, &(start..end), |index, tokens| {
        let block = block(index);
        if E::SCALED {
            for (state, &count) in states.iter_mut().zip(counts) {
                for token in tokens.start..tokens.end.min(start + count) {
                    let scale = *block.value_scales.add(token % shape.block_tokens);
                    state.weights[token - start] *= scale;
                }
            }
        }
        let all = tokens.start..tokens.end.min(together).max(tokens.start);
        match states.len() {
            4 => mix::<V, E, 4, 2>(shape, states, block, all.clone(), start),
            3 => mix::<V, E, 3, 2>(shape, states, block, all.clone(), start),
            2 => mix::<V, E, 2, 4>(shape, states, block, all.clone(), start),
            _ => mix::<V, E, 1, 8>(shape, states, block, all.clone(), start),
        }
        for (i, &count) in counts.iter().enumerate() {
            let rest = all.end..tokens.end.min(start + count).max(all.end);
            mix::<V, E, 1, 8>(shape, &mut states[i..=i], block, rest, start);
        }
    });
}

/// Adds the values of `tokens` (of one block) to the sums of T lines, N vectors of the head at once.
#[inline(always)]
unsafe fn mix<V: Vector, E: Element, const T: usize, const N: usize>(
    shape: &Shape,
    states: &mut [State],
    block: Block,
    tokens: Range<usize>,
    start: usize,
) {
    if tokens.is_empty() {
        return;
    }
    let whole = shape.head_width / (4 * N) * (4 * N);
    for d in (0..whole).step_by(4 * N) {
        mix_at::<V, E, T, N>(shape, states, block, tokens.clone(), start, d);
    }
    for d in (whole..shape.head_width).step_by(4) {
        mix_at::<V, E, T, 1>(shape, states, block, tokens.clone(), start, d);
    }
}

#[inline(always)]
unsafe fn mix_at<V: Vector, E: Element, const T: usize, const N: usize>(
    shape: &Shape,
    states: &mut [State],
    block: Block,
    tokens: Range<usize>,
    start: usize,
    d: usize,
) {
    let stride = round_up_4(shape.head_width);
    let mut sums: [[V; N]; T] = std::array::from_fn(|t| {
        std::array::from_fn(|n| V::load(states[t].sums.as_ptr().add(d + 4 * n)))
    });
    let first = tokens.start % shape.block_tokens;
    for i in 0..tokens.len() {
        let place = (first + i) * stride + d;
        let values: [V; N] = std::array::from_fn(|n| E::load(block.values, place + 4 * n));
        for t in 0..T {
            let weight = V::load_splat(states[t].weights.as_ptr().add(tokens.start - start + i));
            for n in 0..N {
                sums[t][n] = weight.madd(values[n], sums[t][n]);
            }
        }
    }
    for t in 0..T {
        for n in 0..N {
            sums[t][n].store(states[t].sums.as_mut_ptr().add(d + 4 * n));
        }
    }
}
