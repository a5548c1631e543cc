//! `check`, `emit` and `tail` as a user runs them: the real program, its output and its exit code.

#[path = "../common/mod.rs"]
mod common;

mod capture;
mod capture_upkeep;
mod check;
mod colour;
mod emit;
mod named_file;
mod open;
mod program;
mod tail_begins;
mod tail_daemon;
mod tail_file;
mod terminal;
mod tls;
