//! Keeps the certificates of TLS as their files have them, and tells when they end.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::SystemTime;

use tokio::time::MissedTickBehavior;

use crate::net::tls_server::{self, TlsServer};
use crate::telemetry::metrics::Metrics;

/// Looks at the files of the certificates for as long as the daemon runs.
pub(super) async fn keep_current(server: Arc<TlsServer>, metrics: Arc<Metrics>) {
    let mut looks = tokio::time::interval(tls_server::LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        looks.tick().await;
        let looked_at = Arc::clone(&server);
        // What goes wrong in there has been logged.
        let _ = tokio::task::spawn_blocking(move || {
            looked_at.look();
            looked_at.warn_of_ends(SystemTime::now());
        })
        .await;
        count(&server, &metrics);
    }
}

/// Of several for one name, the one that ends first.
fn count(server: &TlsServer, metrics: &Metrics) {
    let now = SystemTime::now();
    let certificates = server.certificates();
    let mut left: HashMap<&str, i64> = HashMap::new();
    for certificate in certificates.iter() {
        let seconds = certificate.seconds_left(now);
        let least = left.entry(certificate.name()).or_insert(seconds);
        *least = seconds.min(*least);
    }
    let gauge = &metrics.certificate_expiry;
    // One that is not shown any more is not told of any more.
    gauge.reset();
    for (name, seconds) in left {
        gauge.with_label_values(&[name]).set(seconds);
    }
}
