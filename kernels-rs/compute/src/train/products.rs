//! Gradients of products with a weight, and of the experts' products.

use super::gemm::{
    gemm, Across, Along, AlongPairs, Finish, Shape, Target, WeightColumns, WeightOutputs,
};
use super::record::*;
use crate::simd::Vector;
use crate::team::{Fault, Team};

pub unsafe fn matmul_add<V: Vector>(op: &MatmulAdd, team: &Team) {
    let shape = Shape { rows: op.rows, columns: op.width, k: op.columns };
    let a = Across { at: op.input, stride: op.columns };
    let b = WeightOutputs { at: op.weight, columns: op.columns };
    let finish = Finish { scale: op.scale, accumulate: true };
    gemm::<V>(team, shape, (a, b), Target::rows(op.out, op.width), finish, op.scratch);
}

pub unsafe fn matmul_input_grad<V: Vector>(op: &MatmulInputGrad, team: &Team) {
    let shape = Shape { rows: op.rows, columns: op.columns, k: op.width };
    let a = Across { at: op.out_grad, stride: op.width };
    let b = WeightColumns { at: op.weight, columns: op.columns };
    let finish = Finish { scale: op.scale, accumulate: op.accumulate != 0 };
    gemm::<V>(team, shape, (a, b), Target::rows(op.input_grad, op.columns), finish, op.scratch);
}

pub unsafe fn matmul_weight_grad<V: Vector>(op: &MatmulWeightGrad, team: &Team) {
    let shape = Shape { rows: op.columns, columns: op.width, k: op.rows };
    let a = Along { at: op.input, stride: op.columns };
    let b = Along { at: op.out_grad, stride: op.width };
    let finish = Finish { scale: op.scale, accumulate: op.accumulate != 0 };
    gemm::<V>(team, shape, (a, b), Target::weight(op.weight_grad, op.columns), finish, op.scratch);
}

/// An expert's places, checked.
unsafe fn places_of(
    start: *const i32,
    expert: usize,
    places: usize,
    team: &Team,
) -> (usize, usize) {
    let first = team.check(*start.add(expert), places + 1, Fault::Expert);
    let end = team.check(*start.add(expert + 1), places + 1, Fault::Expert);
    (first, end.max(first))
}

pub unsafe fn expert_input_grad<V: Vector>(op: &ExpertInputGrad, team: &Team) {
    for expert in 0..op.experts {
        let (first, end) = places_of(op.expert_start, expert, op.places, team);
        if first == end {
            continue;
        }
        let shape = Shape { rows: end - first, columns: op.columns, k: op.width };
        let a = Across { at: op.out_grad.add(first * op.width), stride: op.width };
        let weight = op.weight.add(expert * op.expert_floats);
        let b = WeightColumns { at: weight, columns: op.columns };
        let target = Target::rows(op.input_grad.add(first * op.columns), op.columns);
        let finish = Finish { scale: 1.0, accumulate: false };
        gemm::<V>(team, shape, (a, b), target, finish, op.scratch);
        team.meet();
    }
}

pub unsafe fn expert_weight_grad<V: Vector>(op: &ExpertWeightGrad, team: &Team) {
    let finish = Finish { scale: 1.0, accumulate: op.accumulate != 0 };
    if op.choices > 0 {
        for place in team.share(op.places, 1) {
            team.check(*op.grouped_pair.add(place), op.input_rows * op.choices, Fault::RowIndex);
        }
        team.meet();
    }
    for expert in 0..op.experts {
        let (first, end) = places_of(op.expert_start, expert, op.places, team);
        let shape = Shape { rows: op.columns, columns: op.width, k: end - first };
        let b = Along { at: op.out_grad.add(first * op.width), stride: op.width };
        let grad = op.weight_grad.add(expert * op.expert_floats);
        let target = Target::weight(grad, op.columns);
        let stride = op.columns;
        if op.choices > 0 {
            let pair = op.grouped_pair.add(first);
            let a = AlongPairs { at: op.input, stride, pair, choices: op.choices };
            gemm::<V>(team, shape, (a, b), target, finish, op.scratch);
        } else {
            let a = Along { at: op.input.add(first * stride), stride };
            gemm::<V>(team, shape, (a, b), target, finish, op.scratch);
        }
        team.meet();
    }
}
