//! GIF, composited the way Pillow does it.

use std::io::Cursor;

use gif::{ColorOutput, DecodeOptions, Decoder, DisposalMethod, Frame, MemoryLimit};

use crate::budget::Budget;
use crate::error::{DecodeError, Result};
use crate::format::{Format, Header};
use crate::picture::Picture;

/// Frames counted by the header probe; an animation longer than this is refused elsewhere.
const FRAMES_COUNTED_MAX: u32 = 100_000;

fn damaged(error: gif::DecodingError) -> DecodeError {
    DecodeError::from_decoder("GIF", error)
}

fn open<B: AsRef<[u8]>>(bytes: B, budget: Option<Budget>) -> Result<Decoder<Cursor<B>>> {
    let mut options = DecodeOptions::new();
    options.set_color_output(ColorOutput::Indexed);
    options.allow_unknown_blocks(true);
    match budget.and_then(|budget| std::num::NonZeroU64::new(budget.decoder_bytes_max() as u64)) {
        Some(bytes) => options.set_memory_limit(MemoryLimit::Bytes(bytes)),
        None => options.skip_frame_decoding(true),
    }
    options.read_info(Cursor::new(bytes)).map_err(damaged)
}

pub fn header(bytes: &[u8]) -> Result<Header> {
    let mut decoder = open(bytes, None)?;
    let mut header = Header::still(Format::Gif, decoder.width().into(), decoder.height().into());
    header.frames = 0;
    while header.frames < FRAMES_COUNTED_MAX {
        match decoder.next_frame_info() {
            Ok(Some(_)) => header.frames += 1,
            Ok(None) => break,
            Err(error) if header.frames == 0 => return Err(damaged(error)),
            Err(_) => break,
        }
    }
    if header.frames == 0 {
        return Err(DecodeError::new("damaged GIF data (no frame)"));
    }
    Ok(header)
}

pub fn decode(bytes: &[u8], budget: Budget) -> Result<Picture> {
    GifFrames::open(bytes, budget)?.next()
}

/// Rectangle and colour that the next frame starts by clearing, or pixels it starts by restoring.
enum Disposal {
    Keep,
    Clear { left: usize, top: usize, width: usize, height: usize, color: [u8; 3] },
    Restore(Vec<u8>),
}

/// The frames of an animation in order, each composited onto the canvas.
pub struct GifFrames<B: AsRef<[u8]>> {
    decoder: Decoder<Cursor<B>>,
    width: usize,
    height: usize,
    canvas: Vec<u8>,
    disposal: Disposal,
}

impl<B: AsRef<[u8]>> GifFrames<B> {
    pub fn open(bytes: B, budget: Budget) -> Result<Self> {
        let decoder = open(bytes, Some(budget))?;
        budget.check(decoder.width().into(), decoder.height().into())?;
        let (width, height) = (usize::from(decoder.width()), usize::from(decoder.height()));
        Ok(Self { decoder, width, height, canvas: Vec::new(), disposal: Disposal::Keep })
    }

    pub fn next(&mut self) -> Result<Picture> {
        let background = self.decoder.bg_color().unwrap_or(0);
        let global = self.decoder.global_palette().map(<[u8]>::to_vec);
        let frame = self
            .decoder
            .read_next_frame()
            .map_err(damaged)?
            .ok_or_else(|| DecodeError::new("damaged GIF data (no frame)"))?;
        let palette = frame.palette.as_deref().or(global.as_deref()).unwrap_or(&[]);
        if self.canvas.is_empty() {
            // Pillow fills what the first frame leaves bare with its transparent index, else 0.
            let fill = color_at(palette, frame.transparent.unwrap_or(0).into());
            self.canvas = fill.repeat(self.width * self.height);
        }
        dispose(&mut self.canvas, self.width, &self.disposal);
        let clear_index = frame.transparent.map_or(background, usize::from);
        let disposal = match frame.dispose {
            DisposalMethod::Background => Disposal::Clear {
                left: frame.left.into(),
                top: frame.top.into(),
                width: frame.width.into(),
                height: frame.height.into(),
                color: color_at(palette, clear_index),
            },
            DisposalMethod::Previous => Disposal::Restore(self.canvas.clone()),
            DisposalMethod::Any | DisposalMethod::Keep => Disposal::Keep,
        };
        draw(&mut self.canvas, self.width, frame, palette);
        self.disposal = disposal;
        Picture::new(self.width as u32, self.height as u32, self.canvas.clone())
    }
}

/// Colour of a palette index; entries that the palette lacks are black.
fn color_at(palette: &[u8], index: usize) -> [u8; 3] {
    palette.get(index * 3..index * 3 + 3).map_or([0; 3], |rgb| [rgb[0], rgb[1], rgb[2]])
}

fn dispose(canvas: &mut [u8], canvas_width: usize, disposal: &Disposal) {
    match disposal {
        Disposal::Keep => {}
        Disposal::Restore(pixels) => canvas.copy_from_slice(pixels),
        Disposal::Clear { left, top, width, height, color } => {
            for row in canvas.chunks_exact_mut(canvas_width * 3).skip(*top).take(*height) {
                for pixel in row.chunks_exact_mut(3).skip(*left).take(*width) {
                    pixel.copy_from_slice(color);
                }
            }
        }
    }
}

/// Draws the opaque pixels of `frame`; what lies outside the canvas is cut off.
fn draw(canvas: &mut [u8], canvas_width: usize, frame: &Frame<'_>, palette: &[u8]) {
    let (left, top, width) =
        (usize::from(frame.left), usize::from(frame.top), usize::from(frame.width));
    if width == 0 {
        return;
    }
    let rows = canvas.chunks_exact_mut(canvas_width * 3).skip(top);
    for (row, indexes) in rows.zip(frame.buffer.chunks_exact(width)) {
        for (pixel, &index) in row.chunks_exact_mut(3).skip(left).zip(indexes) {
            if frame.transparent != Some(index) {
                pixel.copy_from_slice(&color_at(palette, index.into()));
            }
        }
    }
}
