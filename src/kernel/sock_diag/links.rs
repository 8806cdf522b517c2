//! The names of network interfaces, as link-local addresses need them.

use std::collections::HashMap;

use rustix::net::{AddressFamily, SocketType, netdevice, socket};

use crate::domain::zone::Zone;

/// Of the network namespace in which the calling thread is; asked once a dump for each interface.
#[derive(Debug, Default)]
pub struct LinkNames {
    zones: HashMap<u32, Zone>,
}

impl LinkNames {
    /// The zone of the interface with this number, which is not 0.
    #[cold]
    pub(super) fn zone(&mut self, interface: u32) -> Zone {
        let zone = self.zones.entry(interface);
        *zone.or_insert_with(|| {
            let name = socket(AddressFamily::UNIX, SocketType::DGRAM, None)
                .and_then(|socket| netdevice::index_to_name(&socket, interface));
            // One that has gone meanwhile has its number.
            Zone::named(&name.unwrap_or_else(|_| interface.to_string()))
        })
    }
}
