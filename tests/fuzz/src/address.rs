//! Hosts, origins and networks as strangers and the configuration write them: what is read is written again in a form
//! that means the same, and another reader understands it no differently.

use std::fmt::Display;

use http::uri::Authority;
use walcast::address::{AllowedOrigin, Host, HostName, Network, Origin};

pub fn address(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let (first, second) = text.split_once('\n').unwrap_or((text, text));
    if let Some(name) = HostName::parse(first) {
        assert_eq!(HostName::parse(&plain(&name)).as_ref(), Some(&name));
        name.is_loopback();
    }
    let host = Host::parse(second);
    if let Some(host) = &host {
        as_others_read(second, host);
    }
    if let Some(origin) = Origin::parse(first) {
        let written = plain(&origin);
        assert_eq!(Origin::parse(&written).as_ref(), Some(&origin));
        let allowed = AllowedOrigin::parse(&written);
        assert_eq!(allowed, Some(AllowedOrigin::Only(origin.clone())));
        if let Some(host) = host
            && origin.is_at(&host)
        {
            assert_eq!(origin.host(), &host.name);
            assert_eq!(origin.is_loopback(), host.name.is_loopback());
        }
    }
    if let Some(network) = Network::parse(first) {
        assert_eq!(Network::parse(&plain(&network)), Some(network));
        let address = first.split('/').next().and_then(|text| text.parse().ok());
        let address = address.expect("a network begins with an address");
        assert!(network.contains(address) || network_of_mapped(address));
    }
}

/// An IPv4 address in an IPv6 one's clothes counts as the former, and so is in no network of the latter.
fn network_of_mapped(address: std::net::IpAddr) -> bool {
    address.to_canonical() != address
}

/// As it is shown in messages, headers and logs: one line of ASCII.
fn plain(shown: &impl Display) -> String {
    let text = shown.to_string();
    assert!(text.bytes().all(|b| b.is_ascii_graphic()), "{text:?}");
    text
}

/// A proxy or library that reads the same header must not see another host in it.
fn as_others_read(text: &str, host: &Host) {
    let Ok(authority) = text.parse::<Authority>() else {
        return;
    };
    assert_eq!(authority.port_u16(), host.port, "{text:?}");
    if let HostName::Name(name) = &host.name {
        let theirs = authority.host().to_ascii_lowercase();
        assert_eq!(theirs.strip_suffix('.').unwrap_or(&theirs), name);
    }
}
