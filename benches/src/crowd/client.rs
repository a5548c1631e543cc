//! One client of a crowd.

use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, HandshakeKind};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::Shared;
use super::backoff::Backoff;
use crate::ledger::Ledger;
use crate::tls;
use crate::wire::{self, Frame, IdFinder};

/// Source addresses 127.0.0.2 and up: each has its own 28,000 ports.
const SOURCES: usize = 200;
/// How long a client waits until it is live before it gives up and comes again: what the npm client waits for a connection.
const PATIENCE: Duration = Duration::from_secs(20);
/// Bytes read at once; a few rows come, and then pings.
const READ: usize = 4096;

/// One that comes back, resuming its session of TLS and its rows.
pub struct Client {
    number: usize,
    shared: Arc<Shared>,
    tls: TlsConnector,
    ledger: Ledger,
    ids: IdFinder,
    /// The last row it has; 0 for none.
    position: i64,
    backoff: Backoff,
    /// In which episode it became live.
    live_in: Option<u64>,
    /// What it does on its way, for whoever asks where it was cut off.
    stage: &'static str,
}

/// How a visit ended.
enum End {
    /// The daemon has said when to come back.
    SentAway(Duration),
    /// Nobody listened.
    Unheard,
    /// Before it was live.
    Cut(String),
    /// After it was live.
    Lost,
}

/// A connection on which the upgrade was asked for.
struct Connection {
    stream: TlsStream<TcpStream>,
    /// What has come and was not taken yet.
    bytes: Vec<u8>,
    upgraded: bool,
}

/// What a connection brought.
enum News {
    /// The rows that were missed are here.
    Live,
    Goodbye(Duration),
    /// The daemon closes it, or has closed it.
    End(String),
}

impl Client {
    pub fn new(number: usize, shared: &Arc<Shared>, tls: Arc<ClientConfig>) -> Self {
        Self {
            number,
            shared: Arc::clone(shared),
            tls: tls.into(),
            ledger: Ledger::new(1, 1),
            ids: IdFinder::default(),
            position: 0,
            backoff: Backoff::new(number),
            live_in: None,
            stage: "",
        }
    }

    /// Comes, and comes back whenever its connection ends. `leave` moves when it loses the network.
    pub async fn stay(mut self, mut leave: watch::Receiver<u64>) {
        let mut first = Some(Arc::clone(&self.shared));
        loop {
            let end = {
                // Dropped when the first visit becomes live, or fails.
                let shared = first.take();
                let turn = match &shared {
                    Some(shared) => shared.first.acquire().await.ok(),
                    None => None,
                };
                leave.mark_unchanged();
                tokio::select! {
                    end = self.visit(turn) => end,
                    // The sender gone means that the crowd is, too.
                    left = leave.changed() => match left {
                        Ok(()) => End::Lost,
                        Err(_) => return,
                    },
                }
            };
            tokio::time::sleep(self.pause(end)).await;
        }
    }

    /// How long it stays away after a visit that ended so.
    fn pause(&mut self, end: End) -> Duration {
        let episode = self.shared.episode.load(Relaxed);
        let was_live = self.live_in.take();
        if was_live == Some(episode) {
            let what = "was live, and lost its connection again";
            self.shared.tally().fault(what.to_owned());
        }
        if was_live.is_some() {
            self.backoff.forget_failures();
        }
        match end {
            End::SentAway(pause) => return pause,
            End::Unheard => self.shared.tally().unheard += 1,
            End::Cut(how) => self.shared.tally().cut(how),
            End::Lost => {}
        }
        self.backoff.next()
    }

    /// Comes, and stays until the connection ends.
    async fn visit<T>(&mut self, turn: Option<T>) -> End {
        let coming = async {
            let mut connection = self.connect().await?;
            let news = self.hear(&mut connection).await?;
            io::Result::Ok((connection, news))
        };
        let mut connection = match tokio::time::timeout(PATIENCE, coming).await {
            Ok(Ok((connection, News::Live))) => connection,
            Ok(Ok((_, News::Goodbye(pause)))) => return End::SentAway(pause),
            Ok(Ok((_, News::End(how)))) => return End::Cut(format!("{}: {how}", self.stage)),
            Ok(Err(error)) if error.kind() == ErrorKind::ConnectionRefused => return End::Unheard,
            Ok(Err(error)) => return End::Cut(format!("{}: {error}", self.stage)),
            Err(_) => return End::Cut(format!("{}: not live within {PATIENCE:?}", self.stage)),
        };
        drop(turn);
        self.live_in = Some(self.shared.episode.load(Relaxed));
        self.shared.tally().live(self.position + 1);
        loop {
            match self.hear(&mut connection).await {
                Ok(News::Live) => {}
                Ok(News::Goodbye(pause)) => return End::SentAway(pause),
                Ok(News::End(_)) | Err(_) => return End::Lost,
            }
        }
    }

