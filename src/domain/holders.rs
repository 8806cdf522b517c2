//! Which processes hold live sockets to a destination. Told by `report` only: finding out reads
//! other processes' descriptors.

use super::snapshot::Destination;

/// Who holds the live sockets to one destination. Sockets in TIME-WAIT belong to no process any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holders {
    /// Which destination.
    pub destination: Destination,
    /// Its sockets that a process may have.
    pub live_sockets: u64,
    /// The processes that could be named, those with most sockets first. Several may share a socket.
    pub processes: Vec<Holder>,
    /// Sockets for which no process could be named: for want of the right, or since none has it open.
    pub unnamed_sockets: u64,
}

/// A process that holds sockets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Its number.
    pub pid: i32,
    /// Its short name.
    pub name: String,
    /// How many of the sockets it has open.
    pub sockets: u64,
}
