//! Drawing tokens from logits: adjustments, mask, temperature, top-k, top-p, min-p, draw. One
//! thread does a whole row. Probabilities are float64, relative to the largest.

use crate::math::{exp, lane_sum};
use crate::record::Sample;
use crate::simd::Vector;
use crate::team::{Fault, Team};

/// Columns of `params`.
const PARAM_COLUMNS: usize = 8;

/// Numbers of one row's draw.
struct Params {
    temperature: f64,
    top_k: usize,
    top_p: f64,
    min_p: f64,
    uniform: f64,
    forced_id: i32,
    mask_index: i32,
}

impl Params {
    unsafe fn read(from: *const f32) -> Self {
        let at = |column| *from.add(column);
        Self {
            temperature: f64::from(at(0)),
            top_k: at(1) as usize,
            top_p: f64::from(at(2)),
            min_p: f64::from(at(3)),
            uniform: f64::from(at(4)),
            forced_id: at(5) as i32,
            mask_index: at(6) as i32,
        }
    }
}

/// A thread's working space: [vocabulary] float64, then as many u32 and f32.
struct Scratch<'a> {
    terms: &'a mut [f64],
    order: &'a mut [u32],
    original: &'a mut [f32],
}

pub unsafe fn sample<V: Vector>(op: &Sample, team: &Team) {
    let n = op.vocabulary;
    let space = op.scratch.add(team.thread * op.thread_bytes);
    let order = space.cast::<f64>().add(n).cast::<u32>();
    let mut scratch = Scratch {
        terms: std::slice::from_raw_parts_mut(space.cast(), n),
        order: std::slice::from_raw_parts_mut(order, n),
        original: std::slice::from_raw_parts_mut(order.add(n).cast(), n),
    };
    for row in (team.thread..op.rows).step_by(team.threads) {
        sample_row::<V>(op, team, row, &mut scratch);
    }
}

unsafe fn sample_row<V: Vector>(op: &Sample, team: &Team, row: usize, scratch: &mut Scratch) {
    let logits = std::slice::from_raw_parts_mut(op.logits.add(row * op.vocabulary), op.vocabulary);
    let log_total = log_sum_exp::<V>(logits);
    write_candidates(op, row, logits, log_total);
    scratch.original.copy_from_slice(logits);
    adjust(op, team, row, logits);
    let params = Params::read(op.params.add(row * PARAM_COLUMNS));
    if params.mask_index >= 0 {
        let index = team.check(params.mask_index, op.masks, Fault::Token);
        let words = op.vocabulary.div_ceil(32);
        apply_mask(std::slice::from_raw_parts(op.mask.add(index * words), words), logits);
    }
    let chosen = if params.forced_id >= 0 {
        Some(team.check(params.forced_id, op.vocabulary, Fault::Token))
    } else {
        choose(logits, &params, scratch)
    };
    *op.id.add(row) = chosen.map_or(-1, |id| id as i32);
    *op.logprob.add(row) =
        chosen.map_or(f32::NEG_INFINITY, |id| (f64::from(scratch.original[id]) - log_total) as f32);
}

/// log of the sum of e^logit: float32 terms, float64 sums of 256 terms.
unsafe fn log_sum_exp<V: Vector>(logits: &[f32]) -> f64 {
    let largest = logits.iter().fold(f32::NEG_INFINITY, |a, &b| a.max(b));
    let mut total = 0.0;
    for part in logits.chunks(256) {
        let whole = part.len() / 4 * 4;
        let mut sums = V::splat(0.0);
        for i in (0..whole).step_by(4) {
            sums = sums.add(exp(V::load(part.as_ptr().add(i)).sub(V::splat(largest))));
        }
        total += f64::from(lane_sum(sums));
        for &logit in &part[whole..] {
            total += f64::from(logit - largest).exp();
        }
    }
    f64::from(largest) + total.ln()
}

