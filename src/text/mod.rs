//! Texts, those of others most of all: made harmless, laid out in columns, completed to the name that was meant, quoted
//! for a shell, kept as they were written.

pub mod columns;
pub mod harmless;
pub mod json_object;
pub mod nearest;
pub mod shell;
