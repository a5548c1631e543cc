//! Rows whole: as they travel to another walcast that serves them on, over a WebSocket or through a broker. What clients
//! get is cut and worded for them, and what is excluded or too long is not in it; of a whole row nothing is lost, and
//! another SQLite holds the same after it was taken in.
//!
//! [`TableDescription`] says what the rows are of, in one message:
//!
//! ```json
//! {"type":"table","schema":"0f3a…","feed":"orders","table":"orders","key":"id","columns":[{"name":"id","type":"INTEGER"}],…}
//! ```
//!
//! [`WholeRowEncoder`] words each row as a message of its own, values in the order of the described columns, and
//! [`WholeRow`] reads it:
//!
//! ```json
//! {"type":"row","schema":"0f3a…","row":[103,"acme",null,{"$blob":"AAH/"}]}
//! ```
//!
//! Of a captured table `row` is one of the table as it is, and `change` what its log has of a change, in the order of
//! [`TableDescription::log_columns`], with the row as it is where the log names only its key, and there is one:
//!
//! ```json
//! {"type":"change","schema":"0f3a…","log":[912,"u",2460310.5,0,103,null],"row":[103,"acme",null]}
//! ```
//!
//! What JSON has no word for is marked: `{"$blob":"base64"}`, `{"$int":"9007199254740993"}` beyond ±(2^53−1),
//! `{"$real":"Infinity"}`, and `{"$text":"base64"}` for a text that is not UTF-8.

mod decode;
mod described_changes;
mod description;
mod encode;
#[cfg(test)]
mod tests;

pub use decode::{WholeChange, WholeRow, WholeValue};
pub use described_changes::{DescribedChanges, DescribedKey};
pub use description::{DescribedColumn, DescribedScope, TableDescription};
pub use encode::{LogColumns, MAX_WHOLE_ROW, WholeRowEncoder};
