//! The pure core: what sockets, addresses, ports and destinations are, and the arithmetic on them.
//!
//! **Invariant:** nothing in here does I/O, reads a clock, or knows a metric name, an HTTP header or
//! the layout of a kernel structure.

pub mod address;
pub mod advice;
pub mod age;
mod capacity;
pub mod census;
pub mod collectors;
pub mod container;
mod destinations;
mod fast_map;
pub mod holders;
pub mod namespace;
pub mod options;
pub mod ports;
pub mod process;
mod remotes;
mod search;
pub mod settings;
mod small_port_set;
pub mod snapshot;
pub mod socket;
mod sources;
mod tallies;
pub mod text;
mod top;
pub mod udp;
pub(crate) mod zone;
