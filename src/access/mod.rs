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
mod mtls;
mod refusal;
mod replacement;
mod secret_file;
mod times;
mod token;
mod token_file;

pub use credential::{BEARER_PROTOCOL, Presented};
pub use files::{AccessFileError, FileVersion, Owners, Readers, read as read_guarded};
pub use gate::{Gate, LOOK, Presenter};
pub use grant::{FeedGrant, Grant};
pub use jwt::jwt_keys;
pub use mtls::{ClientCertificate, client_count};
pub use refusal::{AUTH_FAILURES, AuthFailure, Refusal};
pub use secret_file::{SecretFile, SecretMeaning};
pub use times::{parse_time, shown_time};
pub use token::{NewToken, PresentedToken, TokenId};
pub use token_file::{TokenEntry, TokenFile, check_name};
