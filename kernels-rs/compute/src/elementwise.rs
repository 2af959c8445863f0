//! Ops whose values do not meet: row copies, SwiGLU, GELU, addition.

use crate::math;
use crate::norm::map_row;
use crate::record::{Add, CopyRows, Gelu, Swiglu};
use crate::simd::Vector;
use crate::team::{Fault, Team};

/// Values per share: whole cache lines, so that threads do not write to the same one.
const GRAIN: usize = 256;

pub unsafe fn copy_rows(op: &CopyRows, team: &Team) {
    for i in team.share(op.rows, 1) {
        let from = if op.source_row.is_null() { i as i32 } else { *op.source_row.add(i) };
        let to = if op.out_row.is_null() { i as i32 } else { *op.out_row.add(i) };
        let from = team.check(from, op.source_rows, Fault::RowIndex);
        let to = team.check(to, op.out_rows, Fault::RowIndex);
        op.out.add(to * op.width).copy_from(op.source.add(from * op.width), op.width);
    }
}

pub unsafe fn swiglu<V: Vector>(op: &Swiglu, team: &Team) {
    let share = team.share(op.count, GRAIN);
    let (gate, up) = (op.gate.add(share.start), op.up.add(share.start));
    map_row::<V>(share.len(), op.out.add(share.start), |place| {
        math::silu(place.of::<V>(gate)).mul(place.of(up))
    });
}

pub unsafe fn gelu<V: Vector>(op: &Gelu, team: &Team) {
    let share = team.share(op.count, GRAIN);
    let input = op.input.add(share.start);
    map_row::<V>(share.len(), op.out.add(share.start), |place| math::gelu(place.of::<V>(input)));
}

pub unsafe fn add<V: Vector>(op: &Add, team: &Team) {
    let share = team.share(op.count, GRAIN);
    let mut at = share.start;
    while at < share.end {
        // Up to the end of this repetition of `right`.
        let offset = at % op.right_count;
        let count = (op.right_count - offset).min(share.end - at);
        let (left, right) = (op.left.add(at), op.right.add(offset));
        map_row::<V>(count, op.out.add(at), |place| place.of::<V>(left).add(place.of(right)));
        at += count;
    }
}
