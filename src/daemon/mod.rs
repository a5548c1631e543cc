//! The daemon as a whole: start, reload, drain, stop, and what it says of itself meanwhile.

mod announce;
mod browser;
mod certificates;
mod lifecycle;
mod listen;
mod run;
pub mod signals;
mod state_dir;
pub mod status_text;
pub mod systemd;

pub use listen::{Listeners, bind};
pub use run::run;
