//! Drawing tokens from logits: adjustments, mask, temperature, top-k, top-p, min-p, draw. The team
//! shares the sum for the log-probability in fixed blocks of the vocabulary; one thread does the
//! rest of a row. Probabilities are float64, relative to the largest.

use crate::math::{exp, lane_max, lane_sum};
use crate::record::Sample;
use crate::simd::Vector;
use crate::team::{Fault, Team};

/// Tokens whose sum one thread makes at once.
const BLOCK: usize = 4096;
/// Up to so many largest tokens are kept sorted while the vocabulary goes by.
const SORTED_MAX: usize = 256;
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
    /// Of adjusted tokens, in the order of their adjustments.
    original: &'a mut [f32],
}

/// What is known of one block of a row.
struct Block {
    /// Sum of e^(logit - the row's largest).
    total: f64,
    largest: f32,
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
    let whole = sum_rows::<V>(op, team);
    for row in (team.thread..op.rows).step_by(team.threads) {
        sample_row::<V>(op, team, row, &whole(row), &mut scratch);
    }
}

/// What is known of a row before anything is adjusted.
struct Whole {
    /// Logarithm of the sum of e^logit: float32 terms, float64 sums of 256 terms.
    log_total: f64,
    largest: f32,
    /// Where the first block begins that has it.
    largest_from: usize,
}

/// What is known of each row. All threads call this together.
unsafe fn sum_rows<V: Vector>(op: &Sample, team: &Team) -> impl Fn(usize) -> Whole {
    let n = op.vocabulary;
    let row_blocks = n.div_ceil(BLOCK);
    let blocks = op.scratch.add(team.threads * op.thread_bytes).cast::<Block>();
    let units = team.share(op.rows * row_blocks, 1);
    let logits = |unit: usize| {
        let (row, first) = (unit / row_blocks, unit % row_blocks * BLOCK);
        let count = BLOCK.min(n - first);
        std::slice::from_raw_parts(op.logits.add(row * n + first).cast_const(), count)
    };
    for unit in units.clone() {
        (*blocks.add(unit)).largest = largest::<V>(logits(unit));
    }
    team.meet();
    let row = move |row: usize| {
        let blocks = std::slice::from_raw_parts(blocks.add(row * row_blocks), row_blocks);
        (blocks, blocks.iter().fold(f32::NEG_INFINITY, |a, block| a.max(block.largest)))
    };
    for unit in units {
        let (_, largest) = row(unit / row_blocks);
        (*blocks.add(unit)).total = sum_exp::<V>(logits(unit), largest);
    }
    team.meet();
    move |index| {
        let (blocks, largest) = row(index);
        let total = blocks.iter().map(|block| block.total).sum::<f64>();
        let first = blocks.iter().position(|block| block.largest == largest).unwrap_or(0);
        let log_total = f64::from(largest) + total.ln();
        Whole { log_total, largest, largest_from: first * BLOCK }
    }
}

/// The largest logit that is a number; -infinity if none is.
unsafe fn largest<V: Vector>(logits: &[f32]) -> f32 {
    let mut lanes = [V::splat(f32::NEG_INFINITY); 4];
    let parts = logits.chunks_exact(16);
    let rest = parts.remainder();
    for part in parts {
        for (i, lane) in lanes.iter_mut().enumerate() {
            *lane = lane.at_least(V::load(part.as_ptr().add(4 * i)));
        }
    }
    let [a, b, c, d] = lanes;
    let whole = lane_max(a.at_least(b).at_least(c.at_least(d)));
    rest.iter().fold(whole, |a, &b| a.max(b))
}

/// Sum of e^(logit - largest).
unsafe fn sum_exp<V: Vector>(logits: &[f32], largest: f32) -> f64 {
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
    total
}

