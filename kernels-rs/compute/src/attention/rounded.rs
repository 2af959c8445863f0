//! The arithmetic of products with quantised weights, for attention: keys and values are weights in
//! seven bits, queries and probabilities activations in int8, all in groups of 32.
//!
//! Keys of a chunk are panels of eight tokens, values panels of eight dimensions whose columns are
//! the tokens; so both products leave [output][8 lines] behind, as in float32.

use super::tile::{load_pair, store_pair, Arithmetic, Mask, Panels, Weights, TILE_LINES};
use super::{Line, CHUNK};
use crate::dot::Dot;
use crate::half::{bf16_to_f32, f32_to_bf16};
use crate::kv::HEAD_WIDTH_MAX;
use crate::matmul::integer::{self, QuantizedRows, Q8};
use crate::pack::{GROUP, PANEL_ROWS, Q8_GROUP_BYTES, SCALES_BYTES};
use crate::quantize::{quantize_row_group, ActivationGroup, ACTIVATION_BYTES, SMALLEST_EXTREME};
use std::mem::offset_of;

/// Rows of half a panel, which lie in the lanes of one vector.
const LANES: usize = PANEL_ROWS / 2;
const QUADS: usize = GROUP / 4;
const TILE_GROUP_BYTES: usize = TILE_LINES * ACTIVATION_BYTES;
/// Groups of the longest row: a query, or the probabilities of a chunk.
const GROUPS_MAX: usize = if HEAD_WIDTH_MAX > CHUNK { HEAD_WIDTH_MAX } else { CHUNK } / GROUP;

pub struct Rounded;

impl Rounded {
    /// Packs `count` keys from `key(token)` into a chunk's panels.
    pub unsafe fn put_keys<V: Dot>(
        panels: &Panels,
        count: usize,
        key: &impl Fn(usize) -> *const f32,
    ) {
        let width = panels.head_width;
        for first in (0..count).step_by(LANES) {
            // Tokens that do not exist repeat the last: nobody attends to them.
            let keys: [_; LANES] = std::array::from_fn(|lane| key((first + lane).min(count - 1)));
            for group in 0..width.div_ceil(GROUP) {
                let column = |i: usize| {
                    let d = group * GROUP + i;
                    if d >= width {
                        return V::splat(0.0);
                    }
                    V::from_lanes(keys.map(|key| *key.add(d)))
                };
                let panel = key_panel(panels, first).add(group * Q8_GROUP_BYTES);
                put_weights(column, first % PANEL_ROWS / LANES, panel);
            }
        }
    }

    /// Packs `count` values from `value(token)` into a chunk's panels.
    pub unsafe fn put_values<V: Dot>(
        panels: &Panels,
        count: usize,
        value: &impl Fn(usize) -> *const f32,
    ) {
        let width = panels.head_width;
        for d in (0..width).step_by(LANES) {
            for group in 0..count.div_ceil(GROUP) {
                let column = |i: usize| {
                    let token = group * GROUP + i;
                    if token >= count {
                        V::splat(0.0)
                    } else if d + LANES <= width {
                        V::load(value(token).add(d))
                    } else {
                        let from = value(token);
                        let lane = |d: usize| if d < width { *from.add(d) } else { 0.0 };
                        V::from_lanes(std::array::from_fn(|i| lane(d + i)))
                    }
                };
                let panel = value_panel(panels, d).add(group * Q8_GROUP_BYTES);
                put_weights(column, d % PANEL_ROWS / LANES, panel);
            }
        }
    }
}

/// The panel of eight tokens that has `token`.
unsafe fn key_panel(panels: &Panels, token: usize) -> *mut u8 {
    let panel_bytes = panels.head_width.div_ceil(GROUP) * Q8_GROUP_BYTES;
    panels.keys(0, 0).cast::<u8>().add(token / PANEL_ROWS * panel_bytes)
}

/// The panel of eight dimensions that has `d`.
unsafe fn value_panel(panels: &Panels, d: usize) -> *mut u8 {
    panels.values(0, 0).cast::<u8>().add(d / PANEL_ROWS * (CHUNK / GROUP * Q8_GROUP_BYTES))
}

impl Arithmetic for Rounded {
    unsafe fn put_queries<V: Dot>(lines: &[Line; TILE_LINES], head_width: usize, to: *mut f32) {
        let mut rows = [[0u32; GROUPS_MAX * ACTIVATION_BYTES / 4]; TILE_LINES];
        for (line, row) in lines.iter().zip(&mut rows) {
            for group in 0..head_width.div_ceil(GROUP) {
                let to = row.as_mut_ptr().cast();
                quantize_row_group::<V>(line.query, head_width, group, to);
            }
        }
        let row = |lane: usize| rows[lane].as_ptr().cast();
        let quantized = QuantizedRows::new(std::ptr::null_mut(), head_width);
        quantized.pack_tile(0..TILE_LINES, &row, to.cast());
    }

