//! Everything that touches the SQLite file: opening it, looking into its tables, noticing commits, reading rows
//! and writing them. Nothing here knows of sockets or subscribers.

pub mod companions;
pub mod creation;
pub mod deadline;
pub mod discovery;
pub mod encode;
pub mod glimpse;
pub mod identity;
pub mod journal;
pub mod kept;
pub mod lease;
pub mod lock_holder;
pub mod lockout;
pub mod new_row;
pub mod open;
pub mod openings;
pub mod other_name;
pub mod pauses;
pub mod pool;
pub mod reader;
pub mod table;
pub mod turns;
pub mod watcher;
pub mod writer;
