//! Everything that touches the SQLite file: opening it, looking into its tables, noticing commits, reading rows
//! and writing them. Nothing here knows of sockets or subscribers.

pub mod capture;
pub mod changes;
pub mod checkpoint_pauses;
pub mod companions;
pub mod deadline;
pub mod discovery;
pub mod error;
pub mod file;
pub mod fingerprint;
pub mod highest_id;
pub mod identity;
pub mod identity_store;
pub mod ingest_rows;
pub mod lease;
pub mod lock_holder;
pub mod mounts_and_links;
pub mod open;
pub mod open_connections;
pub mod reader;
pub mod rollback_journal;
pub mod row_json;
pub mod spool;
pub mod state_file;
pub mod stock_table;
pub mod table;
pub mod uri;
pub mod wal_memory;
pub mod wal_permissions;
pub mod watcher;
pub mod whole_row;
pub mod writer;
