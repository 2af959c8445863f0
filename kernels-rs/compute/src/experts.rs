//! Mixture-of-experts bookkeeping: choosing experts, grouping rows by expert, combining results.

use crate::norm::map_row;
use crate::record::{CombineRows, GateTopK, GroupByExpert};
use crate::simd::Vector;
use crate::team::{Fault, Team};

/// Most choices of one row, whose order is sorted on the stack.
const CHOICES_MAX: usize = 64;

/// Experts are ranked by logit, which is the order of their probabilities.
pub unsafe fn gate_top_k(op: &GateTopK, team: &Team) {
    for row in team.share(op.rows, 1) {
        let logits = std::slice::from_raw_parts(op.logits.add(row * op.experts), op.experts);
        let index =
            std::slice::from_raw_parts_mut(op.expert_index.add(row * op.choices), op.choices);
        let weight =
            std::slice::from_raw_parts_mut(op.expert_weight.add(row * op.choices), op.choices);
        let mut count = 0;
        for (expert, &logit) in logits.iter().enumerate() {
            if count == op.choices && logit <= logits[index[count - 1] as usize] {
                continue;
            }
            let mut place = count.min(op.choices - 1);
            while place > 0 && logits[index[place - 1] as usize] < logit {
                index[place] = index[place - 1];
                place -= 1;
            }
            index[place] = expert as i32;
            count = (count + 1).min(op.choices);
        }
        let largest = logits[index[0] as usize];
        let term = |expert: usize| (logits[expert] - largest).exp();
        let mut total = 0.0;
        if op.normalize != 0 {
            index.iter().for_each(|&expert| total += term(expert as usize));
        } else {
            (0..op.experts).for_each(|expert| total += term(expert));
        }
        for (weight, &expert) in weight.iter_mut().zip(index.iter()) {
            *weight = term(expert as usize) / total;
        }
    }
}

/// A counting sort; small, so one thread does it.
pub unsafe fn group_by_expert(op: &GroupByExpert, team: &Team) {
    if team.thread != 0 {
        return;
    }
    let expert_of = |pair: usize| team.check(*op.expert_index.add(pair), op.experts, Fault::Expert);
    let start = std::slice::from_raw_parts_mut(op.expert_start, op.experts + 1);
    start.fill(0);
    for pair in 0..op.pairs {
        start[expert_of(pair) + 1] += 1;
    }
    for expert in 0..op.experts {
        start[expert + 1] += start[expert];
    }
    // While pairs are placed, start[e] is the next place of expert e; afterwards its end.
    for pair in 0..op.pairs {
        let place = &mut start[expert_of(pair)];
        *op.grouped_pair.add(*place as usize) = pair as i32;
        *op.pair_place.add(pair) = *place;
        *place += 1;
    }
    start.copy_within(0..op.experts, 1);
    start[0] = 0;
}

pub unsafe fn combine_rows<V: Vector>(op: &CombineRows, team: &Team) {
    for row in team.share(op.rows, 1) {
        let mut choices = [(0usize, 0.0f32); CHOICES_MAX];
        let choices = &mut choices[..op.choices];
        for (choice, entry) in choices.iter_mut().enumerate() {
            let pair = row * op.choices + choice;
            let place = *op.pair_place.add(pair);
            let place = team.check(place, op.rows * op.choices, Fault::RowIndex);
            *entry = (place, *op.expert_weight.add(pair));
        }
        choices.sort_unstable_by_key(|entry| entry.0);
        map_row::<V>(op.width, op.out.add(row * op.width), |at| {
            let mut sum = V::splat(0.0);
            for &(place, weight) in choices.iter() {
                sum = V::splat(weight).madd(at.of(op.input.add(place * op.width)), sum);
            }
            sum
        });
    }
}
