//! What the native tests share: a seeded generator and a comparison.

use crate::pack::{gather_rows, pack_rows, GROUP, PANEL_ROWS, Q4_GROUP_BYTES, Q8_GROUP_BYTES};
use crate::record::{GatherRows, PackRows};
use crate::simd::scalar::Scalar;
use crate::team::tests::with_team;

/// A linear congruential generator (Knuth's MMIX constants).
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn word(&mut self) -> u32 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 32) as u32
    }

    /// Uniform in [-1, 1).
    pub fn float(&mut self) -> f32 {
        self.word() as f32 / 2_147_483_648.0 - 1.0
    }

    pub fn floats(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| self.float()).collect()
    }

    /// Uniform in [0, bound).
    pub fn below(&mut self, bound: usize) -> usize {
        self.word() as usize % bound
    }
}

/// Fails unless `actual` is within `tolerance` of `expected`, relative above 1.
pub fn assert_close(actual: f32, expected: f64, tolerance: f64) {
    let error = (f64::from(actual) - expected).abs();
    assert!(error <= tolerance * expected.abs().max(1.0), "{actual} is not {expected}: {error:e}");
}

/// A packed matrix and the values that it stores.
pub struct PackedMatrix {
    pub bytes: Vec<u64>,
    pub format: usize,
    pub panel_bytes: usize,
    /// [rows, columns], as read back.
    pub stored: Vec<f32>,
}

impl PackedMatrix {
    /// Packs float32 `values` in two parts, the later rows first.
    pub fn new(values: &[f32], rows: usize, columns: usize, format: usize) -> Self {
        let panel_bytes = match format {
            0 => columns * 32,
            1 | 2 => columns * 16,
            3 => columns.div_ceil(GROUP) * Q8_GROUP_BYTES,
            _ => columns.div_ceil(GROUP) * Q4_GROUP_BYTES,
        };
        let mut bytes = vec![0u64; rows.div_ceil(PANEL_ROWS) * panel_bytes / 8];
        let mut stored = vec![0.0; rows * columns];
        let (weight, out) = (bytes.as_mut_ptr() as usize, stored.as_mut_ptr() as usize);
        let index: Vec<i32> = (0..rows as i32).collect();
        let cut = rows / 3;
        with_team(2, |team| unsafe {
            for (first_row, end) in [(cut, rows), (0, cut)] {
                let op = PackRows {
                    source: values[first_row * columns..].as_ptr().cast(),
                    dtype: 0,
                    first_row,
                    rows: end - first_row,
                    columns,
                    weight: weight as *mut u8,
                    format,
                    panel_bytes,
                };
                pack_rows::<Scalar>(&op, team);
                team.meet();
            }
            let op = GatherRows {
                rows,
                row_index: index.as_ptr(),
                table: weight as *const u8,
                format,
                panel_bytes,
                table_rows: rows,
                width: columns,
                out: out as *mut f32,
            };
            gather_rows(&op, team);
        });
        Self { bytes, format, panel_bytes, stored }
    }
}
