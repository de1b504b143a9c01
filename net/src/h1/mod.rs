//! HTTP/1.1 as bytes in, bytes out: what curl, probes and Prometheus speak.
//!
//! Promises: heads and bodies are bounded, requests of one connection are answered in order (the next is parsed only
//! when the answer to the one before has been given), a request that cannot be framed is answered and the connection
//! closed. Never: a socket, a route, a clock. Start at `connection.rs`; `message.rs` is what a handler sees.

mod body;
mod connection;
mod message;

pub use connection::{Connection, Parsed, TakenRequest};
pub use httparse::Header;
pub use message::{HttpDate, Request, Response};

#[cfg(test)]
mod tests;
