//! Causal attention over the paged KV cache.

use super::lines::{attend, Block};
use super::tile::{Panels, Tiles, Whole, LINES_MAX};
use super::{Line, Shape};
use crate::dot::Dot;
use crate::kv::{padded, value_place, Element, F16Element, F32Element, I8Element, TOGETHER};
use crate::record::Attention;
use crate::simd::Vector;
use crate::team::{Fault, Team};
use std::ops::Range;

/// Up to so many lines read pages in place; more share a copy in float32.
const LINES_IN_PLACE: usize = 2;

pub unsafe fn attention<V: Dot>(op: &Attention, team: &Team) {
    match op.format {
        0 => attention_as::<V, F32Element>(op, team),
        1 => attention_as::<V, F16Element>(op, team),
        _ => attention_as::<V, I8Element>(op, team),
    }
}

/// A unit of work is one kv head for neighbouring rows of one sequence, which share its keys and
/// values; threads take units in turn, since later rows are longer.
unsafe fn attention_as<V: Dot, E: Element>(op: &Attention, team: &Team) {
    let group = op.heads / op.kv_heads;
    let rows_together = (LINES_MAX / group).max(1);
    let floats = Panels::floats(op.head_width) + Tiles::floats(op.head_width, LINES_MAX);
    assert!(op.thread_floats >= floats);
    let mut unit = 0;
    let mut row = 0;
    while row < op.rows {
        let sequence = *op.row_sequence.add(row);
        let mut next = row + 1;
        while next < op.rows && next - row < rows_together && *op.row_sequence.add(next) == sequence
        {
            next += 1;
        }
        for kv_head in 0..op.kv_heads {
            if unit % team.threads == team.thread {
                attend_rows::<V, E>(op, team, row..next, kv_head);
            }
            unit += 1;
        }
        row = next;
    }
}

/// Rows of one sequence for the query heads of one kv head.
unsafe fn attend_rows<V: Dot, E: Element>(
    op: &Attention,
    team: &Team,
    rows: Range<usize>,
    kv_head: usize,
) {
    let group = op.heads / op.kv_heads;
    let sequence = *op.row_sequence.add(rows.start);
    let sequence = team.check(sequence, op.sequences, Fault::RowIndex);
    let pages = op.page_table.add(sequence * op.sequence_pages);
    let token_stride = padded(op.page_tokens);
    let block = |index: usize| {
        let page = team.check(*pages.add(index), op.pages, Fault::Page);
        let keys = op.cache.add((page * op.kv_heads + kv_head) * op.head_bytes);
        let key_scales = keys.add(op.scale_offset).cast::<f32>();
        Block {
            keys,
            values: keys.add(op.value_offset),
            key_scales,
            value_scales: key_scales.add(token_stride),
        }
    };
    let shape = Shape { head_width: op.head_width, block_tokens: op.page_tokens, scale: op.scale };
    let line = |index: usize| {
        let row = rows.start + index / group;
        let place = (row * op.heads + kv_head * group + index % group) * op.head_width;
        let bound = op.sequence_pages * op.page_tokens + 1;
        let length = team.check(*op.row_length.add(row), bound, Fault::Page);
        Line { query: op.query.add(place), out: op.out.add(place), length }
    };
    match rows.len() * group {
        1 => attend::<V, E, 1>(&shape, [line(0)], &block),
        LINES_IN_PLACE => attend::<V, E, 2>(&shape, [line(0), line(1)], &block),
        count => {
            let memory = op.scratch.add(team.thread * op.thread_floats);
            let panel_floats = Panels::floats(op.head_width);
            // More query heads per kv head than LINES_MAX come in parts.
            for first in (0..count).step_by(LINES_MAX) {
                let mut lines = [line(first); LINES_MAX];
                let lines = &mut lines[..LINES_MAX.min(count - first)];
                for (i, to) in lines.iter_mut().enumerate() {
                    *to = line(first + i);
                }
                let panels = Panels::new(memory, op.head_width, E::SCALED);
                attend_tiles::<V, E>(&shape, lines, panels, memory.add(panel_floats), &block);
            }
        }
    }
}

