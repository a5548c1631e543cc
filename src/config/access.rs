//! Who may come in: which pages, under which names, through which proxies.

use std::fmt;
use std::net::IpAddr;

use super::layers::{Layers, WrittenValue};
use super::parse::texts;
use crate::address::{AllowedOrigin, HostName, Network};
use crate::cli::ServeArgs;

/// What is checked of every request, before anybody looks at what it asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AccessRules {
    /// Browser origins allowed besides same origin and loopback.
    pub origins: Vec<AllowedOrigin>,
    /// Names this daemon is reached by, besides IP addresses, `localhost` and the hosts of `origins`.
    pub hosts: Vec<HostName>,
    /// Whose word on the address of a client counts.
    pub trusted_proxies: Vec<TrustedProxy>,
    /// Pages that may show the dashboard in a frame.
    pub frame_ancestors: Vec<AllowedOrigin>,
}

/// Peers that speak for others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TrustedProxy {
    /// Whoever connects to a Unix socket.
    Unix,
    Network(Network),
}

impl TrustedProxy {
    /// Returns whether the peer at `address` is meant; `None` is the peer of a Unix socket.
    pub fn is(&self, address: Option<IpAddr>) -> bool {
        match (self, address) {
            (TrustedProxy::Unix, None) => true,
            (TrustedProxy::Network(network), Some(address)) => network.contains(address),
            _ => false,
        }
    }
}

impl fmt::Display for TrustedProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TrustedProxy::Unix => f.write_str("unix"),
            TrustedProxy::Network(network) => network.fmt(f),
        }
    }
}

/// The rules that flags, variables and file come to.
pub(super) fn resolve(layers: &mut Layers<'_>, args: &ServeArgs) -> AccessRules {
    AccessRules {
        origins: layers.list_setting("origins", &args.origin, origins, Vec::new()),
        hosts: layers.list_setting("hosts", &args.allow_host, hosts, Vec::new()),
        trusted_proxies: layers.list_setting(
            "trusted_proxies",
            &args.trusted_proxy,
            trusted_proxies,
            Vec::new(),
        ),
        frame_ancestors: layers.file_setting("frame_ancestors", origins, Vec::new()),
    }
}

fn origins(value: &WrittenValue) -> Result<Vec<AllowedOrigin>, String> {
    each(value, AllowedOrigin::parse, |origin| {
        format!(
            "{origin} is not an origin; write scheme://host or scheme://host:port in ASCII with nothing after it, e.g. \
             \"https://console.example.com\", or \"*\" for all"
        )
    })
}

fn hosts(value: &WrittenValue) -> Result<Vec<HostName>, String> {
    each(value, HostName::parse, |host| {
        format!(
            "{host} is not the name of a host; write it in ASCII without scheme, port and path, e.g. \"console.example.com\""
        )
    })
}

fn trusted_proxies(value: &WrittenValue) -> Result<Vec<TrustedProxy>, String> {
    let parse = |text: &str| match text {
        "unix" => Some(TrustedProxy::Unix),
        _ => Network::parse(text).map(TrustedProxy::Network),
    };
    each(value, parse, |proxy| {
        format!(
            "{proxy} is not an address; write one such as \"127.0.0.1\" or a network such as \"10.0.0.0/8\", or \"unix\" for \
             the peers of Unix sockets"
        )
    })
}

fn each<T>(
    value: &WrittenValue,
    parse: impl Fn(&str) -> Option<T>,
    problem: impl Fn(&str) -> String,
) -> Result<Vec<T>, String> {
    let parsed = |text: String| parse(&text).ok_or_else(|| problem(&text));
    texts(value)?.into_iter().map(parsed).collect()
}
