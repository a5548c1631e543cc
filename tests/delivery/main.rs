//! Every committed row reaches every subscriber that asked for it, once, in order; whoever wrote it, and whatever
//! happened to the file and the daemon meanwhile.

#[path = "../common/mod.rs"]
mod common;

mod commits;
mod crash;
mod epochs;
mod feeds;
mod files;
mod filters;
mod journal;
mod replay;
mod tables;
mod values;
mod watch;
