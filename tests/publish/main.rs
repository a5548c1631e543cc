//! Feeds published to NATS JetStream, as a real server has them.
#![cfg(feature = "nats")]

#[path = "../common/mod.rs"]
mod common;

mod changes;
mod checked;
mod cluster;
mod delivery;
mod edges;
mod faults;
mod histories;
#[path = "../edge/line.rs"]
#[expect(dead_code, reason = "not all of it is needed here")]
mod line;
mod long_outage;
mod outages;
mod refusals;
#[path = "../changes/scenes.rs"]
#[expect(dead_code, reason = "not all of it is needed here")]
mod scenes;
mod server;
mod setup;
mod stored;
mod streams;
mod upstream;