unsafe fn attend_tiles<V: Dot, E: Element>(
    shape: &Shape,
    lines: &[Line],
    panels: Panels,
    memory: *mut f32,
    block: &impl Fn(usize) -> Block,
) {
    let tiles = Tiles::start::<V, Whole>(memory, shape, lines);
    let longest = lines.iter().map(|line| line.length).max().unwrap_or(0);
    let mut start = 0;
    while start < longest {
        let chunk = shape.chunk(start, longest);
        shape.for_blocks(&chunk, |index, tokens| {
            unpack::<V, E>(shape, &panels, block(index), tokens, start);
        });
        tiles.add_chunk::<V, Whole>(&panels, &chunk);
        start = chunk.end;
    }
    tiles.finish();
}

/// Copies one block's `tokens` into the panels of the chunk at `start`.
unsafe fn unpack<V: Vector, E: Element>(
    shape: &Shape,
    panels: &Panels,
    block: Block,
    tokens: Range<usize>,
    start: usize,
) {
    let width = shape.head_width;
    let first = tokens.start % shape.block_tokens;
    let to = tokens.start - start;
    for from in (0..tokens.len()).step_by(TOGETHER) {
        let count = TOGETHER.min(tokens.len() - from);
        for d in 0..width {
            let at = d * padded(shape.block_tokens) + first + from;
            let keys = E::load::<V>(block.keys, at);
            store_keys(panels, keys, to + from, count, d);
        }
    }
    for i in 0..tokens.len() {
        for d in (0..width).step_by(TOGETHER) {
            let place = value_place(shape.block_tokens, first + i, d);
            let values = E::load::<V>(block.values, place);
            for n in 0..(width - d).div_ceil(4).min(4) {
                values[n].store(panels.values(to + i, d + 4 * n));
            }
        }
    }
    if E::SCALED {
        let scales = panels.scales();
        std::ptr::copy(block.key_scales.add(first), scales.add(to), tokens.len());
        let scales = scales.add(super::CHUNK + to);
        std::ptr::copy(block.value_scales.add(first), scales, tokens.len());
    }
}

