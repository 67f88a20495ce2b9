//! Every server is started, killed, paused and restarted as a test would do it.
//!
//! What a starter promises is what all tests of the adapters rest on: data that was acknowledged is
//! there after SIGKILL, a paused server accepts and does not answer, and a restart keeps the port.

mod general;
mod postgres;
mod redis;
mod vault;
