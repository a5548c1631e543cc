//! What `capture`, `capture_filters` and `capture_keep` say of a feed.

use std::time::Duration;

use super::declaration::Declaration;
use super::layers::{Layers, ValueSource};
use super::setting::settings;
use super::written::WrittenValue;
use super::{kinds, parse};

/// The longest age: ten years, more than a log of changes is ever kept for.
const LONGEST_AGE: Duration = Duration::from_secs(3650 * 24 * 60 * 60);

/// In seconds.
const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// What the log of a table's changes holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CaptureMode {
    /// Which row changed: its key.
    Keys,
    /// The key, and the row before and after the change.
    Full,
}

impl CaptureMode {
    /// As it is written in the configuration and in the file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Keys => "keys",
            Self::Full => "full",
        }
    }

    /// Returns the mode that is written so; `None` where there is none.
    pub fn of(text: &str) -> Option<Self> {
        [Self::Keys, Self::Full]
            .into_iter()
            .find(|mode| mode.as_str() == text)
    }
}

settings! {
    /// How the updates and deletes of a feed's table are captured.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct CaptureRules {
        /// What the log of its changes holds.
        "capture" mode: CaptureMode = CaptureMode::Keys,
            Declaration::new("MODE", mode, |mode: &CaptureMode| WrittenValue::Text(mode.as_str().to_owned()))
                .otherwise("inserted rows alone are sent");

        /// Columns whose old and new values are recorded, for filters and scopes.
        "capture_filters" filters: Vec<String> = Vec::new(),
            kinds::texts().unless_empty("no filters but on the key");

        /// How long changes are kept.
        "capture_keep" keep: Duration = Duration::from_secs(24 * 60 * 60),
            kinds::age();
    }
    others {
        /// Whether the daemon installs triggers that are missing, mends them and prunes; where a table is only served as it
        /// is found, nothing in its file is changed.
        upkeep: bool = true;
        /// On an edge, what of it is in the spool, where no trigger writes it; `None` where it is captured in the file itself.
        spooled: Option<SpooledLog> = None;
    }
}

/// The log of changes that came from an origin, with the table as it is beside it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpooledLog {
    /// The name of the log.
    pub log: String,
    /// Columns of the table's key, in their order, each with the collation by which no two rows are the same.
    pub key: Vec<(String, String)>,
    /// How long its origin keeps changes, where that is known.
    pub keep: Option<Duration>,
}

impl CaptureRules {
    /// What is known of a table whose changes somebody else has captured: the file says how.
    pub fn found(mode: CaptureMode, filters: Vec<String>) -> Self {
        Self {
            mode,
            filters,
            upkeep: false,
            ..Self::unset()
        }
    }
}

/// Refuses what goes only with `capture` where the feed `name` has none, and the other way about.
pub(super) fn check(layers: &mut Layers<'_>, name: &str) {
    let key = |field: &str| format!("feeds.{name}.{field}");
    let is_said = |layers: &Layers<'_>, field: &str| layers.node(&key(field)).is_some();
    let refuse = |layers: &mut Layers<'_>, field: &str, problem: &str| {
        if let Some(node) = layers.node(&key(field)) {
            let problem = format!("{}: {problem}", key(field));
            layers.problem(&ValueSource::File(node.line), &problem);
        }
    };
    if is_said(layers, "capture") {
        let problem = "the key of a captured table is its primary key, and the position of a change its number in the log; \
                       remove the line";
        return refuse(layers, "key", problem);
    }
    for field in ["capture_filters", "capture_keep"] {
        let problem = "nothing is captured; add capture = \"keys\" or \"full\", or remove the line";
        refuse(layers, field, problem);
    }
}

fn mode(value: &WrittenValue) -> Result<CaptureMode, String> {
    match parse::text(value)?.as_str() {
        "wal" => Err(
            "is not offered; write \"keys\" (which row changed) or \"full\" (with the row before and after)"
                .to_owned(),
        ),
        text => CaptureMode::of(text).ok_or_else(|| {
            "is not a way to capture changes; write \"keys\" (which row changed) or \"full\" (with the row before and after)"
                .to_owned()
        }),
    }
}

/// Reads an age such as `30m`, `24h` or `7d`.
///
/// # Errors
/// Says what an age looks like, where this is none.
pub fn parse_age(text: &str) -> Result<Duration, String> {
    let text = text.trim();
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let seconds = match unit {
        "s" => 1,
        "m" => MINUTE,
        "h" => HOUR,
        "d" => DAY,
        _ => 0,
    };
    let age = number.parse::<u64>().ok();
    let age = age.and_then(|number| number.checked_mul(seconds));
    match age.map(Duration::from_secs) {
        Some(age) if age > LONGEST_AGE => Err("is too long; at most 3650d".to_owned()),
        Some(age) if age > Duration::ZERO => Ok(age),
        _ => Err("is not an age; write e.g. \"30m\", \"24h\" or \"7d\"".to_owned()),
    }
}

/// An age as [`parse_age`] reads it, in the largest unit of which it is a whole number; a single day in hours.
pub fn written_age(age: Duration) -> String {
    let seconds = age.as_secs();
    match () {
        () if seconds > DAY && seconds.is_multiple_of(DAY) => format!("{}d", seconds / DAY),
        () if seconds.is_multiple_of(HOUR) => format!("{}h", seconds / HOUR),
        () if seconds.is_multiple_of(MINUTE) => format!("{}m", seconds / MINUTE),
        () => format!("{seconds}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_read_in_seconds_to_days() {
        let day = Duration::from_secs(24 * 60 * 60);
        assert_eq!(parse_age("7d"), Ok(day * 7));
        assert_eq!(parse_age(" 90m "), Ok(Duration::from_secs(90 * 60)));
        for text in ["7d", "24h", "90m", "36h", "61s", "3650d"] {
            assert_eq!(parse_age(text).map(written_age).as_deref(), Ok(text));
        }
        for wrong in [
            "",
            "7",
            "d",
            "0h",
            "1.5d",
            "-1d",
            "3651d",
            "99999999999999999999d",
        ] {
            assert!(parse_age(wrong).is_err(), "{wrong}");
        }
    }
}