    unsafe fn score<V: Dot>(panels: &Panels, token: usize, queries: *const f32, scores: *mut f32) {
        let (panel, half) = (key_panel(panels, token), token % PANEL_ROWS / LANES);
        let groups = panels.head_width.div_ceil(GROUP);
        let sums = integer::wide_sums::<V, Q8>(queries.cast(), panel, half, groups);
        for (i, sums) in sums.into_iter().enumerate() {
            store_pair(sums, scores.add(i * TILE_LINES));
        }
    }

    unsafe fn add_values<V: Dot>(
        panels: &Panels,
        probabilities: &Weights,
        mask: &Mask<V>,
        sums: *mut f32,
    ) {
        assert!(mask.together == mask.count, "lines of one length");
        let groups = mask.count.div_ceil(GROUP);
        let mut tile = [0u32; GROUPS_MAX * TILE_GROUP_BYTES / 4];
        let tile = tile.as_mut_ptr().cast::<u8>();
        for group in 0..groups {
            let from = probabilities.as_ptr().add(group * GROUP * TILE_LINES);
            put_probabilities::<V>(from, tile.add(group * TILE_GROUP_BYTES));
        }
        for d in (0..panels.head_width).step_by(LANES) {
            let (panel, half) = (value_panel(panels, d), d % PANEL_ROWS / LANES);
            let added = integer::wide_sums::<V, Q8>(tile, panel, half, groups);
            for (i, added) in added.into_iter().enumerate() {
                let at = sums.add((d + i) * TILE_LINES);
                let before = load_pair::<V>(at);
                store_pair([before[0].add(added[0]), before[1].add(added[1])], at);
            }
        }
    }
}

/// Rounds 32 columns of half a panel's rows, in the lanes, to the nearest of 63 steps either way.
#[inline(always)]
unsafe fn put_weights<V: Dot>(column: impl Fn(usize) -> V, half: usize, group: *mut u8) {
    let columns: [V; GROUP] = std::array::from_fn(column);
    let largest = columns.iter().fold(V::splat(0.0), |most, column| most.at_least(column.abs()));
    let scales = largest.mul(V::splat(1.0 / 63.0)).lanes().map(f32_to_bf16);
    group.add(half * LANES * 2).cast::<[u16; LANES]>().write_unaligned(scales);
    let scale = V::from_lanes(scales.map(bf16_to_f32));
    let inverse = V::splat(1.0).div(scale.at_least(V::splat(SMALLEST_EXTREME)));
    let codes = group.add(SCALES_BYTES + 16 * half);
    for quad in 0..QUADS {
        let codes_of = std::array::from_fn(|i| {
            let code = columns[4 * quad + i].mul(inverse).nearest();
            code.at_least(V::splat(-63.0)).at_most(V::splat(63.0)).add(V::splat(64.0))
        });
        V::store_bytes(V::join_codes(codes_of), codes.add(32 * quad));
    }
}

/// Rounds the probabilities of 32 tokens, [token][8 lines], to the nearest of 127 steps: a group of
/// a tile.
unsafe fn put_probabilities<V: Dot>(from: *const f32, group: *mut u8) {
    let mut largest = [V::splat(0.0); 2];
    for token in 0..GROUP {
        let terms = load_pair::<V>(from.add(token * TILE_LINES));
        largest = [largest[0].at_least(terms[0]), largest[1].at_least(terms[1])];
    }
    let inverse = largest.map(|largest| {
        let inverse = V::splat(127.0).div(largest.at_least(V::splat(SMALLEST_EXTREME)));
        V::pick_less(largest, V::splat(SMALLEST_EXTREME), V::splat(0.0), inverse)
    });
    let mut totals = [V::splat(0.0); 2];
    for quad in 0..QUADS {
        for half in 0..2 {
            let columns: [V; 4] = std::array::from_fn(|i| {
                let at = from.add((4 * quad + i) * TILE_LINES + 4 * half);
                V::load(at).mul(inverse[half]).nearest().at_most(V::splat(127.0))
            });
            totals[half] = columns.into_iter().fold(totals[half], V::add);
            V::store_bytes(V::join_codes(columns), group.add(32 * quad + 16 * half));
        }
    }
    let scales = group.add(TILE_LINES * offset_of!(ActivationGroup, scale)).cast::<f32>();
    store_pair(largest.map(|largest| largest.mul(V::splat(1.0 / 127.0))), scales);
    let starts = group.add(TILE_LINES * offset_of!(ActivationGroup, start_q8)).cast::<f32>();
    store_pair(totals.map(|total| V::from_bits(total.mul(V::splat(-64.0)).to_int())), starts);
}
