//! Who may read and write what: tokens, what they stand for on every path, and how long that holds.

#[path = "../common/mod.rs"]
mod common;

mod issuer;
mod jwt;
mod lifetime;
mod office;
mod proxy;
mod refusals;
mod scope;
mod tenants;
mod told;
