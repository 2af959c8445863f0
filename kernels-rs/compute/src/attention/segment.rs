//! Bidirectional attention inside segments of rows (the vision tower: a segment is one tile).

use super::{attend, Block, Line, Shape, LINES};
use crate::kv::{round_up_4, F32Element};
use crate::record::SegmentAttention;
use crate::simd::Vector;
use crate::team::Team;

/// Tokens of one block of the packed keys.
const BLOCK_TOKENS: usize = 16;
/// Rows of one unit of work.
const UNIT_ROWS: usize = 64;

/// A unit is one head of a segment for some of its rows. Units of one head are neighbours, and a
/// thread packs a head's keys and values once for those that it takes.
pub unsafe fn segment_attention<V: Vector>(op: &SegmentAttention, team: &Team) {
    if op.rows == 0 {
        return;
    }
    let row_units = op.segment_rows.div_ceil(UNIT_ROWS);
    let units = op.rows / op.segment_rows * op.heads * row_units;
    let scratch = op.scratch.add(team.thread * op.thread_floats);
    let mut packed = usize::MAX;
    for unit in team.share(units, 1) {
        let (head_unit, part) = (unit / row_units, unit % row_units);
        let (segment, head) = (head_unit / op.heads, head_unit % op.heads);
        if packed != head_unit {
            pack_head(op, segment, head, scratch);
            packed = head_unit;
        }
        let first = part * UNIT_ROWS;
        attend_part::<V>(
            op,
            segment,
            head,
            first..(first + UNIT_ROWS).min(op.segment_rows),
            scratch,
        );
    }
}

fn blocks(op: &SegmentAttention) -> usize {
    op.segment_rows.div_ceil(BLOCK_TOKENS)
}

/// Keys as [block][head width][16 tokens], then values as [token][head width rounded up to 4].
unsafe fn pack_head(op: &SegmentAttention, segment: usize, head: usize, scratch: *mut f32) {
    let row_width = op.heads * op.head_width;
    let values = scratch.add(blocks(op) * BLOCK_TOKENS * op.head_width);
    let value_stride = round_up_4(op.head_width);
    for token in 0..op.segment_rows {
        let place = (segment * op.segment_rows + token) * row_width + head * op.head_width;
        let block = scratch.add(token / BLOCK_TOKENS * BLOCK_TOKENS * op.head_width);
        for d in 0..op.head_width {
            *block.add(d * BLOCK_TOKENS + token % BLOCK_TOKENS) = *op.key.add(place + d);
            *values.add(token * value_stride + d) = *op.value.add(place + d);
        }
    }
}

unsafe fn attend_part<V: Vector>(
    op: &SegmentAttention,
    segment: usize,
    head: usize,
    rows: std::ops::Range<usize>,
    scratch: *const f32,
) {
    let values = scratch.add(blocks(op) * BLOCK_TOKENS * op.head_width);
    let value_stride = round_up_4(op.head_width);
    let block = |index: usize| Block {
        keys: scratch.add(index * BLOCK_TOKENS * op.head_width).cast(),
        values: values.add(index * BLOCK_TOKENS * value_stride).cast(),
        key_scales: std::ptr::null(),
        value_scales: std::ptr::null(),
    };
    let shape = Shape { head_width: op.head_width, block_tokens: BLOCK_TOKENS, scale: op.scale };
    for first in rows.clone().step_by(LINES) {
        let count = LINES.min(rows.end - first);
        let lines: [Line; LINES] = std::array::from_fn(|i| {
            let row = segment * op.segment_rows + first + i.min(count - 1);
            let place = (row * op.heads + head) * op.head_width;
            Line { query: op.query.add(place), out: op.out.add(place), length: op.segment_rows }
        });
        attend::<V, F32Element>(&shape, &lines[..count], &block);
    }
}
