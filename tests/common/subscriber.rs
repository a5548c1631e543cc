//! A WebSocket client that keeps everything it was sent, and fails when nothing comes.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;
use socket2::{Domain, Socket, Type};
use tungstenite::protocol::WebSocketConfig;
use tungstenite::{Error, Message, WebSocket};

use super::deflated::{self, Inflated};
use super::secrets;
use super::wait::PATIENCE;

/// What came from the daemon, Pings and Pongs apart.
#[derive(Debug, Clone, PartialEq)]
pub enum Received {
    Text(String),
    /// The code of the close frame; `None` where there was no code, or no close frame at all.
    Closed(Option<u16>),
}

/// A subscriber. Rows are what stands under `event`, or under the only other key beside `type`.
#[derive(Debug)]
pub struct Subscriber {
    socket: WebSocket<Inflated>,
    rows: Vec<Value>,
    /// A frame other than a row came first, as plain subscriptions never have it.
    is_resumable: bool,
}

impl Subscriber {
    #[track_caller]
    pub fn connect(address: SocketAddr, path: &str, query: &str) -> Subscriber {
        let stream = TcpStream::connect(address).expect("walcast accepts");
        Subscriber::upgrade(stream, address, path, query, &[])
    }

    /// With headers such as `Origin`.
    #[track_caller]
    pub fn connect_with(
        address: SocketAddr,
        path: &str,
        query: &str,
        headers: &[(&'static str, &str)],
    ) -> Subscriber {
        let stream = TcpStream::connect(address).expect("walcast accepts");
        Subscriber::upgrade(stream, address, path, query, headers)
    }

    /// One for which the kernel keeps little, so that not to read is soon felt on the other side.
    #[track_caller]
    pub fn connect_with_small_buffer(
        address: SocketAddr,
        path: &str,
        query: &str,
        headers: &[(&'static str, &str)],
    ) -> Subscriber {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket can be made");
        socket
            .set_recv_buffer_size(4096)
            .expect("a buffer can be small");
        socket.connect(&address.into()).expect("walcast accepts");
        Subscriber::upgrade(socket.into(), address, path, query, headers)
    }

    #[track_caller]
    fn upgrade(
        stream: TcpStream,
        address: SocketAddr,
        path: &str,
        query: &str,
        headers: &[(&'static str, &str)],
    ) -> Subscriber {
        use tungstenite::client::IntoClientRequest;
        stream
            .set_read_timeout(Some(PATIENCE))
            .expect("a socket takes a time limit");
        stream
            .set_nodelay(true)
            .expect("a socket takes TCP_NODELAY");
        let separator = if query.is_empty() { "" } else { "?" };
        let url = format!("ws://{address}{path}{separator}{query}");
        secrets::keep_those_in(&url);
        let mut request = url.as_str().into_client_request().expect("a good URL");
        let deflated = [deflated::OFFER];
        let inflates = offers() || headers.contains(&deflated::OFFER);
        let offer = deflated
            .iter()
            .filter(|_| inflates && !headers.contains(&deflated::OFFER));
        for (name, value) in headers.iter().chain(offer) {
            secrets::keep_those_in(value);
            let value = value.parse().expect("a header takes this value");
            request.headers_mut().insert(*name, value);
        }
        // No limit: rows may be larger than any default.
        let config = WebSocketConfig::default()
            .max_message_size(None)
            .max_frame_size(None);
        match tungstenite::client::client_with_config(
            request,
            Inflated::new(stream, inflates),
            Some(config),
        ) {
            Ok((socket, _)) => Subscriber {
                socket,
                rows: vec![],
                is_resumable: false,
            },
            Err(e) => panic!("{url} was refused: {e}"),
        }
    }

    /// The next text frame or the close. Panics after [`PATIENCE`] without one.
    #[track_caller]
    pub fn receive(&mut self) -> Received {
        self.receive_within(PATIENCE)
            .unwrap_or_else(|| panic!("nothing came for {PATIENCE:?}{}", self.so_far()))
    }

    /// The next message of any kind, Pings and Pongs too.
    #[track_caller]
    pub fn next_message(&mut self) -> Message {
        let stream = &self.socket.get_ref().tcp;
        stream
            .set_nonblocking(false)
            .and_then(|()| stream.set_read_timeout(Some(PATIENCE)))
            .expect("a socket takes a time limit");
        let message = self.socket.read();
        message.unwrap_or_else(|e| panic!("no message came: {e}{}", self.so_far()))
    }

    /// The next text frame or the close, `None` where nothing came in time.
    #[track_caller]
    pub fn receive_within(&mut self, time: Duration) -> Option<Received> {
        let deadline = Instant::now() + time;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let stream = &self.socket.get_ref().tcp;
            // Zero would mean no limit, and the least one lasts for as long as the kernel's clock ticks.
            let at_once = left.is_zero();
            let ready = match at_once {
                true => Ok(()),
                false => stream.set_read_timeout(Some(left)),
            };
            ready
                .and_then(|()| stream.set_nonblocking(at_once))
                .expect("a socket takes a time limit");
            match self.socket.read() {
                Ok(Message::Text(text)) => {
                    secrets::assert_none_in("a frame", &text);
                    return Some(Received::Text(text.to_string()));
                }
                Ok(Message::Close(frame)) => {
                    return Some(Received::Closed(frame.map(|frame| frame.code.into())));
                }
                Ok(Message::Binary(bytes)) => panic!("a binary frame: {bytes:?}"),
                Ok(_) => {}
                Err(Error::Io(e))
                    if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) =>
                {
                    if at_once {
                        return None;
                    }
                }
                Err(_) => return Some(Received::Closed(None)),
            }
        }
    }

    #[track_caller]
    pub fn next_text(&mut self) -> String {
        match self.receive() {
            Received::Text(text) => text,
            Received::Closed(code) => {
                panic!("closed with {code:?} instead of a frame{}", self.so_far())
            }
        }
    }

    /// The next text frame as JSON, heartbeats apart: on a busy machine a silence may be as long as that.
    #[track_caller]
    pub fn next_frame(&mut self) -> Value {
        loop {
            let text = self.next_text();
            let frame: Value =
                serde_json::from_str(&text).unwrap_or_else(|e| panic!("not JSON ({e}): {text}"));
            if frame["type"] != "heartbeat" {
                self.is_resumable |= ["hello", "waiting"]
                    .map(Value::from)
                    .contains(&frame["type"]);
                return frame;
            }
            assert!(self.is_resumable, "a plain subscription got {frame}");
        }
    }

    /// The next frame, which must be a row. It enters the ledger.
    #[track_caller]
    pub fn next_row(&mut self) -> Value {
        let frame = self.next_frame();
        let row = row_of(&frame).unwrap_or_else(|| panic!("not a row: {frame}{}", self.so_far()));
        self.rows.push(row.clone());
        row
    }

    /// Takes one frame: a row enters the ledger and gives `None`, any other frame is given back.
    #[track_caller]
    pub fn next_row_or_frame(&mut self) -> Option<Value> {
        let frame = self.next_frame();
        match row_of(&frame) {
            Some(row) => {
                self.rows.push(row);
                None
            }
            None => Some(frame),
        }
    }

    #[track_caller]
    pub fn next_rows(&mut self, count: usize) -> Vec<Value> {
        (0..count).map(|_| self.next_row()).collect()
    }

    /// Takes rows until the one with this id has come. A row of a higher id before it is a failure.
    #[track_caller]
    pub fn rows_to(&mut self, last: i64) -> Vec<Value> {
        let mut rows = vec![];
        loop {
            let row = self.next_row();
            let id = super::id(&row);
            assert!(id <= last, "row {id} came, {last} did not");
            rows.push(row);
            if id == last {
                return rows;
            }
        }
    }

    /// The next frame, which must be of this type: `hello`, `live`, `reset`, `goodbye`, `waiting`. Before a `reset` it is
    /// waited for as long as it takes to put another file in the place of the one that went.
    #[track_caller]
    pub fn expect(&mut self, kind: &str) -> Value {
        let mut frame = self.next_frame();
        while kind == "reset" && frame["type"] == "waiting" {
            frame = self.next_frame();
        }
        assert_eq!(
            frame["type"],
            kind,
            "expected {kind}, got {frame}{}",
            self.so_far()
        );
        frame
    }

    /// Takes rows up to the next other frame, which must be of this type. Gives their ids and the frame.
    #[track_caller]
    pub fn rows_until(&mut self, kind: &str) -> (Vec<i64>, Value) {
        let before = self.rows.len();
        let frame = loop {
            if let Some(frame) = self.next_row_or_frame() {
                break frame;
            }
        };
        assert_eq!(frame["type"], kind, "not {kind}: {frame}{}", self.so_far());
        (super::ids(&self.rows[before..]), frame)
    }

    /// The ids of the rows up to the `live` frame, and the id in that.
    #[track_caller]
    pub fn replay(&mut self) -> (Vec<i64>, i64) {
        let (ids, live) = self.rows_until("live");
        (ids, super::id(&live))
    }

    /// Waits for the close and checks its code; frames before it are a failure.
    #[track_caller]
    pub fn expect_close(&mut self, code: u16) {
        let is_heartbeat = |received: &Received| matches!(received, Received::Text(text) if text.starts_with(r#"{"type":"heartbeat""#));
        let mut received = self.receive();
        while self.is_resumable && is_heartbeat(&received) {
            received = self.receive();
        }
        assert_eq!(received, Received::Closed(Some(code)), "{}", self.so_far());
    }

    /// Proves that nothing was sent up to now: the answer to a ping must be the next frame.
    #[track_caller]
    pub fn expect_nothing(&mut self) {
        self.send("ping");
        assert_eq!(self.next_text(), "pong");
    }

    #[track_caller]
    pub fn send(&mut self, text: &str) {
        self.try_send(Message::text(text))
            .expect("the connection is open");
    }

    /// Sends any message; the error is the connection's end.
    pub fn try_send(&mut self, message: Message) -> Result<(), Error> {
        self.socket.get_ref().tcp.set_nonblocking(false)?;
        self.socket.send(message)
    }

    /// Undoes the small buffer, so that catching up does not take thousands of round trips.
    pub fn enlarge_buffer(&mut self) {
        let socket = socket2::SockRef::from(&self.socket.get_ref().tcp);
        socket
            .set_recv_buffer_size(1 << 20)
            .expect("a buffer can be large");
    }

    /// The socket, for tests that speak below the protocol.
    pub fn stream(&mut self) -> &mut TcpStream {
        &mut self.socket.get_mut().tcp
    }

    /// Every row received so far, in order.
    pub fn ledger(&self) -> &[Value] {
        &self.rows
    }

    fn so_far(&self) -> String {
        match self.rows.last() {
            Some(row) => format!("; after {} rows, the last {row:.300}", self.rows.len()),
            None => "; no row came before".into(),
        }
    }
}

/// Set, every subscriber of a test asks for compressed messages, and every daemon compresses.
const OVER_DEFLATE: &str = "TESTS_OVER_DEFLATE";

/// In these tests ledgers are kept over compressed messages too: every other subscriber asks for them.
const BOTH_WAYS: bool = matches!(
    env!("CARGO_CRATE_NAME").as_bytes(),
    b"torture" | b"property"
);

/// Whether rows are to be compressed that a test has said nothing of.
pub fn compresses() -> bool {
    BOTH_WAYS || std::env::var_os(OVER_DEFLATE).is_some()
}

/// Whether the next subscriber asks for it.
fn offers() -> bool {
    static TURN: AtomicUsize = AtomicUsize::new(0);
    let takes_turns = BOTH_WAYS && TURN.fetch_add(1, Ordering::Relaxed).is_multiple_of(2);
    takes_turns || std::env::var_os(OVER_DEFLATE).is_some()
}

/// The row in a frame: the value beside `type`, where that is an object. Control frames hold none.
pub fn row_of(frame: &Value) -> Option<Value> {
    let frame = frame.as_object()?;
    let mut rows = frame
        .iter()
        .filter(|(key, value)| *key != "type" && value.is_object());
    match (rows.next(), rows.next()) {
        (Some((_, row)), None) => Some(row.clone()),
        _ => None,
    }
}
