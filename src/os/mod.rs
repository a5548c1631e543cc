//! What the operating system is asked: files, users, signals, sockets, terminals, threads.

pub mod file_id;
pub mod interrupt;
pub mod send_queue;
pub mod terminal;
pub mod thread;
pub mod users;
