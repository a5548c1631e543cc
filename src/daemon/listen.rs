//! Binding the addresses of the configuration.

use std::sync::Arc;

use anyhow::anyhow;

use crate::config::Listen;
use crate::net::listener::Listener;
use crate::net::tls_server::TlsServer;

/// Where is listened, by what is served there.
pub struct Listeners {
    /// Everything.
    pub feeds: Vec<Listener>,
    /// What is counted alone.
    pub metrics: Vec<Listener>,
    /// Nothing but the way to where TLS is spoken.
    pub redirect: Vec<Listener>,
    /// What the first of these show of themselves, where TLS is spoken.
    pub tls: Option<Arc<TlsServer>>,
}

/// Binds every address of the configuration. The error names the address and the remedy.
pub async fn bind(addresses: &[Listen]) -> anyhow::Result<Vec<Listener>> {
    let mut listeners = Vec::with_capacity(addresses.len());
    for address in addresses {
        let bound = match address {
            Listen::Tcp(address) => Listener::bind_tcp(*address).await,
            Listen::Unix(path) => Listener::bind_unix(path).await,
        };
        let bound = bound.map_err(|e| match e.kind() {
            std::io::ErrorKind::AddrInUse => {
                anyhow!("can't listen on {address}: it is in use; stop what listens there or choose another with --listen")
            }
            _ if e.raw_os_error() == Some(libc::EAFNOSUPPORT) => anyhow!(
                "can't listen on {address}: this sandbox has no network of its own, and systemd passed no listener in; \
                 systemctl start walcast-listen.socket, or see own-listener.conf to let walcast bind by itself"
            ),
            _ => anyhow!("can't listen on {address}: {e}"),
        });
        listeners.push(bound?);
    }
    Ok(listeners)
}
