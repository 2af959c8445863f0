//! Bidirectional attention inside segments of rows (the vision tower: a segment is one tile).

use super::rounded::Rounded;
use super::tile::{Arithmetic, Panels, Tiles, Whole, LINES_MAX};
use super::{Line, Shape, CHUNK};
use crate::dot::Dot;
use crate::record::SegmentAttention;
use crate::team::Team;

/// A unit is one head of a segment for some of its rows. Units of one head are neighbours, and a
/// thread packs a head's keys and values once for those that it takes.
pub unsafe fn segment_attention<V: Dot>(op: &SegmentAttention, team: &Team) {
    if op.rows == 0 {
        return;
    }
    let row_units = op.segment_rows.div_ceil(LINES_MAX);
    let units = op.rows / op.segment_rows * op.heads * row_units;
    let scratch = op.scratch.add(team.thread * op.thread_floats);
    let chunks = op.segment_rows.div_ceil(CHUNK);
    let panel_floats = chunks * Panels::floats(op.head_width);
    assert!(op.thread_floats >= panel_floats + Tiles::floats(op.head_width, LINES_MAX));
    let tiles = scratch.add(panel_floats);
    let mut packed = usize::MAX;
    for unit in team.share(units, 1) {
        let (head_unit, part) = (unit / row_units, unit % row_units);
        let (segment, head) = (head_unit / op.heads, head_unit % op.heads);
        if packed != head_unit {
            pack_head::<V>(op, segment, head, scratch);
            packed = head_unit;
        }
        let first = part * LINES_MAX;
        let rows = first..(first + LINES_MAX).min(op.segment_rows);
        let line = |row: usize| {
            let row = segment * op.segment_rows + row;
            let place = (row * op.heads + head) * op.head_width;
            Line { query: op.query.add(place), out: op.out.add(place), length: op.segment_rows }
        };
        let mut lines = [line(first); LINES_MAX];
        for (to, row) in lines.iter_mut().zip(rows.clone()) {
            *to = line(row);
        }
        let lines = &lines[..rows.len()];
        if op.rounded == 0 {
            attend_part::<V, Whole>(op, lines, scratch, tiles);
        } else {
            attend_part::<V, Rounded>(op, lines, scratch, tiles);
        }
    }
}

fn shape(op: &SegmentAttention) -> Shape {
    Shape { head_width: op.head_width, block_tokens: CHUNK, scale: op.scale }
}

/// The panels of one chunk of the packed head.
unsafe fn panels(op: &SegmentAttention, scratch: *mut f32, chunk: usize) -> Panels {
    Panels::new(scratch.add(chunk * Panels::floats(op.head_width)), op.head_width, false)
}

unsafe fn pack_head<V: Dot>(op: &SegmentAttention, segment: usize, head: usize, scratch: *mut f32) {
    for start in (0..op.segment_rows).step_by(CHUNK) {
        let count = CHUNK.min(op.segment_rows - start);
        let panels = panels(op, scratch, start / CHUNK);
        let place = |token: usize| {
            ((segment * op.segment_rows + start + token) * op.heads + head) * op.head_width
        };
        let key = |token: usize| op.key.add(place(token));
        let value = |token: usize| op.value.add(place(token));
        if op.rounded == 0 {
            Whole::put(&panels, count, &key, &value);
        } else {
            Rounded::put_keys::<V>(&panels, count, &key);
            Rounded::put_values::<V>(&panels, count, &value);
        }
    }
}

unsafe fn attend_part<V: Dot, A: Arithmetic>(
    op: &SegmentAttention,
    lines: &[Line],
    scratch: *mut f32,
    memory: *mut f32,
) {
    let shape = shape(op);
    let tiles = Tiles::start::<V, A>(memory, &shape, lines);
    for start in (0..op.segment_rows).step_by(CHUNK) {
        let panels = panels(op, scratch, start / CHUNK);
        tiles.add_chunk::<V, A>(&panels, &shape.chunk(start, op.segment_rows));
    }
    tiles.finish();
}
