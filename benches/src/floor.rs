//! The yardstick: the least that a program can do between a commit and N sockets. One thread; inotify, `data_version`,
//! one SELECT, one frame made once, one `send` for each client. No filters, no limits, no history, no clean-up of the log.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rusqlite::{Connection, Row};

use crate::database::STOCK_TABLE;
use crate::sys::{self, DirectoryWatch, Epoll};
use crate::wire;

/// Between two looks at `data_version` while a commit is expected.
const CHASE_STEP: Duration = Duration::from_micros(20);
/// How long after a write to the WAL, or a commit, the next commit is looked for: longer than a slow disk syncs. A floor that gave up
/// earlier would have a p99 of its safety poll, and be no yardstick for anybody's.
const CHASE: Duration = Duration::from_millis(500);
/// The steps grow with the time since the write: a long chase is late by a 32nd of itself at most.
const AFTER_WRITE: u32 = 32;
/// Since a commit they grow faster: there is another one to be found only where its write was seen before the commit was.
const AFTER_COMMIT: u32 = 4;
/// The look that needs no event.
const SAFETY_POLL: Duration = Duration::from_millis(250);
/// Rows in one SELECT.
const PAGE: i64 = 1_000;

const LISTENER: u64 = u64::MAX;
const WATCH: u64 = u64::MAX - 1;

/// Serves the stock table of `database` to whoever asks, until it is killed.
///
/// # Errors
/// When the file, the table or the address can't be opened.
pub fn serve(database: &Path, listen: SocketAddr) -> Result<()> {
    sys::set_timer_slack_1us();
    let mut floor = Floor::open(database, listen)?;
    let mut room = sys::event_buffer();
    loop {
        let wait = floor.patience();
        let ready: Vec<(u64, u32)> = floor
            .epoll
            .wait(&mut room, wait)?
            .iter()
            .map(|e| (e.u64, e.events))
            .collect();
        for (token, _) in ready {
            match token {
                LISTENER => floor.accept()?,
                WATCH => floor.note_write(),
                client => floor.serve_client(client as usize)?,
            }
        }
        floor.look()?;
        floor.replay_on()?;
    }
}

struct Floor {
    db: Connection,
    version: i64,
    head: i64,
    chase: Option<Chase>,
    /// Every frame since the start, one behind the other; a client is a position in it.
    log: Vec<u8>,
    clients: Vec<Option<Client>>,
    free: Vec<usize>,
    replaying: Vec<usize>,
    listener: TcpListener,
    watch: DirectoryWatch,
    epoll: Epoll,
}

/// A commit is expected.
struct Chase {
    since: Instant,
    /// The time since then by the next step.
    steps: u32,
}

impl Chase {
    fn new(steps: u32) -> Self {
        Self {
            since: Instant::now(),
            steps,
        }
    }

    fn step(&self) -> Duration {
        CHASE_STEP.max(self.since.elapsed() / self.steps)
    }
}

struct Client {
    stream: TcpStream,
    state: State,
}

enum State {
    /// The request so far.
    Asking(Vec<u8>),
    /// Frames of the rows up to `after`, sent up to `sent`.
    Replaying {
        after: i64,
        page: Vec<u8>,
        sent: usize,
    },
    /// The position in the log.
    Live(usize),
}

impl Floor {
    fn open(database: &Path, listen: SocketAddr) -> Result<Self> {
        let path: PathBuf = database
            .canonicalize()
            .with_context(|| format!("{}", database.display()))?;
        let db = Connection::open(&path)?;
        let head = db.query_row(
            &format!("SELECT coalesce(max(id), 0) FROM {STOCK_TABLE}"),
            (),
            |row| row.get(0),
        )?;
        let listener = TcpListener::bind(listen).with_context(|| format!("{listen}"))?;
        listener.set_nonblocking(true)?;
        let watch = DirectoryWatch::new(path.parent().context("the file has no directory")?)?;
        let epoll = Epoll::new()?;
        epoll.add(&listener, LISTENER, libc::EPOLLIN)?;
        epoll.add(&watch, WATCH, libc::EPOLLIN)?;
        let mut floor = Self {
            version: 0,
            chase: None,
            log: Vec::new(),
            clients: Vec::new(),
            free: Vec::new(),
            replaying: Vec::new(),
            db,
            head,
            listener,
            watch,
            epoll,
        };
        floor.version = floor.data_version()?;
        Ok(floor)
    }

