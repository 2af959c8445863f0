//! Rotary positions, rotate-half layout.

use crate::record::Rope;
use crate::simd::Vector;
use crate::team::{Fault, Team};

pub unsafe fn rope<V: Vector>(op: &Rope, team: &Team) {
    let half = op.head_width / 2;
    let whole = half & !3;
    for row in team.share(op.rows, 1) {
        let position = team.check(*op.position.add(row), op.positions, Fault::Position);
        let cos = op.table.add(position * op.head_width);
        let sin = cos.add(half);
        for head in 0..op.width / op.head_width {
            let place = row * op.width + head * op.head_width;
            let (input, out) = (op.input.add(place), op.out.add(place));
            for d in (0..whole).step_by(4) {
                let (c, s) = (V::load(cos.add(d)), V::load(sin.add(d)));
                let (first, second) = (V::load(input.add(d)), V::load(input.add(half + d)));
                first.mul(c).sub(second.mul(s)).store(out.add(d));
                second.mul(c).add(first.mul(s)).store(out.add(half + d));
            }
            for d in whole..half {
                let (c, s) = (*cos.add(d), *sin.add(d));
                let (first, second) = (*input.add(d), *input.add(half + d));
                *out.add(d) = first * c - second * s;
                *out.add(half + d) = second * c + first * s;
            }
        }
    }
}
