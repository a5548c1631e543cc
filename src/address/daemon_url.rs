//! The address of a running daemon, as people type it.

use std::fmt;
use std::str::FromStr;

use http::Uri;

use super::{Host, HostName};

/// The port of `http` and `ws` where none is given.
const PLAIN_PORT: u16 = 80;
/// That of `https` and `wss`.
const TLS_PORT: u16 = 443;

/// Where a running daemon is asked, and for what: `http://HOST:PORT/PATH?QUERY`, or the same with `ws`. WebSockets begin
/// as HTTP, so both schemes mean the same place, and so do `https` and `wss`: a proxy before it that speaks TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DaemonUrl {
    tls: bool,
    host: Host,
    path: String,
    query: String,
}

/// Why a text is not the address of a daemon, in words that say what to give instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DaemonUrlError {
    /// No scheme, or another one.
    Scheme,
    /// User name and password, which would be shown wherever the address is.
    Credentials,
    /// Neither a name nor an address, or the port is no number.
    Host,
    /// What the parser of URLs says.
    Malformed(String),
}

impl fmt::Display for DaemonUrlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DaemonUrlError::Scheme => f.write_str(
                "give a URL of http, https, ws or wss, e.g. http://127.0.0.1:8010 or ws://127.0.0.1:8010/ws/remediation",
            ),
            DaemonUrlError::Credentials => f.write_str(
                "no user name or password belongs into the address; give a token with --token-file or WALCAST_TOKEN",
            ),
            DaemonUrlError::Host => f.write_str(
                "the host must be a name or an address (of IPv6 in brackets), and the port a number from 1 to 65535",
            ),
            DaemonUrlError::Malformed(why) => write!(
                f,
                "not a URL ({why}); give one such as http://127.0.0.1:8010, other characters percent-encoded"
            ),
        }
    }
}

impl std::error::Error for DaemonUrlError {}

/// The address without its query.
impl fmt::Display for DaemonUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "wss" } else { "ws" };
        write!(f, "{scheme}://{}{}", self.authority(), self.path)
    }
}

impl FromStr for DaemonUrl {
    type Err = DaemonUrlError;

    /// Reads the address; what follows a `#` is left out.
    fn from_str(text: &str) -> Result<DaemonUrl, DaemonUrlError> {
        let (scheme, place) = text.split_once("://").ok_or(DaemonUrlError::Scheme)?;
        let tls = match scheme {
            "http" | "ws" => false,
            "https" | "wss" => true,
            _ => return Err(DaemonUrlError::Scheme),
        };
        if place.starts_with(['/', ':']) || place.is_empty() {
            return Err(DaemonUrlError::Scheme);
        }
        let malformed = |error: http::uri::InvalidUri| DaemonUrlError::Malformed(error.to_string());
        let uri: Uri = text.parse().map_err(malformed)?;
        let authority = uri.authority().ok_or(DaemonUrlError::Host)?.as_str();
        if authority.contains('@') {
            return Err(DaemonUrlError::Credentials);
        }
        // `Authority` takes any port, and finds the host `[::1]` in `[::1].example.com`.
        let host = Host::parse(authority).filter(|host| host.port != Some(0));
        let path = uri.path();
        Ok(DaemonUrl {
            tls,
            host: host.ok_or(DaemonUrlError::Host)?,
            path: if path == "/" { "" } else { path }.to_owned(),
            query: uri.query().unwrap_or_default().to_owned(),
        })
    }
}

impl DaemonUrl {
    /// Returns whether it is asked over TLS.
    pub fn is_tls(&self) -> bool {
        self.tls
    }

    /// Returns the host, without its port.
    pub fn host(&self) -> &HostName {
        &self.host.name
    }

    /// Returns `HOST` or `HOST:PORT`, as the `Host` header has it.
    pub fn authority(&self) -> String {
        match self.host.port {
            None => self.host.name.to_string(),
            Some(_) => self.address(),
        }
    }

    /// Returns the path, which begins with a slash; empty where there is none, or nothing but that slash.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Returns what follows the question mark, encoded as it was given; empty where nothing does.
    pub fn query(&self) -> &str {
        &self.query
    }

    /// Returns `HOST:PORT` to connect to.
    pub fn address(&self) -> String {
        let usual = if self.tls { TLS_PORT } else { PLAIN_PORT };
        let port = self.host.port.unwrap_or(usual);
        format!("{}:{port}", self.host.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<DaemonUrl, DaemonUrlError> {
        text.parse()
    }

    #[test]
    fn both_schemes_mean_the_same_place() {
        let url = parsed("ws://h:8010/ws/x?tenant=a%20b&n=ä#token=secret").unwrap();
        assert_eq!(url, parsed("http://h:8010/ws/x?tenant=a%20b&n=ä").unwrap());
        assert_eq!((&*url.authority(), url.path()), ("h:8010", "/ws/x"));
        assert_eq!(url.query(), "tenant=a%20b&n=ä");
        for (text, address, path) in [
            ("http://h", "h:80", ""),
            ("http://h:", "h:80", ""),
            ("http://h/", "h:80", ""),
            ("http://h?last=5", "h:80", ""),
            ("ws://[::1]/x", "[::1]:80", "/x"),
            ("ws://[::1]:7//x", "[::1]:7", "//x"),
            ("https://h", "h:443", ""),
            ("wss://h:8443/ws/x", "h:8443", "/ws/x"),
        ] {
            let url = parsed(text).unwrap();
            assert_eq!((&*url.address(), url.path()), (address, path), "{text}");
            assert_eq!(
                url.is_tls(),
                ["https:", "wss:"]
                    .iter()
                    .any(|scheme| text.starts_with(scheme)),
                "{text}"
            );
        }
    }

    #[test]
    fn what_is_no_address_of_a_daemon_says_why() {
        for (text, why) in [
            ("https:///ws/x", DaemonUrlError::Scheme),
            ("ftp://h", DaemonUrlError::Scheme),
            ("h:8010", DaemonUrlError::Scheme),
            ("http://", DaemonUrlError::Scheme),
            ("http:///ws/x", DaemonUrlError::Scheme),
            ("http://me:secret@h", DaemonUrlError::Credentials),
            ("http://h:0", DaemonUrlError::Host),
            ("http://h:99999/x", DaemonUrlError::Host),
            ("http://h:x", DaemonUrlError::Host),
            ("http://[::1].h", DaemonUrlError::Host),
        ] {
            assert_eq!(parsed(text), Err(why), "{text}");
        }
        for text in ["http://h/a b", "http://[::1", "http://h/?a=<", "http://:80"] {
            assert!(parsed(text).is_err(), "{text}");
        }
    }
}
