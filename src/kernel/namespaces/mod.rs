//! The network namespaces of the host: which there are, their owners, and how to enter them.
//!
//! setns() is per thread. A thread that enters a namespace reads its files under
//! `/proc/thread-self/net` and `/proc/sys/net` and opens its netlink sockets there; see
//! [`super::procfs::ProcRoot::of_thread`].
//!
//! **Invariant:** nothing here outlives a call but [`Home`]. A descriptor of a namespace, or a socket
//! that was opened in it, keeps it alive, so that an exporter that kept either would keep the
//! namespaces of ended containers.

mod capabilities;
mod entry;
mod listing;
mod resident;

pub(crate) use capabilities::missing_capabilities;
pub(crate) use entry::Home;
pub use entry::inside;
pub(crate) use listing::{FoundNamespace, Listing, NamespaceKey, NamespaceLister};
pub(crate) use resident::{Resident, read_resident};
