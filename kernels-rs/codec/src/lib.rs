//! Picture decoding and resizing for untrusted bytes, compiled to WebAssembly.
//!
//! Owns: formats, pixel budgets, conversion to RGB8 as Pillow's `convert("RGB")` does it, EXIF
//! orientation and Pillow's bicubic resampler. Does not own: tiling policy, time limits, fetching.

mod animation;
mod bmp;
mod budget;
mod error;
mod exif;
mod format;
mod gif;
mod jpeg;
mod picture;
mod png;
mod resize;
mod webp;

use wasm_bindgen::prelude::*;

pub use animation::Animation;
pub use budget::Budget;
pub use error::{DecodeError, Result};
pub use format::{Format, Header};
pub use picture::Picture;

fn to_js(error: DecodeError) -> JsError {
    JsError::new(&error.to_string())
}

/// Reads the header of a picture: nothing proportional to its pixels is allocated.
#[wasm_bindgen]
pub fn probe(bytes: &[u8]) -> std::result::Result<Header, JsError> {
    format::probe(bytes).map_err(to_js)
}

/// Decodes the (first) picture in `bytes` to RGB8, refusing sizes outside the budget.
#[wasm_bindgen]
pub fn decode(
    bytes: &[u8],
    pixels_max: u32,
    side_max: u32,
) -> std::result::Result<Picture, JsError> {
    format::decode(bytes, Budget { pixels_max, side_max }).map_err(to_js)
}

/// Opens an animated GIF or WebP. A still picture opens as an animation of one frame.
#[wasm_bindgen(js_name = openAnimation)]
pub fn open_animation(
    bytes: Vec<u8>,
    pixels_max: u32,
    side_max: u32,
    frames_max: u32,
) -> std::result::Result<Animation, JsError> {
    Animation::open(bytes, Budget { pixels_max, side_max }, frames_max).map_err(to_js)
}
