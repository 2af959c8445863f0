//! Colour conversion: libjpeg's 16-bit fixed point (`jdcolor.c`), and Pillow's CMYK to RGB.

use super::frame::Frame;
use super::upsample;
use crate::error::{DecodeError, Result};

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum ColorSpace {
    Gray,
    YCbCr,
    Rgb,
    Cmyk,
    Ycck,
}

/// Upsamples and converts a whole frame to RGB8.
pub fn to_rgb(frame: &Frame, space: ColorSpace) -> Result<Vec<u8>> {
    let mut ratios = Vec::new();
    for component in &frame.components {
        if !frame.h_max.is_multiple_of(component.h) || !frame.v_max.is_multiple_of(component.v) {
            return Err(DecodeError::new("JPEG with a fractional sampling ratio is not supported"));
        }
        ratios.push((frame.h_max / component.h, frame.v_max / component.v));
    }
    let mut lines: Vec<Vec<u8>> = frame
        .components
        .iter()
        .zip(&ratios)
        .map(|(component, ratio)| vec![0; component.width * ratio.0])
        .collect();
    let mut sums = Vec::new();
    let mut rgb = vec![0u8; frame.width * frame.height * 3];
    for (y, out) in rgb.chunks_exact_mut(frame.width * 3).enumerate() {
        for ((component, &ratio), line) in frame.components.iter().zip(&ratios).zip(&mut lines) {
            upsample::row(component, y, ratio, line, &mut sums);
        }
        convert(&lines, space, out);
    }
    Ok(rgb)
}

fn convert(lines: &[Vec<u8>], space: ColorSpace, out: &mut [u8]) {
    let pixels = out.chunks_exact_mut(3).enumerate();
    match space {
        ColorSpace::Gray => pixels.for_each(|(x, pixel)| pixel.fill(lines[0][x])),
        ColorSpace::Rgb => pixels.for_each(|(x, pixel)| {
            pixel.copy_from_slice(&[lines[0][x], lines[1][x], lines[2][x]]);
        }),
        ColorSpace::YCbCr => {
            let (luma, blue, red) = (&lines[0], &lines[1], &lines[2]);
            for (((pixel, &y), &cb), &cr) in out.chunks_exact_mut(3).zip(luma).zip(blue).zip(red) {
                pixel.copy_from_slice(&ycc_to_rgb(y, cb, cr));
            }
        }
        // Adobe's files, and so nearly all, store inverted inks; Pillow takes all for such.
        ColorSpace::Cmyk => pixels.for_each(|(x, pixel)| {
            let inks = [lines[0][x], lines[1][x], lines[2][x]].map(|ink| 255 - ink);
            pixel.copy_from_slice(&cmyk_to_rgb(inks, 255 - lines[3][x]));
        }),
        // YCC codes the complement of the inverted inks: it decodes to inks.
        ColorSpace::Ycck => pixels.for_each(|(x, pixel)| {
            let inks = ycc_to_rgb(lines[0][x], lines[1][x], lines[2][x]);
            pixel.copy_from_slice(&cmyk_to_rgb(inks, 255 - lines[3][x]));
        }),
    }
}

const fn fix(value: f64) -> i32 {
    (value * 65536.0 + 0.5) as i32
}

#[inline]
fn ycc_to_rgb(y: u8, cb: u8, cr: u8) -> [u8; 3] {
    const HALF: i32 = 1 << 15;
    let (y, cb, cr) = (i32::from(y), i32::from(cb) - 128, i32::from(cr) - 128);
    let red = y + ((fix(1.402) * cr + HALF) >> 16);
    let green = y + ((-fix(0.34414) * cb - fix(0.71414) * cr + HALF) >> 16);
    let blue = y + ((fix(1.772) * cb + HALF) >> 16);
    [red, green, blue].map(|value| value.clamp(0, 255) as u8)
}

/// Pillow's conversion: `(255 - K) - ink * (255 - K) / 255`, rounded.
fn cmyk_to_rgb(inks: [u8; 3], black: u8) -> [u8; 3] {
    let light = 255 - i32::from(black);
    inks.map(|ink| {
        let product = i32::from(ink) * light + 128;
        (light - (((product >> 8) + product) >> 8)).clamp(0, 255) as u8
    })
}
