//! Edges: rows whole, as they leave an origin, and daemons that serve them on.

#[path = "../common/mod.rs"]
mod common;

mod access;
mod cursors;
mod drain;
mod faults;
mod line;
mod multi;
mod older;
mod outages;
mod pair;
mod serving;
mod whole_rows;
