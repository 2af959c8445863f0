//! Gradients of ops that treat every element, or every row copy, alone.

use super::record::*;
use crate::math;
use crate::norm::map_row;
use crate::pack::PANEL_ROWS;
use crate::simd::Vector;
use crate::team::{Fault, Team};

/// Values per share: whole cache lines, so that threads do not write to the same one.
const GRAIN: usize = 256;

pub unsafe fn fill<V: Vector>(op: &Fill, team: &Team) {
    let share = team.share(op.count, GRAIN);
    std::slice::from_raw_parts_mut(op.out.add(share.start), share.len()).fill(op.value);
}

pub unsafe fn accumulate<V: Vector>(op: &Accumulate, team: &Team) {
    let share = team.share(op.count, GRAIN);
    let (input, out) = (op.input.add(share.start), op.out.add(share.start));
    map_row::<V>(share.len(), out, |place| place.of::<V>(out).add(place.of(input)));
}

#[inline(always)]
fn sigmoid<V: Vector>(x: V) -> V {
    V::splat(1.0).div(math::exp(V::splat(0.0).sub(x)).add(V::splat(1.0)))
}

pub unsafe fn swiglu_grad<V: Vector>(op: &SwigluGrad, team: &Team) {
    let share = team.share(op.count, GRAIN);
    let at = share.start;
    let (gate, up, grad) = (op.gate.add(at), op.up.add(at), op.out_grad.add(at));
    map_row::<V>(share.len(), op.up_grad.add(at), |place| {
        let x = place.of::<V>(gate);
        place.of::<V>(grad).mul(x.mul(sigmoid(x)))
    });
    map_row::<V>(share.len(), op.gate_grad.add(at), |place| {
        let x = place.of::<V>(gate);
        let s = sigmoid(x);
        let slope = s.mul(V::splat(1.0).sub(s).madd(x, V::splat(1.0)));
        place.of::<V>(grad).mul(place.of(up)).mul(slope)
    });
}

/// Phi(x) + x * phi(x); Phi by the forward kernel, as gelu(x) / x where x is not small.
pub unsafe fn gelu_grad<V: Vector>(op: &GeluGrad, team: &Team) {
    let share = team.share(op.count, GRAIN);
    let at = share.start;
    let (input, grad, to) = (op.input.add(at), op.out_grad.add(at), op.input_grad.add(at));
    let accumulate = op.accumulate != 0;
    map_row::<V>(share.len(), to, |place| {
        let x = place.of::<V>(input);
        let half_square = x.mul(x).mul(V::splat(-0.5));
        let density = math::exp(half_square).mul(V::splat(0.398_942_3));
        let slope = x.madd(density, math::normal_cdf(x));
        let value = place.of::<V>(grad).mul(slope);
        if accumulate {
            place.of::<V>(to).add(value)
        } else {
            value
        }
    });
}

pub unsafe fn rope_grad<V: Vector>(op: &RopeGrad, team: &Team) {
    let half = op.head_width / 2;
    let accumulate = op.accumulate != 0;
    for row in team.share(op.rows, 1) {
        let position = team.check(*op.position.add(row), op.positions, Fault::Position);
        let cos = op.table.add(position * op.head_width);
        let sin = cos.add(half);
        for head in 0..op.width / op.head_width {
            let place = row * op.width + head * op.head_width;
            let (from, to) = (op.out_grad.add(place), op.input_grad.add(place));
            map_row::<V>(half, to, |d| {
                let (first, second) = (d.of::<V>(from), d.of::<V>(from.add(half)));
                let value = first.mul(d.of(cos)).add(second.mul(d.of(sin)));
                if accumulate {
                    d.of::<V>(to).add(value)
                } else {
                    value
                }
            });
            let upper = to.add(half);
            map_row::<V>(half, upper, |d| {
                let (first, second) = (d.of::<V>(from), d.of::<V>(from.add(half)));
                let value = second.mul(d.of(cos)).sub(first.mul(d.of(sin)));
                if accumulate {
                    d.of::<V>(upper).add(value)
                } else {
                    value
                }
            });
        }
    }
}

/// Columns are shared out, since rows may come twice.
pub unsafe fn copy_rows_grad(op: &CopyRowsGrad, team: &Team) {
    let share = team.share(op.width, 16);
    for i in 0..op.rows {
        let from = if op.out_row.is_null() { i as i32 } else { *op.out_row.add(i) };
        let to = if op.source_row.is_null() { i as i32 } else { *op.source_row.add(i) };
        let from = team.check(from, op.out_rows, Fault::RowIndex) * op.width;
        let to = team.check(to, op.source_rows, Fault::RowIndex) * op.width;
        for d in share.clone() {
            *op.source_grad.add(to + d) += *op.out_grad.add(from + d);
        }
    }
}

pub unsafe fn zero_rows(op: &ZeroRows, team: &Team) {
    for i in team.share(op.rows, 1) {
        let row = if op.row.is_null() { i as i32 } else { *op.row.add(i) };
        let row = team.check(row, op.out_rows, Fault::RowIndex);
        std::slice::from_raw_parts_mut(op.out.add(row * op.width), op.width).fill(0.0);
    }
}

/// Columns are shared out, since tokens come many times.
pub unsafe fn gather_rows_grad(op: &GatherRowsGrad, team: &Team) {
    let share = team.share(op.width, 16);
    for r in 0..op.rows {
        let row = team.check(*op.row_index.add(r), op.table_rows, Fault::RowIndex);
        let panel = op.table_grad.add(row / PANEL_ROWS * PANEL_ROWS * op.width + row % PANEL_ROWS);
        for d in share.clone() {
            *panel.add(d * PANEL_ROWS) += *op.out_grad.add(r * op.width + d);
        }
    }
}
