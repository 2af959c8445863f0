//! Recognises formats by their first bytes and dispatches to their decoders.

use wasm_bindgen::prelude::*;

use crate::budget::Budget;
use crate::error::{DecodeError, Result};
use crate::picture::Picture;
use crate::{bmp, gif, jpeg, png, webp};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    Png,
    Jpeg,
    Webp,
    Gif,
    Bmp,
}

impl Format {
    pub fn name(self) -> &'static str {
        match self {
            Format::Png => "png",
            Format::Jpeg => "jpeg",
            Format::Webp => "webp",
            Format::Gif => "gif",
            Format::Bmp => "bmp",
        }
    }

    /// The format whose signature `bytes` begins with. Names and MIME types are not trusted.
    pub fn detect(bytes: &[u8]) -> Result<Format> {
        match bytes {
            [0x89, b'P', b'N', b'G', 0x0d, 0x0a, 0x1a, 0x0a, ..] => Ok(Format::Png),
            [0xff, 0xd8, 0xff, ..] => Ok(Format::Jpeg),
            [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Ok(Format::Webp),
            [b'G', b'I', b'F', b'8', b'7' | b'9', b'a', ..] => Ok(Format::Gif),
            [b'B', b'M', ..] => Ok(Format::Bmp),
            [] => Err(DecodeError::new("it is empty")),
            _ => Err(DecodeError::new("it is not a PNG, JPEG, WebP, GIF or BMP file")),
        }
    }
}

/// What a picture's header says.
#[wasm_bindgen]
#[derive(Debug, Clone, Copy)]
pub struct Header {
    pub(crate) format: Format,
    pub(crate) width: u32,
    pub(crate) height: u32,
    pub(crate) orientation: u8,
    pub(crate) frames: u32,
}

impl Header {
    pub(crate) fn still(format: Format, width: u32, height: u32) -> Self {
        Self { format, width, height, orientation: 1, frames: 1 }
    }
}

#[wasm_bindgen]
impl Header {
    /// `png`, `jpeg`, `webp`, `gif` or `bmp`.
    #[wasm_bindgen(getter)]
    pub fn format(&self) -> String {
        self.format.name().to_string()
    }

    /// Stored width in pixels, before orientation.
    #[wasm_bindgen(getter)]
    pub fn width(&self) -> u32 {
        self.width
    }

    /// Stored height in pixels, before orientation.
    #[wasm_bindgen(getter)]
    pub fn height(&self) -> u32 {
        self.height
    }

    /// EXIF orientation 1..=8; 1 when the file has none.
    #[wasm_bindgen(getter)]
    pub fn orientation(&self) -> u8 {
        self.orientation
    }

    /// Number of frames of an animated WebP or GIF, else 1. Frames of a GIF are counted up to the
    /// first damaged one.
    #[wasm_bindgen(getter)]
    pub fn frames(&self) -> u32 {
        self.frames
    }
}

pub fn probe(bytes: &[u8]) -> Result<Header> {
    match Format::detect(bytes)? {
        Format::Png => png::header(bytes),
        Format::Jpeg => jpeg::header(bytes),
        Format::Webp => webp::header(bytes),
        Format::Gif => gif::header(bytes),
        Format::Bmp => bmp::header(bytes),
    }
}

pub fn decode(bytes: &[u8], budget: Budget) -> Result<Picture> {
    match Format::detect(bytes)? {
        Format::Png => png::decode(bytes, budget),
        Format::Jpeg => jpeg::decode(bytes, budget),
        Format::Webp => webp::decode(bytes, budget),
        Format::Gif => gif::decode(bytes, budget),
        Format::Bmp => bmp::decode(bytes, budget),
    }
}
