//! The commands beside `serve`. Each is a small program of its own on top of the same rooms
//! the daemon uses.

mod bad_usage;
mod capture;
mod check;
mod emit;
mod feeds;
mod init;
pub mod named_file;
mod running_daemon;
mod shapes;
mod tail;
mod token;
mod types;

pub use bad_usage::BadUsage;
pub use capture::capture;
pub use check::{check, look_into, look_into_within};
pub use emit::emit;
pub use feeds::{feeds, ready};
pub use init::init;
pub use tail::tail;
pub use token::token;
pub use types::types;