/// The largest logits as they came from the model; entries beyond the vocabulary are -1.
unsafe fn write_candidates(op: &Sample, row: usize, logits: &[f32], log_total: f64) {
    if op.candidates == 0 {
        return;
    }
    let ids =
        std::slice::from_raw_parts_mut(op.candidate_id.add(row * op.candidates), op.candidates);
    ids.fill(-1);
    let most = op.candidates.min(logits.len());
    let mut count = 0;
    for (id, &logit) in logits.iter().enumerate() {
        let full = count == most;
        if full && (logit <= logits[ids[most - 1] as usize] || logit.is_nan()) {
            continue;
        }
        let mut place = if full { most - 1 } else { count };
        while place > 0 && logits[ids[place - 1] as usize] < logit {
            ids[place] = ids[place - 1];
            place -= 1;
        }
        ids[place] = id as i32;
        count += usize::from(!full);
    }
    for (c, &id) in ids.iter().enumerate() {
        *op.candidate_logprob.add(row * op.candidates + c) = match usize::try_from(id) {
            Ok(id) => (f64::from(logits[id]) - log_total) as f32,
            Err(_) => f32::NEG_INFINITY,
        };
    }
}

unsafe fn adjust(op: &Sample, team: &Team, row: usize, logits: &mut [f32]) {
    let (start, end) = (*op.adjust_start.add(row), *op.adjust_start.add(row + 1));
    for a in start.max(0) as usize..end.max(0) as usize {
        let token = team.check(*op.adjust_token.add(a), logits.len(), Fault::Token);
        let (logit, penalty) = (logits[token], *op.adjust_penalty.add(a));
        let penalized = if logit > 0.0 { logit / penalty } else { logit * penalty };
        logits[token] = penalized + *op.adjust_add.add(a);
    }
}

fn apply_mask(words: &[i32], logits: &mut [f32]) {
    for (id, logit) in logits.iter_mut().enumerate() {
        if words[id / 32] >> (id % 32) & 1 == 0 {
            *logit = f32::NEG_INFINITY;
        }
    }
}

/// The chosen id; none when every logit is -infinity.
fn choose(logits: &[f32], params: &Params, scratch: &mut Scratch) -> Option<usize> {
    let mut best = 0;
    for (id, &logit) in logits.iter().enumerate() {
        if logit > logits[best] {
            best = id;
        }
    }
    let largest = f64::from(logits[best]);
    if largest == f64::NEG_INFINITY {
        return None;
    }
    if params.temperature == 0.0 {
        return Some(best);
    }
    for (term, &logit) in scratch.terms.iter_mut().zip(logits) {
        *term = ((f64::from(logit) - largest) / params.temperature).exp();
    }
    let terms = &*scratch.terms;
    if params.top_k == 0 && params.top_p >= 1.0 {
        let kept = (0..terms.len()).filter(|&id| terms[id] >= params.min_p);
        return draw(kept, terms, params.uniform);
    }
    let kept = largest_terms(terms, params, scratch.order);
    let kept = kept.iter().map(|&id| id as usize).filter(|&id| terms[id] >= params.min_p);
    draw(kept, terms, params.uniform)
}

/// Ids that survive top-k and top-p, by descending term (ties: lower id). Only as much is sorted
/// as survives: the ids form a heap, from whose top they are taken.
fn largest_terms<'a>(terms: &[f64], params: &Params, order: &'a mut [u32]) -> &'a [u32] {
    let before = |a: u32, b: u32| {
        let (x, y) = (terms[a as usize], terms[b as usize]);
        x > y || (x == y && a < b)
    };
    let mut size = 0;
    for id in 0..terms.len() as u32 {
        if terms[id as usize] > 0.0 {
            order[size] = id;
            size += 1;
        }
    }
    let sift = |heap: &mut [u32], mut at: usize| loop {
        let mut child = 2 * at + 1;
        if child >= heap.len() {
            break;
        }
        if child + 1 < heap.len() && before(heap[child + 1], heap[child]) {
            child += 1;
        }
        if !before(heap[child], heap[at]) {
            break;
        }
        heap.swap(at, child);
        at = child;
    };
    for at in (0..size / 2).rev() {
        sift(&mut order[..size], at);
    }
    let most = if params.top_k == 0 { size } else { size.min(params.top_k) };
    let nucleus = params.top_p < 1.0;
    // Without top-k, the total is that of all terms.
    let total: f64 = terms.iter().sum();
    let (mut sum, mut taken) = (0.0, 0);
    while taken < most {
        // The taken ids gather behind the shrinking heap, in reverse.
        let rest = size - taken;
        order.swap(0, rest - 1);
        sift(&mut order[..rest - 1], 0);
        sum += terms[order[rest - 1] as usize];
        taken += 1;
        if nucleus && params.top_k == 0 && sum >= params.top_p * total {
            break;
        }
    }
    let sorted = &mut order[size - taken..size];
    sorted.reverse();
    if nucleus && params.top_k > 0 {
        let mut reached = 0.0;
        let enough = sorted.iter().position(|&id| {
            reached += terms[id as usize];
            reached >= params.top_p * sum
        });
        return &sorted[..enough.map_or(taken, |place| place + 1)];
    }
    sorted
}