/// Stores `count` of sixteen tokens' keys at dimension `d`, from token `to` of the chunk.
#[inline(always)]
unsafe fn store_keys<V: Vector>(panels: &Panels, keys: [V; 4], to: usize, count: usize, d: usize) {
    if to.is_multiple_of(4) && count == TOGETHER {
        for n in 0..4 {
            keys[n].store(panels.keys(to + 4 * n, d));
        }
        return;
    }
    for i in 0..count {
        let token = to + i;
        *panels.keys(token - token % 4, d).add(token % 4) = keys[i / 4].lanes()[i % 4];
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kv::{padded, write_kv};
    use crate::record::WriteKv;
    use crate::simd::scalar::Scalar;
    use crate::team::tests::with_team;
    use crate::testing::{assert_close, Random};

    const KV_HEADS: usize = 2;
    const HEADS: usize = 6;

    struct Cache {
        bytes: Vec<u64>,
        format: usize,
        page_tokens: usize,
        width: usize,
        head_bytes: usize,
        value_offset: usize,
        scale_offset: usize,
        pages: usize,
    }

    impl Cache {
        fn new(format: usize, page_tokens: usize, width: usize, pages: usize) -> Self {
            let size = [4, 2, 1][format];
            let value_offset = width * padded(page_tokens) * size;
            let scale_offset = value_offset + page_tokens * padded(width) * size;
            let head_bytes = scale_offset + 8 * padded(page_tokens);
            let bytes = vec![0; pages * KV_HEADS * head_bytes / 8];
            Self {
                bytes,
                format,
                page_tokens,
                width,
                head_bytes,
                value_offset,
                scale_offset,
                pages,
            }
        }

        fn store(&mut self, key: &[f32], value: &[f32], slot: &[i32]) {
            let cache = self.bytes.as_mut_ptr() as usize;
            with_team(2, |team| unsafe {
                let op = WriteKv {
                    rows: slot.len(),
                    key: key.as_ptr(),
                    value: value.as_ptr(),
                    slot: slot.as_ptr(),
                    cache: cache as *mut u8,
                    format: self.format,
                    pages: self.pages,
                    page_tokens: self.page_tokens,
                    kv_heads: KV_HEADS,
                    head_width: self.width,
                    head_bytes: self.head_bytes,
                    value_offset: self.value_offset,
                    scale_offset: self.scale_offset,
                };
                write_kv(&op, team);
            });
        }

        /// Rows of `query` attending to `lengths` tokens of sequence 0, whose pages are `pages`.
        fn attend(
            &self,
            query: &[f32],
            lengths: &[i32],
            pages: &[i32],
            threads: usize,
        ) -> Vec<f32> {
            let mut out = vec![f32::NAN; query.len()];
            let out_at = out.as_mut_ptr() as usize;
            let row_sequence = vec![0; lengths.len()];
            let thread_floats = Panels::floats(self.width) + Tiles::floats(self.width, LINES_MAX);
            let mut scratch = vec![f32::NAN; threads * thread_floats];
            let scratch_at = scratch.as_mut_ptr() as usize;
            with_team(threads, |team| unsafe {
                let op = Attention {
                    rows: lengths.len(),
                    query: query.as_ptr(),
                    heads: HEADS,
                    scale: 0.3,
                    out: out_at as *mut f32,
                    row_sequence: row_sequence.as_ptr(),
                    row_length: lengths.as_ptr(),
                    page_table: pages.as_ptr(),
                    sequences: 1,
                    sequence_pages: pages.len(),
                    cache: self.bytes.as_ptr().cast(),
                    format: self.format,
                    pages: self.pages,
                    page_tokens: self.page_tokens,
                    kv_heads: KV_HEADS,
                    head_width: self.width,
                    head_bytes: self.head_bytes,
                    value_offset: self.value_offset,
                    scale_offset: self.scale_offset,
                    scratch: scratch_at as *mut f32,
                    thread_floats,
                };
                attention::<Scalar>(&op, team);
            });
            out
        }
    }

    /// One head by the formula, in float64.
    fn expected(query: &[f32], key: &[f32], value: &[f32], length: usize, head: usize) -> Vec<f64> {
        let width = query.len();
        let at = |data: &[f32], token: usize, d: usize| {
            f64::from(data[(token * KV_HEADS + head) * width + d])
        };
        let score =
            |token| (0..width).map(|d| f64::from(query[d]) * at(key, token, d)).sum::<f64>() * 0.3;
        let scores: Vec<f64> = (0..length).map(score).collect();
        let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let weights: Vec<f64> = scores.iter().map(|score| (score - largest).exp()).collect();
        let total: f64 = weights.iter().sum();
        let mean = |d| (0..length).map(|t| weights[t] * at(value, t, d)).sum::<f64>() / total;
        (0..width).map(mean).collect()
    }

    #[test]
    fn attention_matches_the_formula_and_depends_on_nothing_else() {
        let mut random = Random::new(11);
        for (format, tolerance) in [(0, 2e-6), (1, 2e-3), (2, 3e-2)] {
            for (page_tokens, width, tokens) in [(16, 32, 300), (5, 6, 41), (200, 8, 500)] {
                let page_count = usize::div_ceil(tokens, page_tokens);
                // Pages in reverse order, after an unused one.
                let pages: Vec<i32> = (0..page_count as i32).rev().map(|page| page + 1).collect();
                let slot_of = |token: usize| {
                    pages[token / page_tokens] * page_tokens as i32 + (token % page_tokens) as i32
                };
                let slots: Vec<i32> = (0..tokens).map(slot_of).collect();
                let mut cache = Cache::new(format, page_tokens, width, page_count + 1);
                let key = random.floats(tokens * KV_HEADS * width);
                let value = random.floats(tokens * KV_HEADS * width);
                cache.store(&key, &value, &slots);
                let lengths: Vec<i32> = (0..9)
                    .map(|row| if row == 4 { 1 } else { (tokens - 8 + row) as i32 })
                    .collect();
                let row_width = HEADS * width;
                let query = random.floats(lengths.len() * row_width);
                let out = cache.attend(&query, &lengths, &pages, 1);
                assert_eq!(out, cache.attend(&query, &lengths, &pages, 3));
                for (row, &length) in lengths.iter().enumerate() {
                    let line = row * row_width..(row + 1) * row_width;
                    let alone = cache.attend(&query[line.clone()], &[length], &pages, 1);
                    assert_eq!(alone, out[line.clone()]);
                    for head in 0..HEADS {
                        let place = line.start + head * width..line.start + (head + 1) * width;
                        let kv_head = head / (HEADS / KV_HEADS);
                        let want =
                            expected(&query[place.clone()], &key, &value, length as usize, kv_head);
                        for (got, want) in out[place].iter().zip(want) {
                            assert_close(*got, want, tolerance);
                        }
                    }
                }
            }
        }
    }
}
