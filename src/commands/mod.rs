//! The commands beside `serve`: `check`, `tail` and `emit`. Each is a small program of its own on top of the same rooms
//! the daemon uses.

mod check;
mod emit;
mod interrupt;
mod tail;

pub use check::check;
pub use emit::emit;
pub use tail::tail;
