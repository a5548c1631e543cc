//! Who may come in: which pages, under which names, through which proxies.

use std::fmt;
use std::net::IpAddr;

use super::kinds;
use super::parse::texts;
use super::setting::settings;
use super::written::WrittenValue;
use crate::address::{AllowedOrigin, HostName, Network};

/// The heading of help that flags about who may come in stand under.
pub(super) const ACCESS: &str = "Access";

settings! {
    /// What is checked of every request, before anybody looks at what it asks for.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct AccessRules {
        /// Browser origin allowed besides same origin and loopback, or * for all; may be repeated.
        "origins" origins: Vec<AllowedOrigin> = Vec::new(),
            kinds::origins().flag("--origin").under(ACCESS).live();

        /// Name this daemon is reached by, besides IP addresses, localhost and the hosts of the origins; may be repeated.
        ///
        /// Requests for any other name are refused (421): a page whose own name was pointed at this address gets nothing.
        "hosts" hosts: Vec<HostName> = Vec::new(),
            kinds::hosts().flag("--allow-host").under(ACCESS).live();

        /// Address or network of proxies whose X-Forwarded-For or Forwarded tells the client's address, or `unix`; may be
        /// repeated.
        "trusted_proxies" trusted_proxies: Vec<TrustedProxy> = Vec::new(),
            kinds::trusted_proxies().flag("--trusted-proxy").under(ACCESS).live();

        /// Pages that may show the dashboard in a frame.
        "frame_ancestors" frame_ancestors: Vec<AllowedOrigin> = Vec::new(),
            kinds::origins().live();
    }
}

impl Default for AccessRules {
    fn default() -> Self {
        Self::unset()
    }
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

pub(super) fn origins(value: &WrittenValue) -> Result<Vec<AllowedOrigin>, String> {
    each(value, AllowedOrigin::parse, |origin| {
        format!(
            "{origin} is not an origin; write scheme://host or scheme://host:port in ASCII with nothing after it, e.g. \
             \"https://console.example.com\", or \"*\" for all"
        )
    })
}

pub(super) fn hosts(value: &WrittenValue) -> Result<Vec<HostName>, String> {
    each(value, HostName::parse, |host| {
        format!(
            "{host} is not the name of a host; write it in ASCII without scheme, port and path, e.g. \"console.example.com\""
        )
    })
}

pub(super) fn trusted_proxies(value: &WrittenValue) -> Result<Vec<TrustedProxy>, String> {
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
