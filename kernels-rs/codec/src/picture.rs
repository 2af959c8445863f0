//! RGB8 pixels in row-major order, and the moves of them that decoding needs.

use wasm_bindgen::prelude::*;

use crate::error::{DecodeError, Result};
use crate::resize;

#[wasm_bindgen]
#[derive(Debug, Clone)]
pub struct Picture {
    width: u32,
    height: u32,
    rgb: Vec<u8>,
}

impl Picture {
    /// `rgb` holds `width * height * 3` bytes.
    pub fn new(width: u32, height: u32, rgb: Vec<u8>) -> Result<Self> {
        if rgb.len() as u64 != u64::from(width) * u64::from(height) * 3 {
            return Err(DecodeError::new("decoder returned a wrong number of bytes"));
        }
        Ok(Self { width, height, rgb })
    }

    /// From pixels of `channels` bytes each: gray, gray+alpha, RGB or RGBA. Alpha is dropped
    /// without compositing, as Pillow does.
    pub fn from_channels(width: u32, height: u32, channels: usize, data: Vec<u8>) -> Result<Self> {
        let rgb = match channels {
            1 => data.iter().flat_map(|&gray| [gray; 3]).collect(),
            2 => data.chunks_exact(2).flat_map(|pixel| [pixel[0]; 3]).collect(),
            3 => data,
            4 => drop_fourth(data),
            _ => return Err(DecodeError::new(format!("{channels} channels are not supported"))),
        };
        Self::new(width, height, rgb)
    }

    pub fn rgb(&self) -> &[u8] {
        &self.rgb
    }
}

/// RGBA to RGB in place: a second canvas would cost a third of the memory budget.
fn drop_fourth(mut data: Vec<u8>) -> Vec<u8> {
    let pixels = data.len() / 4;
    for index in 0..pixels {
        data.copy_within(index * 4..index * 4 + 3, index * 3);
    }
    data.truncate(pixels * 3);
    data
}

#[wasm_bindgen]
impl Picture {
    #[wasm_bindgen(getter)]
    pub fn width(&self) -> u32 {
        self.width
    }

    #[wasm_bindgen(getter)]
    pub fn height(&self) -> u32 {
        self.height
    }

    /// A copy of all pixels, `[height, width, 3]`.
    pub fn data(&self) -> Vec<u8> {
        self.rgb.clone()
    }

    /// Turns the picture upright given its EXIF orientation (1..=8).
    pub fn orient(&self, orientation: u8) -> Picture {
        let (width, height) = (self.width as usize, self.height as usize);
        let transposed = (5..=8).contains(&orientation);
        let (out_width, out_height) = if transposed { (height, width) } else { (width, height) };
        if !(2..=8).contains(&orientation) {
            return self.clone();
        }
        let mut out = vec![0u8; self.rgb.len()];
        for (y, row) in out.chunks_exact_mut(out_width * 3).enumerate() {
            for (x, pixel) in row.chunks_exact_mut(3).enumerate() {
                // (u, v) is where pixel (x, y) of the upright picture is stored.
                let (u, v) = match orientation {
                    2 => (width - 1 - x, y),
                    3 => (width - 1 - x, height - 1 - y),
                    4 => (x, height - 1 - y),
                    5 => (y, x),
                    6 => (y, height - 1 - x),
                    7 => (width - 1 - y, height - 1 - x),
                    _ => (width - 1 - y, x),
                };
                let from = (v * width + u) * 3;
                pixel.copy_from_slice(&self.rgb[from..from + 3]);
            }
        }
        Picture { width: out_width as u32, height: out_height as u32, rgb: out }
    }

    /// Pillow's bicubic `Image.resize`, bit for bit.
    pub fn resize(&self, width: u32, height: u32) -> Picture {
        let rgb = resize::bicubic(
            &self.rgb,
            (self.width as usize, self.height as usize),
            (width as usize, height as usize),
        );
        Picture { width, height, rgb }
    }

    /// Cuts the picture into `size` x `size` tiles, row by row: `[rows * columns, size, size, 3]`.
    /// Both sides must be multiples of `size`.
    pub fn tiles(&self, size: u32) -> Vec<u8> {
        assert!(size > 0 && self.width.is_multiple_of(size) && self.height.is_multiple_of(size));
        let (size, stride) = (size as usize, self.width as usize * 3);
        let mut out = Vec::with_capacity(self.rgb.len());
        for band in self.rgb.chunks_exact(stride * size) {
            for left in (0..stride).step_by(size * 3) {
                for row in band.chunks_exact(stride) {
                    out.extend_from_slice(&row[left..left + size * 3]);
                }
            }
        }
        out
    }
}

/// Wraps caller-supplied pixels: the way into `resize` for tests and raw frames.
#[wasm_bindgen(js_name = pictureFromRgb)]
pub fn picture_from_rgb(
    width: u32,
    height: u32,
    rgb: Vec<u8>,
) -> std::result::Result<Picture, JsError> {
    Picture::new(width, height, rgb).map_err(|error| JsError::new(&error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2 x 3 picture whose pixel (x, y) has red = 10 * y + x.
    fn sample() -> Picture {
        let rgb = (0..3u8).flat_map(|y| (0..2u8).flat_map(move |x| [10 * y + x, 7, 9])).collect();
        Picture::new(2, 3, rgb).unwrap()
    }

    fn reds(picture: &Picture) -> Vec<u8> {
        picture.rgb().chunks_exact(3).map(|pixel| pixel[0]).collect()
    }

    #[test]
    fn orient_follows_the_exif_table() {
        let cases: [(u8, (u32, u32), [u8; 6]); 8] = [
            (1, (2, 3), [0, 1, 10, 11, 20, 21]),
            (2, (2, 3), [1, 0, 11, 10, 21, 20]),
            (3, (2, 3), [21, 20, 11, 10, 1, 0]),
            (4, (2, 3), [20, 21, 10, 11, 0, 1]),
            (5, (3, 2), [0, 10, 20, 1, 11, 21]),
            (6, (3, 2), [20, 10, 0, 21, 11, 1]),
            (7, (3, 2), [21, 11, 1, 20, 10, 0]),
            (8, (3, 2), [1, 11, 21, 0, 10, 20]),
        ];
        for (orientation, size, expected) in cases {
            let turned = sample().orient(orientation);
            assert_eq!((turned.width(), turned.height()), size, "orientation {orientation}");
            assert_eq!(reds(&turned), expected, "orientation {orientation}");
        }
    }

    #[test]
    fn from_channels_drops_alpha_without_compositing() {
        let rgba = Picture::from_channels(2, 1, 4, vec![1, 2, 3, 0, 4, 5, 6, 255]).unwrap();
        assert_eq!(rgba.rgb(), [1, 2, 3, 4, 5, 6]);
        let gray_alpha = Picture::from_channels(2, 1, 2, vec![8, 0, 9, 1]).unwrap();
        assert_eq!(gray_alpha.rgb(), [8, 8, 8, 9, 9, 9]);
        assert!(Picture::from_channels(2, 1, 3, vec![0; 5]).is_err());
    }

    #[test]
    fn tiles_run_row_by_row() {
        let rgb = (0..4u8).flat_map(|y| (0..4u8).flat_map(move |x| [10 * y + x, 0, 0])).collect();
        let tiles = Picture::new(4, 4, rgb).unwrap().tiles(2);
        let reds: Vec<u8> = tiles.chunks_exact(3).map(|pixel| pixel[0]).collect();
        assert_eq!(reds, [0, 1, 10, 11, 2, 3, 12, 13, 20, 21, 30, 31, 22, 23, 32, 33]);
    }
}
