//! The compressed frames of a block's rows: a second log beside the plain one, that holds what somebody wanted.

use std::sync::OnceLock;

use super::deflate::Deflater;

/// The compressed frame of a row; `None` where compressing it does not help.
type Frame = Option<Box<[u8]>>;

/// The compressed frames of a block's rows, each made when the first client wants it, for all who do. Nothing is held for
/// a block of which nobody wanted any.
#[derive(Debug, Default)]
pub struct DeflatedRows(OnceLock<Box<[OnceLock<Frame>]>>);

impl DeflatedRows {
    /// Returns the frame of row `index` out of `rows`, whose message is this; `None` where it goes out as it is.
    pub fn frame(
        &self,
        (index, rows): (usize, usize),
        message: &[u8],
        deflater: &mut Deflater,
    ) -> Option<&[u8]> {
        let empty = || (0..rows).map(|_| OnceLock::new()).collect();
        let frames = self.0.get_or_init(empty);
        // Another thread may be making it: to wait takes no longer than to make another.
        let frame = frames[index].get_or_init(|| deflater.frame(message));
        frame.as_deref()
    }

    /// Returns the frame of row `index` where it was made.
    pub fn made(&self, index: usize) -> Option<&[u8]> {
        self.0.get()?.get(index)?.get()?.as_deref()
    }
}
