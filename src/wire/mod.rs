//! What leaves walcast on a WebSocket: frames, control messages and close codes, and the ready frames of consecutive rows.

pub mod block;
pub mod block_builder;
pub mod control;
pub mod frame;
