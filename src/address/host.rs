//! What stands in a `Host` header and in the middle of an origin.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

/// Longest name that DNS can hold, in bytes.
const LONGEST_NAME: usize = 253;

/// A name or an address, without a port. Names are in lower case and have no dot at the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostName {
    Name(String),
    Ip(IpAddr),
}

impl HostName {
    /// Reads `console.example.com`, `127.0.0.1` or `[::1]`; `None` for anything else. Names are ASCII, as browsers send
    /// them.
    pub fn parse(text: &str) -> Option<HostName> {
        if let Some(rest) = text.strip_prefix('[') {
            let address: Ipv6Addr = rest.strip_suffix(']')?.parse().ok()?;
            return Some(HostName::Ip(IpAddr::V6(address)));
        }
        let name = text.strip_suffix('.').unwrap_or(text);
        if let Ok(address) = name.parse() {
            return Some(HostName::Ip(IpAddr::V4(address)));
        }
        let fits = |c: u8| c.is_ascii_alphanumeric() || b"-._".contains(&c);
        let is_name = name.len() <= LONGEST_NAME
            && name.bytes().all(fits)
            && !name.split('.').any(str::is_empty);
        is_name.then(|| HostName::Name(name.to_ascii_lowercase()))
    }

    /// Returns whether it means the machine that asks for it, wherever that is: browsers look up neither `localhost`
    /// nor what ends in `.localhost`.
    pub fn is_loopback(&self) -> bool {
        match self {
            HostName::Ip(address) => address.to_canonical().is_loopback(),
            HostName::Name(name) => name == "localhost" || name.ends_with(".localhost"),
        }
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HostName::Name(name) => f.write_str(name),
            HostName::Ip(IpAddr::V4(address)) => address.fmt(f),
            HostName::Ip(IpAddr::V6(address)) => write!(f, "[{address}]"),
        }
    }
}

/// A host and perhaps a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    pub name: HostName,
    /// `None`: the one that the scheme implies.
    pub port: Option<u16>,
}

impl Host {
    /// Reads `NAME` or `NAME:PORT`; `None` for anything else, user names included.
    pub fn parse(text: &str) -> Option<Host> {
        // A colon inside brackets belongs to the address.
        let (name, port) = match text.rsplit_once(':') {
            Some((name, port)) if !port.contains(']') => (name, Some(port)),
            _ => (text, None),
        };
        let port = match port {
            None | Some("") => None,
            // `parse` takes a plus sign.
            Some(digits) if !digits.bytes().all(|b| b.is_ascii_digit()) => return None,
            Some(digits) => Some(digits.parse().ok()?),
        };
        let name = HostName::parse(name)?;
        Some(Host { name, port })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> HostName {
        HostName::Name(text.to_owned())
    }

    #[test]
    fn names_addresses_and_ports_are_told_apart() {
        for (text, host, port) in [
            ("console.example.com", name("console.example.com"), None),
            (
                "Console.Example.COM.:8010",
                name("console.example.com"),
                Some(8010),
            ),
            ("localhost:", name("localhost"), None),
            (
                "127.0.0.1:80",
                HostName::Ip([127, 0, 0, 1].into()),
                Some(80),
            ),
            ("127.0.0.1.", HostName::Ip([127, 0, 0, 1].into()), None),
            (
                "[::1]:8010",
                HostName::Ip(Ipv6Addr::LOCALHOST.into()),
                Some(8010),
            ),
            ("[::1]", HostName::Ip(Ipv6Addr::LOCALHOST.into()), None),
            ("127.1", name("127.1"), None),
        ] {
            assert_eq!(Host::parse(text), Some(Host { name: host, port }), "{text}");
        }
    }

    #[test]
    fn what_is_no_host_is_none() {
        let long = "a".repeat(254);
        for text in [
            "",
            ".",
            "..",
            ".a",
            "a..b",
            ":80",
            "a b",
            "a@b",
            "localhost:x@evil.com",
            "[::1].evil.com",
            "::1",
            "[::1",
            "[::1]x:1",
            "a:99999",
            "a:+1",
            "a:1:2",
            "a/b",
            "a?b",
            "a#b",
            "é.example",
            "a,b",
            "[127.0.0.1]",
            "a\\b",
            &*long,
        ] {
            assert_eq!(Host::parse(text), None, "{text}");
        }
    }

    #[test]
    fn loopback_is_known_by_its_names_too() {
        for text in [
            "localhost",
            "LOCALHOST.",
            "a.localhost",
            "127.8.9.1",
            "[::1]",
            "[::ffff:127.0.0.1]",
        ] {
            assert!(HostName::parse(text).unwrap().is_loopback(), "{text}");
        }
        for text in [
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "notlocalhost",
            "10.0.0.1",
            "0.0.0.0",
        ] {
            assert!(!HostName::parse(text).unwrap().is_loopback(), "{text}");
        }
    }
}
