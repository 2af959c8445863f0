//! Bidirectional attention inside segments of rows (the vision tower: a segment is one tile).

use super::tile::{Panels, Tiles, LINES_MAX};
use super::{Line, Shape, CHUNK};
use crate::record::SegmentAttention;
use crate::simd::Vector;
use crate::team::Team;

/// A unit is one head of a segment for some of its rows. Units of one head are neighbours, and a
/// thread packs a head's keys and values once for those that it takes.
pub unsafe fn segment_attention<V: Vector>(op: &SegmentAttention, team: &Team) {
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
            pack_head(op, segment, head, scratch);
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
        attend_part::<V>(op, &lines[..rows.len()], scratch, tiles);
    }
}

fn shape(op: &SegmentAttention) -> Shape {
    Shape { head_width: op.head_width, block_tokens: CHUNK, scale: op.scale }
}

/// The panels of one chunk of the packed head.
unsafe fn panels(op: &SegmentAttention, scratch: *mut f32, chunk: usize) -> Panels {
    Panels::new(scratch.add(chunk * Panels::floats(op.head_width)), op.head_width, false)
}

unsafe fn pack_head(op: &SegmentAttention, segment: usize, head: usize, scratch: *mut f32) {
    for row in 0..op.segment_rows {
        let place = ((segment * op.segment_rows + row) * op.heads + head) * op.head_width;
        let (key, value) = (op.key.add(place), op.value.add(place));
        let panels = panels(op, scratch, row / CHUNK);
        let token = row % CHUNK;
        for d in 0..op.head_width {
            *panels.keys(token - token % 4, d).add(token % 4) = *key.add(d);
            *panels.values(token, d - d % 4).add(d % 4) = *value.add(d);
        }
    }
}

unsafe fn attend_part<V: Vector>(
    op: &SegmentAttention,
    lines: &[Line],
    scratch: *mut f32,
    memory: *mut f32,
) {
    let shape = shape(op);
    let tiles = Tiles::start(memory, &shape, lines);
    for start in (0..op.segment_rows).step_by(CHUNK) {
        let panels = panels(op, scratch, start / CHUNK);
        tiles.add_chunk::<V>(&panels, &shape.chunk(start, op.segment_rows));
    }
    tiles.finish();
}
