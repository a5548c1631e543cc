//! The words that everything else is said in: positions, filters, who a read is for, wake-ups. Knows neither SQLite's file nor
//! sockets.

pub mod filter;
pub mod position;
pub mod read_owner;
pub mod wakeup;
