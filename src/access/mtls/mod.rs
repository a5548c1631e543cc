//! `[auth.mtls]`: clients that prove by a certificate who they are. TLS has verified it; here it is looked up whose it is, and
//! what that one may do.

mod certificate;
mod client_file;

use std::path::Path;
use std::sync::{Arc, Weak};
use std::time::SystemTime;

use parking_lot::Mutex;

use super::files::{AccessFileError, Owners, ReloadedFile};
use super::grant::Grant;
use super::refusal::{AuthFailure, Refusal};
pub use certificate::ClientCertificate;
pub(super) use client_file::ClientEntry;
#[cfg(any(test, feature = "fuzzing"))]
pub(super) use client_file::parse as parse_clients;

/// Returns how many clients a file names.
///
/// # Errors
/// It can't be read, or something is wrong with it.
pub fn client_count(path: &Path, owners: Owners) -> Result<usize, AccessFileError> {
    client_file::read(path, owners).map(|clients| clients.len())
}

/// The clients that are known.
pub(super) struct ClientGate {
    file: ReloadedFile,
    owners: Owners,
    known: Mutex<Arc<Vec<KnownClient>>>,
}

/// A client, and the grants of its certificates.
struct KnownClient {
    entry: ClientEntry,
    /// Those that are in use, each with the end of the certificate.
    grants: Mutex<Vec<(SystemTime, Weak<Grant>)>>,
}

impl ClientGate {
    /// Reads the file of clients.
    ///
    /// # Errors
    /// It can't be read, or something is wrong with it; the error names the key of the configuration.
    pub(super) fn open(path: &Path, owners: Owners) -> Result<ClientGate, AccessFileError> {
        let read = |path: &Path| client_file::read(path, owners);
        let (file, entries) = ReloadedFile::open("auth.mtls.clients", path, "clients", read)?;
        Ok(ClientGate {
            file,
            owners,
            known: Mutex::new(Arc::new(
                entries.into_iter().map(KnownClient::new).collect(),
            )),
        })
    }

    /// Returns the grant of whoever has this certificate. `grant` makes one of what the file says.
    ///
    /// # Errors
    /// Nobody is known by it, or it has ended since the connection was made.
    pub(super) fn grant(
        &self,
        certificate: &ClientCertificate,
        now: SystemTime,
        grant: impl FnOnce(&ClientEntry) -> Grant,
    ) -> Result<Arc<Grant>, Refusal> {
        let known = Arc::clone(&self.known.lock());
        let client = known
            .iter()
            .find(|client| client.entry.mark.is_of(certificate));
        let Some(client) = client else {
            return Err(Refusal {
                name: Some(certificate.shown()),
                detail: Some("no client of auth.mtls.clients is known by this certificate"),
                ..AuthFailure::UnknownCertificate.into()
            });
        };
        let grant = client.grant(certificate.ends, grant);
        match grant.is_expired(now) {
            true => Err(Refusal {
                name: Some(grant.name().to_owned()),
                ..AuthFailure::Expired.into()
            }),
            false => Ok(grant),
        }
    }

    /// Reads the file again if it has changed, and ends what is not granted any more; whether anything ended. Blocks.
    pub(super) fn look(&self, grant: impl Fn(&ClientEntry) -> Grant) -> bool {
        let owners = self.owners;
        let Some(entries) = self.file.changed(|path| client_file::read(path, owners)) else {
            return false;
        };
        let before = Arc::clone(&self.known.lock());
        let mut clients = Vec::with_capacity(entries.len());
        let mut kept = vec![false; before.len()];
        for entry in entries {
            let old = before.iter().position(|old| old.entry == entry);
            let client = KnownClient::new(entry);
            if let Some(old) = old {
                kept[old] = true;
                *client.grants.lock() = before[old].grants.lock().clone();
            }
            clients.push(client);
        }
        for (old, _) in before.iter().zip(kept).filter(|(_, kept)| !kept) {
            // It stands for something else now, or for nothing.
            let new = clients.iter().find(|new| new.entry.mark == old.entry.mark);
            let new = new.map(|new| grant(&new.entry));
            for (_, ended) in old.grants.lock().iter() {
                if let Some(ended) = ended.upgrade() {
                    ended.end(new.as_ref());
                }
            }
        }
        tracing::info!("clients read again: {} are known", clients.len());
        *self.known.lock() = Arc::new(clients);
        true
    }

    /// Has the file read at the next look, changed or not.
    pub(super) fn forget(&self) {
        self.file.forget();
    }
}

impl KnownClient {
    fn new(entry: ClientEntry) -> KnownClient {
        KnownClient {
            entry,
            grants: Mutex::default(),
        }
    }

    fn grant(&self, ends: SystemTime, grant: impl FnOnce(&ClientEntry) -> Grant) -> Arc<Grant> {
        let mut grants = self.grants.lock();
        let mut same = grants.iter().filter(|(end, _)| *end == ends);
        if let Some(known) = same.find_map(|(_, known)| known.upgrade()) {
            return known;
        }
        let until = self.entry.expires.map_or(ends, |expires| expires.min(ends));
        let made = Arc::new(grant(&self.entry).until(Some(until)));
        grants.retain(|(_, grant)| grant.strong_count() > 0);
        grants.push((ends, Arc::downgrade(&made)));
        made
    }
}
