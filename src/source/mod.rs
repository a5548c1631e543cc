//! Where rows come from: the thread that sees commits, and each table as it follows it.

mod commit_schedule;
mod dense_commits;
pub mod follower;
mod max_ids;
mod table_follower;
