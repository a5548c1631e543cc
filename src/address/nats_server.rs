//! Where a NATS server is.

use std::fmt;

use super::Host;

/// The port of NATS where none is named.
const PORT: u16 = 4222;
const EXAMPLE: &str = "write nats://HOST:4222, or tls://HOST:4222 where TLS must be spoken";

/// The address of a NATS server. It holds no credentials: those have a file of their own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NatsServer {
    tls: bool,
    /// Host and port, as they are written.
    authority: String,
}

impl NatsServer {
    /// Reads `nats://HOST[:PORT]`, or the same with `tls`.
    ///
    /// # Errors
    /// It is something else; the error says what, and what to write.
    pub fn parse(text: &str) -> Result<NatsServer, String> {
        let tls = match text.split_once("://") {
            Some(("nats", _)) => false,
            Some(("tls", _)) => true,
            _ => return Err(format!("is not the address of a NATS server; {EXAMPLE}")),
        };
        let authority = text.split_once("://").map_or("", |(_, rest)| rest);
        let authority = authority.strip_suffix('/').unwrap_or(authority);
        if authority.contains('@') {
            return Err(
                "holds a user name or token; leave it out, and put it into the file of `credentials`"
                    .to_owned(),
            );
        }
        let host = Host::parse(authority)
            .ok_or_else(|| format!("names no host that can be connected to; {EXAMPLE}"))?;
        let authority = match host.port {
            Some(_) => authority.to_owned(),
            None => format!("{authority}:{PORT}"),
        };
        Ok(NatsServer { tls, authority })
    }

    /// Host and port.
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// Returns whether nothing may be said there without TLS. Elsewhere it is spoken where the server asks for it.
    pub fn demands_tls(&self) -> bool {
        self.tls
    }
}

impl fmt::Display for NatsServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "tls" } else { "nats" };
        write!(f, "{scheme}://{}", self.authority)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_shown_with_their_port() {
        for (text, shown, tls) in [
            ("nats://a", "nats://a:4222", false),
            (
                "nats://a.example.com:4333/",
                "nats://a.example.com:4333",
                false,
            ),
            ("tls://10.0.0.1:4222", "tls://10.0.0.1:4222", true),
            ("nats://[::1]", "nats://[::1]:4222", false),
        ] {
            let server = NatsServer::parse(text).unwrap();
            assert_eq!(
                (server.to_string().as_str(), server.demands_tls()),
                (shown, tls)
            );
        }
    }

    #[test]
    fn what_is_no_address_is_refused_with_the_remedy() {
        for (text, why) in [
            ("", "is not the address"),
            ("a:4222", "is not the address"),
            ("http://a:4222", "is not the address"),
            ("nats://", "names no host"),
            ("nats://a b", "names no host"),
            ("nats://a:99999", "names no host"),
            ("nats://me:pass@a", "holds a user name"),
        ] {
            let error = NatsServer::parse(text).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
