//! Who may read and write what: credentials, the grants they stand for, and how long those hold. Knows neither SQLite nor
//! sockets; of HTTP only the headers that credentials come in.

mod credential;
mod failures;
mod gate;
mod grant;
mod token;
mod token_file;

pub use credential::{BEARER_PROTOCOL, Presented};
pub use gate::{AUTH_FAILURES, AuthFailure, Gate, LOOK, Presenter};
pub use grant::{FeedGrant, Grant};
pub use token::{NewToken, PresentedToken, TokenId};
pub use token_file::{TokenEntry, TokenFile, TokenFileError, check_name, parse_time, shown_time};
