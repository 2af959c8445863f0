//! Why bytes are not a picture. Messages are short and safe to show to a client.

use std::fmt;

/// A sentence fragment that follows "Cannot decode image: ".
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DecodeError(String);

pub type Result<T> = std::result::Result<T, DecodeError>;

/// Longest message kept: a decoder may quote hostile input.
const MESSAGE_CHARS_MAX: usize = 160;

impl DecodeError {
    pub fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }

    /// Wraps the error of a format's decoder: one line, printable, bounded.
    pub fn from_decoder(format: &str, error: impl fmt::Display) -> Self {
        let detail: String = error
            .to_string()
            .chars()
            .map(|c| if c.is_ascii_graphic() || c == ' ' { c } else { '?' })
            .take(MESSAGE_CHARS_MAX)
            .collect();
        Self(format!("damaged {format} data ({})", detail.trim_end_matches('.')))
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for DecodeError {}
