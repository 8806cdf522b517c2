//! Everything that asks the kernel: the only place that makes system calls for figures.
//!
//! Knows the layouts and file formats of the kernel and turns them into the words of
//! [`domain`](crate::domain); adds nothing up.

pub mod sock_diag;
