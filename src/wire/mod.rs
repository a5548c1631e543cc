//! What leaves walcast on a WebSocket: frames, control messages and close codes, and the ready frames of consecutive rows.

pub mod block;
pub mod block_builder;
pub mod control;
pub mod deflate;
pub mod deflated_rows;
pub mod frame;
pub mod id;

/// The subprotocol that asks for rows whole, as an edge takes them.
pub const EDGE_SUBPROTOCOL: &str = "walcast.edge.v1";

/// The subprotocol of a feed's own WebSocket. A client need not ask for it: it is the same protocol with and without.
pub const SUBPROTOCOL: &str = "walcast.v1";

/// The subprotocol of a WebSocket with several subscriptions.
pub const MULTI_SUBPROTOCOL: &str = "walcast.multi.v1";
