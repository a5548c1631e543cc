//! Which certificates commands believe that ask a daemon over TLS.

use std::path::PathBuf;

use clap::{Args, ValueHint};

/// Who vouches for the daemon.
#[derive(Debug, Clone, Default, Args)]
pub struct ClientTls {
    /// PEM file of the authorities whose certificates are good for https and wss [default: those of the system, or of
    /// SSL_CERT_FILE]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub ca: Option<PathBuf>,
}
