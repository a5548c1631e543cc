//! Publishing in a walcast that was built without NATS: the configuration has refused to name any server.

use std::fmt;

use super::findings::ServerFindings;
use crate::access::Owners;
use crate::config::PublishRules;
use crate::sinks::{SinkReport, Surroundings};

/// Never there.
pub enum PreparedPublish {}

/// There is nothing to publish to.
#[derive(Debug)]
pub struct PublishError;

impl std::error::Error for PublishError {}

impl fmt::Display for PublishError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("publish: this walcast was built without NATS")
    }
}

impl PreparedPublish {
    /// # Errors
    /// Always.
    pub fn new(_: &PublishRules, _: Owners) -> Result<PreparedPublish, PublishError> {
        Err(PublishError)
    }
}

/// # Errors
/// Never called: there is nothing that is prepared.
pub async fn look_at_servers(
    prepared: PreparedPublish,
    _: &[&str],
) -> Result<ServerFindings, String> {
    match prepared {}
}

/// Publishes nothing.
pub struct Publishing;

impl Publishing {
    pub fn new(_: Option<PreparedPublish>, _: Surroundings) -> Publishing {
        Publishing
    }

    pub fn start(&self) {}

    pub fn reports(&self) -> Vec<SinkReport> {
        Vec::new()
    }

    pub fn measure(&self) {}

    pub async fn ended(&self) {}
}
