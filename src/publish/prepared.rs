//! What the configuration names for publishing, read and judged before anything is served.

use std::sync::Arc;

use super::servers::{NamedServers, PreparedServers, PublishError};
use crate::access::Owners;
use crate::config::PublishRules;

/// Where feeds are published, with what is presented there.
pub struct PreparedPublish {
    pub(super) rules: PublishRules,
    pub(super) servers: Arc<PreparedServers>,
}

impl PreparedPublish {
    /// Reads what `rules` name; credentials must be of one of `owners`. Blocks.
    ///
    /// # Errors
    /// A file can't be used; the error names the key of the configuration.
    pub fn new(rules: &PublishRules, owners: Owners) -> Result<PreparedPublish, PublishError> {
        let named = NamedServers {
            table: "publish",
            authorities_key: "tls_ca",
            servers: rules.servers.clone(),
            credentials: rules.credentials.clone(),
            authorities: rules.tls_ca.clone(),
        };
        Ok(PreparedPublish {
            rules: rules.clone(),
            servers: Arc::new(PreparedServers::new(named, owners)?),
        })
    }
}
