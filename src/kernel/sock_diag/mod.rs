//! The kernel's table of TCP sockets, asked for over `NETLINK_SOCK_DIAG`.
//!
//! In reading order: [`request`] builds what is asked, [`filter`] what the kernel is to skip,
//! [`datagram`] takes a received datagram apart, [`record`] decodes one socket (these four are pure
//! bytes); `links` knows the names of interfaces, [`transport`] sends and receives;
//! [`dump`] conducts one dump from request to its end and gives each socket to a closure. Nothing
//! here keeps sockets or adds anything up.
//!
//! The older request type, `TCPDIAG_GETSOCK`, is used because it is answered for both families in one
//! traversal of the kernel's hash table, which is what a dump costs: `SOCK_DIAG_BY_FAMILY` takes
//! two. netlink-packet-sock-diag, from which numbers and test oracles are taken, does not know it, and
//! its response types allocate and leave the timer out; hence the decoding here.

pub mod datagram;
pub mod dump;
pub mod filter;
pub mod links;
pub mod record;
pub mod request;
pub mod transport;

pub use dump::{Dump, DumpCount, DumpError, Dumper};
pub use transport::{Connect, NetlinkConnect, Transport};