    /// Shakes hands, and asks for the rows after those it has.
    async fn connect(&mut self) -> io::Result<Connection> {
        self.stage = "connecting";
        let socket = TcpSocket::new_v4()?;
        let source = Ipv4Addr::new(127, 0, 0, 2 + (self.number % SOURCES) as u8);
        socket.bind(SocketAddr::from((source, 0)))?;
        let stream = socket.connect(self.shared.server).await?;
        stream.set_nodelay(true)?;
        let name = ServerName::try_from(tls::NAME).map_err(io::Error::other)?;
        self.stage = "shaking hands";
        let mut stream = self.tls.connect(name, stream).await?;
        self.stage = "asking";
        let resumed = stream.get_ref().1.handshake_kind() == Some(HandshakeKind::Resumed);
        {
            let mut tally = self.shared.tally();
            tally.resumed_handshakes += u64::from(resumed);
            tally.full_handshakes += u64::from(!resumed);
        }
        let path = format!("{}?since={}", self.shared.path, self.position);
        stream
            .write_all(wire::upgrade_request(&path).as_bytes())
            .await?;
        stream.flush().await?;
        Ok(Connection {
            stream,
            bytes: Vec::new(),
            upgraded: false,
        })
    }

    /// Takes rows until something else comes that matters.
    async fn hear(&mut self, connection: &mut Connection) -> io::Result<News> {
        loop {
            if let Some(news) = self.take(connection).await? {
                return Ok(news);
            }
            let mut room = [0; READ];
            match connection.stream.read(&mut room).await? {
                0 => return Ok(News::End("the daemon closed the connection".to_owned())),
                read => connection.bytes.extend_from_slice(&room[..read]),
            }
        }
    }

    /// Takes what has come whole.
    async fn take(&mut self, connection: &mut Connection) -> io::Result<Option<News>> {
        if !connection.upgraded {
            let Some(length) = wire::head_length(&connection.bytes) else {
                return Ok(None);
            };
            let head: Vec<u8> = connection.bytes.drain(..length).collect();
            if !wire::accepts_upgrade(&head) {
                let line = head.split(|&byte| byte == b'\r').next().unwrap_or_default();
                return Ok(Some(News::End(String::from_utf8_lossy(line).into_owned())));
            }
            connection.upgraded = true;
            self.stage = "upgraded";
        }
        let (mut used, mut news, mut pong) = (0, None, None);
        while news.is_none()
            && let Some((frame, length)) =
                wire::first_frame(&connection.bytes[used..]).map_err(io::Error::other)?
        {
            used += length;
            match frame {
                Frame::Text(text) => news = self.read(text),
                Frame::Ping(payload) => pong = Some(wire::pong(payload)),
                Frame::Close(code) => news = Some(News::End(format!("closed with {code:?}"))),
                Frame::Pong => {}
            }
        }
        connection.bytes.drain(..used);
        if let Some(pong) = pong {
            connection.stream.write_all(&pong).await?;
            connection.stream.flush().await?;
        }
        Ok(news)
    }

    /// Enters a row, or tells what else it is.
    fn read(&mut self, text: &[u8]) -> Option<News> {
        if let Some(id) = self.ids.find(text) {
            if let Err(fault) = self.ledger.enter(id) {
                self.shared.tally().fault(fault.to_string());
            }
            self.position = id;
            return None;
        }
        let said: serde_json::Value = serde_json::from_slice(text).unwrap_or_default();
        match said["type"].as_str() {
            Some("live") => Some(News::Live),
            Some("goodbye") => {
                let wait = said["reconnect_after_ms"].as_u64().unwrap_or_default();
                Some(News::Goodbye(Duration::from_millis(wait)))
            }
            Some("hello") if said["recovered"] != true => {
                let what = format!("its position was not honoured: {said}");
                self.shared.tally().fault(what);
                None
            }
            Some("hello" | "heartbeat") => None,
            _ => {
                self.shared.tally().fault(format!("was told {said}"));
                None
            }
        }
    }
}
