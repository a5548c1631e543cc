//! Where the daemon listens.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use super::kinds;
use super::setting::settings;

/// A place to listen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listen {
    Tcp(SocketAddr),
    /// `unix:/path`
    Unix(PathBuf),
}

/// As it is written in the configuration.
impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

settings! {
    /// What is counted, served by itself to whoever can connect.
    #[derive(Debug, Clone, PartialEq)]
    pub struct MetricsRules {
        /// Where that is.
        "metrics.listen" listen: Vec<Listen> = Vec::new(),
            kinds::listen().unless_empty("with everything else");
    }
}
