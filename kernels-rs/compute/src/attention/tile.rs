//! Many lines over a chunk of keys and values that was unpacked for them. Eight lines are the
//! lanes of a tile: scores, probabilities and sums are all [...][8 lines], so that both products
//! are one kernel, and nothing is summed across lanes.

use super::{count_in, Line, Shape, CHUNK};
use crate::dot::Dot;
use crate::math::exp;
use crate::pack::{GROUP, PANEL_ROWS, Q8_GROUP_BYTES};
use crate::quantize::ACTIVATION_BYTES;
use crate::simd::Vector;
use std::ops::Range;

/// Lines of one tile: two vectors.
pub const TILE_LINES: usize = 8;
/// Lines that pass over a chunk while it is in the cache.
pub const LINES_MAX: usize = 128;
/// Tokens between the panels of values. More than CHUNK, so that panels differ in cache sets.
const PANEL_TOKENS: usize = CHUNK + 4;

/// How scores and sums of values are computed, and what lies in a chunk's panels for it.
pub trait Arithmetic {
    /// Prepares the queries of a tile.
    unsafe fn put_queries<V: Dot>(lines: &[Line; TILE_LINES], head_width: usize, to: *mut f32);
    /// Scores of four tokens from `token`, a multiple of four: [4][8 lines], not scaled yet. Zeros
    /// are there before.
    unsafe fn score<V: Dot>(panels: &Panels, token: usize, queries: *const f32, scores: *mut f32);
    /// Adds probability * value to the sums of a tile. Probabilities of no token are zeros.
    unsafe fn add_values<V: Dot>(
        panels: &Panels,
        probabilities: &Weights,
        mask: &Mask<V>,
        sums: *mut f32,
    );
}

/// In float32: keys [token / 4][head width][4 tokens], values [head width / 4][token][4], queries
/// [head width][8 lines].
pub struct Whole;

impl Whole {
    /// Copies the first `count` keys and values of a chunk into its panels.
    pub unsafe fn put(
        panels: &Panels,
        count: usize,
        key: &impl Fn(usize) -> *const f32,
        value: &impl Fn(usize) -> *const f32,
    ) {
        for token in 0..count {
            let (key, value) = (key(token), value(token));
            for d in 0..panels.head_width {
                *panels.keys(token - token % 4, d).add(token % 4) = *key.add(d);
                *panels.values(token, d - d % 4).add(d % 4) = *value.add(d);
            }
        }
    }
}

impl Arithmetic for Whole {
    unsafe fn put_queries<V: Dot>(lines: &[Line; TILE_LINES], head_width: usize, to: *mut f32) {
        for (lane, line) in lines.iter().enumerate() {
            for d in 0..head_width {
                *to.add(d * TILE_LINES + lane) = *line.query.add(d);
            }
        }
    }

    unsafe fn score<V: Dot>(panels: &Panels, token: usize, queries: *const f32, scores: *mut f32) {
        multiply_add::<V>(scores, panels.keys(token, 0), queries, panels.head_width);
    }

    unsafe fn add_values<V: Dot>(
        panels: &Panels,
        probabilities: &Weights,
        mask: &Mask<V>,
        sums: *mut f32,
    ) {
        for d in (0..panels.head_width).step_by(4) {
            let sums = sums.add(d * TILE_LINES);
            multiply_add::<V>(sums, panels.values(0, d), probabilities.as_ptr(), mask.together);
            for token in mask.together..mask.count {
                let probabilities = probabilities.as_ptr().add(token * TILE_LINES);
                add_some::<V>(sums, panels.values(token, d), probabilities, token, &mask.limits);
            }
        }
    }
}

/// The keys and values of a chunk. Formats with scales have them per token. Values beyond the head
/// width are never used.
#[derive(Clone, Copy)]
pub struct Panels {
    memory: *mut f32,
    pub head_width: usize,
    scaled: bool,
}

