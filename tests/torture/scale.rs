//! How large a scenario is.

// Used by the scenarios that have two sizes.
#![allow(dead_code)]

/// Whether everything is to run at its full size.
pub fn is_full() -> bool {
    std::env::var_os("WALCAST_TORTURE").is_some_and(|size| size == "full")
}

/// `short` unless everything is to run at its full size.
pub fn sized<T>(short: T, full: T) -> T {
    if is_full() { full } else { short }
}
