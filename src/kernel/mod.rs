//! Everything that asks the kernel: the only place that makes system calls for metrics.
//!
//! Knows the layouts and file formats of the kernel and turns them into the types of [`domain`](crate::domain). Contains
//! no metric names and adds nothing up.

#![allow(
    clippy::disallowed_methods,
    reason = "this is the place where files are read"
)]

pub mod clock;
pub(crate) mod connect_failures;
pub mod holders;
pub mod namespaces;
pub mod port_probe;
pub mod process;
pub mod procfs;
pub(crate) mod release;
pub mod sock_diag;
