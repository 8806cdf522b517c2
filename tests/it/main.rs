//! The one integration crate: each module is compiled into one program, which links once.
//!
//! Where a new test goes: what one module promises is tested beside it, in `src`. Here is what only
//! shows from outside: [`http`] for what a client sees on real connections, with collectors that the
//! test controls; [`cli`] for the program itself, its exit status and its messages. A new area is a
//! new module; helpers that two of them need are in [`support`].
//!
//! No test may depend on how fast the machine is: wait for something to happen, with [`support::PATIENCE`]
//! as the only limit.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod cli;
mod http;
mod support;
