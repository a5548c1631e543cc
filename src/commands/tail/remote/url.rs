//! The URL of a subscription: what was given, with the position it goes on from.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, PercentEncode, utf8_percent_encode};

use crate::address::DaemonUrl;
use crate::cli::{TailArgs, TailSince};

/// Words of the query that say where a subscription starts.
const STARTS: [&str; 3] = ["since", "last", "epoch"];

/// Where a subscription starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Start {
    /// As it was asked for, in the words of the query.
    Asked(String),
    /// After this id of this history.
    After { id: i64, epoch: String },
}

/// Everything of the URL but where to start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FeedUrl {
    pub daemon: DaemonUrl,
    /// Of the feed; empty where none was named.
    pub path: String,
    /// Filters and other parameters, encoded.
    parameters: Vec<String>,
}

/// Takes `url` and the flags apart. What the flags say of the start wins over what the URL says; where neither says
/// anything it begins with the newest `unasked` rows, or with the next one.
pub(super) fn parse(url: &DaemonUrl, args: &TailArgs, unasked: Option<u32>) -> (FeedUrl, Start) {
    let given = url.query().split('&').filter(|pair| !pair.is_empty());
    let is_start = |pair: &&str| STARTS.contains(&pair.split('=').next().unwrap_or_default());
    let (starts, others): (Vec<&str>, Vec<&str>) = given.partition(is_start);
    let filters = args
        .filter
        .iter()
        .map(|(column, value)| format!("{}={}", encoded(column), encoded(value)));
    let parameters = others.into_iter().map(str::to_owned).chain(filters);
    let target = FeedUrl {
        parameters: parameters.collect(),
        ..FeedUrl::of(url)
    };
    (target, start(args, &starts, unasked))
}

fn start(args: &TailArgs, given: &[&str], unasked: Option<u32>) -> Start {
    let mut query = match (args.since, args.last) {
        (Some(TailSince::Id(id)), _) => format!("since={id}"),
        (Some(TailSince::Earliest), _) => "since=earliest".to_owned(),
        (Some(TailSince::Now), _) => "since=now".to_owned(),
        (None, Some(n)) => format!("last={n}"),
        // Resumable without being asked, or rows would be missed between two connections.
        (None, None) if given.is_empty() => match unasked {
            Some(n) => format!("last={n}"),
            None => "since=now".to_owned(),
        },
        (None, None) => given.join("&"),
    };
    if let Some(epoch) = &args.epoch {
        query.push_str(&format!("&epoch={}", encoded(epoch)));
    }
    Start::Asked(query)
}

impl FeedUrl {
    /// The feed there, without any parameter.
    pub(super) fn of(url: &DaemonUrl) -> FeedUrl {
        FeedUrl {
            daemon: url.clone(),
            path: url.path().to_owned(),
            parameters: Vec::new(),
        }
    }

    /// The URL of a connection that starts there.
    pub(super) fn url(&self, start: &Start) -> String {
        let start = match start {
            Start::Asked(query) => query.clone(),
            // Ids below zero can't be asked for; rows that were printed are left out when they come.
            Start::After { id, .. } if *id < 0 => "since=earliest".to_owned(),
            Start::After { id, epoch } => format!("since={id}&epoch={}", encoded(epoch)),
        };
        let query: Vec<&str> = self
            .parameters
            .iter()
            .map(String::as_str)
            .chain([&*start])
            .collect();
        format!("{}?{}", self.shown(), query.join("&"))
    }

    /// For people: where it connects to.
    pub(super) fn shown(&self) -> String {
        let scheme = if self.daemon.is_tls() { "wss" } else { "ws" };
        format!("{scheme}://{}{}", self.daemon.authority(), self.path)
    }
}

/// All but the characters that RFC 3986 reserves for nothing.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

fn encoded(text: &str) -> PercentEncode<'_> {
    utf8_percent_encode(text, RESERVED)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Cli, Command};

    fn parsed(line: &[&str]) -> (FeedUrl, Start) {
        parsed_with(line, None)
    }

    fn parsed_with(line: &[&str], unasked: Option<u32>) -> (FeedUrl, Start) {
        let cli = Cli::try_parse_from(["walcast", "tail"].iter().chain(line)).unwrap();
        let Command::Tail(args) = cli.command else {
            panic!("not tail")
        };
        let crate::cli::TailSource::Url(url) = args.source() else {
            panic!("not a URL")
        };
        parse(&url, &args, unasked)
    }

    fn first_url(line: &[&str]) -> String {
        let (target, start) = parsed(line);
        target.url(&start)
    }

    #[test]
    fn what_is_left_out_is_filled_in() {
        let now = "ws://127.0.0.1:8010/x?since=now";
        assert_eq!(first_url(&["http://127.0.0.1:8010/x"]), now);
        for nowhere in ["http://127.0.0.1:8010", "ws://127.0.0.1:8010/"] {
            assert_eq!(parsed(&[nowhere]).0.path, "");
        }
        let newest = |line: &[&str]| parsed_with(line, Some(10)).1;
        let asked = |start: &str| Start::Asked(start.to_owned());
        assert_eq!(newest(&["ws://h/x"]), asked("last=10"));
        assert_eq!(newest(&["ws://h/x?since=3"]), asked("since=3"));
        assert_eq!(newest(&["ws://h/x", "--since", "now"]), asked("since=now"));
        assert_eq!(
            first_url(&["ws://h/ws/x", "--since", "5", "--epoch", "a b"]),
            "ws://h/ws/x?since=5&epoch=a%20b"
        );
        assert_eq!(
            first_url(&["ws://h/x?tenant=a&last=5", "--filter", "n=ä"]),
            "ws://h/x?tenant=a&n=%C3%A4&last=5"
        );
        assert_eq!(
            first_url(&["ws://h/x?last=5", "--since", "earliest"]),
            "ws://h/x?since=earliest"
        );
        assert_eq!(parsed(&["ws://h/x"]).0.daemon.address(), "h:80");
        assert_eq!(first_url(&["https://h/x"]), "wss://h/x?since=now");
        assert_eq!(parsed(&["ws://[::1]/x"]).0.daemon.address(), "[::1]:80");
        assert_eq!(parsed(&["ws://[::1]:7/x"]).0.daemon.address(), "[::1]:7");
    }

    #[test]
    fn a_reconnect_asks_for_what_follows() {
        let (target, _) = parsed(&["ws://h:1/x?since=3&epoch=old&tenant=a"]);
        let after = |id| Start::After {
            id,
            epoch: "e-1".into(),
        };
        assert_eq!(
            target.url(&after(9)),
            "ws://h:1/x?tenant=a&since=9&epoch=e-1"
        );
        assert_eq!(target.url(&after(-9)), "ws://h:1/x?tenant=a&since=earliest");
    }
}
