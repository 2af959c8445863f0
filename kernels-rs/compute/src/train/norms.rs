//! Gradients of the norms. Rows first, which also leave their statistics behind, then columns.

use super::columns::sum_columns;
use super::record::NormGrad;
use crate::math::lane_sum;
use crate::simd::Vector;
use crate::team::Team;

/// Sum of `term(i)` over a row: four lanes ascending, the lanes, then the rest one by one.
#[inline(always)]
unsafe fn row_sum<V: Vector>(
    width: usize,
    term: impl Fn(usize) -> V,
    single: impl Fn(usize) -> f32,
) -> f32 {
    let whole = width & !3;
    let mut sums = V::splat(0.0);
    for i in (0..whole).step_by(4) {
        sums = sums.add(term(i));
    }
    let mut total = lane_sum(sums);
    for i in whole..width {
        total += single(i);
    }
    total
}

/// Root-mean-square norm, or layer norm when `centred`.
pub unsafe fn norm_grad<V: Vector>(op: &NormGrad, team: &Team) {
    let means = op.scratch;
    let inverses = op.scratch.add(op.rows);
    for row in team.share(op.rows, 1) {
        let (mean, inverse) = statistics::<V>(op, row);
        *means.add(row) = mean;
        *inverses.add(row) = inverse;
        if !op.input_grad.is_null() {
            input_row::<V>(op, row, mean, inverse);
        }
    }
    team.meet();
    let at = |row: usize, column: usize| row * op.width + column;
    if !op.weight_grad.is_null() {
        sum_columns::<V>(
            team,
            op.rows,
            op.width,
            (op.weight_grad, op.weight_accumulate != 0),
            |row, column| {
                let place = at(row, column);
                let normed = V::load(op.input.add(place))
                    .sub(V::splat(*means.add(row)))
                    .mul(V::splat(*inverses.add(row)));
                V::load(op.out_grad.add(place)).mul(normed)
            },
            |row, column| {
                let place = at(row, column);
                let normed = (*op.input.add(place) - *means.add(row)) * *inverses.add(row);
                *op.out_grad.add(place) * normed
            },
        );
    }
    if !op.bias_grad.is_null() {
        sum_columns::<V>(
            team,
            op.rows,
            op.width,
            (op.bias_grad, op.bias_accumulate != 0),
            |row, column| V::load(op.out_grad.add(at(row, column))),
            |row, column| *op.out_grad.add(at(row, column)),
        );
    }
}

unsafe fn statistics<V: Vector>(op: &NormGrad, row: usize) -> (f32, f32) {
    let x = op.input.add(row * op.width);
    let width = op.width as f32;
    let mean = if op.centred != 0 {
        row_sum::<V>(op.width, |i| V::load(x.add(i)), |i| *x.add(i)) / width
    } else {
        0.0
    };
    let squares = row_sum::<V>(
        op.width,
        |i| {
            let centred = V::load(x.add(i)).sub(V::splat(mean));
            centred.mul(centred)
        },
        |i| (*x.add(i) - mean) * (*x.add(i) - mean),
    );
    (mean, 1.0 / (squares / width + op.epsilon).sqrt())
}

/// inverse * (g - mean(g) - n * mean(g * n)) with g = outGrad * weight and the normed n; without
/// mean(g) unless centred.
unsafe fn input_row<V: Vector>(op: &NormGrad, row: usize, mean: f32, inverse: f32) {
    let x = op.input.add(row * op.width);
    let gradient = op.out_grad.add(row * op.width);
    let to = op.input_grad.add(row * op.width);
    let width = op.width as f32;
    let g = |i: usize| V::load(gradient.add(i)).mul(V::load(op.weight.add(i)));
    let g1 = |i: usize| *gradient.add(i) * *op.weight.add(i);
    let n = |i: usize| V::load(x.add(i)).sub(V::splat(mean)).mul(V::splat(inverse));
    let n1 = |i: usize| (*x.add(i) - mean) * inverse;
    let projection = row_sum::<V>(op.width, |i| g(i).mul(n(i)), |i| g1(i) * n1(i)) / width;
    let shift = if op.centred != 0 { row_sum::<V>(op.width, g, g1) / width } else { 0.0 };
    let whole = op.width & !3;
    for i in (0..whole).step_by(4) {
        let inner = g(i).sub(V::splat(shift)).sub(n(i).mul(V::splat(projection)));
        let value = inner.mul(V::splat(inverse));
        let before = if op.input_accumulate != 0 { V::load(to.add(i)) } else { V::splat(0.0) };
        before.add(value).store(to.add(i));
    }
    for i in whole..op.width {
        let value = (g1(i) - shift - n1(i) * projection) * inverse;
        *to.add(i) = if op.input_accumulate != 0 { *to.add(i) + value } else { value };
    }
}
