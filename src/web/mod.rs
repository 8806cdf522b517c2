//! A generic HTTP server: listeners, connections and their limits, TLS, and what the web configuration
//! file of the Prometheus exporter-toolkit asks for. It knows nothing of what is served, which is a
//! [`Handler`], and imports nothing of the rest of the crate.
//!
//! [`serve`] answers GET, HEAD and whatever else a client sends by calling the handler with the method,
//! the path and the headers; requests' bodies are not read. HTTP/1.1 and 1.0; with TLS, ALPN offers
//! http/1.1 alone.
//!
//! # What each fault leads to, and when
//!
//! | fault | what happens | after |
//! |---|---|---|
//! | a head, or TLS handshake and first head, is not finished | closed | [`Limits::receive`] |
//! | no further request on a connection | closed | [`Limits::idle`] |
//! | an answer is not read | closed; by TCP_USER_TIMEOUT where the kernel has it already | [`Limits::send`] |
//! | a client has ended its side of the connection | answered if the handler is quick, then closed | 2 s |
//! | a client has reset the connection | the handler is dropped | at once |
//! | as many connections as [`Limits::connections`] | the one idle longest is closed; then one whose answer is not read | at once; 1 s |
//! | no descriptor for accept() | the same, and a log line | 50 ms |
//! | a head above 64 KiB or 100 headers | 431, closed | at once |
//! | no HTTP, or not one sound Host header | 400, closed | at once |
//! | HTTP on a TLS port | 400 in plain text, closed | the first byte |
//! | a web configuration that became unusable | 500, or a TLS alert; logged once | at once |
//! | too many requests (`rate_limit`) | 429 | at once |
//! | no or a wrong password | 401 | see `passwords` |
//! | shutdown | idle connections are closed, answers under way finished | [`Limits::shutdown`] |
//!
//! # In reading order
//!
//! `address` and `listener` (with `unix_socket` and `passed`) make sockets that listen; `server` accepts,
//! `connections` keeps count, `stream` watches the time, `connection` speaks HTTP. With a web
//! configuration ([`config`]), `tls` comes before a connection's first request and `protection` before
//! each: `rate_limit`, `basic_auth`, `passwords`.

mod address;
pub(crate) mod answer;
mod basic_auth;
pub mod config;
mod connection;
mod connections;
mod listener;
mod passed;
mod passwords;
mod protection;
mod rate_limit;
mod server;
mod stream;
mod tls;
pub(crate) mod unix_socket;

use std::sync::{Mutex, MutexGuard, PoisonError};

pub use address::{ListenAddress, TcpAddress};
pub use answer::{Answer, Handler};
pub use connections::Limits;
pub use listener::Listener;
pub(crate) use listener::resolve;
pub(crate) use passed::Passed;
pub use protection::{Protection, ProtectionError};
pub use server::serve;

/// What the locks of this server guard is whole at any time, also when their owner panics.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
