//! Frames of an animated picture, decoded one after the other so that only one is in memory.

use wasm_bindgen::prelude::*;

use crate::budget::Budget;
use crate::error::{DecodeError, Result};
use crate::format::{self, Format};
use crate::gif::GifFrames;
use crate::picture::Picture;
use crate::webp::WebpFrames;

enum Frames {
    Gif(Box<GifFrames<Vec<u8>>>),
    Webp(WebpFrames<Vec<u8>>),
    Still(Option<Picture>),
}

#[wasm_bindgen]
pub struct Animation {
    frames: Frames,
    frame_count: u32,
    next_index: u32,
}

impl Animation {
    pub fn open(bytes: Vec<u8>, budget: Budget, frames_max: u32) -> Result<Self> {
        let header = format::probe(&bytes)?;
        budget.check(header.width, header.height)?;
        if header.frames > frames_max {
            let frames = header.frames;
            return Err(DecodeError::new(format!("{frames} frames exceed {frames_max}")));
        }
        let frames = match header.format {
            Format::Gif => Frames::Gif(Box::new(GifFrames::open(bytes, budget)?)),
            Format::Webp => Frames::Webp(WebpFrames::open(bytes, budget)?),
            _ => Frames::Still(Some(format::decode(&bytes, budget)?)),
        };
        Ok(Self { frames, frame_count: header.frames.max(1), next_index: 0 })
    }

    fn next(&mut self) -> Result<Picture> {
        self.next_index += 1;
        match &mut self.frames {
            Frames::Gif(frames) => frames.next(),
            Frames::Webp(frames) => frames.next(),
            Frames::Still(picture) => {
                picture.take().ok_or_else(|| DecodeError::new("it has one frame"))
            }
        }
    }
}

#[wasm_bindgen]
impl Animation {
    #[wasm_bindgen(getter, js_name = frameCount)]
    pub fn frame_count(&self) -> u32 {
        self.frame_count
    }

    /// Frame `index`, composited. Indexes must grow from call to call.
    pub fn frame(&mut self, index: u32) -> std::result::Result<Picture, JsError> {
        if index < self.next_index || index >= self.frame_count {
            return Err(JsError::new("frames are read once and in order"));
        }
        loop {
            let at = self.next_index;
            let picture = self.next().map_err(|error| JsError::new(&error.to_string()))?;
            if at == index {
                return Ok(picture);
            }
        }
    }
}
