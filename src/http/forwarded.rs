//! Where a request came from, and whom a proxy speaks for: `X-Forwarded-For` and `Forwarded` (RFC 7239).

use std::net::{IpAddr, Ipv4Addr};

use warp::http::HeaderMap;

use crate::address::Host;
use crate::address::HostName;
use crate::config::TrustedProxy;

/// What all those are counted as whose headers contradict each other. Were they counted as their proxy, who is counted for
/// nothing on loopback, any client behind it could do away with its limit by sending the header that its proxy does not
/// set.
const NOBODY: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

/// Where a request came from; no address over a Unix socket.
#[derive(Debug, Clone, Copy)]
pub(super) enum CameFrom {
    /// From the other end of its connection.
    Peer(Option<IpAddr>),
    /// From the client of a trusted proxy, which made the connection.
    Proxy(Option<IpAddr>),
}

impl CameFrom {
    /// Tells it of a request with these headers from this other end of its connection.
    pub(super) fn of(
        headers: &HeaderMap,
        proxies: &[TrustedProxy],
        other_end: Option<IpAddr>,
    ) -> CameFrom {
        if !proxies.iter().any(|proxy| proxy.is(other_end)) {
            return CameFrom::Peer(other_end);
        }
        CameFrom::Proxy(match client(headers, proxies) {
            ForwardedFor::Client(client) => Some(client),
            // A proxy that does not say whom it asks for asks for itself.
            ForwardedFor::Nothing => other_end,
            ForwardedFor::Contradiction => Some(NOBODY),
        })
    }

    pub(super) fn address(self) -> Option<IpAddr> {
        match self {
            CameFrom::Peer(address) | CameFrom::Proxy(address) => address,
        }
    }
}

/// Whom a trusted proxy asks for, as its headers say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ForwardedFor {
    Client(IpAddr),
    /// Neither header is there, or none of an address.
    Nothing,
    /// The two headers name different clients.
    Contradiction,
}

/// Reads whom a trusted proxy asks for.
///
/// Every proxy writes at the end whom it was asked by, and anybody can write anything before that. So it is read from
/// the right, and the first address that is no trusted proxy is the client's. A proxy passes on the one of the two
/// headers that it does not know as it came: where they disagree, somebody has made one up, and neither counts.
fn client(headers: &HeaderMap, proxies: &[TrustedProxy]) -> ForwardedFor {
    let last = |name: &str, address: fn(&str) -> Option<IpAddr>| {
        if !headers.contains_key(name) {
            return None;
        }
        let elements = headers.get_all(name).iter().rev();
        // A header that is not ASCII ends the walk like an element that can't be read.
        let elements = elements.flat_map(|value| value.to_str().unwrap_or("?").rsplit(','));
        let mut client = None;
        for element in elements {
            client = address(element.trim());
            match client {
                Some(address) if proxies.iter().any(|proxy| proxy.is(Some(address))) => {}
                _ => break,
            }
        }
        Some(client)
    };
    let said = match (
        last("x-forwarded-for", plain),
        last("forwarded", for_parameter),
    ) {
        (Some(one), Some(other)) if one != other => return ForwardedFor::Contradiction,
        (one, other) => one.or(other).flatten(),
    };
    said.map_or(ForwardedFor::Nothing, ForwardedFor::Client)
}

/// `192.0.2.1`, `2001:db8::1`, or either with a port, the latter in brackets.
fn plain(element: &str) -> Option<IpAddr> {
    if let Ok(address) = element.parse::<IpAddr>() {
        return Some(address.to_canonical());
    }
    match Host::parse(element)?.name {
        HostName::Ip(address) => Some(address.to_canonical()),
        HostName::Name(_) => None,
    }
}

/// `for=192.0.2.1;proto=https`, `For="[2001:db8::1]:4711"`.
fn for_parameter(element: &str) -> Option<IpAddr> {
    let value = element.split(';').find_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        name.trim().eq_ignore_ascii_case("for").then_some(value)
    })?;
    plain(value.trim().trim_matches('"'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address::Network;

    fn said_in(headers: &[(&'static str, &str)]) -> ForwardedFor {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().unwrap());
        }
        let proxies = ["10.0.0.0/8", "127.0.0.1"]
            .map(|text| TrustedProxy::Network(Network::parse(text).unwrap()));
        client(&map, &proxies)
    }

    fn client_of(headers: &[(&'static str, &str)]) -> Option<String> {
        match said_in(headers) {
            ForwardedFor::Client(address) => Some(address.to_string()),
            _ => None,
        }
    }

    #[test]
    fn the_last_address_that_is_no_proxy_is_the_clients() {
        for (value, address) in [
            ("198.51.100.7", Some("198.51.100.7")),
            ("1.1.1.1, 198.51.100.7", Some("198.51.100.7")),
            (
                "1.1.1.1,198.51.100.7, 10.1.1.1 ,127.0.0.1",
                Some("198.51.100.7"),
            ),
            ("198.51.100.7:4711", Some("198.51.100.7")),
            ("[2001:db8::1]:4711", Some("2001:db8::1")),
            ("2001:db8::1", Some("2001:db8::1")),
            ("::ffff:198.51.100.7", Some("198.51.100.7")),
            ("10.0.0.2, 10.0.0.3", Some("10.0.0.2")),
            ("198.51.100.7, unknown", None),
            ("198.51.100.7, unknown, 10.0.0.1", None),
            ("", None),
        ] {
            let found = client_of(&[("x-forwarded-for", value)]);
            assert_eq!(found.as_deref(), address, "{value}");
        }
        let lines = [
            ("x-forwarded-for", "1.1.1.1"),
            ("x-forwarded-for", "198.51.100.7"),
        ];
        assert_eq!(client_of(&lines).as_deref(), Some("198.51.100.7"));
    }

    #[test]
    fn the_standards_header_is_read_the_same_way() {
        for (value, address) in [
            (
                "for=198.51.100.7;proto=https;by=10.0.0.1",
                Some("198.51.100.7"),
            ),
            (
                "for=1.1.1.1, For=\"[2001:db8::1]:4711\", for=10.0.0.1",
                Some("2001:db8::1"),
            ),
            ("for=_hidden", None),
            ("proto=https", None),
        ] {
            let found = client_of(&[("forwarded", value)]);
            assert_eq!(found.as_deref(), address, "{value}");
        }
    }

    #[test]
    fn headers_that_disagree_count_for_nothing() {
        let made_up = [
            ("forwarded", "for=1.1.1.1"),
            ("x-forwarded-for", "198.51.100.7"),
        ];
        assert_eq!(said_in(&made_up), ForwardedFor::Contradiction);
        let both = [
            ("forwarded", "for=198.51.100.7"),
            ("x-forwarded-for", "198.51.100.7"),
        ];
        assert_eq!(client_of(&both).as_deref(), Some("198.51.100.7"));
        assert_eq!(said_in(&[]), ForwardedFor::Nothing);
    }
}
