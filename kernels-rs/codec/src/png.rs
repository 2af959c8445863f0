//! PNG. Of an APNG only the default image is read.

use std::io::Cursor;

use png::{Decoder, Limits, Reader, Transformations};

use crate::budget::Budget;
use crate::error::{DecodeError, Result};
use crate::exif;
use crate::format::{Format, Header};
use crate::picture::Picture;

fn open(bytes: &[u8], bytes_max: usize) -> Result<Reader<Cursor<&[u8]>>> {
    let mut decoder = Decoder::new_with_limits(Cursor::new(bytes), Limits { bytes: bytes_max });
    // Compressed text and colour profiles are never used, so bombs in them are not inflated.
    decoder.set_ignore_text_chunk(true);
    decoder.set_ignore_iccp_chunk(true);
    // Palettes and 1, 2, 4 bits become 8 bits; of 16 bits the high byte is kept, as in Pillow.
    decoder.set_transformations(Transformations::EXPAND | Transformations::STRIP_16);
    decoder.read_info().map_err(|error| DecodeError::from_decoder("PNG", error))
}

fn header_of(reader: &Reader<Cursor<&[u8]>>) -> Header {
    let info = reader.info();
    let mut header = Header::still(Format::Png, info.width, info.height);
    if let Some(block) = &info.exif_metadata {
        header.orientation = exif::orientation(block);
    }
    header
}

pub fn header(bytes: &[u8]) -> Result<Header> {
    open(bytes, Limits::default().bytes).map(|reader| header_of(&reader))
}

pub fn decode(bytes: &[u8], budget: Budget) -> Result<Picture> {
    let mut reader = open(bytes, budget.decoder_bytes_max())?;
    let header = header_of(&reader);
    budget.check(header.width, header.height)?;
    let size = reader.output_buffer_size().ok_or_else(|| DecodeError::new("size overflows"))?;
    let mut data = vec![0u8; size];
    let output =
        reader.next_frame(&mut data).map_err(|error| DecodeError::from_decoder("PNG", error))?;
    data.truncate(output.buffer_size());
    Picture::from_channels(output.width, output.height, output.color_type.samples(), data)
}
