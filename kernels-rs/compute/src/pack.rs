//! Weight layouts: packing file rows into panels, and reading single rows back. The layouts are
//! described in `src/kernels/matrix_layout.ts`; all backends share them.

use crate::half::{bf16_to_f32, f16_to_f32, f32_to_bf16, f32_to_f16};
use crate::quantize::{quantize_weights, Codes};
use crate::record::{GatherRows, PackRows};
use crate::simd::Vector;
use crate::team::{Fault, Team};

pub const PANEL_ROWS: usize = 8;
/// Columns that share one scale.
pub const GROUP: usize = 32;
/// Eight bf16 scales at the start of a panel's group.
pub const SCALES_BYTES: usize = PANEL_ROWS * 2;
pub const Q8_GROUP_BYTES: usize = SCALES_BYTES + PANEL_ROWS * GROUP;
pub const Q4_GROUP_BYTES: usize = SCALES_BYTES + PANEL_ROWS * GROUP / 2;

/// Storage formats; the first three are also the file types of `PackRows`.
#[derive(Clone, Copy, PartialEq)]
pub enum Format {
    F32,
    Bf16,
    F16,
    Q8,
    Q4,
}

impl Format {
    pub fn of(number: usize) -> Self {
        [Self::F32, Self::Bf16, Self::F16, Self::Q8, Self::Q4][number]
    }

    /// How values become codes, in a quantised format.
    pub fn codes(self) -> Option<Codes> {
        match self {
            Self::Q8 => Some(Codes::SEVEN_BITS),
            Self::Q4 => Some(Codes::FOUR_BITS),
            _ => None,
        }
    }

    unsafe fn read(self, from: *const u8, index: usize) -> f32 {
        match self {
            Self::F32 => from.cast::<f32>().add(index).read_unaligned(),
            Self::Bf16 => bf16_to_f32(from.cast::<u16>().add(index).read_unaligned()),
            Self::F16 => f16_to_f32(from.cast::<u16>().add(index).read_unaligned()),
            Self::Q8 | Self::Q4 => unreachable!("codes have no meaning without their scale"),
        }
    }

    unsafe fn write(self, to: *mut u8, index: usize, value: f32) {
        match self {
            Self::F32 => to.cast::<f32>().add(index).write(value),
            Self::Bf16 => to.cast::<u16>().add(index).write(f32_to_bf16(value)),
            Self::F16 => to.cast::<u16>().add(index).write(f32_to_f16(value)),
            Self::Q8 | Self::Q4 => unreachable!("codes have no meaning without their scale"),
        }
    }
}

/// One row's place in a quantised panel.
#[derive(Clone, Copy)]
struct Lane {
    format: Format,
    lane: usize,
}

impl Lane {
    fn group(self, group: usize) -> usize {
        group * if self.format == Format::Q8 { Q8_GROUP_BYTES } else { Q4_GROUP_BYTES }
    }

    /// Byte in a group that holds the code of `column` below 32 (16 in q4: its low half).
    fn code(self, column: usize) -> usize {
        let vector = 2 * (column / 4) + self.lane / 4;
        SCALES_BYTES + 16 * vector + 4 * (self.lane % 4) + column % 4
    }

    unsafe fn write(self, group: *mut u8, scale: u16, codes: &[u8; GROUP]) {
        group.cast::<u16>().add(self.lane).write(scale);
        if self.format == Format::Q8 {
            for (column, &code) in codes.iter().enumerate() {
                *group.add(self.code(column)) = code;
            }
        } else {
            let (low, high) = codes.split_at(GROUP / 2);
            for (column, (low, high)) in low.iter().zip(high).enumerate() {
                *group.add(self.code(column)) = low | high << 4;
            }
        }
    }

    unsafe fn scale(self, group: *const u8) -> f32 {
        bf16_to_f32(*group.cast::<u16>().add(self.lane))
    }

    unsafe fn read(self, group: *const u8, column: usize) -> u8 {
        if self.format == Format::Q8 {
            return *group.add(self.code(column));
        }
        let byte = *group.add(self.code(column % 16));
        if column < 16 {
            byte & 15
        } else {
            byte >> 4
        }
    }
}

pub unsafe fn pack_rows<V: Vector>(op: &PackRows, team: &Team) {
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
            if let Some(codes) = format.codes() {
                let lane = Lane { format, lane: row % PANEL_ROWS };
                pack_quantized::<V>(read, op.columns, to, lane, codes);
            } else {
                for column in 0..op.columns {
                    format.write(to, column * PANEL_ROWS + row % PANEL_ROWS, read(column));
                }
            }
        }
    }
}

unsafe fn pack_quantized<V: Vector>(
    read: impl Fn(usize) -> f32,
    columns: usize,
    panel: *mut u8,
    lane: Lane,
    codes: Codes,
) {
    for first in (0..columns).step_by(GROUP) {
        let mut values = [0.0; GROUP];
        for (i, value) in values.iter_mut().enumerate().take(columns - first) {
            *value = read(first + i);
        }
        let (scale, codes) = quantize_weights::<V>(&values, codes);
        lane.write(panel.add(lane.group(first / GROUP)), scale, &codes);
    }
}

pub unsafe fn gather_rows(op: &GatherRows, team: &Team) {
    let format = Format::of(op.format);
    for i in team.share(op.rows, 1) {
        let row = team.check(*op.row_index.add(i), op.table_rows, Fault::RowIndex);
        let panel = op.table.add(row / PANEL_ROWS * op.panel_bytes);
        let lane = Lane { format, lane: row % PANEL_ROWS };
        let out = op.out.add(i * op.width);
        for column in 0..op.width {
            *out.add(column) = if let Some(codes) = format.codes() {
                let group = panel.add(lane.group(column / GROUP));
                codes.value(lane.read(group, column % GROUP)) * lane.scale(group)
            } else {
                format.read(panel, column * PANEL_ROWS + lane.lane)
            };
        }
    }
}
