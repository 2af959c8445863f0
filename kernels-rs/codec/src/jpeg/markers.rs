//! Marker segments: tables, application data, frame and scan headers (ITU-T T.81, B).

use super::color::ColorSpace;
use super::damaged;
use super::frame::Frame;
use super::huffman::HuffmanTable;
use super::idct::ZIGZAG;
use crate::error::{DecodeError, Result};
use crate::exif;

/// What the marker stream comes to next.
pub enum Event {
    Frame(Frame),
    /// Entropy-coded data follow at `Markers::position`.
    Scan(ScanHeader),
    End,
}

/// Content of an SOS segment.
pub struct ScanHeader {
    /// Component id, DC table, AC table.
    pub components: Vec<(u8, usize, usize)>,
    pub spectral_start: usize,
    pub spectral_end: usize,
    pub approx_high: u32,
    pub approx_low: u32,
}

/// Walks the file and keeps the tables in force.
pub struct Markers<'a> {
    pub bytes: &'a [u8],
    pub position: usize,
    pub quant: [Option<[u16; 64]>; 4],
    pub dc_tables: [Option<HuffmanTable>; 4],
    pub ac_tables: [Option<HuffmanTable>; 4],
    pub restart_interval: usize,
    pub orientation: u8,
    has_exif: bool,
    has_jfif: bool,
    adobe_transform: Option<u8>,
}