    fn patience(&self) -> Duration {
        match &self.chase {
            _ if !self.replaying.is_empty() => Duration::ZERO,
            Some(chase) => chase.step(),
            None => SAFETY_POLL,
        }
    }

    fn accept(&mut self) -> Result<()> {
        loop {
            let stream = match self.listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error.into()),
            };
            stream.set_nonblocking(true)?;
            stream.set_nodelay(true)?;
            let slot = self.free.pop().unwrap_or_else(|| {
                self.clients.push(None);
                self.clients.len() - 1
            });
            let interest = libc::EPOLLIN | libc::EPOLLOUT | libc::EPOLLRDHUP | libc::EPOLLET;
            self.epoll.add(&stream, slot as u64, interest)?;
            self.clients[slot] = Some(Client {
                stream,
                state: State::Asking(Vec::new()),
            });
        }
    }

    fn note_write(&mut self) {
        if self.watch.drain("-wal") {
            self.chase = Some(Chase::new(AFTER_WRITE));
        }
    }

    fn data_version(&self) -> Result<i64> {
        Ok(self
            .db
            .prepare_cached("PRAGMA data_version")?
            .query_row((), |row| row.get(0))?)
    }

    /// Has something been committed? Then reads and sends it.
    fn look(&mut self) -> Result<()> {
        let version = self.data_version()?;
        if version != self.version {
            self.version = version;
            while self.read_page()? {
                self.broadcast();
            }
            self.chase = Some(Chase::new(AFTER_COMMIT));
        } else if self
            .chase
            .as_ref()
            .is_some_and(|chase| chase.since.elapsed() > CHASE)
        {
            self.chase = None;
        }
        Ok(())
    }

    /// Appends the next page of new rows to the log; false when there are none.
    fn read_page(&mut self) -> Result<bool> {
        let before = self.head;
        self.head = push_rows(&self.db, &mut self.log, before, i64::MAX)?;
        Ok(self.head > before)
    }

    fn broadcast(&mut self) {
        for slot in 0..self.clients.len() {
            if matches!(
                &self.clients[slot],
                Some(Client {
                    state: State::Live(_),
                    ..
                })
            ) {
                self.flush(slot);
            }
        }
    }

    fn serve_client(&mut self, slot: usize) -> Result<()> {
        let mut input = [0; 4096];
        loop {
            let Some(client) = &mut self.clients[slot] else {
                return Ok(());
            };
            match (&client.stream).read(&mut input) {
                Ok(length @ 1..) => {
                    if let State::Asking(request) = &mut client.state {
                        request.extend_from_slice(&input[..length]);
                        self.answer(slot)?;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Ok(0) | Err(_) => {
                    self.drop_client(slot);
                    return Ok(());
                }
            }
        }
        match &self.clients[slot] {
            Some(Client {
                state: State::Live(_),
                ..
            }) => self.flush(slot),
            Some(Client {
                state: State::Replaying { .. },
                ..
            }) if !self.replaying.contains(&slot) => {
                self.replaying.push(slot);
            }
            _ => {}
        }
        Ok(())
    }

    /// Upgrades whoever has sent a whole request with the known nonce; tells others 200 or 400 and lets them go.
    fn answer(&mut self, slot: usize) -> Result<()> {
        let Some(Client {
            stream,
            state: state @ State::Asking(_),
        }) = &mut self.clients[slot]
        else {
            return Ok(());
        };
        let State::Asking(request) = &*state else {
            return Ok(());
        };
        if wire::head_length(request).is_none() {
            return Ok(());
        }
        let request = String::from_utf8_lossy(request).into_owned();
        if request.contains(wire::NONCE) {
            write!(
                stream,
                "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                 Sec-WebSocket-Accept: {}\r\n\r\n",
                wire::ACCEPT
            )?;
            let earliest = request
                .lines()
                .next()
                .is_some_and(|line| line.contains("since=earliest"));
            *state = match earliest {
                true => State::Replaying {
                    after: 0,
                    page: Vec::new(),
                    sent: 0,
                },
                false => State::Live(self.log.len()),
            };
        } else {
            let status = if request.starts_with("GET /healthz ") {
                "200 OK"
            } else {
                "400 Bad Request"
            };
            let _ = write!(
                stream,
                "HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            );
            self.drop_client(slot);
        }
        Ok(())
    }

    /// Sends what the client has not got of the log; what does not fit goes when the socket reports room.
    fn flush(&mut self, slot: usize) {
        let Some(Client {
            stream,
            state: State::Live(position),
        }) = &mut self.clients[slot]
        else {
            return;
        };
        while *position < self.log.len() {
            match stream.write(&self.log[*position..]) {
                Ok(sent) => *position += sent,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(_) => return self.drop_client(slot),
            }
        }
    }

    /// One page for each client that replays and has room.
    fn replay_on(&mut self) -> Result<()> {
        for slot in std::mem::take(&mut self.replaying) {
            if self.replay_page(slot)? {
                self.replaying.push(slot);
            }
        }
        Ok(())
    }

    /// Whether the client could take more at once.
    fn replay_page(&mut self, slot: usize) -> Result<bool> {
        let Some(Client { stream, state }) = &mut self.clients[slot] else {
            return Ok(false);
        };
        let State::Replaying { after, page, sent } = state else {
            return Ok(false);
        };
        if *sent == page.len() {
            page.clear();
            *sent = 0;
            if *after == self.head {
                *state = State::Live(self.log.len());
                return Ok(false);
            }
            *after = push_rows(&self.db, page, *after, self.head)?;
        }
        while *sent < page.len() {
            match stream.write(&page[*sent..]) {
                Ok(written) => *sent += written,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(_) => {
                    self.drop_client(slot);
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    fn drop_client(&mut self, slot: usize) {
        if self.clients[slot].take().is_some() {
            self.free.push(slot);
        }
    }
}

/// Appends a page of frames of the rows above `after` up to `last`; returns the last id, `after` when there are none.
fn push_rows(db: &Connection, out: &mut Vec<u8>, after: i64, last: i64) -> Result<i64> {
    let sql =
        format!("SELECT * FROM {STOCK_TABLE} WHERE id > ?1 AND id <= ?2 ORDER BY id LIMIT {PAGE}");
    let mut select = db.prepare_cached(&sql)?;
    let mut rows = select.query((after, last))?;
    let mut payload = Vec::new();
    let mut newest = after;
    while let Some(row) = rows.next()? {
        newest = row.get(0)?;
        payload.clear();
        push_event(&mut payload, newest, row)?;
        wire::push_text_frame(out, &payload);
    }
    Ok(newest)
}

fn push_event(out: &mut Vec<u8>, id: i64, row: &Row) -> Result<()> {
    write!(out, r#"{{"type":"remediation_event","event":{{"id":{id}"#)?;
    for (index, name) in ["ts", "alertname", "tenant", "action", "status", "details"]
        .into_iter()
        .enumerate()
    {
        write!(out, r#","{name}":"#)?;
        let value = row.get_ref(index + 1)?.as_str_or_null()?;
        serde_json::to_writer(&mut *out, &value)?;
    }
    out.extend_from_slice(b"}}");
    Ok(())
}
