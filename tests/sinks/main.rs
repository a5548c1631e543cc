//! Sinks: rows that are posted to a webhook, as their receivers see them.

#[path = "../common/mod.rs"]
mod common;

mod changes;
mod checked;
mod delivery;
mod histories;
mod outages;
mod receiver;
mod seen;
mod setup;
mod signed;
mod tls;
