//! Who may read and write what: credentials, the grants they stand for, and how long those hold. Knows neither SQLite nor
//! sockets; of HTTP only the headers that credentials come in.

mod claims;
mod credential;
mod failures;
mod files;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod gate;
mod grant;
mod jwt;
mod refusal;
mod times;
mod token;
mod token_file;

pub use credential::{BEARER_PROTOCOL, Presented};
pub use files::AccessFileError;
pub use gate::{Gate, LOOK, Presenter};
pub use grant::{FeedGrant, Grant};
pub use jwt::jwt_keys;
pub use refusal::{AUTH_FAILURES, AuthFailure, Refusal};
pub use times::{parse_time, shown_time};
pub use token::{NewToken, PresentedToken, TokenId};
pub use token_file::{TokenEntry, TokenFile, check_name};
