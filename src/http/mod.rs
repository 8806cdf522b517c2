//! The HTTP server: who may ask what, how often, for how long, and what is answered.
//!
//! | path | answer |
//! |---|---|
//! | `/metrics` (or `--web.telemetry-path`) | the figures, read for this request; 500 if they cannot be written, 503 above `--web.max-requests` |
//! | `/` | the state of this host for people, with links to the other paths, read for this request |
//! | `/api/v1/report` | the same for programs, as JSON (src/report/report.schema.json) |
//! | `/-/healthy` | 200 while the program answers at all |
//! | `/-/ready` | 200 while the socket table can be read (see [`readiness`]), otherwise 503 |
//! | anything else | 404 |
//!
//! GET and HEAD are answered, other methods with 405; HEAD has the same headers and no body. Requests'
//! bodies are not read. HTTP/1, and with TLS HTTP/2 where the client offers it.
//!
//! In reading order: [`listener`] binds ([`unix_socket`] in the file system; [`passed`] takes over what
//! systemd has bound), [`server`] accepts and shuts down, [`connection`] drives one
//! connection and ends those that dawdle, [`host`] refuses what was
//! meant for nobody in particular, [`routes`] picks a handler, [`metrics`] is the one that
//! matters; [`slots`] and [`deadline`] are its limits. With a web configuration, [`tls`] comes before a
//! connection's first request and [`protection`] before each: [`rate_limit`], [`basic_auth`],
//! [`passwords`].
//!
//! Nothing here blocks an async thread: the kernel is read on the collector's threads, and text is
//! encoded on the blocking pool. Knows no metric names and no text formats (see
//! [`crate::exposition`]).

mod answer;
mod basic_auth;
mod connection;
mod deadline;
mod host;
mod listener;
mod look;
mod metrics;
mod open;
mod passed;
mod passwords;
mod protection;
mod rate_limit;
mod readiness;
mod routes;
mod server;
mod slots;
mod status_page;
mod streams;
mod tls;
mod unix_socket;

pub use listener::{BindError, Listener, LocalAddress};
pub use metrics::{About, ReadProcess};
pub use passed::{Passed, PassedError};
pub use protection::{Protection, ProtectionError};
pub use routes::Site;
pub use server::{Drained, Limits, Server};
pub use unix_socket::UnixSocketError;
