//! Pixels to patch rows.

use crate::half::{bf16_to_f32, f32_to_bf16};
use crate::record::Patchify;
use crate::team::Team;

pub unsafe fn patchify(op: &Patchify, team: &Team) {
    let mean = [op.mean_red, op.mean_green, op.mean_blue];
    let deviation = [op.deviation_red, op.deviation_green, op.deviation_blue];
    let mut values = [[0.0; 256]; 3];
    for (channel, table) in values.iter_mut().enumerate() {
        for (byte, value) in table.iter_mut().enumerate() {
            let scaled = (byte as f32 / 255.0 - mean[channel]) / deviation[channel];
            *value = bf16_to_f32(f32_to_bf16(scaled));
        }
    }
    let size = op.patch_size;
    let across = op.tile_size / size;
    for patch in team.share(op.tiles * across * across, 1) {
        let (tile, place) = (patch / (across * across), patch % (across * across));
        let (top, left) = (place / across * size, place % across * size);
        let mut out = op.out.add(patch * 3 * size * size);
        for (channel, table) in values.iter().enumerate() {
            for y in top..top + size {
                let row = op.input.add(((tile * op.tile_size + y) * op.tile_size + left) * 3);
                for x in 0..size {
                    *out = table[*row.add(x * 3 + channel) as usize];
                    out = out.add(1);
                }
            }
        }
    }
}
