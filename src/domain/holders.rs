//! Which processes have live sockets to a destination. For `report` only: finding out reads
//! other processes' descriptors.

use serde::Serialize;

use super::snapshot::Destination;

/// Processes with live sockets to one destination. Sockets in TIME-WAIT belong to no process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Holders {
    /// Which destination.
    #[serde(flatten)]
    pub destination: Destination,
    /// Its sockets that a process may have open.
    pub live_sockets: u64,
    /// The processes that could be named, those with most sockets first. Several may share a socket.
    pub processes: Vec<Holder>,
    /// Sockets without a known process: a missing privilege, or no process has them open.
    pub unnamed_sockets: u64,
}

/// A process with open sockets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Holder {
    /// Process ID.
    pub pid: i32,
    /// Short name of the process.
    pub name: String,
    /// Number of these sockets that it has open.
    pub sockets: u64,
}
