//! Gradient norm and AdamW.

use super::record::{AdamW, ClipFactor, SquareSums};
use crate::norm::map_row;
use crate::simd::Vector;
use crate::team::Team;

/// Elements whose squares are summed together; `training_ops.ts` has the same.
const SQUARE_BLOCK: usize = 4096;
const GRAIN: usize = 256;

pub unsafe fn square_sums(op: &SquareSums, team: &Team) {
    for block in team.share(op.count.div_ceil(SQUARE_BLOCK), 1) {
        let end = op.count.min((block + 1) * SQUARE_BLOCK);
        let mut sums = [0.0f64; 4];
        for i in block * SQUARE_BLOCK..end {
            let value = f64::from(*op.input.add(i));
            sums[i % 4] += value * value;
        }
        *op.partial.add(block) = ((sums[0] + sums[1]) + (sums[2] + sums[3])) as f32;
    }
}

pub unsafe fn clip_factor(op: &ClipFactor, team: &Team) {
    if team.thread != 0 {
        return;
    }
    let mut sum = 0.0f64;
    for block in 0..op.count {
        sum += f64::from(*op.partial.add(block));
    }
    let norm = sum.sqrt() as f32;
    let bounded = (op.norm_max / (norm + 1e-6)).min(1.0);
    *op.norm = norm;
    *op.norm.add(1) = if op.norm_max > 0.0 { bounded } else { 1.0 };
}

/// `rate` holds the correction of the first mean's bias, `root_scale` that of the second's, `keep`
/// what decay leaves of a weight.
pub unsafe fn adam_w<V: Vector>(op: &AdamW, team: &Team) {
    let factor = V::splat(*op.norm.add(1));
    let share = team.share(op.count, GRAIN);
    let at = share.start;
    let gradient = op.gradient.add(at);
    let (weights, first, second) = (op.weights.add(at), op.first.add(at), op.second.add(at));
    map_row::<V>(share.len(), first, |i| {
        let g = i.of::<V>(gradient).mul(factor);
        i.of::<V>(first).mul(V::splat(op.beta1)).add(g.mul(V::splat(op.rest1)))
    });
    map_row::<V>(share.len(), second, |i| {
        let g = i.of::<V>(gradient).mul(factor);
        i.of::<V>(second).mul(V::splat(op.beta2)).add(g.mul(g).mul(V::splat(op.rest2)))
    });
    map_row::<V>(share.len(), weights, |i| {
        let root = i.of::<V>(second).sqrt().mul(V::splat(op.root_scale));
        let step = i.of::<V>(first).mul(V::splat(op.rate)).div(root.add(V::splat(op.epsilon)));
        i.of::<V>(weights).mul(V::splat(op.keep)).sub(step)
    });
}