unsafe fn sample_row<V: Vector>(
    op: &Sample,
    team: &Team,
    row: usize,
    whole: &Whole,
    scratch: &mut Scratch,
) {
    let log_total = whole.log_total;
    let logits = std::slice::from_raw_parts_mut(op.logits.add(row * op.vocabulary), op.vocabulary);
    write_candidates::<V>(op, row, logits, log_total);
    let tokens = adjust(op, team, row, logits, scratch.original);
    let params = Params::read(op.params.add(row * PARAM_COLUMNS));
    let mut mask: &[i32] = &[];
    if params.mask_index >= 0 {
        let index = team.check(params.mask_index, op.masks, Fault::Token);
        let words = op.vocabulary.div_ceil(32);
        mask = std::slice::from_raw_parts(op.mask.add(index * words), words);
    }
    // A forced id keeps its logit, whatever the mask says.
    let chosen = if params.forced_id >= 0 {
        Some(team.check(params.forced_id, op.vocabulary, Fault::Token))
    } else {
        apply_mask(mask, logits);
        // Unless a logit has changed, the largest has been found already.
        let known = mask.is_empty() && tokens.is_empty();
        let (largest, from) =
            if known { (whole.largest, whole.largest_from) } else { (largest::<V>(logits), 0) };
        choose::<V>(logits, largest, from, &params, scratch)
    };
    *op.id.add(row) = chosen.map_or(-1, |id| id as i32);
    *op.logprob.add(row) = chosen.map_or(f32::NEG_INFINITY, |id| {
        let adjusted = tokens.iter().position(|&token| token as usize == id);
        let original = adjusted.map_or(logits[id], |place| scratch.original[place]);
        (f64::from(original) - log_total) as f32
    });
}

/// The largest logits as they came from the model; entries beyond the vocabulary are -1.
unsafe fn write_candidates<V: Vector>(op: &Sample, row: usize, logits: &[f32], log_total: f64) {
    if op.candidates == 0 {
        return;
    }
    let ids =
        std::slice::from_raw_parts_mut(op.candidate_id.add(row * op.candidates), op.candidates);
    ids.fill(-1);
    largest_ids::<V>(logits, ids);
    for (c, &id) in ids.iter().enumerate() {
        *op.candidate_logprob.add(row * op.candidates + c) = match usize::try_from(id) {
            Ok(id) => (f64::from(logits[id]) - log_total) as f32,
            Err(_) => f32::NEG_INFINITY,
        };
    }
}

/// Fills `ids` with the largest logits, descending (ties: lower id); returns how many there are.
unsafe fn largest_ids<V: Vector>(logits: &[f32], ids: &mut [i32]) -> usize {
    let most = ids.len();
    let mut count = 0;
    for (part, values) in logits.chunks(64).enumerate() {
        if count == most && largest::<V>(values) <= logits[ids[most - 1] as usize] {
            continue;
        }
        for (i, &logit) in values.iter().enumerate() {
            let full = count == most;
            if logit.is_nan() || (full && logit <= logits[ids[most - 1] as usize]) {
                continue;
            }
            let mut place = if full { most - 1 } else { count };
            while place > 0 && logits[ids[place - 1] as usize] < logit {
                ids[place] = ids[place - 1];
                place -= 1;
            }
            ids[place] = (part * 64 + i) as i32;
            count += usize::from(!full);
        }
    }
    count
}

/// Applies the row's adjustments; returns their tokens and leaves the logits from before in
/// `original`. A token comes once.
unsafe fn adjust<'a>(
    op: &'a Sample,
    team: &Team,
    row: usize,
    logits: &mut [f32],
    original: &mut [f32],
) -> &'a [i32] {
    let (start, end) = (*op.adjust_start.add(row), *op.adjust_start.add(row + 1));
    let count = end.max(0).saturating_sub(start.max(0)).max(0);
    let count = team.check(count, logits.len() + 1, Fault::Token);
    let start = start.max(0) as usize;
    for i in 0..count {
        let token = team.check(*op.adjust_token.add(start + i), logits.len(), Fault::Token);
        let (logit, penalty) = (logits[token], *op.adjust_penalty.add(start + i));
        original[i] = logit;
        let penalized = if logit > 0.0 { logit / penalty } else { logit * penalty };
        logits[token] = penalized + *op.adjust_add.add(start + i);
    }
    std::slice::from_raw_parts(op.adjust_token.add(start), count)
}

