//! Gradients and statistics of the expert dispatch.

use super::record::*;
use crate::math::lane_sum;
use crate::norm::map_row;
use crate::simd::Vector;
use crate::team::{Fault, Team};

/// Most choices of one row, as in `crate::experts`.
const CHOICES_MAX: usize = 64;
/// Most experts whose probabilities fit the stack.
const EXPERTS_MAX: usize = 512;

pub unsafe fn sum_pairs<V: Vector>(op: &SumPairs, team: &Team) {
    for row in team.share(op.rows, 1) {
        let mut places = [0usize; CHOICES_MAX];
        let places = &mut places[..op.choices];
        for (choice, place) in places.iter_mut().enumerate() {
            let value = *op.pair_place.add(row * op.choices + choice);
            *place = team.check(value, op.rows * op.choices, Fault::RowIndex);
        }
        places.sort_unstable();
        let to = op.out.add(row * op.width);
        map_row::<V>(op.width, to, |at| {
            let mut sum = if op.accumulate != 0 { at.of::<V>(to) } else { V::splat(0.0) };
            for &place in places.iter() {
                sum = sum.add(at.of(op.input.add(place * op.width)));
            }
            sum
        });
    }
}

pub unsafe fn combine_rows_grad<V: Vector>(op: &CombineRowsGrad, team: &Team) {
    for pair in team.share(op.rows * op.choices, 1) {
        let gradient = op.out_grad.add(pair / op.choices * op.width);
        let place = *op.pair_place.add(pair);
        let place = team.check(place, op.rows * op.choices, Fault::RowIndex) * op.width;
        let (input, to) = (op.input.add(place), op.input_grad.add(place));
        let weight = V::splat(*op.expert_weight.add(pair));
        map_row::<V>(op.width, to, |at| at.of::<V>(gradient).mul(weight));
        let whole = op.width & !3;
        let mut sums = V::splat(0.0);
        for i in (0..whole).step_by(4) {
            sums = V::load(gradient.add(i)).madd(V::load(input.add(i)), sums);
        }
        let mut dot = lane_sum(sums);
        for i in whole..op.width {
            dot += *gradient.add(i) * *input.add(i);
        }
        *op.weight_grad.add(pair) = dot;
    }
}

/// Probabilities of a row of logits, and the logarithm of their common denominator.
unsafe fn softmax(logits: *const f32, experts: usize, out: &mut [f32; EXPERTS_MAX]) -> f32 {
    assert!(experts <= EXPERTS_MAX);
    let row = std::slice::from_raw_parts(logits, experts);
    let largest = row.iter().fold(f32::NEG_INFINITY, |a, &b| a.max(b));
    let mut total = 0.0;
    for (term, &logit) in out.iter_mut().zip(row) {
        *term = (logit - largest).exp();
        total += *term;
    }
    out[..experts].iter_mut().for_each(|term| *term /= total);
    largest + total.ln()
}

pub unsafe fn gate_top_k_grad(op: &GateTopKGrad, team: &Team) {
    let mut probabilities = [0.0; EXPERTS_MAX];
    for row in team.share(op.rows, 1) {
        let pairs = row * op.choices..(row + 1) * op.choices;
        let weighted = |pair: usize| *op.expert_weight.add(pair) * *op.weight_grad.add(pair);
        let mut mean = 0.0;
        pairs.clone().for_each(|pair| mean += weighted(pair));
        let to = std::slice::from_raw_parts_mut(op.logits_grad.add(row * op.experts), op.experts);
        if op.accumulate == 0 {
            to.fill(0.0);
        }
        for pair in pairs {
            let expert = team.check(*op.expert_index.add(pair), op.experts, Fault::Expert);
            let shift = if op.normalize != 0 { mean } else { 0.0 };
            to[expert] += *op.expert_weight.add(pair) * (*op.weight_grad.add(pair) - shift);
        }
        if op.normalize == 0 {
            // The chosen probabilities share their denominator with all experts.
            softmax(op.logits.add(row * op.experts), op.experts, &mut probabilities);
            for (value, probability) in to.iter_mut().zip(&probabilities) {
                *value -= probability * mean;
            }
        }
    }
}

/// Small, and sums over rows: one thread does it.
pub unsafe fn router_statistics(op: &RouterStatistics, team: &Team) {
    if team.thread != 0 {
        return;
    }
    let mut probabilities = [0.0; EXPERTS_MAX];
    for row in 0..op.rows {
        if *op.row_weight.add(row) == 0.0 {
            continue;
        }
        for pair in row * op.choices..(row + 1) * op.choices {
            let expert = team.check(*op.expert_index.add(pair), op.experts, Fault::Expert);
            *op.statistics.add(expert) += 1.0;
        }
        softmax(op.logits.add(row * op.experts), op.experts, &mut probabilities);
        for (expert, probability) in probabilities.iter().enumerate().take(op.experts) {
            *op.statistics.add(op.experts + expert) += probability;
        }
    }
}

pub unsafe fn router_loss_grad(op: &RouterLossGrad, team: &Team) {
    let mut probabilities = [0.0; EXPERTS_MAX];
    let scale = std::slice::from_raw_parts(op.expert_scale, op.experts);
    for row in team.share(op.rows, 1) {
        let log_sum = softmax(op.logits.add(row * op.experts), op.experts, &mut probabilities);
        let mean: f32 = probabilities.iter().zip(scale).map(|(p, s)| p * s).sum();
        for expert in 0..op.experts {
            let slope = scale[expert] - mean + 2.0 * op.z_scale * log_sum;
            let value = *op.row_weight.add(row) * probabilities[expert] * slope;
            let to = op.logits_grad.add(row * op.experts + expert);
            *to = if op.accumulate != 0 { *to + value } else { value };
        }
    }
}
