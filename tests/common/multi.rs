//! A client of a WebSocket with several subscriptions: tells their frames apart, each in its order.

use std::collections::{HashMap, VecDeque};

use serde_json::{Value, json};

use super::subscriber::row_of;
use super::{Daemon, Subscriber};

pub const MULTI: (&str, &str) = ("sec-websocket-protocol", "walcast.multi.v1");

/// The client. What is about no subscription is under the empty name.
#[derive(Debug)]
pub struct Multi {
    pub socket: Subscriber,
    came: HashMap<String, VecDeque<Value>>,
}

impl Multi {
    #[track_caller]
    pub fn connect(daemon: &Daemon) -> Multi {
        Multi::over(Subscriber::connect_with(
            daemon.address(),
            "/ws",
            "",
            &[MULTI],
        ))
    }

    /// With a token, as a page presents it.
    #[track_caller]
    pub fn connect_with_token(daemon: &Daemon, token: &str) -> Multi {
        let offers = format!("walcast.multi.v1, walcast.bearer.{token}");
        let headers = [
            ("Origin", "http://localhost:3000"),
            ("Host", "localhost"),
            ("sec-websocket-protocol", offers.as_str()),
        ];
        Multi::over(Subscriber::connect_with(
            daemon.address(),
            "/ws",
            "",
            &headers,
        ))
    }

    pub fn over(socket: Subscriber) -> Multi {
        Multi {
            socket,
            came: HashMap::new(),
        }
    }

    #[track_caller]
    pub fn say(&mut self, message: &Value) {
        self.socket.send(&message.to_string());
    }

    /// Subscribes; `more` are the members beside name and feed.
    #[track_caller]
    pub fn subscribe(&mut self, id: &str, feed: &str, more: Value) {
        let mut message = json!({"type": "subscribe", "id": id, "feed": feed});
        let more = more.as_object().expect("an object").clone();
        message.as_object_mut().expect("an object").extend(more);
        self.say(&message);
    }

    #[track_caller]
    pub fn unsubscribe(&mut self, id: &str) {
        self.say(&json!({"type": "unsubscribe", "id": id}));
    }

    /// Takes in one frame, whosever it is; its name.
    #[track_caller]
    pub fn take(&mut self) -> String {
        let frame = self.socket.next_frame();
        let id = frame["id"].as_str().unwrap_or_default().to_owned();
        let is_enveloped = frame.get("message").is_some();
        assert_eq!(is_enveloped, frame.get("type").is_none(), "{frame}");
        let inner = frame.get("message").cloned().unwrap_or(frame);
        self.came.entry(id.clone()).or_default().push_back(inner);
        id
    }

    /// The next frame of a subscription, or word of its end.
    #[track_caller]
    pub fn next_of(&mut self, id: &str) -> Value {
        loop {
            if let Some(frame) = self.came.get_mut(id).and_then(VecDeque::pop_front) {
                return frame;
            }
            self.take();
        }
    }

    /// The next frame of a subscription, which must be of this type.
    #[track_caller]
    pub fn expect(&mut self, id: &str, kind: &str) -> Value {
        let frame = self.next_of(id);
        assert_eq!(frame["type"], kind, "{id}: {frame}");
        frame
    }

    /// The ids of the rows of a subscription up to its next other frame, which must be of this type, and that.
    #[track_caller]
    pub fn rows_until(&mut self, id: &str, kind: &str) -> (Vec<i64>, Value) {
        let mut ids = vec![];
        loop {
            let frame = self.next_of(id);
            match row_of(&frame) {
                Some(row) if frame["type"] != "error" => ids.push(super::id(&row)),
                _ => {
                    assert_eq!(frame["type"], kind, "{id}: {frame}");
                    return (ids, frame);
                }
            }
        }
    }

    /// The next row of a subscription.
    #[track_caller]
    pub fn next_row(&mut self, id: &str) -> Value {
        let frame = self.next_of(id);
        row_of(&frame).unwrap_or_else(|| panic!("{id}: not a row: {frame}"))
    }

    /// The code of the error about a subscription, or about a message under the empty name, and its status.
    #[track_caller]
    pub fn expect_error(&mut self, id: &str) -> (String, i64) {
        let frame = self.expect(id, "error");
        let message = frame["error"]["message"].as_str().unwrap_or_default();
        assert!(!message.is_empty(), "{frame}");
        let code = frame["error"]["code"].as_str().expect("a code").to_owned();
        (code, frame["status"].as_i64().expect("a status"))
    }

    /// The code with which a subscription was closed.
    #[track_caller]
    pub fn expect_closed(&mut self, id: &str) -> i64 {
        let frame = self.expect(id, "closed");
        assert!(frame["reason"].is_string(), "{frame}");
        frame["code"].as_i64().expect("a code")
    }

    /// Proves that nothing is under way: the answer to a ping is the next frame.
    #[track_caller]
    pub fn expect_nothing(&mut self) {
        assert!(self.came.values().all(VecDeque::is_empty), "{self:?}");
        self.socket.expect_nothing();
    }
}
