//! PNG. Of an APNG only the default image is read.

use std::io::Cursor;

use png::{Decoder, DecodingError, Limits, Transformations};

use crate::budget::Budget;
use crate::error::{DecodeError, Result};
use crate::exif;
use crate::format::{Format, Header};
use crate::picture::Picture;

fn damaged(error: DecodingError) -> DecodeError {
    DecodeError::from_decoder("PNG", error)
}

fn open(bytes: &[u8], bytes_max: usize) -> Result<(Decoder<Cursor<&[u8]>>, Header)> {
    let mut decoder = Decoder::new_with_limits(Cursor::new(bytes), Limits { bytes: bytes_max });
    // Compressed text and colour profiles are never used, so bombs in them are not inflated.
    decoder.set_ignore_text_chunk(true);
    decoder.set_ignore_iccp_chunk(true);
    // Palettes and 1, 2, 4 bits become 8 bits; of 16 bits the high byte is kept, as in Pillow.
    decoder.set_transformations(Transformations::EXPAND | Transformations::STRIP_16);
    let info = decoder.read_header_info().map_err(damaged)?;
    let header = Header::still(Format::Png, info.width, info.height);
    Ok((decoder, header))
}

pub fn header(bytes: &[u8]) -> Result<Header> {
    let (decoder, mut header) = open(bytes, Limits::default().bytes)?;
    match decoder.read_info() {
        Ok(reader) => {
            if let Some(block) = &reader.info().exif_metadata {
                header.orientation = exif::orientation(block);
            }
        }
        // Its pixels do not fit the address space: the caller's budget refuses the size by name.
        Err(DecodingError::LimitsExceeded) => {}
        Err(error) => return Err(damaged(error)),
    }
    Ok(header)
}

pub fn decode(bytes: &[u8], budget: Budget) -> Result<Picture> {
    let (decoder, header) = open(bytes, budget.decoder_bytes_max())?;
    budget.check(header.width, header.height)?;
    let mut reader = decoder.read_info().map_err(damaged)?;
    let size = reader.output_buffer_size().ok_or_else(|| DecodeError::new("size overflows"))?;
    let mut data = vec![0u8; size];
    let output = reader.next_frame(&mut data).map_err(damaged)?;
    data.truncate(output.buffer_size());
    Picture::from_channels(output.width, output.height, output.color_type.samples(), data)
}
