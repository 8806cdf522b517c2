//! The HTTP server: who may ask what, how often, for how long, and what is answered.
//!
//! GET and HEAD are answered; HEAD has the same headers and no body. Requests' bodies are not read.
//! HTTP/1, and with TLS HTTP/2 where the client offers it. What is answered under which path is the
//! [`Handler`]'s business.
//!
//! In reading order: `listener` binds (`unix_socket` in the file system; `passed` has the sockets that
//! systemd has bound), `server` accepts and shuts down, `connection` drives one connection and ends
//! those that take too long, `host` refuses requests without a sound Host header. With a web
//! configuration ([`config`]), `tls` comes before a connection's first request and `protection` before
//! each: `rate_limit`, `basic_auth`, `passwords`.

pub mod answer;
mod basic_auth;
pub mod config;
mod connection;
mod host;
mod listener;
mod open;
mod passed;
mod passwords;
mod protection;
mod rate_limit;
mod server;
mod streams;
mod tls;
mod unix_socket;

pub use listener::{BindError, Listener, LocalAddress};
pub use passed::{Passed, PassedError};
pub use protection::{Protection, ProtectionError};
pub use server::{Drained, Handler, Limits, Server};
pub use unix_socket::UnixSocketError;
