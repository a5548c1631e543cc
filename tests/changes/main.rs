//! Feeds of changes: updates and deletes of a captured table, as clients of every kind get them.

#[path = "../common/mod.rs"]
mod common;

mod edges;
mod frames;
mod histories;
mod keys;
mod property;
mod scale;
mod scenes;
mod served_as_it_is;
mod whose;
