//! The arguments of `check`.

use clap::Args;

use super::{ClientToken, ServeArgs};

/// What to look at as `serve` would.
#[derive(Debug, Clone, Args)]
pub struct CheckArgs {
    #[command(flatten)]
    pub serve: ServeArgs,
    #[command(flatten)]
    pub token: ClientToken,
}
