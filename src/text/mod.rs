//! Texts of others: made harmless, completed to the name that was meant, kept as they were written.

pub mod harmless;
pub mod json_object;
pub mod nearest;