impl<'a> Markers<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self {
            bytes,
            position: 2, // after SOI
            quant: [None; 4],
            dc_tables: [const { None }; 4],
            ac_tables: [const { None }; 4],
            restart_interval: 0,
            orientation: 1,
            has_exif: false,
            has_jfif: false,
            adobe_transform: None,
        }
    }

    /// Reads segments up to the next frame header, scan header or the end.
    pub fn next(&mut self) -> Result<Event> {
        loop {
            let Some(marker) = self.next_marker() else {
                return Ok(Event::End); // a missing EOI is common and harmless
            };
            match marker {
                0xd9 => return Ok(Event::End),
                0x01 | 0xd0..=0xd8 => continue, // no content
                _ => {}
            }
            let data = self.segment()?;
            match marker {
                0xc0 | 0xc1 => return Frame::parse(data, false).map(Event::Frame),
                0xc2 => return Frame::parse(data, true).map(Event::Frame),
                0xc4 => self.read_huffman_tables(data)?,
                0xc3 | 0xc5..=0xc7 | 0xcb | 0xcd..=0xcf => {
                    return Err(DecodeError::new("lossless JPEG is not supported"));
                }
                0xc9 | 0xca => {
                    return Err(DecodeError::new("arithmetic-coded JPEG is not supported"));
                }
                0xda => return read_scan_header(data).map(Event::Scan),
                0xdb => self.read_quant_tables(data)?,
                0xdd => match data {
                    [high, low, ..] => {
                        self.restart_interval = u16::from_be_bytes([*high, *low]).into();
                    }
                    _ => return Err(damaged("short restart interval")),
                },
                0xe0 => self.has_jfif |= data.starts_with(b"JFIF\0"),
                0xe1 if !self.has_exif && data.starts_with(b"Exif\0\0") => {
                    self.has_exif = true;
                    self.orientation = exif::orientation(data);
                }
                0xee if data.starts_with(b"Adobe") && data.len() >= 12 => {
                    self.adobe_transform = Some(data[11]);
                }
                _ => {}
            }
        }
    }

    /// Skips to the next marker, over fill bytes and over data that belong to nothing.
    fn next_marker(&mut self) -> Option<u8> {
        loop {
            while *self.bytes.get(self.position)? != 0xff {
                self.position += 1;
            }
            while *self.bytes.get(self.position)? == 0xff {
                self.position += 1;
            }
            let code = self.bytes[self.position];
            self.position += 1;
            if code != 0 {
                return Some(code);
            }
        }
    }

    fn segment(&mut self) -> Result<&'a [u8]> {
        let length = match self.bytes.get(self.position..self.position + 2) {
            Some(&[high, low]) => usize::from(u16::from_be_bytes([high, low])),
            _ => return Err(damaged("it ends in a segment")),
        };
        if length < 2 {
            return Err(damaged("bad segment length"));
        }
        let data = self
            .bytes
            .get(self.position + 2..self.position + length)
            .ok_or_else(|| damaged("it ends in a segment"))?;
        self.position += length;
        Ok(data)
    }

    fn read_quant_tables(&mut self, mut data: &[u8]) -> Result<()> {
        while let [info, rest @ ..] = data {
            let (wide, index) = (info >> 4 != 0, usize::from(info & 15));
            let size = if wide { 128 } else { 64 };
            if index > 3 || rest.len() < size {
                return Err(damaged("bad quantisation table"));
            }
            let mut table = [0u16; 64];
            for (k, &natural) in ZIGZAG.iter().enumerate() {
                table[natural] = if wide {
                    u16::from_be_bytes([rest[k * 2], rest[k * 2 + 1]])
                } else {
                    rest[k].into()
                };
            }
            self.quant[index] = Some(table);
            data = &rest[size..];
        }
        Ok(())
    }

    fn read_huffman_tables(&mut self, mut data: &[u8]) -> Result<()> {
        while let [info, rest @ ..] = data {
            let (class, index) = (info >> 4, usize::from(info & 15));
            if class > 1 || index > 3 || rest.len() < 16 {
                return Err(damaged("bad Huffman table"));
            }
            let (counts, rest) = rest.split_at(16);
            let total: usize = counts.iter().map(|&count| usize::from(count)).sum();
            if rest.len() < total {
                return Err(damaged("bad Huffman table"));
            }
            let (symbols, rest) = rest.split_at(total);
            let table = HuffmanTable::new(counts, symbols)?;
            if class == 0 {
                // A DC symbol is a number of bits.
                if symbols.iter().any(|&symbol| symbol > 15) {
                    return Err(damaged("bad Huffman table"));
                }
                self.dc_tables[index] = Some(table);
            } else {
                self.ac_tables[index] = Some(table);
            }
            data = rest;
        }
        Ok(())
    }

    /// Colour space by the rules of libjpeg: JFIF, then Adobe's marker, then component ids.
    pub fn color_space(&self, frame: &Frame) -> Result<ColorSpace> {
        let ids: Vec<u8> = frame.components.iter().map(|component| component.id).collect();
        Ok(match (ids.as_slice(), self.adobe_transform) {
            ([_], _) => ColorSpace::Gray,
            ([_, _, _], _) if self.has_jfif => ColorSpace::YCbCr,
            ([_, _, _], Some(0)) => ColorSpace::Rgb,
            ([_, _, _], Some(_)) => ColorSpace::YCbCr,
            ([b'R', b'G', b'B'], None) => ColorSpace::Rgb,
            ([_, _, _], None) => ColorSpace::YCbCr,
            (_, None | Some(0)) => ColorSpace::Cmyk,
            (_, Some(_)) => ColorSpace::Ycck,
        })
    }
}

fn read_scan_header(data: &[u8]) -> Result<ScanHeader> {
    let count = usize::from(*data.first().unwrap_or(&0));
    if !(1..=4).contains(&count) || data.len() < 1 + count * 2 + 3 {
        return Err(damaged("bad scan header"));
    }
    let components = data[1..]
        .chunks_exact(2)
        .take(count)
        .map(|spec| (spec[0], usize::from(spec[1] >> 4), usize::from(spec[1] & 15)))
        .collect();
    let tail = &data[1 + count * 2..];
    Ok(ScanHeader {
        components,
        spectral_start: tail[0].into(),
        spectral_end: tail[1].into(),
        approx_high: (tail[2] >> 4).into(),
        approx_low: (tail[2] & 15).into(),
    })
}