impl Panels {
    pub fn floats(head_width: usize) -> usize {
        Self::key_floats(head_width) + head_width.next_multiple_of(4) * PANEL_TOKENS + 2 * CHUNK
    }

    /// Of a chunk's keys, in either arithmetic. Values take the most when whole.
    fn key_floats(head_width: usize) -> usize {
        let rounded = head_width.div_ceil(GROUP) * Q8_GROUP_BYTES / size_of::<f32>();
        CHUNK / PANEL_ROWS * rounded.max(PANEL_ROWS * head_width)
    }

    pub fn new(memory: *mut f32, head_width: usize, scaled: bool) -> Self {
        Self { memory, head_width, scaled }
    }

    /// Whole keys of four tokens in one dimension; `token` is a multiple of four.
    pub unsafe fn keys(&self, token: usize, d: usize) -> *mut f32 {
        self.memory.add(token * self.head_width + d * 4)
    }

    /// Four dimensions of one token; `d` is a multiple of four.
    pub unsafe fn values(&self, token: usize, d: usize) -> *mut f32 {
        self.memory.add(Self::key_floats(self.head_width) + d * PANEL_TOKENS + token * 4)
    }

    /// CHUNK scales of the keys, then as many of the values.
    pub unsafe fn scales(&self) -> *mut f32 {
        self.values(0, self.head_width.next_multiple_of(4))
    }
}

/// Memory of the lines that pass over chunks together.
pub struct Tiles<'a> {
    memory: *mut f32,
    shape: &'a Shape,
    lines: &'a [Line],
}

/// Parts of one tile's memory.
struct Tile {
    /// As the arithmetic wants them.
    queries: *mut f32,
    /// Sums of probability * value, [head width rounded up to 4][8].
    sums: *mut f32,
    largest: *mut f32,
    total: *mut f32,
}

impl<'a> Tiles<'a> {
    pub fn floats(head_width: usize, lines: usize) -> usize {
        lines.div_ceil(TILE_LINES) * tile_floats(head_width)
    }

    /// Prepares `lines` for their first chunk.
    pub unsafe fn start<V: Dot, A: Arithmetic>(
        memory: *mut f32,
        shape: &'a Shape,
        lines: &'a [Line],
    ) -> Self {
        let tiles = Self { memory, shape, lines };
        for index in 0..tiles.count() {
            let tile = tiles.tile(index);
            A::put_queries::<V>(&tiles.lanes(index), shape.head_width, tile.queries);
            std::slice::from_raw_parts_mut(tile.largest, TILE_LINES).fill(f32::NEG_INFINITY);
            let sums = shape.head_width.next_multiple_of(4) * TILE_LINES;
            std::slice::from_raw_parts_mut(tile.sums, sums).fill(0.0);
            std::slice::from_raw_parts_mut(tile.total, TILE_LINES).fill(0.0);
        }
        tiles
    }

    /// Passes all lines over the chunk in `panels`.
    pub unsafe fn add_chunk<V: Dot, A: Arithmetic>(&self, panels: &Panels, chunk: &Range<usize>) {
        for index in 0..self.count() {
            let counts = self.lanes(index).map(|line| count_in(chunk, line.length));
            add_chunk::<V, A>(self.shape, &self.tile(index), panels, &counts);
        }
    }

    /// Writes the results.
    pub unsafe fn finish(self) {
        for index in 0..self.count() {
            let tile = self.tile(index);
            for (lane, line) in self.lanes(index).iter().enumerate() {
                let total = if line.length == 0 { 1.0 } else { *tile.total.add(lane) };
                for d in 0..self.shape.head_width {
                    *line.out.add(d) = *tile.sums.add(d * TILE_LINES + lane) / total;
                }
            }
        }
    }

    fn count(&self) -> usize {
        self.lines.len().div_ceil(TILE_LINES)
    }

