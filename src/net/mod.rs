//! Listeners, and how many connections may come to them.

pub mod connection_limits;
pub mod listener;
pub mod socket_activation;
