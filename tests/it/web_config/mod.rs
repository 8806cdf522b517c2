//! The web configuration: the files of tests/fixtures/web-config, and real handshakes and requests with
//! generated certificates.
//!
//! - [`files`]: what is accepted, what is refused and with which error;
//! - [`handshakes`]: TLS with curl and with a Rust client, client certificates;
//! - [`requests`]: the order of checks, headers, rate limit, reloading;
//! - [`passwords`]: users, and the cost of wrong passwords;
//! - [`health`]: the result of `healthcheck`.

pub mod certificates;
pub mod client;
mod files;
mod handshakes;
mod health;
mod passwords;
pub mod requests;

use std::process::Output;

use crate::support::program::{self, Program};

fn flag(file: &str) -> String {
    format!("--web.config.file={file}")
}

/// A program with this web configuration.
fn start(file: &str) -> Program {
    Program::start(&[&flag(file)])
}

/// Runs it until it exits by itself.
fn run(file: &str) -> Output {
    let mut command = program::command();
    command.args(["--web.listen-address=127.0.0.1:0", &flag(file)]);
    command.output().unwrap()
}
