//! Weight layouts: packing file rows into panels, and reading single rows back.
//!
//! A matrix is a list of panels of eight rows, so that one vector load feeds eight outputs:
//! - `f32`, `bf16`, `f16`: [columns][8 rows] elements of that width;
//! - `q8`: [groups of 32 columns][8 bf16 scales, then 16 pairs of columns x 8 rows x 2 int8].
//!
//! Missing rows of the last panel and missing columns of the last group are zero.

use crate::half::{bf16_to_f32, f16_to_f32, f32_to_bf16, f32_to_f16};
use crate::record::{GatherRows, PackRows};
use crate::team::{Fault, Team};

pub const PANEL_ROWS: usize = 8;
/// Columns that share one scale.
pub const GROUP: usize = 32;
pub const GROUP_BYTES: usize = PANEL_ROWS * (2 + GROUP);
const SCALES_BYTES: usize = PANEL_ROWS * 2;

/// Storage formats; also the file types of `PackRows`, where `Q8` does not occur.
#[derive(Clone, Copy, PartialEq)]
pub enum Format {
    F32,
    Bf16,
    F16,
    Q8,
}

impl Format {
    pub fn of(number: usize) -> Self {
        [Self::F32, Self::Bf16, Self::F16, Self::Q8][number]
    }

    unsafe fn read(self, from: *const u8, index: usize) -> f32 {
        match self {
            Self::F32 => from.cast::<f32>().add(index).read_unaligned(),
            Self::Bf16 => bf16_to_f32(from.cast::<u16>().add(index).read_unaligned()),
            Self::F16 => f16_to_f32(from.cast::<u16>().add(index).read_unaligned()),
            Self::Q8 => unreachable!("int8 values have no meaning without their scale"),
        }
    }

    unsafe fn write(self, to: *mut u8, index: usize, value: f32) {
        match self {
            Self::F32 => to.cast::<f32>().add(index).write(value),
            Self::Bf16 => to.cast::<u16>().add(index).write(f32_to_bf16(value)),
            Self::F16 => to.cast::<u16>().add(index).write(f32_to_f16(value)),
            Self::Q8 => unreachable!("int8 values have no meaning without their scale"),
        }
    }
}

/// Place of an int8 inside its group, after the scales.
fn code_offset(lane: usize, column: usize) -> usize {
    SCALES_BYTES + column / 2 * (2 * PANEL_ROWS) + 2 * lane + column % 2
}

pub fn round_to_i8(value: f32) -> i8 {
    value.round_ties_even().clamp(-127.0, 127.0) as i8
}

pub unsafe fn pack_rows(op: &PackRows, team: &Team) {
    let (dtype, format) = (Format::of(op.dtype), Format::of(op.format));
    let row_bytes = op.columns * if dtype == Format::F32 { 4 } else { 2 };
    let end = op.first_row + op.rows;
    let first_panel = op.first_row / PANEL_ROWS;
    let panels = if op.rows == 0 { 0 } else { (end - 1) / PANEL_ROWS + 1 - first_panel };
    for index in team.share(panels, 1) {
        let panel = first_panel + index;
        let to = op.weight.add(panel * op.panel_bytes);
        let rows = (panel * PANEL_ROWS).max(op.first_row)..((panel + 1) * PANEL_ROWS).min(end);
        for row in rows {
            let from = op.source.add((row - op.first_row) * row_bytes);
            let read = |column| dtype.read(from, column);
            if format == Format::Q8 {
                pack_row_q8(read, op.columns, to, row % PANEL_ROWS);
            } else {
                for column in 0..op.columns {
                    format.write(to, column * PANEL_ROWS + row % PANEL_ROWS, read(column));
                }
            }
        }
    }
}

unsafe fn pack_row_q8(read: impl Fn(usize) -> f32, columns: usize, panel: *mut u8, lane: usize) {
    for first in (0..columns).step_by(GROUP) {
        let group = panel.add(first / GROUP * GROUP_BYTES);
        let count = GROUP.min(columns - first);
        let largest = (0..count).fold(0.0f32, |largest, i| largest.max(read(first + i).abs()));
        let bits = f32_to_bf16(largest / 127.0);
        let scale = bf16_to_f32(bits);
        group.cast::<u16>().add(lane).write(bits);
        for i in 0..count {
            let code = if scale == 0.0 { 0 } else { round_to_i8(read(first + i) / scale) };
            group.add(code_offset(lane, i)).cast::<i8>().write(code);
        }
    }
}

pub unsafe fn gather_rows(op: &GatherRows, team: &Team) {
    let format = Format::of(op.format);
    for i in team.share(op.rows, 1) {
        let row = team.check(*op.row_index.add(i), op.table_rows, Fault::RowIndex);
        let (panel, lane) = (op.table.add(row / PANEL_ROWS * op.panel_bytes), row % PANEL_ROWS);
        let out = op.out.add(i * op.width);
        for column in 0..op.width {
            *out.add(column) = if format == Format::Q8 {
                let group = panel.add(column / GROUP * GROUP_BYTES);
                let scale = bf16_to_f32(*group.cast::<u16>().add(lane));
                let code = *group.add(code_offset(lane, column % GROUP)).cast::<i8>();
                f32::from(code) * scale
            } else {
                format.read(panel, column * PANEL_ROWS + lane)
            };
        }
    }
}
