//! JPEG: baseline, extended and progressive; gray, YCbCr, RGB, CMYK and YCCK.

use std::io::Cursor;

use jpeg_decoder::{Decoder, PixelFormat};

use crate::budget::Budget;
use crate::error::{DecodeError, Result};
use crate::exif;
use crate::format::{Format, Header};
use crate::picture::Picture;

fn open(bytes: &[u8]) -> Result<(Decoder<Cursor<&[u8]>>, Header)> {
    let mut decoder = Decoder::new(Cursor::new(bytes));
    decoder.read_info().map_err(|error| DecodeError::from_decoder("JPEG", error))?;
    let info = decoder.info().ok_or_else(|| DecodeError::new("damaged JPEG data (no frame)"))?;
    let mut header = Header::still(Format::Jpeg, info.width.into(), info.height.into());
    header.orientation = decoder.exif_data().map_or(1, exif::orientation);
    Ok((decoder, header))
}

pub fn header(bytes: &[u8]) -> Result<Header> {
    open(bytes).map(|(_, header)| header)
}

pub fn decode(bytes: &[u8], budget: Budget) -> Result<Picture> {
    let (mut decoder, header) = open(bytes)?;
    budget.check(header.width, header.height)?;
    decoder.set_max_decoding_buffer_size(budget.decoder_bytes_max());
    let data = decoder.decode().map_err(|error| DecodeError::from_decoder("JPEG", error))?;
    let format = decoder.info().map(|info| info.pixel_format);
    match format {
        Some(PixelFormat::L8) => Picture::from_channels(header.width, header.height, 1, data),
        Some(PixelFormat::RGB24) => Picture::from_channels(header.width, header.height, 3, data),
        Some(PixelFormat::CMYK32) => {
            Picture::new(header.width, header.height, cmyk_to_rgb(data))
        }
        _ => Err(DecodeError::new("lossless 16-bit JPEG is not supported")),
    }
}

/// Pillow's CMYK to RGB: `(255 - K) - C * (255 - K) / 255`, rounded, in place.
fn cmyk_to_rgb(mut data: Vec<u8>) -> Vec<u8> {
    let pixels = data.len() / 4;
    for index in 0..pixels {
        let light = 255 - i32::from(data[index * 4 + 3]);
        for channel in 0..3 {
            let product = i32::from(data[index * 4 + channel]) * light + 128;
            let ink = ((product >> 8) + product) >> 8;
            data[index * 3 + channel] = (light - ink).clamp(0, 255) as u8;
        }
    }
    data.truncate(pixels * 3);
    data
}
