//! Decoding of entropy-coded scans into samples (sequential) or coefficients (progressive)
//! (ITU-T T.81, F.2 and G.2).

use super::bits::BitReader;
use super::damaged;
use super::frame::{Component, Frame};
use super::huffman::HuffmanTable;
use super::idct::{self, ZIGZAG};
use super::markers::{Markers, ScanHeader};
use crate::error::Result;

/// A frame whose components fill up scan by scan.
pub struct Planes {
    frame: Frame,
}

/// One component of a scan.
struct Track<'a> {
    index: usize,
    dc_table: Option<&'a HuffmanTable>,
    ac_table: Option<&'a HuffmanTable>,
    dc_prediction: i32,
}

/// What a progressive scan adds to coefficients.
#[derive(Clone, Copy)]
struct Pass {
    start: usize,
    end: usize,
    refines: bool,
    shift: u32,
}

impl Planes {
    pub fn new(frame: Frame) -> Self {
        Self { frame }
    }

    /// Decodes the scan whose data begin at the markers' position, and moves that behind them.
    pub fn decode_scan(&mut self, markers: &mut Markers, header: &ScanHeader) -> Result<()> {
        let pass = self.check_scan(header)?;
        self.prepare_components(markers, header)?;
        let mut bits = BitReader::new(markers.bytes, markers.position);
        let mut tracks = self.tracks(markers, header, pass)?;
        let mut end_of_band_run = 0;
        let (columns, rows) = match tracks.as_slice() {
            [track] => self.frame.components[track.index].blocks,
            _ => self.frame.mcus,
        };
        let mut until_restart = markers.restart_interval;
        for row in 0..rows {
            for column in 0..columns {
                if markers.restart_interval > 0 {
                    if until_restart == 0 {
                        bits.restart();
                        tracks.iter_mut().for_each(|track| track.dc_prediction = 0);
                        end_of_band_run = 0;
                        until_restart = markers.restart_interval;
                    }
                    until_restart -= 1;
                }
                let interleaved = tracks.len() > 1;
                for track in &mut tracks {
                    let component = &mut self.frame.components[track.index];
                    let (h, v) = if interleaved { (component.h, component.v) } else { (1, 1) };
                    for block in 0..h * v {
                        let at = (column * h + block % h, row * v + block / h);
                        if self.frame.progressive {
                            let index = at.1 * component.padded_blocks.0 + at.0;
                            let coefficients = &mut component.coefficients[index];
                            track.refine(&mut bits, coefficients, pass, &mut end_of_band_run);
                        } else {
                            let coefficients = track.decode_block(&mut bits);
                            write_block(component, at, &coefficients);
                        }
                    }
                }
            }
            if bits.is_exhausted() {
                return Err(damaged("it ends early"));
            }
        }
        markers.position = bits.position();
        Ok(())
    }

    /// Ends decoding: all components have samples now.
    pub fn finish(mut self) -> Result<Frame> {
        for component in &mut self.frame.components {
            let Some(quant) = component.quant else {
                return Err(damaged("a component has no scan"));
            };
            if self.frame.progressive {
                let coefficients = std::mem::take(&mut component.coefficients);
                let (columns, _) = component.padded_blocks;
                let stride = component.stride();
                component.samples = vec![0; stride * component.padded_blocks.1 * 8];
                for (index, block) in coefficients.iter().enumerate() {
                    let from = index / columns * 8 * stride + index % columns * 8;
                    idct::transform(block, &quant, &mut component.samples[from..], stride);
                }
            }
        }
        Ok(self.frame)
    }

    fn check_scan(&self, header: &ScanHeader) -> Result<Pass> {
        let (start, end) = (header.spectral_start, header.spectral_end);
        let pass = Pass { start, end, refines: header.approx_high > 0, shift: header.approx_low };
        if self.frame.progressive {
            let is_dc = start == 0 && end == 0;
            let is_ac = start > 0 && end >= start && end < 64 && header.components.len() == 1;
            if !(is_dc || is_ac) || header.approx_low > 13 {
                return Err(damaged("bad scan header"));
            }
        }
        Ok(pass)
    }

    /// Latches quantisation tables and allocates at a component's first scan.
    fn prepare_components(&mut self, markers: &Markers, header: &ScanHeader) -> Result<()> {
        for (id, _, _) in &header.components {
            let progressive = self.frame.progressive;
            let component = self
                .frame
                .components
                .iter_mut()
                .find(|component| component.id == *id)
                .ok_or_else(|| damaged("scan of an unknown component"))?;
            if component.quant.is_some() {
                continue;
            }
            let table = markers.quant[component.quant_index];
            component.quant = Some(table.ok_or_else(|| damaged("no quantisation table"))?);
            let blocks = component.padded_blocks.0 * component.padded_blocks.1;
            if progressive {
                component.coefficients = vec![[0; 64]; blocks];
            } else {
                component.samples = vec![0; blocks * 64];
            }
        }
        Ok(())
    }

