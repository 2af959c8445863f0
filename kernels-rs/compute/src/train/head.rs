//! The loss head: rows go by in blocks, of which alone logits exist.

use super::gemm::{gemm, Across, Along, Finish, Shape, Target, WeightColumns, WeightOutputs};
use super::record::Head;
use crate::math::{exp, lane_max, lane_sum};
use crate::norm::map_row;
use crate::simd::Vector;
use crate::team::{Fault, Team};

/// Rows whose logits exist together; `training_ops.ts` has the same.
const ROW_BLOCK: usize = 128;

/// Scores all targets; with a coefficient, gradients too.
pub unsafe fn head<V: Vector>(op: &Head, team: &Team) {
    for first in (0..op.rows).step_by(ROW_BLOCK) {
        let rows = ROW_BLOCK.min(op.rows - first);
        let input = op.input.add(first * op.columns);
        let shape = Shape { rows, columns: op.vocabulary, k: op.columns };
        let operands = (
            Across { at: input, stride: op.columns },
            WeightOutputs { at: op.weight, columns: op.columns },
        );
        let target = Target::rows(op.logits, op.vocabulary);
        let plain = Finish { scale: 1.0, accumulate: false };
        gemm::<V>(team, shape, operands, target, plain, op.scratch);
        team.meet();
        for row in team.share(rows, 1) {
            score_row::<V>(op, first + row, op.logits.add(row * op.vocabulary), team);
        }
        team.meet();
        if op.coefficient.is_null() {
            continue;
        }
        if !op.input_grad.is_null() {
            let shape = Shape { rows, columns: op.columns, k: op.vocabulary };
            let operands = (
                Across { at: op.logits, stride: op.vocabulary },
                WeightColumns { at: op.weight, columns: op.columns },
            );
            let target = Target::rows(op.input_grad.add(first * op.columns), op.columns);
            let finish = Finish { scale: 1.0, accumulate: op.input_accumulate != 0 };
            gemm::<V>(team, shape, operands, target, finish, op.scratch);
            team.meet();
        }
        if !op.weight_grad.is_null() {
            let shape = Shape { rows: op.columns, columns: op.vocabulary, k: rows };
            let operands = (
                Along { at: input, stride: op.columns },
                Along { at: op.logits, stride: op.vocabulary },
            );
            let target = Target::weight(op.weight_grad, op.columns);
            let accumulate = first > 0 || op.weight_accumulate != 0;
            let finish = Finish { scale: 1.0, accumulate };
            gemm::<V>(team, shape, operands, target, finish, op.scratch);
            team.meet();
        }
    }
}

/// Writes the row's logprob and entropy; its logits become gradients when there is a coefficient.
unsafe fn score_row<V: Vector>(op: &Head, row: usize, logits: *mut f32, team: &Team) {
    let count = op.vocabulary;
    let whole = count & !3;
    let target = team.check(*op.target.add(row), count, Fault::Token);
    let mut top = V::splat(f32::NEG_INFINITY);
    for i in (0..whole).step_by(4) {
        top = top.max(V::load(logits.add(i)));
    }
    let mut largest = lane_max(top);
    for i in whole..count {
        largest = largest.max(*logits.add(i));
    }
    let shifted = |i: usize| V::load(logits.add(i)).sub(V::splat(largest));
    let (mut totals, mut means) = (V::splat(0.0), V::splat(0.0));
    for i in (0..whole).step_by(4) {
        let term = exp(shifted(i));
        totals = totals.add(term);
        means = term.madd(shifted(i), means);
    }
    let (mut total, mut mean) = (lane_sum(totals), lane_sum(means));
    for i in whole..count {
        let x = *logits.add(i) - largest;
        let term = exp(V::splat(x)).lanes()[0];
        total += term;
        mean += term * x;
    }
    let log_total = total.ln();
    *op.logprob.add(row) = *logits.add(target) - largest - log_total;
    *op.entropy.add(row) = log_total - mean / total;
    if op.coefficient.is_null() {
        return;
    }
    let coefficient = *op.coefficient.add(row);
    let factor = V::splat(-coefficient / total);
    map_row::<V>(count, logits, |i| exp(i.of::<V>(logits).sub(V::splat(largest))).mul(factor));
    *logits.add(target) += coefficient;
}
