//! The arguments of `walcast edge`: those of `serve`, and which daemon's feeds are served.

use clap::{Args, ValueHint};

use crate::config::ServeArgs;

/// How another daemon's feeds are served.
#[derive(Debug, Clone, Args)]
pub struct EdgeArgs {
    /// The daemon whose feeds are served, e.g. wss://feeds.example.com; another edge will do [default: that of the
    /// configuration]
    #[arg(long, value_name = "URL", env = "WALCAST_UPSTREAM", hide_env_values = true, value_hint = ValueHint::Url)]
    upstream: Option<String>,

    /// File with the token that it asks for, made by `walcast token add NAME --edge`; without it the variable WALCAST_TOKEN
    /// is read
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    token_file: Option<String>,

    /// PEM file of the authorities that vouch for it [default: those of the system, or of SSL_CERT_FILE]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    ca: Option<String>,

    /// File in which what came from it is kept; it can be deleted at any time [default: one in the state directory, named
    /// after the daemon]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    spool: Option<String>,

    #[command(flatten)]
    serve: ServeArgs,
}

impl EdgeArgs {
    /// The arguments as the daemon's settings have them.
    pub fn into_serve(self) -> ServeArgs {
        let mut args = self.serve;
        for (key, name, said) in [
            ("edge.upstream", "upstream", self.upstream),
            ("edge.token_file", "token-file", self.token_file),
            ("edge.ca", "ca", self.ca),
            ("edge.spool", "spool", self.spool),
        ] {
            // An empty variable counts as unset.
            if let Some(text) = said.filter(|text| !text.is_empty()) {
                args.say_by_flag(key, name, &[&text]);
            }
        }
        args
    }
}
