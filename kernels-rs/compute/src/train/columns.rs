//! Sums over rows, column by column: columns are shared out, rows go by in order.

use super::record::ColumnSums;
use crate::simd::Vector;
use crate::team::Team;
use std::ops::Range;

/// Columns of a pass: a cache line.
const PASS: usize = 16;

/// out[c] (+)= sum over rows, ascending, of `term(row, c)`, for this thread's columns. `term` gets
/// a row and the first of four columns.
#[inline(always)]
pub unsafe fn sum_columns<V: Vector>(
    team: &Team,
    rows: usize,
    width: usize,
    (out, accumulate): (*mut f32, bool),
    term: impl Fn(usize, usize) -> V,
    single: impl Fn(usize, usize) -> f32,
) {
    let share: Range<usize> = team.share(width, PASS);
    let mut at = share.start;
    while at + PASS <= share.end {
        let mut sums = [V::splat(0.0); PASS / 4];
        for row in 0..rows {
            for (i, sum) in sums.iter_mut().enumerate() {
                *sum = sum.add(term(row, at + 4 * i));
            }
        }
        for (i, sum) in sums.into_iter().enumerate() {
            let to = out.add(at + 4 * i);
            (if accumulate { V::load(to).add(sum) } else { sum }).store(to);
        }
        at += PASS;
    }
    for column in at..share.end {
        let mut sum = 0.0;
        for row in 0..rows {
            sum += single(row, column);
        }
        let to = out.add(column);
        *to = if accumulate { *to + sum } else { sum };
    }
}

pub unsafe fn column_sums<V: Vector>(op: &ColumnSums, team: &Team) {
    let target = (op.out, op.accumulate != 0);
    let at = |row: usize, column: usize| op.input.add(row * op.width + column);
    sum_columns::<V>(
        team,
        op.rows,
        op.width,
        target,
        |row, column| V::load(at(row, column)),
        |row, column| *at(row, column),
    );
}
