//! What has broken walcast once, and its kin: odd files, odd rows, hostile clients. Each scenario drives the real daemon
//! and compares every subscriber's ledger with the table.
//!
//! A short form of each runs always. `WALCAST_TORTURE=full` runs them at the size that showed the fault.

#[path = "../common/mod.rs"]
mod common;

mod apart;
mod companions;
mod creation;
mod crowds;
mod documented;
mod faults;
mod filters;
mod histories;
mod ids;
mod ingest;
mod large_rows;
mod neighbours;
mod other_names;
mod outages;
mod reads;
mod rollback_journals;
mod scale;
mod schemas;
mod soak;
mod standstill;
mod subscriptions;
mod talkers;
mod terminal;
