//! What an origin sends: the frames of a resumable subscription that takes rows whole.

use serde::Deserialize;

use crate::sqlite::whole_row::{TableDescription, WholeChange, WholeRow};
use crate::wire::id::Id;

/// A text frame of an origin. What a newer version says besides is passed over.
#[derive(Debug)]
pub(super) enum OriginFrame {
    Row(WholeRow),
    Change(WholeChange),
    Control(OriginControl),
}

#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub(super) enum OriginControl {
    /// What rows are of, or changes: in a stream these have another word for it.
    #[serde(alias = "changes")]
    Table {
        schema: String,
        #[serde(flatten)]
        table: Box<TableDescription>,
    },
    Hello {
        epoch: String,
        recovered: bool,
        /// A captured table as it is follows, before its changes.
        #[serde(default)]
        snapshot: bool,
    },
    Reset {
        epoch: String,
        #[serde(default)]
        reason: String,
    },
    Live {
        id: Id,
    },
    Heartbeat {
        head: Id,
    },
    Goodbye {
        #[serde(default)]
        reconnect_after_ms: Option<u64>,
    },
    Waiting {
        message: String,
    },
    #[serde(other)]
    Unknown,
}

/// What every message of a row begins with.
const ROW: &str = "{\"type\":\"row\",";
/// What every message of a change begins with.
const CHANGE: &str = "{\"type\":\"change\",";

impl OriginFrame {
    pub(super) fn parse(text: &str) -> serde_json::Result<OriginFrame> {
        match text {
            row if row.starts_with(ROW) => serde_json::from_str(row).map(OriginFrame::Row),
            change if change.starts_with(CHANGE) => {
                serde_json::from_str(change).map(OriginFrame::Change)
            }
            control => serde_json::from_str(control).map(OriginFrame::Control),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_newer_origin_says_besides_is_passed_over() {
        let control = |text: &str| match OriginFrame::parse(text).unwrap() {
            OriginFrame::Control(control) => control,
            other => panic!("{other:?}"),
        };
        let hello =
            r#"{"type":"hello","feed":"f","epoch":"e","head":5,"recovered":true,"new":{"a":[1]}}"#;
        assert!(matches!(
            control(hello),
            OriginControl::Hello {
                recovered: true,
                ..
            }
        ));
        assert!(matches!(
            control(r#"{"type":"weather","sun":true}"#),
            OriginControl::Unknown
        ));
        let live = r#"{"type":"live","id":"9007199254740993"}"#;
        let OriginControl::Live { id } = control(live) else {
            panic!("no live");
        };
        assert_eq!(id, Id(9_007_199_254_740_993));
        let row = r#"{"type":"row","schema":"s","row":[1],"new":1}"#;
        assert!(matches!(OriginFrame::parse(row), Ok(OriginFrame::Row(_))));
    }
}
