//! Chroma upsampling as libjpeg's `jdsample.c`: triangle filters for 2:1 ratios ("fancy
//! upsampling"), replication for all others.

use super::frame::Component;

/// Writes row `y` of the picture, `ratio` = (horizontal, vertical) samples per stored sample, into
/// `line`, which has room for `component.width * ratio.0` samples. `sums` is scratch.
pub fn row(
    component: &Component,
    y: usize,
    ratio: (usize, usize),
    line: &mut [u8],
    sums: &mut Vec<u16>,
) {
    let stored = y / ratio.1;
    let near = component.row(stored);
    // Very narrow components are replicated.
    let smooth = component.width > 2;
    match ratio {
        (1, 1) => line[..near.len()].copy_from_slice(near),
        (2, 1) if smooth => double_width(near, line),
        (1, 2) => {
            let far = component.row(neighbour(component, y));
            let bias = if y.is_multiple_of(2) { 1 } else { 2 };
            for ((out, &a), &b) in line.iter_mut().zip(near).zip(far) {
                *out = ((u16::from(a) * 3 + u16::from(b) + bias) >> 2) as u8;
            }
        }
        (2, 2) if smooth => {
            let far = component.row(neighbour(component, y));
            sums.clear();
            sums.extend(near.iter().zip(far).map(|(&a, &b)| u16::from(a) * 3 + u16::from(b)));
            double_both(sums, line);
        }
        (horizontal, _) => {
            for (out, &sample) in line.chunks_mut(horizontal).zip(near) {
                out.fill(sample);
            }
        }
    }
}

/// The stored row on the other side of row `y`: above for even rows, below for odd ones. Beyond the
/// edges the outermost row repeats.
fn neighbour(component: &Component, y: usize) -> usize {
    let stored = y / 2;
    if y.is_multiple_of(2) {
        stored.saturating_sub(1)
    } else {
        (stored + 1).min(component.height - 1)
    }
}

/// Weights 3/4 and 1/4; rounding alternates so that no bias builds up.
fn double_width(near: &[u8], line: &mut [u8]) {
    let last = near.len() - 1;
    for (x, out) in line.chunks_exact_mut(2).take(near.len()).enumerate() {
        let here = u16::from(near[x]) * 3;
        out[0] = if x == 0 { near[0] } else { ((here + u16::from(near[x - 1]) + 1) >> 2) as u8 };
        out[1] =
            if x == last { near[last] } else { ((here + u16::from(near[x + 1]) + 2) >> 2) as u8 };
    }
}

/// As `double_width`, from column sums that are scaled by four.
fn double_both(sums: &[u16], line: &mut [u8]) {
    let last = sums.len() - 1;
    for (x, out) in line.chunks_exact_mut(2).take(sums.len()).enumerate() {
        let here = sums[x];
        out[0] = if x == 0 { (here * 4 + 8) >> 4 } else { (here * 3 + sums[x - 1] + 8) >> 4 } as u8;
        out[1] =
            if x == last { (here * 4 + 7) >> 4 } else { (here * 3 + sums[x + 1] + 7) >> 4 } as u8;
    }
}
