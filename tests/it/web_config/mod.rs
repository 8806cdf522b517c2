//! The web configuration: the files of tests/fixtures/web-config, and real handshakes and requests
//! with certificates that the test makes.
//!
//! - [`files`]: what is accepted, what is refused and in which words;
//! - [`handshakes`]: TLS with curl and with a Rust client, certificates of clients;
//! - [`requests`]: the order of things, headers, rate, reloading;
//! - [`passwords`]: users, and what wrong passwords cost whom;
//! - [`health`]: what `healthcheck` makes of it.

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

/// Runs it to its end, which is to come by itself.
fn run(file: &str) -> Output {
    let mut command = program::command();
    command.args(["--web.listen-address=127.0.0.1:0", &flag(file)]);
    command.output().unwrap()
}
