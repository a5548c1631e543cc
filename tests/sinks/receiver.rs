//! A receiver of webhooks that keeps what it was sent, and answers as it is told.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Instant;

use serde_json::Value;

use crate::common::PATIENCE;

/// What was posted.
#[derive(Debug, Clone)]
pub struct Post {
    headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Post {
    #[track_caller]
    pub fn header(&self, name: &str) -> &str {
        let found = self
            .headers
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name));
        let (_, value) = found.unwrap_or_else(|| panic!("no {name} in {:?}", self.headers));
        value
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("a body is JSON")
    }

    /// The messages, as frames of a WebSocket carry them.
    pub fn messages(&self) -> Vec<Value> {
        self.json()["rows"]
            .as_array()
            .expect("rows are a list")
            .clone()
    }

    /// The ids of its rows.
    pub fn ids(&self) -> Vec<i64> {
        let rows = self.messages();
        rows.iter()
            .map(|row| row["event"]["id"].as_i64().expect("an id"))
            .collect()
    }
}

/// The status of an answer, and headers, each with its line's end.
#[derive(Debug, Clone, Copy)]
pub struct Answer(pub u16, pub &'static str);

pub const OK: Answer = Answer(204, "");

#[derive(Debug)]
struct State {
    posts: Vec<Post>,
    /// For the next posts, one each.
    next: VecDeque<Answer>,
    /// For all others.
    otherwise: Answer,
    /// A post that came is not answered until this is unset.
    holds: bool,
    /// A body larger than this is answered with 413.
    most: usize,
    open: Vec<TcpStream>,
    closed: bool,
}

type Shared = Arc<(Mutex<State>, Condvar)>;

/// A receiver that listens on loopback. Dropped, it is gone, its connections too.
pub struct Receiver {
    address: SocketAddr,
    shared: Shared,
    accepting: Option<JoinHandle<()>>,
}

impl Receiver {
    /// One that takes everything.
    pub fn start() -> Receiver {
        Receiver::at("127.0.0.1:0".parse().expect("an address"))
    }

    /// The same at an address, for example of one that is gone.
    pub fn at(address: SocketAddr) -> Receiver {
        let listener = TcpListener::bind(address).expect("the address is free");
        let address = listener.local_addr().expect("a listener has an address");
        let state = State {
            posts: Vec::new(),
            next: VecDeque::new(),
            otherwise: OK,
            holds: false,
            most: usize::MAX,
            open: Vec::new(),
            closed: false,
        };
        let shared: Shared = Arc::new((Mutex::new(state), Condvar::new()));
        let accepting = std::thread::spawn({
            let shared = Arc::clone(&shared);
            move || accept(&listener, &shared)
        });
        Receiver {
            address,
            shared,
            accepting: Some(accepting),
        }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn url(&self) -> String {
        format!("http://{}/hook?key=hunter2", self.address)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared
            .0
            .lock()
            .expect("no thread panics with it locked")
    }

    /// The next posts are answered so, one each.
    pub fn answer_next(&self, answers: &[Answer]) {
        self.state().next.extend(answers);
    }

    /// All posts are answered so from now on.
    pub fn answer(&self, answer: Answer) {
        self.state().otherwise = answer;
    }

    /// Bodies larger than this are refused.
    pub fn take_at_most(&self, bytes: usize) {
        self.state().most = bytes;
    }

    /// Posts that come are not answered for now.
    pub fn hold(&self) {
        self.state().holds = true;
    }

    /// They are again, those that came meanwhile too.
    pub fn release(&self) {
        self.state().holds = false;
        self.shared.1.notify_all();
    }

    /// Everything that was posted so far, whatever was answered.
    pub fn posts(&self) -> Vec<Post> {
        self.state().posts.clone()
    }

    /// Waits until what was posted is as wanted.
    #[track_caller]
    pub fn wait_until(&self, what: &str, wanted: impl Fn(&[Post]) -> bool) -> Vec<Post> {
        let (_, changed) = &*self.shared;
        let deadline = Instant::now() + PATIENCE;
        let mut state = self.state();
        while !wanted(&state.posts) {
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(
                !left.is_zero(),
                "waited in vain until {what}; got {} posts, the last {:.300?}",
                state.posts.len(),
                state.posts.last()
            );
            let waited = changed.wait_timeout(state, left);
            state = waited.expect("no thread panics with it locked").0;
        }
        state.posts.clone()
    }

    /// Waits for the row with this id, however long the ones before it take as long as some come.
    #[track_caller]
    pub fn wait_for_row(&self, id: i64) {
        let is_last = |post: &Post| post.header("webhook-id").ends_with(&format!(":{id}"));
        let mut before = 0;
        loop {
            let posts = self.wait_until("more came", |posts| posts.len() > before);
            if posts[before..].iter().any(is_last) {
                return;
            }
            before = posts.len();
        }
    }

    /// Waits for the change with this number, and returns all that was posted.
    #[track_caller]
    pub fn posts_up_to(&self, seq: i64) -> Vec<Post> {
        let is_last = |post: &Post| post.header("webhook-id").ends_with(&format!(":{seq}"));
        self.wait_until("the change came", |posts| posts.iter().any(is_last))
    }

    /// Waits for the row with this id, and returns the ids of all rows in the order in which they came first.
    #[track_caller]
    pub fn ids_up_to(&self, id: i64) -> Vec<i64> {
        // The last row of a body is in its id: bodies need not be parsed before it has come.
        let is_last = |post: &Post| post.header("webhook-id").ends_with(&format!(":{id}"));
        let posts = self.wait_until(&format!("row {id} came"), |posts| posts.iter().any(is_last));
        first_seen(&posts)
    }
}

/// The ids of rows in the order in which they came first.
pub fn first_seen(posts: &[Post]) -> Vec<i64> {
    let mut seen = std::collections::HashSet::new();
    let ids = posts.iter().flat_map(Post::ids);
    ids.filter(|id| seen.insert(*id)).collect()
}

impl Drop for Receiver {
    fn drop(&mut self) {
        let mut state = self.state();
        state.closed = true;
        state.holds = false;
        for stream in state.open.drain(..) {
            // The other side may have closed it.
            let _ = stream.shutdown(Shutdown::Both);
        }
        drop(state);
        self.shared.1.notify_all();
        // Wakes the accepting thread, which then sees that it is over.
        let _ = TcpStream::connect(self.address);
        if let Some(accepting) = self.accepting.take() {
            let _ = accepting.join();
        }
    }
}

fn accept(listener: &TcpListener, shared: &Shared) {
    for stream in listener.incoming() {
        let Ok(stream) = stream else { continue };
        let mut state = shared.0.lock().expect("no thread panics with it locked");
        if state.closed {
            return;
        }
        state
            .open
            .push(stream.try_clone().expect("a socket can be cloned"));
        let shared = Arc::clone(shared);
        std::thread::spawn(move || serve(stream, &shared));
    }
}

/// Answers one connection's posts until it ends.
fn serve(mut stream: TcpStream, shared: &Shared) {
    let mut rest = Vec::new();
    while let Some(post) = read(&mut stream, &mut rest) {
        let (state, changed) = &**shared;
        let mut state = state.lock().expect("no thread panics with it locked");
        let too_large = post.body.len() > state.most;
        state.posts.push(post);
        changed.notify_all();
        let state = changed.wait_while(state, |state| state.holds);
        let mut state = state.expect("no thread panics with it locked");
        let Answer(status, headers) = match too_large {
            true => Answer(413, ""),
            false => state.next.pop_front().unwrap_or(state.otherwise),
        };
        if state.closed {
            return;
        }
        drop(state);
        let body = if status == 204 { "" } else { "because" };
        let length = body.len();
        let answer =
            format!("HTTP/1.1 {status} x\r\nContent-Length: {length}\r\n{headers}\r\n{body}");
        if stream.write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}

/// One request; `None` at the end of the connection.
fn read(stream: &mut TcpStream, rest: &mut Vec<u8>) -> Option<Post> {
    let mut buffer = [0; 64 * 1024];
    let mut more = |rest: &mut Vec<u8>| {
        let read = stream.read(&mut buffer).ok().filter(|read| *read > 0)?;
        rest.extend_from_slice(&buffer[..read]);
        Some(())
    };
    let end = loop {
        match rest.windows(4).position(|window| window == b"\r\n\r\n") {
            Some(end) => break end + 4,
            None => more(rest)?,
        }
    };
    let head = String::from_utf8(rest[..end].to_vec()).expect("a head is text");
    assert!(
        head.starts_with("POST /hook?key=hunter2 HTTP/1.1\r\n"),
        "{head}"
    );
    let headers: Vec<(String, String)> = head
        .lines()
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let length = headers
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    let length: usize = length
        .expect("a length")
        .1
        .parse()
        .expect("a length is a number");
    while rest.len() < end + length {
        more(rest)?;
    }
    let body = rest[end..end + length].to_vec();
    rest.drain(..end + length);
    Some(Post { headers, body })
}
