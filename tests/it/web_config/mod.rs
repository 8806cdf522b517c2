//! The web configuration: the files of tests/fixtures/web-config, and real handshakes and requests
//! with certificates that the test makes.
//!
//! - [`files`]: what is accepted, what is refused and in which words;
//! - [`handshakes`]: TLS with curl and with a Rust client, certificates of clients;
//! - [`requests`]: the order of things, headers, rate, reloading;
//! - [`passwords`]: users, and what wrong passwords cost whom;
//! - [`health`]: what `healthcheck` makes of it;
//! - [`http2`]: what a client may hold there.

pub mod certificates;
pub mod client;
mod exporter;
mod files;
mod handshakes;
mod health;
mod http2;
mod passwords;
mod requests;
