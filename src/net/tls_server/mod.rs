//! TLS of the daemon's own listeners: the certificates that are shown, read again when their files change.

mod authorities;
mod certificate;
mod choice;
mod error;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod watch;

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use tokio::sync::Semaphore;

use crate::access::Owners;
use crate::address::HostName;
use crate::config::{MtlsRules, TlsRules};
pub use authorities::read as read_authorities;
pub use certificate::Certificate;
use choice::Shown;
pub use error::TlsFileError;
use watch::Watch;

/// How often the files are looked at.
pub const LOOK: Duration = Duration::from_millis(500);

/// Handshakes that are computed at once. With one, the other of the runtime's two threads goes on serving those who are
/// connected, however many come at the same time.
const HANDSHAKES_AT_ONCE: usize = 1;

/// Protocols that are spoken inside, the best first (ALPN).
const PROTOCOLS: [&[u8]; 2] = [HTTP_2, b"http/1.1"];
/// HTTP/2 as ALPN has it.
pub const HTTP_2: &[u8] = b"h2";

/// What a listener needs to speak TLS.
#[derive(Debug)]
pub struct TlsServer {
    files: Files,
    shown: Arc<Shown>,
    configs: Mutex<Configs>,
    watch: Mutex<Watch>,
    /// Turns to compute a handshake.
    turns: Semaphore,
}

/// The files that say what is shown, and who is asked for what.
#[derive(Debug)]
struct Files {
    /// Those of each certificate and of its key.
    pairs: Vec<(PathBuf, PathBuf)>,
    /// That of the authorities of clients; `None`: clients are asked for no certificate.
    authorities: Option<PathBuf>,
    /// Whose they may be.
    owners: Owners,
}

/// What they say.
struct Content {
    certificates: Vec<Certificate>,
    authorities: Option<Vec<CertificateDer<'static>>>,
}

/// How handshakes are answered.
#[derive(Debug)]
struct Configs {
    best: Arc<ServerConfig>,
    without_http_2: Arc<ServerConfig>,
    /// Those who must have signed what clients show.
    authorities: Option<Vec<CertificateDer<'static>>>,
}

impl TlsServer {
    /// Reads the certificates of the configuration; `None` where there are none, and no TLS is spoken. Blocks.
    ///
    /// # Errors
    /// A file can't be read, or what is in it can't be shown; the error names the key of the configuration and the remedy.
    pub fn open(
        rules: &TlsRules,
        clients: Option<&MtlsRules>,
        owners: Owners,
    ) -> Result<Option<Arc<TlsServer>>, TlsFileError> {
        if !rules.is_on() {
            return Ok(None);
        }
        let pairs = rules.cert.iter().cloned().zip(rules.key.iter().cloned());
        let files = Files {
            pairs: pairs.collect(),
            authorities: clients.map(|clients| clients.ca.clone()),
            owners,
        };
        // Before they are read: what changes from here on is read again.
        let watch = Watch::of(&files.paths());
        let content = files.read()?;
        let shown = Arc::new(Shown::new(content.certificates));
        Ok(Some(Arc::new(TlsServer {
            configs: Mutex::new(Configs::new(&shown, content.authorities)?),
            files,
            shown,
            watch: Mutex::new(watch),
            turns: Semaphore::new(HANDSHAKES_AT_ONCE),
        })))
    }

    /// Returns the certificates that are shown, the first of which to whoever asks for none of their names.
    pub fn certificates(&self) -> Arc<Vec<Certificate>> {
        self.shown.certificates()
    }

