//! Size limits, checked from the header before pixels are allocated.

use crate::error::{DecodeError, Result};

#[derive(Debug, Clone, Copy)]
pub struct Budget {
    /// Largest width x height.
    pub pixels_max: u32,
    /// Largest width or height. A one-pixel-wide strip within the pixel budget would otherwise
    /// grow without bound when it is resized to a tile's width.
    pub side_max: u32,
}

impl Budget {
    pub fn check(&self, width: u32, height: u32) -> Result<()> {
        if width == 0 || height == 0 {
            return Err(DecodeError::new(format!("{width}x{height} has no pixels")));
        }
        if u64::from(width) * u64::from(height) > u64::from(self.pixels_max) {
            let limit = self.pixels_max;
            return Err(DecodeError::new(format!("{width}x{height} exceeds {limit} pixels")));
        }
        if width > self.side_max || height > self.side_max {
            let limit = self.side_max;
            return Err(DecodeError::new(format!(
                "{width}x{height} exceeds {limit} pixels on a side"
            )));
        }
        Ok(())
    }

    /// Bytes a decoder may spend on one picture: generous multiples of an RGBA canvas.
    pub fn decoder_bytes_max(&self) -> usize {
        (self.pixels_max as usize).saturating_mul(8).saturating_add(64 << 20)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn check_names_value_and_bound() {
        let budget = Budget { pixels_max: 100, side_max: 50 };
        assert!(budget.check(10, 10).is_ok());
        assert_eq!(budget.check(10, 11).unwrap_err().to_string(), "10x11 exceeds 100 pixels");
        assert_eq!(
            budget.check(1, 51).unwrap_err().to_string(),
            "1x51 exceeds 50 pixels on a side"
        );
        assert_eq!(budget.check(0, 5).unwrap_err().to_string(), "0x5 has no pixels");
        assert!(budget.check(u32::MAX, u32::MAX).is_err());
    }
}