/// Inverse-CDF draw over `ids` in their order; impossible ids are never drawn.
fn draw(ids: impl Iterator<Item = usize> + Clone, terms: &[f64], uniform: f64) -> Option<usize> {
    let total: f64 = ids.clone().map(|id| terms[id]).sum();
    let (mut sum, mut last) = (0.0, None);
    for id in ids.filter(|&id| terms[id] > 0.0) {
        sum += terms[id];
        last = Some(id);
        if sum > uniform * total {
            break;
        }
    }
    last
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Random;

    fn params(temperature: f64, top_k: usize, top_p: f64, min_p: f64, uniform: f64) -> Params {
        Params { temperature, top_k, top_p, min_p, uniform, forced_id: -1, mask_index: -1 }
    }

    fn chosen(logits: &[f32], params: &Params) -> Option<usize> {
        let n = logits.len();
        let mut scratch = Scratch {
            terms: &mut vec![0.0; n],
            order: &mut vec![0; n],
            original: &mut vec![0.0; n],
        };
        choose(logits, params, &mut scratch)
    }

    /// The same by sorting everything.
    fn expected(logits: &[f32], params: &Params) -> Option<usize> {
        let largest = logits.iter().fold(f32::NEG_INFINITY, |a, &b| a.max(b));
        let term = |id: usize| (f64::from(logits[id] - largest) / params.temperature).exp();
        let mut ids: Vec<usize> = (0..logits.len()).collect();
        if params.top_k > 0 || params.top_p < 1.0 {
            ids.sort_by(|&a, &b| term(b).total_cmp(&term(a)).then(a.cmp(&b)));
            if params.top_k > 0 {
                ids.truncate(params.top_k);
            }
            let total: f64 = ids.iter().map(|&id| term(id)).sum();
            let mut sum = 0.0;
            let reached = |&id: &usize| {
                sum += term(id);
                sum >= params.top_p * total
            };
            if let Some(place) = ids.iter().position(reached) {
                ids.truncate(place + 1);
            }
        }
        ids.retain(|&id| term(id) >= params.min_p);
        let total: f64 = ids.iter().map(|&id| term(id)).sum();
        let mut sum = 0.0;
        ids.into_iter().find(|&id| {
            sum += term(id);
            sum > params.uniform * total
        })
    }

    #[test]
    fn draws_match_a_full_sort() {
        let mut random = Random::new(7);
        for _ in 0..3000 {
            let n = 1 + random.below(40);
            // Few distinct values, so that ties occur.
            let logits: Vec<f32> = (0..n).map(|_| random.below(9) as f32 - 4.0).collect();
            let params = params(
                [0.5, 1.0, 1.7][random.below(3)],
                [0, 0, 1, 3, 50][random.below(5)],
                [1.0, 1.0, 0.37, 0.93, 0.0][random.below(5)],
                [0.0, 0.0, 0.11][random.below(3)],
                f64::from(random.float() + 1.0) / 2.0,
            );
            assert_eq!(chosen(&logits, &params), expected(&logits, &params), "{logits:?}");
        }
    }

    #[test]
    fn greedy_takes_the_lower_of_equals_and_nothing_when_all_is_masked() {
        assert_eq!(chosen(&[1.0, 3.0, 3.0], &params(0.0, 0, 1.0, 0.0, 0.5)), Some(1));
        let nothing = [f32::NEG_INFINITY; 4];
        assert_eq!(chosen(&nothing, &params(1.0, 2, 0.5, 0.0, 0.5)), None);
    }
}