fn apply_mask(words: &[i32], logits: &mut [f32]) {
    for (&word, part) in words.iter().zip(logits.chunks_mut(32)) {
        if word == -1 {
            continue;
        }
        for (bit, logit) in part.iter_mut().enumerate() {
            if word >> bit & 1 == 0 {
                *logit = f32::NEG_INFINITY;
            }
        }
    }
}

/// The chosen id; none when no logit is above -infinity. `largest` is nowhere before `from`.
unsafe fn choose<V: Vector>(
    logits: &[f32],
    largest: f32,
    from: usize,
    params: &Params,
    scratch: &mut Scratch,
) -> Option<usize> {
    if largest == f32::NEG_INFINITY {
        return None;
    }
    if params.temperature == 0.0 {
        return logits[from..].iter().position(|&logit| logit == largest).map(|place| from + place);
    }
    let largest = f64::from(largest);
    let term = |logit: f32| exp_f64((f64::from(logit) - largest) / params.temperature);
    if params.top_k > 0 && params.top_k <= SORTED_MAX {
        let mut ids = [-1; SORTED_MAX];
        let ids = &mut ids[..params.top_k.min(logits.len())];
        let count = largest_ids::<V>(logits, ids);
        for &id in &ids[..count] {
            scratch.terms[id as usize] = term(logits[id as usize]);
        }
        let mut kept = 0;
        for &id in ids[..count].iter().filter(|&&id| scratch.terms[id as usize] > 0.0) {
            scratch.order[kept] = id as u32;
            kept += 1;
        }
        let kept = nucleus_of(&scratch.order[..kept], scratch.terms, params);
        return draw_from(kept, scratch.terms, params);
    }
    for (to, &logit) in scratch.terms.iter_mut().zip(logits) {
        *to = term(logit);
    }
    let terms = &*scratch.terms;
    if params.top_k == 0 && params.top_p >= 1.0 {
        let kept = (0..terms.len()).filter(|&id| terms[id] >= params.min_p);
        return draw(kept, terms, params.uniform);
    }
    draw_from(largest_terms(terms, params, scratch.order), terms, params)
}

/// 1 / i!
const TAYLOR: [f64; 14] = {
    let mut coefficients = [1.0; 14];
    let mut i = 1;
    while i < coefficients.len() {
        coefficients[i] = coefficients[i - 1] / i as f64;
        i += 1;
    }
    coefficients
};

/// e^x within 2 ulp for x in [-708, 0], and 0 below. Without branches, so that a loop over terms
/// becomes vector code. Reduction by ln 2 in two parts, then the Taylor series.
#[inline(always)]
fn exp_f64(x: f64) -> f64 {
    /// Adding it rounds to a whole number, which then is in the low bits.
    const ROUNDER: f64 = 6_755_399_441_055_744.0; // 1.5 * 2^52
    let shifted = x * std::f64::consts::LOG2_E + ROUNDER;
    let n = shifted - ROUNDER;
    let r = x - n * 6.931_471_803_691_238e-1 - n * 1.908_214_929_270_587_7e-10;
    let mut p = 0.0;
    for coefficient in TAYLOR.into_iter().rev() {
        p = p * r + coefficient;
    }
    let scale = f64::from_bits((shifted.to_bits() << 52).wrapping_add(1023 << 52));
    if x < -708.0 {
        0.0
    } else {
        p * scale
    }
}

/// Draws among `ids` that pass min-p, in their order.
fn draw_from(ids: &[u32], terms: &[f64], params: &Params) -> Option<usize> {
    let kept = ids.iter().map(|&id| id as usize).filter(|&id| terms[id] >= params.min_p);
    draw(kept, terms, params.uniform)
}

/// The start of `sorted` that top-p keeps.
fn nucleus_of<'a>(sorted: &'a [u32], terms: &[f64], params: &Params) -> &'a [u32] {
    if params.top_p >= 1.0 {
        return sorted;
    }
    let total: f64 = sorted.iter().map(|&id| terms[id as usize]).sum();
    let mut reached = 0.0;
    let enough = sorted.iter().position(|&id| {
        reached += terms[id as usize];
        reached >= params.top_p * total
    });
    &sorted[..enough.map_or(sorted.len(), |place| place + 1)]
}

