//! The file of `--web.config.file`, with the keys, the meaning and the messages that it has in the
//! Prometheus exporter-toolkit, so that one file serves every exporter of a host.
//!
//! In reading order: `document` is the file, checked but for what it names; `users` and `tls` (with
//! `client_certs`) are its two large parts; `source` reads the file and what it names again whenever it is
//! asked, and is the only part that reads anything.
//!
//! What is wrong is a text, in the words of Go's exporters where they have some, so that a search for
//! them finds help.
//!
//! **Invariant:** what is accepted here, `promtool check web-config` accepts too.

mod client_certs;
mod document;
mod duration;
mod scalar;
mod source;
mod tls;
mod users;

pub use document::{RateLimit, WebFile};
pub use source::Source;
pub use tls::Tls;
pub(crate) use users::BcryptHash;
pub use users::Users;

#[cfg(test)]
mod tests;
