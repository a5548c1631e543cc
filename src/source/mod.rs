//! Where rows come from: the thread that sees commits, and each table as it follows it.

pub mod capture_upkeep;
mod file;
pub mod follower;
mod max_ids;
mod schedule;
mod table_follower;