/// Ids that survive top-k and top-p, by descending term (ties: lower id). Only as much is sorted
/// as survives: the ids that may form a heap, from whose top they are taken.
fn largest_terms<'a>(terms: &[f64], params: &Params, order: &'a mut [u32]) -> &'a [u32] {
    let before = |a: u32, b: u32| {
        let (x, y) = (terms[a as usize], terms[b as usize]);
        x > y || (x == y && a < b)
    };
    let total = sum(terms);
    // Without top-k: smaller terms together are less than what top-p leaves out.
    let rest = if params.top_k == 0 { (1.0 - params.top_p) * total } else { 0.0 };
    let least = 0.999 * rest / terms.len() as f64;
    let mut size = 0;
    for (id, &term) in terms.iter().enumerate() {
        order[size] = id as u32;
        size += usize::from(term > 0.0 && term >= least);
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
    let (mut sum, mut taken) = (0.0, 0);
    while taken < most {
        // The taken ids gather behind the shrinking heap, in reverse.
        let rest = size - taken;
        order.swap(0, rest - 1);
        sift(&mut order[..rest - 1], 0);
        sum += terms[order[rest - 1] as usize];
        taken += 1;
        if params.top_k == 0 && sum >= params.top_p * total {
            break;
        }
    }
    let sorted = &mut order[size - taken..size];
    sorted.reverse();
    if params.top_k == 0 {
        return sorted;
    }
    nucleus_of(sorted, terms, params)
}

/// Sum in eight interleaved parts.
fn sum(terms: &[f64]) -> f64 {
    let mut sums = [0.0; 8];
    let parts = terms.chunks_exact(8);
    let rest: f64 = parts.remainder().iter().sum();
    for part in parts {
        for (sum, term) in sums.iter_mut().zip(part) {
            *sum += term;
        }
    }
    sums.iter().sum::<f64>() + rest
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
    use crate::simd::scalar::Scalar;
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
        unsafe { choose::<Scalar>(logits, largest::<Scalar>(logits), 0, params, &mut scratch) }
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
    fn draws_from_many_match_a_full_sort() {
        let mut random = Random::new(8);
        for round in 0..60 {
            let n = 300 + random.below(2000);
            let logits: Vec<f32> = (0..n).map(|_| 9.0 * random.float()).collect();
            let params = params(
                [0.3, 1.0, 2.0][random.below(3)],
                [0, 0, 40, 256, 257, 5000][round % 6],
                [1.0, 0.5, 0.95, 0.999][random.below(4)],
                [0.0, 0.0, 0.01][random.below(3)],
                f64::from(random.float() + 1.0) / 2.0,
            );
            assert_eq!(chosen(&logits, &params), expected(&logits, &params));
        }
    }

    #[test]
    fn exp_f64_is_within_two_ulp() {
        for i in 0..700_000 {
            let x = -f64::from(i) / 1000.0 - 1e-9;
            let error = (exp_f64(x) - x.exp()).abs() / x.exp();
            assert!(error <= 2.0 * f64::EPSILON, "exp({x}): {error:e}");
        }
        assert_eq!(exp_f64(0.0), 1.0);
        assert_eq!(exp_f64(-1e300), 0.0);
        assert_eq!(exp_f64(f64::NEG_INFINITY), 0.0);
        assert!(exp_f64(f64::NAN).is_nan());
    }

    #[test]
    fn greedy_takes_the_lower_of_equals_and_nothing_when_all_is_masked() {
        assert_eq!(chosen(&[1.0, 3.0, 3.0], &params(0.0, 0, 1.0, 0.0, 0.5)), Some(1));
        let nothing = [f32::NEG_INFINITY; 4];
        assert_eq!(chosen(&nothing, &params(1.0, 2, 0.5, 0.0, 0.5)), None);
    }
}
