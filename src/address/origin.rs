//! Where a page comes from, as its browser says.

use std::fmt;

use super::{Host, HostName};

/// A scheme, a host and a port: what the browser's same-origin rule compares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    scheme: String,
    host: HostName,
    /// `None`: the one that the scheme implies.
    port: Option<u16>,
}

impl Origin {
    /// Reads `SCHEME://HOST` or `SCHEME://HOST:PORT` with nothing after it; `None` for anything else, `null` included.
    pub fn parse(text: &str) -> Option<Origin> {
        let (scheme, authority) = text.split_once("://")?;
        let fits = |c: char| c.is_ascii_alphanumeric() || "+-.".contains(c);
        if !scheme.starts_with(|c: char| c.is_ascii_alphabetic()) || !scheme.chars().all(fits) {
            return None;
        }
        // A colon without a port is something no browser sends.
        let host = Host::parse(authority).filter(|_| !authority.ends_with(':'))?;
        let scheme = scheme.to_ascii_lowercase();
        let port = explicit(&scheme, host.port);
        Some(Origin {
            scheme,
            host: host.name,
            port,
        })
    }

    /// The host a page came from, without the port.
    pub fn host(&self) -> &HostName {
        &self.host
    }

    /// Returns whether a page from here and what answers to `host` are of one origin. TLS may end before the daemon, so
    /// both of the web's schemes will do.
    pub fn is_at(&self, host: &Host) -> bool {
        self.is_web() && self.host == host.name && self.port == explicit(&self.scheme, host.port)
    }

    /// Returns whether a page was loaded from the machine that its browser runs on.
    pub fn is_loopback(&self) -> bool {
        self.is_web() && self.host.is_loopback()
    }

    fn is_web(&self) -> bool {
        matches!(&*self.scheme, "http" | "https")
    }
}

/// The port, where the scheme does not imply it.
fn explicit(scheme: &str, port: Option<u16>) -> Option<u16> {
    let implied = match scheme {
        "http" => Some(80),
        "https" => Some(443),
        _ => None,
    };
    port.filter(|_| port != implied)
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme, self.host)?;
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

/// What the configuration allows: one origin, or all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AllowedOrigin {
    Any,
    Only(Origin),
}

impl AllowedOrigin {
    /// Reads an origin, or `*` for all of them; `None` where it is neither.
    pub fn parse(text: &str) -> Option<AllowedOrigin> {
        match text {
            "*" => Some(AllowedOrigin::Any),
            _ => Origin::parse(text).map(AllowedOrigin::Only),
        }
    }
}

impl fmt::Display for AllowedOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AllowedOrigin::Any => f.write_str("*"),
            AllowedOrigin::Only(origin) => origin.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn same(origin: &str, host: &str) -> bool {
        Origin::parse(origin).is_some_and(|origin| origin.is_at(&Host::parse(host).unwrap()))
    }

    #[test]
    fn origins_are_compared_whole() {
        for (origin, host) in [
            ("https://console.example.com", "console.example.com"),
            ("https://console.example.com", "console.example.com:443"),
            ("http://CONSOLE.example.com:80", "console.example.com"),
            ("http://[::1]:8010", "[0:0::1]:8010"),
        ] {
            assert!(same(origin, host), "{origin} at {host}");
        }
        for (origin, host) in [
            ("http://console.example.com:8080", "console.example.com"),
            ("https://console.example.com", "console.example.com:80"),
            (
                "https://console.example.com.evil.example",
                "console.example.com",
            ),
            ("ftp://console.example.com", "console.example.com"),
        ] {
            assert!(!same(origin, host), "{origin} at {host}");
        }
    }

    #[test]
    fn what_is_no_origin_is_none() {
        for text in [
            "null",
            "",
            "http://",
            "file://",
            "http:localhost",
            "//localhost",
            "http://localhost/",
            "http://a b",
            "http://localhost:x@evil.com",
            "http://127.0.0.1:80@evil.com",
            "http://[::1].evil.com",
            "http://a:",
            "http://a?b",
            "http://a#b",
            "http://a, http://b",
            "1http://a",
            "ht tp://a",
            "http://a\\b",
        ] {
            assert_eq!(Origin::parse(text), None, "{text}");
        }
    }

    #[test]
    fn they_are_written_as_browsers_send_them() {
        for (text, written) in [
            ("HTTPS://A.example:443", "https://a.example"),
            ("http://[::1]:5173", "http://[::1]:5173"),
            ("tauri://localhost", "tauri://localhost"),
        ] {
            assert_eq!(Origin::parse(text).unwrap().to_string(), written);
        }
        assert_eq!(AllowedOrigin::parse("*").unwrap().to_string(), "*");
    }
}
