//! What the operating system is asked: users, signals, sockets, threads.

pub mod interrupt;
pub mod send_queue;
pub mod thread;
pub mod users;
