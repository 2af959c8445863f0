//! One or two lines over blocks that are read where they lie: decoding, where every key and value
//! is used by the heads of one row only. Lanes run over tokens, then over the head.

use super::{count_in, Line, Shape, CHUNK};
use crate::kv::{padded, value_place, Element, HEAD_WIDTH_MAX, TOGETHER};
use crate::math::{exp, lane_max, lane_sum};
use crate::simd::Vector;
use std::ops::Range;

/// Where the keys and values of one block of tokens are, laid out as in `kv.rs`.
#[derive(Clone, Copy)]
pub struct Block {
    pub keys: *const u8,
    pub values: *const u8,
    pub key_scales: *const f32,
    pub value_scales: *const f32,
}

/// A running softmax of one line.
struct State {
    largest: f32,
    total: f32,
    /// Sum of probability * value so far.
    sums: [f32; HEAD_WIDTH_MAX],
    /// Scores, then probabilities, of the current chunk. Stores may run over.
    weights: [f32; CHUNK + TOGETHER],
}

/// Computes T lines; `block` finds a block by its index.
pub unsafe fn attend<V: Vector, E: Element, const T: usize>(
    shape: &Shape,
    lines: [Line; T],
    block: &impl Fn(usize) -> Block,
) {
    let mut states: [State; T] = std::array::from_fn(|_| State {
        largest: f32::NEG_INFINITY,
        total: 0.0,
        sums: [0.0; HEAD_WIDTH_MAX],
        weights: [0.0; CHUNK + TOGETHER],
    });
    let longest = lines.iter().map(|line| line.length).max().unwrap_or(0);
    let mut start = 0;
    while start < longest {
        let chunk = shape.chunk(start, longest);
        shape.for_blocks(&chunk, |index, tokens| {
            score_block::<V, E, T>(shape, &lines, &mut states, block(index), tokens, start);
        });
        let counts = lines.map(|line| count_in(&chunk, line.length));
        for (state, &count) in states.iter_mut().zip(&counts) {
            soften::<V>(state, count, shape.head_width);
        }
        add_values::<V, E, T>(shape, &mut states, &counts, block, &chunk);
        start = chunk.end;
    }
    for (state, line) in states.iter().zip(&lines) {
        let total = if line.length == 0 { 1.0 } else { state.total };
        for d in 0..shape.head_width {
            *line.out.add(d) = state.sums[d] / total;
        }
    }
}

/// Scores of one block's tokens for all lines, into their `weights` from chunk start `start`.
unsafe fn score_block<V: Vector, E: Element, const T: usize>(
    shape: &Shape,
    lines: &[Line; T],
    states: &mut [State; T],
    block: Block,
    tokens: Range<usize>,
    start: usize,
) {
    // A chunk begins at a block's start or at a multiple of CHUNK inside it: aligned either way.
    let first = tokens.start % shape.block_tokens;
    let stride = padded(shape.block_tokens);
    for from in (0..tokens.len()).step_by(TOGETHER) {
        let mut sums = [[V::splat(0.0); 4]; T];
        for d in 0..shape.head_width {
            let keys = E::load::<V>(block.keys, d * stride + first + from);
            for t in 0..T {
                let q = V::load_splat(lines[t].query.add(d));
                for n in 0..4 {
                    sums[t][n] = q.madd(keys[n], sums[t][n]);
                }
            }
        }
        for n in 0..4 {
            let mut scale = V::splat(shape.scale);
            if E::SCALED {
                scale = scale.mul(V::load(block.key_scales.add(first + from + 4 * n)));
            }
            for t in 0..T {
                let to = tokens.start - start + from + 4 * n;
                sums[t][n].mul(scale).store(states[t].weights.as_mut_ptr().add(to));
            }
        }
    }
}

/// Turns the first `count` scores into probabilities relative to the running maximum.
#[inline(always)]
unsafe fn soften<V: Vector>(state: &mut State, count: usize, head_width: usize) {
    if count == 0 {
        return;
    }
    let whole = count.next_multiple_of(4);
    state.weights[count..whole].fill(f32::NEG_INFINITY);
    let weights = state.weights.as_mut_ptr();
    let mut largest = V::splat(state.largest);
    for i in (0..whole).step_by(4) {
        largest = largest.at_least(V::load(weights.add(i)));
    }
    let largest = lane_max(largest);
    for i in (0..whole).step_by(4) {
        exp(V::load(weights.add(i)).sub(V::splat(largest))).store(weights.add(i));
    }
    state.weights[count..whole].fill(0.0);
    let mut sum = V::splat(0.0);
    for i in (0..whole).step_by(4) {
        sum = sum.add(V::load(weights.add(i)));
    }
    if state.largest < largest {
        let shrink = exp(V::splat(state.largest - largest));
        for d in (0..head_width).step_by(4) {
            let sums = state.sums.as_mut_ptr().add(d);
            V::load(sums).mul(shrink).store(sums);
        }
        state.total *= shrink.lanes()[0];
    }
    state.largest = largest;
    state.total += lane_sum(sum);
}

/// Adds probability * value of a chunk: `counts` tokens per line.
unsafe fn add_values<V: Vector, E: Element, const T: usize>(
    shape: &Shape,
    states: &mut [State; T],
    counts: &[usize; T],
    block: &impl Fn(usize) -> Block,
    chunk: &Range<usize>,
) {
    let start = chunk.start;
    let together = start + counts.iter().min().unwrap_or(&0);
    shape.for_blocks(chunk, |index, tokens| {
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
        mix::<V, E, T>(shape, states, block, all.clone(), start);
        if T == 1 {
            return;
        }
        for (state, &count) in states.iter_mut().zip(counts) {
            let rest = all.end..tokens.end.min(start + count).max(all.end);
            mix::<V, E, 1>(shape, std::array::from_mut(state), block, rest, start);
        }
    });
}

/// Adds the values of `tokens`, all of one block, to the sums of T lines.
unsafe fn mix<V: Vector, E: Element, const T: usize>(
    shape: &Shape,
    states: &mut [State; T],
    block: Block,
    tokens: Range<usize>,
    start: usize,
) {
    if tokens.is_empty() {
        return;
    }
    let first = tokens.start % shape.block_tokens;
    for d in (0..shape.head_width).step_by(TOGETHER) {
        let mut sums: [[V; 4]; T] = std::array::from_fn(|t| {
            std::array::from_fn(|n| V::load(states[t].sums.as_ptr().add(d + 4 * n)))
        });
        for i in 0..tokens.len() {
            let place = value_place(shape.block_tokens, first + i, d);
            let values = E::load::<V>(block.values, place);
            for t in 0..T {
                let place = tokens.start - start + i;
                let weight = V::load_splat(states[t].weights.as_ptr().add(place));
                for n in 0..4 {
                    sums[t][n] = weight.madd(values[n], sums[t][n]);
                }
            }
        }
        for t in 0..T {
            for n in 0..4 {
                sums[t][n].store(states[t].sums.as_mut_ptr().add(d + 4 * n));
            }
        }
    }
}
