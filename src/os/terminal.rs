//! What the terminal at the other end of a standard stream can show.

use std::io;

use anstream::stream::RawStream;
use anstream::{AutoStream, ColorChoice};

/// Where the terminal does not tell its width.
const USUAL_WIDTH: usize = 80;

/// Returns whether colours are to be written to the stream: to terminals that have them, unless the environment says
/// otherwise (`NO_COLOR`, `CLICOLOR`, `CLICOLOR_FORCE`, `TERM=dumb`, `CI`).
pub fn shows_colour(stream: &impl RawStream) -> bool {
    AutoStream::choice(stream) != ColorChoice::Never
}

/// Returns the width of the terminal behind stdout in cells, as it is now: terminals are resized.
pub fn width() -> usize {
    let size = rustix::termios::tcgetwinsize(io::stdout()).ok();
    size.map(|size| size.ws_col.into())
        .filter(|&columns: &usize| columns > 0)
        .unwrap_or(USUAL_WIDTH)
}
