//! Pillow's antialiased bicubic resampling (a = -0.5), bit for bit as in Pillow 11 and 12: two
//! separable passes, horizontal first, weights in 22-bit fixed point, 8 bits between the passes.

const PRECISION_BITS: u32 = 22;
const SUPPORT: f64 = 2.0;

/// Source span and weights of every output position along one axis.
struct Kernel {
    /// First source index per output.
    starts: Vec<usize>,
    /// `taps` weights per output, zero-padded.
    weights: Vec<i32>,
    /// Used weights per output.
    counts: Vec<usize>,
    taps: usize,
}

fn cubic(x: f64) -> f64 {
    const A: f64 = -0.5;
    let x = x.abs();
    if x < 1.0 {
        ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        (((x - 5.0) * x + 8.0) * x - 4.0) * A
    } else {
        0.0
    }
}

impl Kernel {
    fn new(size_in: usize, size_out: usize) -> Self {
        let scale = size_in as f64 / size_out as f64;
        let filter_scale = scale.max(1.0);
        let support = SUPPORT * filter_scale;
        let taps = support.ceil() as usize * 2 + 1;
        let mut kernel = Kernel {
            starts: Vec::with_capacity(size_out),
            weights: vec![0; taps * size_out],
            counts: Vec::with_capacity(size_out),
            taps,
        };
        let mut exact = vec![0f64; taps];
        for (out, weights) in kernel.weights.chunks_exact_mut(taps).enumerate() {
            let centre = (out as f64 + 0.5) * scale;
            // `as` truncates towards zero and saturates negative values to 0, as Pillow clips.
            let start = (centre - support + 0.5) as usize;
            let end = ((centre + support + 0.5) as usize).min(size_in);
            let count = end - start;
            let mut total = 0.0;
            for (index, weight) in exact[..count].iter_mut().enumerate() {
                let distance = (index + start) as f64 - centre + 0.5;
                *weight = cubic(distance * (1.0 / filter_scale));
                total += *weight;
            }
            for (fixed, weight) in weights.iter_mut().zip(&exact[..count]) {
                let normal = if total != 0.0 { weight / total } else { *weight };
                // Half away from zero by adding 0.5 and truncating, as Pillow does: f64::round
                // differs in the last place below one half.
                let scaled = normal * f64::from(1u32 << PRECISION_BITS);
                *fixed = (scaled + 0.5f64.copysign(scaled)) as i32;
            }
            kernel.starts.push(start);
            kernel.counts.push(count);
        }
        kernel
    }

    fn at(&self, out: usize) -> (usize, &[i32]) {
        let from = out * self.taps;
        (self.starts[out], &self.weights[from..from + self.counts[out]])
    }
}

fn to_byte(sum: i32) -> u8 {
    (sum >> PRECISION_BITS).clamp(0, 255) as u8
}

/// Resizes RGB8 `[height, width, 3]`. Sizes are `(width, height)` and at least 1.
pub fn bicubic(rgb: &[u8], from: (usize, usize), to: (usize, usize)) -> Vec<u8> {
    assert!(from.0 > 0 && from.1 > 0 && to.0 > 0 && to.1 > 0, "sizes must be positive");
    assert_eq!(rgb.len(), from.0 * from.1 * 3);
    if from.0 == to.0 {
        return vertical(rgb, to.0, from.1, to.1);
    }
    let narrow = horizontal(rgb, from.0, from.1, to.0);
    vertical(&narrow, to.0, from.1, to.1)
}

fn horizontal(rgb: &[u8], width_in: usize, height: usize, width_out: usize) -> Vec<u8> {
    let kernel = Kernel::new(width_in, width_out);
    let mut out = vec![0u8; width_out * height * 3];
    for (source, target) in rgb.chunks_exact(width_in * 3).zip(out.chunks_exact_mut(width_out * 3))
    {
        for (x, pixel) in target.chunks_exact_mut(3).enumerate() {
            let (start, weights) = kernel.at(x);
            let mut sums = [1i32 << (PRECISION_BITS - 1); 3];
            let span = &source[start * 3..(start + weights.len()) * 3];
            for (rgb, &weight) in span.chunks_exact(3).zip(weights) {
                sums[0] += i32::from(rgb[0]) * weight;
                sums[1] += i32::from(rgb[1]) * weight;
                sums[2] += i32::from(rgb[2]) * weight;
            }
            pixel.copy_from_slice(&sums.map(to_byte));
        }
    }
    out
}

fn vertical(rgb: &[u8], width: usize, height_in: usize, height_out: usize) -> Vec<u8> {
    if height_in == height_out {
        return rgb.to_vec();
    }
    let kernel = Kernel::new(height_in, height_out);
    let stride = width * 3;
    let mut out = vec![0u8; stride * height_out];
    let mut sums = vec![0i32; stride];
    for (y, target) in out.chunks_exact_mut(stride).enumerate() {
        let (start, weights) = kernel.at(y);
        sums.fill(1 << (PRECISION_BITS - 1));
        for (row, &weight) in rgb[start * stride..].chunks_exact(stride).zip(weights) {
            for (sum, &byte) in sums.iter_mut().zip(row) {
                *sum += i32::from(byte) * weight;
            }
        }
        for (byte, &sum) in target.iter_mut().zip(&sums) {
            *byte = to_byte(sum);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bicubic_keeps_constant_pictures() {
        for (from, to) in [((5, 7), (3, 11)), ((1, 1), (8, 8)), ((100, 3), (4, 4))] {
            let out = bicubic(&[200, 3, 255].repeat(from.0 * from.1), from, to);
            assert_eq!(out, [200, 3, 255].repeat(to.0 * to.1));
        }
    }

    #[test]
    fn bicubic_copies_when_the_size_stays() {
        let rgb: Vec<u8> = (0..60).collect();
        assert_eq!(bicubic(&rgb, (4, 5), (4, 5)), rgb);
    }
}
