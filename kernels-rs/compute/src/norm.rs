//! Norms over the last axis. Sums run in four lanes whose order depends on the width alone.

use crate::math::lane_sum;
use crate::record::{LayerNorm, RmsNorm};
use crate::simd::Vector;
use crate::team::Team;

/// Sum of `term(x)` over a row: four lanes ascending, the lanes, then the rest one by one.
#[inline(always)]
unsafe fn row_sum<V: Vector>(row: *const f32, width: usize, term: impl Fn(V, V) -> V) -> f32 {
    let whole = width & !3;
    let mut sums = V::splat(0.0);
    for i in (0..whole).step_by(4) {
        sums = term(V::load(row.add(i)), sums);
    }
    let mut total = lane_sum(sums);
    for i in whole..width {
        let rest = term(V::from_lanes([*row.add(i), 0.0, 0.0, 0.0]), V::splat(0.0));
        total += rest.lanes()[0];
    }
    total
}

/// Writes `f(i, x[i..i+4])` for the whole row; `f` sees the same lanes at the same places always.
#[inline(always)]
pub unsafe fn map_row<V: Vector>(width: usize, out: *mut f32, f: impl Fn(Gather) -> V) {
    let whole = width & !3;
    for i in (0..whole).step_by(4) {
        f(Gather { at: i, count: 4 }).store(out.add(i));
    }
    if whole < width {
        let lanes = f(Gather { at: whole, count: width - whole }).lanes();
        for i in whole..width {
            *out.add(i) = lanes[i - whole];
        }
    }
}

/// A place in a row from which up to four values can be taken.
#[derive(Clone, Copy)]
pub struct Gather {
    at: usize,
    count: usize,
}

impl Gather {
    /// The values at this place; lanes beyond the row are 0.
    #[inline(always)]
    pub unsafe fn of<V: Vector>(self, row: *const f32) -> V {
        if self.count == 4 {
            return V::load(row.add(self.at));
        }
        let mut lanes = [0.0; 4];
        for (i, lane) in lanes.iter_mut().enumerate().take(self.count) {
            *lane = *row.add(self.at + i);
        }
        V::from_lanes(lanes)
    }
}

pub unsafe fn rms_norm<V: Vector>(op: &RmsNorm, team: &Team) {
    for row in team.share(op.rows, 1) {
        let input = op.input.add(row * op.width);
        let squares = row_sum::<V>(input, op.width, |x, sum| x.madd(x, sum));
        let factor = 1.0 / (squares / op.width as f32 + op.epsilon).sqrt();
        let factor = V::splat(factor);
        map_row::<V>(op.width, op.out.add(row * op.width), |place| {
            place.of::<V>(input).mul(factor).mul(place.of(op.weight))
        });
    }
}

pub unsafe fn layer_norm<V: Vector>(op: &LayerNorm, team: &Team) {
    for row in team.share(op.rows, 1) {
        let input = op.input.add(row * op.width);
        let mean = row_sum::<V>(input, op.width, |x, sum| sum.add(x)) / op.width as f32;
        let mean = V::splat(mean);
        let squares = row_sum::<V>(input, op.width, |x, sum| {
            let centred = x.sub(mean);
            centred.madd(centred, sum)
        });
        let factor = V::splat(1.0 / (squares / op.width as f32 + op.epsilon).sqrt());
        map_row::<V>(op.width, op.out.add(row * op.width), |place| {
            let centred = place.of::<V>(input).sub(mean).mul(factor);
            centred.madd(place.of(op.weight), place.of(op.bias))
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::scalar::Scalar;
    use crate::team::tests::with_team;
    use crate::testing::{assert_close, Random};

    #[test]
    fn norms_match_float64() {
        let mut random = Random::new(1);
        for (rows, width) in [(0, 8), (1, 1), (3, 7), (5, 64), (2, 33)] {
            let input = random.floats(rows * width);
            let weight = random.floats(width);
            let bias = random.floats(width);
            let (mut rms, mut layer) = (input.clone(), vec![0.0; rows * width]);
            let (rms_out, layer_out) = (rms.as_mut_ptr() as usize, layer.as_mut_ptr() as usize);
            with_team(2, |team| unsafe {
                let (weight, bias, epsilon) = (weight.as_ptr(), bias.as_ptr(), 1e-6);
                let out = rms_out as *mut f32;
                let op = RmsNorm { rows, width, input: out, weight, epsilon, out };
                rms_norm::<Scalar>(&op, team);
                let (input, out) = (input.as_ptr(), layer_out as *mut f32);
                let op = LayerNorm { rows, width, input, weight, bias, epsilon, out };
                layer_norm::<Scalar>(&op, team);
            });
            for r in 0..rows {
                let row: Vec<f64> =
                    input[r * width..][..width].iter().map(|&x| f64::from(x)).collect();
                let n = width as f64;
                let mean = row.iter().sum::<f64>() / n;
                let square = row.iter().map(|x| x * x).sum::<f64>() / n;
                let variance = row.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n;
                for i in 0..width {
                    let (w, b) = (f64::from(weight[i]), f64::from(bias[i]));
                    assert_close(rms[r * width + i], row[i] / (square + 1e-6).sqrt() * w, 1e-5);
                    let expected = (row[i] - mean) / (variance + 1e-6).sqrt() * w + b;
                    assert_close(layer[r * width + i], expected, 1e-5);
                }
            }
        }
    }
}
