//! What a user may choose about the metrics of sockets.

use super::address::Address;

/// What is exported.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "one switch each, as the flags have them"
)]
pub struct CensusOptions {
    /// How many values of each breakdown are exported individually.
    pub top: usize,
    /// TIME-WAIT sockets by local address.
    pub by_src_addr: bool,
    /// By local port.
    pub by_src_port: bool,
    /// By remote address.
    pub by_dst_addr: bool,
    /// By remote port.
    pub by_dst_port: bool,
    /// By age.
    pub by_age: bool,
    /// Destinations.
    pub by_destination: bool,
    /// Ports available to bind(addr, 0), by local address.
    pub by_source: bool,
    /// Whether sockets outside the range are read even where leaving them out would save time: what a
    /// wider range would give is then known better.
    pub whole_table: bool,
    /// Whether ports in use are probed for those that are closed to connect().
    pub probe: bool,
    /// Ports that are always exported, on either side.
    pub pinned_ports: Vec<u16>,
    /// Destinations that are always exported.
    pub pinned_destinations: Vec<PinnedDestination>,
}

impl CensusOptions {
    /// Leaves the sums alone.
    pub(crate) const fn without_breakdowns(&mut self) {
        self.by_src_addr = false;
        self.by_src_port = false;
        self.by_dst_addr = false;
        self.by_dst_port = false;
        self.by_age = false;
        self.by_destination = false;
        self.by_source = false;
    }
}

impl Default for CensusOptions {
    fn default() -> Self {
        Self {
            top: 20,
            by_src_addr: true,
            by_src_port: true,
            by_dst_addr: true,
            by_dst_port: true,
            by_age: true,
            by_destination: true,
            by_source: true,
            whole_table: false,
            probe: true,
            pinned_ports: Vec::new(),
            pinned_destinations: Vec::new(),
        }
    }
}

/// A destination that is always exported, even at 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PinnedDestination {
    /// The local address; `None` for whichever one is used.
    pub src_addr: Option<Address>,
    /// The remote address.
    pub dst_addr: Address,
    /// The remote port.
    pub dst_port: u16,
}