    /// The lines of one tile; the last one also stands for those that are missing.
    fn lanes(&self, tile: usize) -> [Line; TILE_LINES] {
        let last = self.lines.len() - 1;
        std::array::from_fn(|lane| self.lines[(tile * TILE_LINES + lane).min(last)])
    }

    unsafe fn tile(&self, index: usize) -> Tile {
        let width = self.shape.head_width;
        let queries = self.memory.add(index * tile_floats(width));
        let sums = queries.add(query_floats(width) * TILE_LINES);
        let largest = sums.add(width.next_multiple_of(4) * TILE_LINES);
        Tile { queries, sums, largest, total: largest.add(TILE_LINES) }
    }
}

/// Of one query, in either arithmetic.
fn query_floats(head_width: usize) -> usize {
    head_width.max(head_width.div_ceil(GROUP) * ACTIVATION_BYTES / size_of::<f32>())
}

fn tile_floats(head_width: usize) -> usize {
    (query_floats(head_width) + head_width.next_multiple_of(4) + 2) * TILE_LINES
}

/// Scores and probabilities of a chunk, [token][8 lines].
pub type Weights = [f32; CHUNK * TILE_LINES];

/// Passes one tile over a chunk, of which each line attends to the first `counts` tokens.
unsafe fn add_chunk<V: Dot, A: Arithmetic>(
    shape: &Shape,
    tile: &Tile,
    panels: &Panels,
    counts: &[usize; TILE_LINES],
) {
    let count = *counts.iter().max().unwrap_or(&0);
    let together = *counts.iter().min().unwrap_or(&0);
    if count == 0 {
        return;
    }
    let limits = load_pair::<V>(counts.map(|count| count as f32).as_ptr());
    let mut weights: Weights = [0.0; CHUNK * TILE_LINES];
    for token in (0..count).step_by(4) {
        let scores = weights.as_mut_ptr().add(token * TILE_LINES);
        A::score::<V>(panels, token, tile.queries, scores);
    }
    let mask = Mask { limits, count, together };
    soften::<V>(shape, tile, panels, &mut weights, &mask);
    A::add_values::<V>(panels, &weights, &mask, tile.sums);
}

/// Which tokens of a chunk the lines attend to: all of them to the first `together`, none to any
/// from `count` on.
pub struct Mask<V> {
    limits: [V; 2],
    pub count: usize,
    pub together: usize,
}

/// Turns scores into probabilities relative to the running maxima, times the scales of the values.
unsafe fn soften<V: Vector>(
    shape: &Shape,
    tile: &Tile,
    panels: &Panels,
    weights: &mut Weights,
    mask: &Mask<V>,
) {
    let lowest = V::splat(f32::NEG_INFINITY);
    let before = load_pair::<V>(tile.largest);
    let mut largest = before;
    for token in 0..mask.count {
        let mut scale = shape.scale;
        if panels.scaled {
            scale *= *panels.scales().add(token);
        }
        let at = weights.as_mut_ptr().add(token * TILE_LINES);
        let mut scores = load_pair::<V>(at).map(|score| score.mul(V::splat(scale)));
        if token >= mask.together {
            scores = pick(token, &mask.limits, scores, [lowest; 2]);
        }
        largest = [largest[0].at_least(scores[0]), largest[1].at_least(scores[1])];
        store_pair(scores, at);
    }
    let mut totals = [[V::splat(0.0); 2]; 4];
    for first in (0..mask.count).step_by(4) {
        for (i, total) in totals.iter_mut().enumerate() {
            let token = first + i;
            let at = weights.as_mut_ptr().add(token * TILE_LINES);
            let scores = load_pair::<V>(at);
            let mut terms = [0, 1].map(|half| exp(scores[half].sub(largest[half])));
            if token >= mask.together {
                terms = pick(token, &mask.limits, terms, [V::splat(0.0); 2]);
            }
            *total = [total[0].add(terms[0]), total[1].add(terms[1])];
            if panels.scaled {
                let scale = V::splat(*panels.scales().add(CHUNK + token));
                terms = terms.map(|term| term.mul(scale));
            }
            store_pair(terms, at);
        }
    }
    let chunk_total = [0, 1].map(|half| {
        let [a, b, c, d] = totals.map(|total| total[half]);
        a.add(b).add(c.add(d))
    });
    shrink(shape, tile, before, largest);
    let total = load_pair::<V>(tile.total);
    store_pair([total[0].add(chunk_total[0]), total[1].add(chunk_total[1])], tile.total);
    store_pair(largest, tile.largest);
}

