//! BMP, through the `image` crate.

use std::io::Cursor;

use image::ImageDecoder;
use image::codecs::bmp::BmpDecoder;

use crate::budget::Budget;
use crate::error::{DecodeError, Result};
use crate::format::{Format, Header};
use crate::picture::Picture;

fn damaged(error: image::ImageError) -> DecodeError {
    DecodeError::from_decoder("BMP", error)
}

fn open(bytes: &[u8]) -> Result<(BmpDecoder<Cursor<&[u8]>>, Header)> {
    let decoder = BmpDecoder::new(Cursor::new(bytes)).map_err(damaged)?;
    let (width, height) = decoder.dimensions();
    Ok((decoder, Header::still(Format::Bmp, width, height)))
}

pub fn header(bytes: &[u8]) -> Result<Header> {
    open(bytes).map(|(_, header)| header)
}

pub fn decode(bytes: &[u8], budget: Budget) -> Result<Picture> {
    let (decoder, header) = open(bytes)?;
    budget.check(header.width, header.height)?;
    let channels = usize::from(decoder.color_type().channel_count());
    let mut data = vec![0u8; (decoder.total_bytes()) as usize];
    decoder.read_image(&mut data).map_err(damaged)?;
    Picture::from_channels(header.width, header.height, channels, data)
}
