//! Geometry of a frame and its components (ITU-T T.81, A.1 and A.2).

use super::damaged;
use crate::error::{DecodeError, Result};

pub struct Frame {
    pub width: usize,
    pub height: usize,
    pub progressive: bool,
    pub components: Vec<Component>,
    pub h_max: usize,
    pub v_max: usize,
    /// MCUs per row and per column of an interleaved scan.
    pub mcus: (usize, usize),
}

pub struct Component {
    pub id: u8,
    pub h: usize,
    pub v: usize,
    pub quant_index: usize,
    /// Samples that belong to the picture.
    pub width: usize,
    pub height: usize,
    /// Blocks that hold those samples: what a scan of this component alone codes.
    pub blocks: (usize, usize),
    /// Blocks per row, padded to whole MCUs.
    pub padded_blocks: (usize, usize),
    /// Samples, `padded_blocks.0 * 8` per row. Allocated by the first scan.
    pub samples: Vec<u8>,
    /// Coefficients of a progressive component in natural order.
    pub coefficients: Vec<[i16; 64]>,
    /// Quantisation table in natural order, latched by the component's first scan.
    pub quant: Option<[u16; 64]>,
}

impl Component {
    pub fn stride(&self) -> usize {
        self.padded_blocks.0 * 8
    }

    /// Row `y` of the picture's samples.
    pub fn row(&self, y: usize) -> &[u8] {
        let from = y * self.stride();
        &self.samples[from..from + self.width]
    }
}

impl Frame {
    /// Parses the content of a SOF segment.
    pub fn parse(data: &[u8], progressive: bool) -> Result<Frame> {
        let [precision, h1, h0, w1, w0, count, rest @ ..] = data else {
            return Err(damaged("short frame header"));
        };
        if *precision != 8 {
            return Err(DecodeError::new(format!("{precision}-bit JPEG is not supported")));
        }
        let height = usize::from(u16::from_be_bytes([*h1, *h0]));
        let width = usize::from(u16::from_be_bytes([*w1, *w0]));
        if !matches!(count, 1 | 3 | 4) {
            return Err(DecodeError::new(format!("JPEG of {count} components is not supported")));
        }
        if rest.len() < usize::from(*count) * 3 {
            return Err(damaged("short frame header"));
        }
        let specs: Vec<&[u8]> = rest.chunks_exact(3).take((*count).into()).collect();
        let factors = |spec: &[u8]| (usize::from(spec[1] >> 4), usize::from(spec[1] & 15));
        if specs.iter().any(|spec| {
            let (h, v) = factors(spec);
            !(1..=4).contains(&h) || !(1..=4).contains(&v) || spec[2] > 3
        }) {
            return Err(damaged("bad component"));
        }
        let h_max = specs.iter().map(|spec| factors(spec).0).max().unwrap_or(1);
        let v_max = specs.iter().map(|spec| factors(spec).1).max().unwrap_or(1);
        let mcus = (width.div_ceil(8 * h_max), height.div_ceil(8 * v_max));
        let components = specs
            .iter()
            .map(|spec| {
                let (h, v) = factors(spec);
                let (own_width, own_height) =
                    ((width * h).div_ceil(h_max), (height * v).div_ceil(v_max));
                Component {
                    id: spec[0],
                    h,
                    v,
                    quant_index: spec[2].into(),
                    width: own_width,
                    height: own_height,
                    blocks: (own_width.div_ceil(8), own_height.div_ceil(8)),
                    padded_blocks: (mcus.0 * h, mcus.1 * v),
                    samples: Vec::new(),
                    coefficients: Vec::new(),
                    quant: None,
                }
            })
            .collect();
        Ok(Frame { width, height, progressive, components, h_max, v_max, mcus })
    }
}
