//! JPEG, with the arithmetic of libjpeg (accurate integer IDCT, triangle-filter chroma upsampling,
//! 16-bit fixed-point colour conversion), so that pixels equal Pillow's.
//!
//! Baseline, extended and progressive Huffman files of 8 bits: gray, YCbCr, RGB, CMYK and YCCK.
//! Not read: arithmetic coding, lossless and 12-bit files, fractional sampling ratios.

mod bits;
mod color;
mod frame;
mod huffman;
mod idct;
mod markers;
mod scan;
mod upsample;

use crate::budget::Budget;
use crate::error::{DecodeError, Result};
use crate::format::{Format, Header};
use crate::picture::Picture;
use markers::{Event, Markers};
use scan::Planes;

/// Scans of one file. Each costs a pass over all blocks although it may take a few bytes only.
const SCANS_MAX: usize = 200;

fn damaged(reason: &str) -> DecodeError {
    DecodeError::from_decoder("JPEG", reason)
}

pub fn header(bytes: &[u8]) -> Result<Header> {
    let mut markers = Markers::new(bytes);
    let Event::Frame(frame) = markers.next()? else {
        return Err(damaged("no frame header"));
    };
    let mut header = Header::still(Format::Jpeg, frame.width as u32, frame.height as u32);
    header.orientation = markers.orientation;
    Ok(header)
}

pub fn decode(bytes: &[u8], budget: Budget) -> Result<Picture> {
    let mut markers = Markers::new(bytes);
    let mut planes: Option<Planes> = None;
    let mut scans = 0;
    loop {
        match markers.next()? {
            Event::Frame(frame) => {
                if planes.is_some() {
                    return Err(damaged("two frame headers"));
                }
                budget.check(frame.width as u32, frame.height as u32)?;
                planes = Some(Planes::new(frame));
            }
            Event::Scan(scan) => {
                scans += 1;
                if scans > SCANS_MAX {
                    return Err(damaged(&format!("more than {SCANS_MAX} scans")));
                }
                let planes = planes.as_mut().ok_or_else(|| damaged("scan before frame header"))?;
                planes.decode_scan(&mut markers, &scan)?;
            }
            Event::End => break,
        }
    }
    let planes = planes.ok_or_else(|| damaged("no frame header"))?;
    let frame = planes.finish()?;
    let (width, height) = (frame.width, frame.height);
    let rgb = color::to_rgb(&frame, markers.color_space(&frame)?)?;
    Picture::new(width as u32, height as u32, rgb)
}
