//! Listeners and how many connections may come to them, certificates to be shown there; connections to other daemons, and
//! whom they trust.

pub mod backoff;
pub mod connection_limits;
pub mod feed_socket;
pub mod http_question;
pub mod listener;
pub mod remote_daemon;
pub mod socket_activation;
pub mod tls_anyone;
pub mod tls_client;
pub mod tls_server;