/// Makes earlier sums relative to the new maxima, in the lanes where these grew.
unsafe fn shrink<V: Vector>(shape: &Shape, tile: &Tile, before: [V; 2], largest: [V; 2]) {
    if before.map(V::lanes) == largest.map(V::lanes) {
        return;
    }
    let factors = [0, 1].map(|half| {
        let factor = exp(before[half].sub(largest[half]));
        V::pick_less(before[half], largest[half], factor, V::splat(1.0))
    });
    let scale = |at: *mut f32| {
        let values = load_pair::<V>(at);
        store_pair([values[0].mul(factors[0]), values[1].mul(factors[1])], at);
    };
    for d in 0..shape.head_width {
        scale(tile.sums.add(d * TILE_LINES));
    }
    scale(tile.total);
}

/// sums [4][8] += left [count][4] * right [count][8], ascending. One step per turn: the engine
/// unrolls it, and loads count, since it checks the bounds of each.
#[inline(never)]
unsafe fn multiply_add<V: Vector>(
    sums: *mut f32,
    left: *const f32,
    right: *const f32,
    count: usize,
) {
    let mut totals: [[V; 2]; 4] = std::array::from_fn(|i| load_pair(sums.add(i * TILE_LINES)));
    let (mut left, mut right) = (left, right);
    let end = left.add(count * 4);
    while left < end {
        let [first, second] = load_pair::<V>(right);
        let factors = V::load(left);
        let factors =
            [factors.lane::<0>(), factors.lane::<1>(), factors.lane::<2>(), factors.lane::<3>()];
        for (total, factor) in totals.iter_mut().zip(factors) {
            *total = [factor.madd(first, total[0]), factor.madd(second, total[1])];
        }
        left = left.add(4);
        right = right.add(TILE_LINES);
    }
    for (i, total) in totals.into_iter().enumerate() {
        store_pair(total, sums.add(i * TILE_LINES));
    }
}

/// One step of `multiply_add` for the lines that attend to `token`.
unsafe fn add_some<V: Vector>(
    sums: *mut f32,
    left: *const f32,
    right: *const f32,
    token: usize,
    limits: &[V; 2],
) {
    let [first, second] = load_pair::<V>(right);
    for i in 0..4 {
        let at = sums.add(i * TILE_LINES);
        let (before, factor) = (load_pair::<V>(at), V::load_splat(left.add(i)));
        let after = [factor.madd(first, before[0]), factor.madd(second, before[1])];
        store_pair(pick(token, limits, after, before), at);
    }
}

/// Lanes of `yes` for the lines that attend to `token`, else of `no`.
#[inline(always)]
fn pick<V: Vector>(token: usize, limits: &[V; 2], yes: [V; 2], no: [V; 2]) -> [V; 2] {
    let token = V::splat(token as f32);
    [0, 1].map(|half| V::pick_less(token, limits[half], yes[half], no[half]))
}

#[inline(always)]
pub unsafe fn load_pair<V: Vector>(from: *const f32) -> [V; 2] {
    [V::load(from), V::load(from.add(4))]
}

#[inline(always)]
pub unsafe fn store_pair<V: Vector>(values: [V; 2], to: *mut f32) {
    values[0].store(to);
    values[1].store(to.add(4));
}
