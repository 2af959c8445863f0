//! Attention of query lines over keys and values in blocks of tokens. A line is one head of one
//! row.
//!
//! Keys go by in chunks whose borders depend only on the token's absolute index and the block
//! size, with a running maximum and sum per line (online softmax). A score is one sum over the
//! head, a probability's share of the total goes to one of four sums by its token's index, and
//! values are added in token order. So a line's result does not depend on the lines beside it,
//! and `lines` (a few lines, blocks read in place) and `tile` (many, over unpacked chunks) give
//! the same bits.

mod lines;
pub mod paged;
mod rounded;
pub mod segment;
mod tile;

use std::ops::Range;

/// Most tokens of one chunk.
const CHUNK: usize = 128;

/// One query head of one row.
#[derive(Clone, Copy)]
struct Line {
    query: *const f32,
    out: *mut f32,
    /// Tokens that it attends to.
    length: usize,
}

struct Shape {
    head_width: usize,
    block_tokens: usize,
    scale: f32,
}

impl Shape {
    /// The chunk from token `start`, up to `end` at most.
    fn chunk(&self, start: usize, end: usize) -> Range<usize> {
        let whole = if self.block_tokens <= CHUNK {
            CHUNK / self.block_tokens * self.block_tokens
        } else {
            CHUNK.min(self.block_tokens - start % self.block_tokens)
        };
        start..(start + whole).min(end)
    }

    /// Calls `f(block index, tokens)` for the part of each block inside `tokens`, ascending.
    fn for_blocks(&self, tokens: &Range<usize>, mut f: impl FnMut(usize, Range<usize>)) {
        let mut at = tokens.start;
        while at < tokens.end {
            let index = at / self.block_tokens;
            let end = ((index + 1) * self.block_tokens).min(tokens.end);
            f(index, at..end);
            at = end;
        }
    }
}

/// How many of a chunk's tokens a line of this length attends to.
fn count_in(chunk: &Range<usize>, length: usize) -> usize {
    length.min(chunk.end).saturating_sub(chunk.start)
}
