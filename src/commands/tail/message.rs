//! What a subscription sends, as a client reads it: rows and control messages.

use serde::Deserialize;

use crate::text::json_object::Object;
use crate::wire::id::Id;

/// A text frame as `tail` understands it.
#[derive(Debug)]
pub(super) enum Message<'a> {
    Row {
        /// The row object as it was sent.
        row: &'a str,
        /// Columns that were cut because the row was too large.
        truncated: Vec<String>,
    },
    ControlFrame(ControlFrame),
}

/// What is said beside the rows.
#[derive(Debug, Deserialize, PartialEq)]
#[serde(tag = "type", rename_all = "lowercase")]
pub(super) enum ControlFrame {
    Hello {
        feed: String,
        /// What the feed is of, where not of rows.
        #[serde(default)]
        kind: Option<String>,
        key: String,
        epoch: String,
        head: Id,
        since: Id,
        recovered: bool,
        /// The table as it is comes first.
        #[serde(default)]
        snapshot: bool,
    },
    Live {
        id: Id,
    },
    Heartbeat {
        head: Id,
    },
    Reset {
        epoch: String,
        head: Id,
        earliest: Option<Id>,
        #[serde(default)]
        snapshot: bool,
    },
    Goodbye {
        reconnect_after_ms: u64,
    },
    Waiting {
        message: String,
    },
    #[serde(other)]
    Unknown,
}

impl<'a> Message<'a> {
    /// A row is the message that has an object in it: the names of its `type` and of the object are the feed's choice,
    /// and no control message has one.
    pub(super) fn parse(text: &'a str) -> serde_json::Result<Message<'a>> {
        let members: Object<'a> = serde_json::from_str(text)?;
        let row = members
            .0
            .iter()
            .find(|(_, value)| value.get().starts_with('{'));
        Ok(match row {
            Some((_, row)) => Message::Row {
                row: row.get(),
                truncated: truncated(&members),
            },
            None => Message::ControlFrame(serde_json::from_str(text)?),
        })
    }
}

fn truncated(members: &Object<'_>) -> Vec<String> {
    let listed = members
        .get("truncated")
        .and_then(|list| serde_json::from_str(list.get()).ok());
    listed.unwrap_or_default()
}

/// The id of a row, whose key column is `key`.
pub(super) fn id_of(row: &str, key: &str) -> Option<i64> {
    let columns: Object<'_> = serde_json::from_str(row).ok()?;
    let id: Id = serde_json::from_str(columns.get(key)?.get()).ok()?;
    Some(id.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_recognised_whatever_its_feed_calls_it() {
        let text =
            r#"{"type":"hello","goodbye":{"n":"9007199254740993","a":null},"truncated":["a"]}"#;
        let Ok(Message::Row { row, truncated }) = Message::parse(text) else {
            panic!("not a row")
        };
        assert_eq!(
            (row, &*truncated),
            (
                r#"{"n":"9007199254740993","a":null}"#,
                &["a".to_owned()][..]
            )
        );
        assert_eq!(id_of(row, "n"), Some(9_007_199_254_740_993));
        assert_eq!(id_of(row, "a"), None);
    }

    #[test]
    fn control_messages_are_read_as_they_are_sent() {
        let control = |text| match Message::parse(text) {
            Ok(Message::ControlFrame(control)) => control,
            other => panic!("{other:?}"),
        };
        let hello = r#"{"type":"hello","feed":"f","key":"id","epoch":"e","head":5,"earliest":1,"since":4,"recovered":true}"#;
        assert!(matches!(
            control(hello),
            ControlFrame::Hello {
                since: Id(4),
                recovered: true,
                ..
            }
        ));
        assert_eq!(
            control(r#"{"type":"live","id":"9007199254740993"}"#),
            ControlFrame::Live {
                id: Id(9_007_199_254_740_993)
            }
        );
        assert!(matches!(
            control(r#"{"type":"reset","epoch":"e2","reason":"r","head":0,"earliest":null}"#),
            ControlFrame::Reset { earliest: None, .. }
        ));
        assert_eq!(
            control(r#"{"type":"news","since":3}"#),
            ControlFrame::Unknown
        );
    }

    #[test]
    fn columns_keep_their_order_and_wording() {
        let row: Object<'_> =
            serde_json::from_str(r#"{"z":1.50,"a\n":"\u0007","m":[1, 2]}"#).unwrap();
        let members: Vec<(&str, &str)> = row.0.iter().map(|(k, v)| (&**k, v.get())).collect();
        assert_eq!(
            members,
            [("z", "1.50"), ("a\n", r#""\u0007""#), ("m", "[1, 2]")]
        );
    }
}