    fn tracks<'a>(
        &self,
        markers: &'a Markers,
        header: &ScanHeader,
        pass: Pass,
    ) -> Result<Vec<Track<'a>>> {
        let mut tracks: Vec<Track> = Vec::with_capacity(header.components.len());
        for &(id, dc, ac) in &header.components {
            let index = self.frame.components.iter().position(|component| component.id == id);
            let index = index.ok_or_else(|| damaged("scan of an unknown component"))?;
            if tracks.iter().any(|track| track.index == index) || dc > 3 || ac > 3 {
                return Err(damaged("bad scan header"));
            }
            let track = Track {
                index,
                dc_table: markers.dc_tables[dc].as_ref(),
                ac_table: markers.ac_tables[ac].as_ref(),
                dc_prediction: 0,
            };
            let sequential = !self.frame.progressive;
            let needs_dc = sequential || (pass.start == 0 && !pass.refines);
            let needs_ac = sequential || pass.start > 0;
            if needs_dc && track.dc_table.is_none() || needs_ac && track.ac_table.is_none() {
                return Err(damaged("no Huffman table"));
            }
            tracks.push(track);
        }
        Ok(tracks)
    }
}

/// Dequantises and transforms one block of a sequential component into its samples.
fn write_block(component: &mut Component, at: (usize, usize), coefficients: &[i16; 64]) {
    let stride = component.stride();
    let from = at.1 * 8 * stride + at.0 * 8;
    if let Some(quant) = &component.quant {
        idct::transform(coefficients, quant, &mut component.samples[from..], stride);
    }
}

impl Track<'_> {
    fn next_dc(&mut self, bits: &mut BitReader) -> i32 {
        let size = self.dc_table.map_or(0, |table| table.decode(bits));
        self.dc_prediction = self.dc_prediction.wrapping_add(bits.take_signed(size.into()));
        self.dc_prediction
    }

    /// A whole block of a sequential scan, in natural order.
    fn decode_block(&mut self, bits: &mut BitReader) -> [i16; 64] {
        let mut block = [0i16; 64];
        block[0] = self.next_dc(bits) as i16;
        let Some(table) = self.ac_table else { return block };
        let mut k = 1;
        while k < 64 {
            let symbol = table.decode(bits);
            let (run, size) = (usize::from(symbol >> 4), u32::from(symbol & 15));
            if size == 0 {
                if run < 15 {
                    break;
                }
                k += 16;
                continue;
            }
            k += run;
            let value = bits.take_signed(size) as i16;
            if k < 64 {
                block[ZIGZAG[k]] = value;
            }
            k += 1;
        }
        block
    }

    /// What one pass of a progressive scan adds to a block.
    fn refine(
        &mut self,
        bits: &mut BitReader,
        block: &mut [i16; 64],
        pass: Pass,
        end_of_band_run: &mut u32,
    ) {
        match (pass.start, pass.refines) {
            (0, false) => block[0] = (self.next_dc(bits) << pass.shift) as i16,
            (0, true) => block[0] |= (bits.take(1) << pass.shift) as i16,
            (_, false) => self.ac_first(bits, block, pass, end_of_band_run),
            (_, true) => self.ac_refine(bits, block, pass, end_of_band_run),
        }
    }

    fn ac_first(
        &self,
        bits: &mut BitReader,
        block: &mut [i16; 64],
        pass: Pass,
        run_left: &mut u32,
    ) {
        if *run_left > 0 {
            *run_left -= 1;
            return;
        }
        let Some(table) = self.ac_table else { return };
        let mut k = pass.start;
        while k <= pass.end {
            let symbol = table.decode(bits);
            let (run, size) = (u32::from(symbol >> 4), u32::from(symbol & 15));
            if size == 0 {
                if run < 15 {
                    *run_left = (1 << run) - 1 + take_run(bits, run);
                    break;
                }
                k += 16;
                continue;
            }
            k += run as usize;
            let value = bits.take_signed(size) << pass.shift;
            if k < 64 {
                block[ZIGZAG[k]] = value as i16;
            }
            k += 1;
        }
    }

    fn ac_refine(
        &self,
        bits: &mut BitReader,
        block: &mut [i16; 64],
        pass: Pass,
        run_left: &mut u32,
    ) {
        let Some(table) = self.ac_table else { return };
        let step = 1i16 << pass.shift;
        let mut k = pass.start;
        if *run_left == 0 {
            while k <= pass.end {
                let symbol = table.decode(bits);
                let (mut run, size) = (i32::from(symbol >> 4), symbol & 15);
                let mut value = 0;
                if size != 0 {
                    value = if bits.take(1) == 1 { step } else { -step };
                } else if run < 15 {
                    *run_left = (1 << run) + take_run(bits, run as u32);
                    break;
                }
                // Corrects known coefficients while it passes over `run` unknown ones.
                while k <= pass.end {
                    let coefficient = &mut block[ZIGZAG[k]];
                    if *coefficient != 0 {
                        correct(bits, coefficient, step);
                    } else {
                        if run == 0 {
                            *coefficient = value;
                            k += 1;
                            break;
                        }
                        run -= 1;
                    }
                    k += 1;
                }
            }
        }
        if *run_left > 0 {
            for &position in &ZIGZAG[k..=pass.end] {
                if block[position] != 0 {
                    correct(bits, &mut block[position], step);
                }
            }
            *run_left -= 1;
        }
    }
}

fn take_run(bits: &mut BitReader, size: u32) -> u32 {
    if size == 0 { 0 } else { bits.take(size) }
}

/// One more bit of a coefficient that is known already.
fn correct(bits: &mut BitReader, coefficient: &mut i16, step: i16) {
    if bits.take(1) == 1 && *coefficient & step == 0 {
        let signed = if *coefficient > 0 { step } else { -step };
        *coefficient = coefficient.wrapping_add(signed);
    }
}
