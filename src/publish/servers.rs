//! The NATS servers that a table of the configuration names: read and judged before anything is served.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;

use super::credentials::Credentials;
use crate::access::{AccessFileError, Owners, SecretFile};
use crate::address::NatsServer;
use crate::net::tls_client::{self, TlsClientError};

/// Servers as a table of the configuration names them.
#[derive(Debug, Clone)]
pub(crate) struct NamedServers {
    /// The table, and what it calls the key of the authorities.
    pub(crate) table: &'static str,
    pub(crate) authorities_key: &'static str,
    pub(crate) servers: Vec<NatsServer>,
    pub(crate) credentials: Option<PathBuf>,
    pub(crate) authorities: Option<PathBuf>,
}

/// Servers, with what is presented there.
pub(crate) struct PreparedServers {
    pub(super) named: NamedServers,
    credentials: Option<CredentialsFile>,
}

struct CredentialsFile {
    file: SecretFile<Credentials>,
    in_force: Mutex<Arc<Credentials>>,
}

/// What is named and can't be used.
#[derive(Debug)]
pub enum PublishError {
    Credentials(AccessFileError),
    /// What names the file, and what is wrong with it.
    Authorities(String, TlsClientError),
}

impl std::error::Error for PublishError {}

impl fmt::Display for PublishError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PublishError::Credentials(error) => error.fmt(f),
            PublishError::Authorities(key, error) => write!(f, "{key}: {error}"),
        }
    }
}

impl PreparedServers {
    /// Reads what is named; credentials must be of one of `owners`. Blocks.
    ///
    /// # Errors
    /// A file can't be used; the error names the key of the configuration.
    pub(crate) fn new(
        named: NamedServers,
        owners: Owners,
    ) -> Result<PreparedServers, PublishError> {
        let key = format!("{}.credentials", named.table);
        let open = |path| {
            let kept = (Credentials::parse as fn(&str) -> _, owners);
            SecretFile::open(&key, path, "credentials for NATS", kept)
        };
        let credentials = named.credentials.as_deref().map(open).transpose();
        let credentials = credentials.map_err(PublishError::Credentials)?;
        if let Some(path) = &named.authorities {
            let key = format!("{}.{}", named.table, named.authorities_key);
            tls_client::client_config(Some(path))
                .map_err(|error| PublishError::Authorities(key, error))?;
        }
        Ok(PreparedServers {
            named,
            credentials: credentials.map(|(file, read)| CredentialsFile {
                file,
                in_force: Mutex::new(Arc::new(read)),
            }),
        })
    }

    /// For people: where they are.
    pub(crate) fn shown(&self) -> String {
        let servers = self.named.servers.iter().map(ToString::to_string);
        servers.collect::<Vec<_>>().join(", ")
    }

    /// What is presented now: the file is read again where it has changed.
    pub(super) async fn credentials(self: &Arc<Self>) -> Option<Arc<Credentials>> {
        self.credentials.as_ref()?;
        let this = Arc::clone(self);
        let read = tokio::task::spawn_blocking(move || {
            let held = this.credentials.as_ref()?;
            let changed = held.file.changed();
            let mut in_force = held.in_force.lock();
            if let Some(changed) = changed {
                tracing::info!(
                    "{}: {changed:?} read again from the file of credentials",
                    this.named.table
                );
                *in_force = Arc::new(changed);
            }
            Some(Arc::clone(&in_force))
        });
        // A panic there has been logged.
        read.await.unwrap_or_default()
    }
}
