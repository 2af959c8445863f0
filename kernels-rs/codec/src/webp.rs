//! WebP: lossy, lossless, with alpha, animated.

use std::io::Cursor;

use image_webp::WebPDecoder;

use crate::budget::Budget;
use crate::error::{DecodeError, Result};
use crate::exif;
use crate::format::{Format, Header};
use crate::picture::Picture;

fn damaged(error: image_webp::DecodingError) -> DecodeError {
    DecodeError::from_decoder("WebP", error)
}

fn open<B: AsRef<[u8]>>(bytes: B) -> Result<(WebPDecoder<Cursor<B>>, Header)> {
    let mut decoder = WebPDecoder::new(Cursor::new(bytes)).map_err(damaged)?;
    decoder.set_memory_limit(16 << 20); // metadata chunks only
    let (width, height) = decoder.dimensions();
    let mut header = Header::still(Format::Webp, width, height);
    if decoder.is_animated() {
        header.frames = decoder.num_frames();
    }
    // A damaged EXIF block does not make the picture unreadable.
    if let Ok(Some(block)) = decoder.exif_metadata() {
        header.orientation = exif::orientation(&block);
    }
    Ok((decoder, header))
}

pub fn header(bytes: &[u8]) -> Result<Header> {
    open(bytes).map(|(_, header)| header)
}

pub fn decode(bytes: &[u8], budget: Budget) -> Result<Picture> {
    let (decoder, header) = open(bytes)?;
    WebpFrames::from_decoder(decoder, header, budget)?.next()
}

/// The frames of an animation in order, each composited onto the canvas.
pub struct WebpFrames<B: AsRef<[u8]>> {
    decoder: WebPDecoder<Cursor<B>>,
    header: Header,
}

impl<B: AsRef<[u8]>> WebpFrames<B> {
    pub fn open(bytes: B, budget: Budget) -> Result<Self> {
        let (decoder, header) = open(bytes)?;
        Self::from_decoder(decoder, header, budget)
    }

    fn from_decoder(
        decoder: WebPDecoder<Cursor<B>>,
        header: Header,
        budget: Budget,
    ) -> Result<Self> {
        budget.check(header.width, header.height)?;
        Ok(Self { decoder, header })
    }

    pub fn next(&mut self) -> Result<Picture> {
        let size =
            self.decoder.output_buffer_size().ok_or_else(|| DecodeError::new("size overflows"))?;
        let mut data = vec![0u8; size];
        if self.decoder.is_animated() {
            self.decoder.read_frame(&mut data).map_err(damaged)?;
        } else {
            self.decoder.read_image(&mut data).map_err(damaged)?;
        }
        let channels = if self.decoder.has_alpha() { 4 } else { 3 };
        Picture::from_channels(self.header.width, self.header.height, channels, data)
    }
}
