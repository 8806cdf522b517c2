//! The only place that makes system calls: what the kernel says, turned into the types of `domain`.
//!
//! Holds no metric names and does no arithmetic on what it reads beyond changing units.

pub mod process;
pub mod procfs;
