//! Who may read and write what: tokens, what they stand for on every path, and how long that holds.

#[path = "../common/mod.rs"]
mod common;

mod guessing;
mod issuer;
mod jwt;
mod leaks;
mod lifetime;
mod office;
mod proxy;
mod refusals;
mod rights;
mod scope;
mod several;
mod tenants;
mod told;
