//! A file system that fails. Each call that SQLite makes for the daemon is made to fail in turn, once or several times;
//! then it must live, say what is wrong, recover by itself, and have sent every row once to everybody.

mod at_start;
mod beside;
mod commits;
pub mod faulty;
mod lasting;
mod running;

// Shared with the daemon under test, whose code they are.
#[path = "../faulty/places.rs"]
pub mod places;
#[path = "../faulty/vfs.rs"]
mod vfs;
