//! The arguments of `feeds`.

use clap::Args;

use super::{ClientTls, ClientToken, ServeArgs};

/// Which feeds to list.
#[derive(Debug, Clone, Args)]
pub struct FeedsArgs {
    #[command(flatten)]
    pub serve: ServeArgs,

    /// List nothing: exit code 0 where a running daemon can serve rows, else 1, saying why not
    ///
    /// Without a URL the daemon is asked that listens where flags, variables and configuration say. No token is needed.
    #[arg(long)]
    pub ready: bool,

    #[command(flatten)]
    pub token: ClientToken,
    #[command(flatten)]
    pub tls: ClientTls,
}
