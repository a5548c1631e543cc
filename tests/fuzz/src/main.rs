//! Fuzz targets: what walcast reads from strangers. `WALCAST_FUZZ` names the target; the arguments are libFuzzer's.

#![no_main]

mod address;
mod configuration;
mod request;

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;

/// What is done with an input. Panics, or takes too long, where something does not hold.
type Target = fn(&[u8]);

/// The names are those of the directories under `corpus`.
const TARGETS: [(&str, Target); 12] = [
    ("frames", walcast::fuzzing::frames),
    ("deflated", walcast::fuzzing::deflated),
    ("extensions", walcast::fuzzing::extensions),
    ("query", walcast::fuzzing::query),
    ("address", address::address),
    ("request", request::request),
    ("credentials", walcast::fuzzing::credentials),
    ("access_files", walcast::fuzzing::access_files),
    ("claims", walcast::fuzzing::claims),
    ("certificates", walcast::fuzzing::certificates),
    ("hello", walcast::fuzzing::hello),
    ("configuration", configuration::configuration),
];

fn target() -> Target {
    static CHOSEN: OnceLock<Target> = OnceLock::new();
    *CHOSEN.get_or_init(|| {
        let name = std::env::var("WALCAST_FUZZ").unwrap_or_default();
        let found = TARGETS.iter().find(|(target, _)| *target == name);
        let names = TARGETS.map(|(target, _)| target).join(", ");
        found
            .unwrap_or_else(|| panic!("WALCAST_FUZZ={name:?} is no target; there are {names}"))
            .1
    })
}

fuzz_target!(|bytes: &[u8]| target()(bytes));
