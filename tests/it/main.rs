//! Tests of the whole, from outside.
//!
//! Where a new test goes: what bytes from a kernel do, in `sock_diag`; what a real kernel says, in
//! `kernel`, inside a namespace of its own ([`namespace`]); what a figure promises of connect() or
//! bind(), in [`oracle`]; what holds of every scrape, in [`consistency`].

#![allow(
    unreachable_pub,
    clippy::as_conversions,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a test that finds things otherwise than it expects is to fail on the spot"
)]

mod consistency;
mod fake_kernel;
mod kernel;
mod loopback;
mod namespace;
mod net;
mod oracle;
mod scraper;
mod sock_diag;