    /// How handshakes are answered.
    pub fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.configs.lock().best)
    }

    /// The same for those with whom HTTP/1.1 alone is spoken.
    pub fn config_without_http_2(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.configs.lock().without_http_2)
    }

    /// Turns to compute the server's part of a handshake.
    pub fn turns(&self) -> &Semaphore {
        &self.turns
    }

    /// Returns under what name or address a client on this machine may ask for a listener at `ip`, so that the certificate is
    /// good for it; `None` where no name can be told.
    pub fn name_at(&self, ip: IpAddr) -> Option<String> {
        let certificates = self.certificates();
        let good_for = |name: &ServerName<'_>| certificates.iter().any(|one| one.is_for(name));
        if good_for(&ServerName::from(ip)) {
            return Some(HostName::Ip(ip).to_string());
        }
        let localhost = ServerName::try_from("localhost").ok()?;
        if ip.is_loopback() && good_for(&localhost) {
            return Some("localhost".to_owned());
        }
        let names = certificates.iter().flat_map(|one| one.names());
        let mut names = names.filter(|name| !name.starts_with('*'));
        names.next().cloned()
    }

    /// Reads the files again where they have changed and nobody writes to them any more, and says what came of it. Where
    /// something is wrong with what they hold now, all stays as it was. Blocks. Returns whether others are shown now.
    pub fn look(&self) -> bool {
        let mut watch = self.watch.lock();
        watch.has_settled(&self.files.paths()) && self.take(&mut watch)
    }

    /// Has the files read at the next look, changed or not.
    pub fn forget_files(&self) {
        self.watch.lock().forget();
    }

    fn take(&self, watch: &mut Watch) -> bool {
        match self
            .files
            .read()
            .and_then(|content| self.put_in_force(content))
        {
            Ok(is_new) => {
                if is_new || watch.trouble.take().is_some() {
                    for one in self.certificates().iter() {
                        tracing::info!("certificate read again: {one}");
                    }
                }
                watch.trouble = None;
                is_new
            }
            Err(error) => {
                let trouble = error.to_string();
                if watch.trouble.as_ref() != Some(&trouble) {
                    tracing::error!("the certificates stay as they were: {trouble}");
                }
                watch.trouble = Some(trouble);
                false
            }
        }
    }

    /// Returns whether it is another than what was in force before.
    fn put_in_force(&self, content: Content) -> Result<bool, TlsFileError> {
        let mut configs = self.configs.lock();
        let are_others = configs.authorities != content.authorities;
        if are_others {
            // With other keys for tickets: sessions that others vouched for are not resumed.
            *configs = Configs::new(&self.shown, content.authorities)?;
        }
        let before = self.shown.certificates();
        let is_new = are_others || !before.iter().eq(content.certificates.iter());
        self.shown.replace(content.certificates);
        Ok(is_new)
    }

    /// Says once of each certificate that it ends soon, or has ended.
    pub fn warn_of_ends(&self, now: SystemTime) {
        self.watch.lock().warn_of_ends(&self.certificates(), now);
    }
}

impl Files {
    fn paths(&self) -> Vec<PathBuf> {
        let pairs = self.pairs.iter().flat_map(|(cert, key)| [cert, key]);
        pairs.chain(&self.authorities).cloned().collect()
    }

    fn read(&self) -> Result<Content, TlsFileError> {
        let (owners, now) = (self.owners, SystemTime::now());
        let pairs = self.pairs.iter();
        let certificates = pairs.map(|(cert, key)| Certificate::read(cert, key, (owners, now)));
        let authorities = self.authorities.as_ref();
        Ok(Content {
            certificates: certificates.collect::<Result<_, _>>()?,
            authorities: authorities
                .map(|path| authorities::read(path, owners))
                .transpose()?,
        })
    }
}

impl Configs {
    fn new(
        shown: &Arc<Shown>,
        authorities: Option<Vec<CertificateDer<'static>>>,
    ) -> Result<Configs, TlsFileError> {
        let best = server_config(shown, authorities.as_deref())?;
        let mut without_http_2 = best.clone();
        without_http_2.alpn_protocols.retain(|name| name != HTTP_2);
        Ok(Configs {
            best: Arc::new(best),
            without_http_2: Arc::new(without_http_2),
            authorities,
        })
    }
}

/// TLS 1.2 and 1.3 with what rustls holds safe. Sessions are resumed by tickets, whose keys live as long as this does and
/// change every six hours; nothing is taken before a handshake is done (0-RTT).
fn server_config(
    shown: &Arc<Shown>,
    authorities: Option<&[CertificateDer<'static>]>,
) -> Result<ServerConfig, TlsFileError> {
    let builder = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(TlsFileError::Library)?;
    let verifier = match authorities {
        // They were tried when they were read.
        Some(some) => authorities::verifier(some)
            .map_err(|problem| TlsFileError::Library(rustls::Error::General(problem)))?,
        None => WebPkiClientVerifier::no_client_auth(),
    };
    let mut config = builder
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(Arc::<Shown>::clone(shown));
    config.ticketer = aws_lc_rs::Ticketer::new().map_err(TlsFileError::Library)?;
    config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).to_vec();
    Ok(config)
}
