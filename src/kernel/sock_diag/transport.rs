//! Sends requests to the kernel and receives its datagrams. The only system calls of a dump.
//!
//! Behind a trait so that tests can play a kernel that cuts, repeats or lies.

use std::fmt;
use std::io;
use std::time::{Duration, Instant};

use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_SOCK_DIAG};
use rustix::net::RecvFlags;
use rustix::net::sockopt::{Timeout, set_socket_timeout};

/// The kernel never puts more into a datagram of a dump than the receiver's buffer takes, and never
/// more than 32 KiB (`netlink_recvmsg` and `netlink_dump` in net/netlink/af_netlink.c).
pub(crate) const RECEIVE_BUFFER_BYTES: usize = 32 * 1024;

/// One conversation with the kernel. Either call may fail with `Interrupted`, and may then be made
/// again.
pub trait Transport {
    /// Sends one request.
    fn send(&mut self, request: &[u8]) -> io::Result<()>;

    /// Receives one datagram into `buffer`, whose content is replaced, and returns the datagram's
    /// true length: more than the buffer takes if it was cut. Fails with `WouldBlock` or `TimedOut`
    /// if none comes for as long as the deadline was away when the conversation was opened.
    fn receive(&mut self, buffer: &mut Vec<u8>) -> io::Result<usize>;
}

/// Opens conversations. After any error a conversation is closed and a new one opened, since what is
/// left of the old dump would answer the new one.
pub trait Connect: Send + fmt::Debug {
    /// Whether it is the running kernel that answers, about the namespace of the calling thread.
    fn is_this_kernel(&self) -> bool {
        false
    }

    /// Opens a conversation that is to end by the deadline.
    fn connect(&mut self, deadline: Instant) -> io::Result<Box<dyn Transport>>;
}

/// Talks to the running kernel, about the network namespace of the calling thread.
#[derive(Clone, Copy, Debug, Default)]
pub struct NetlinkConnect;

impl Connect for NetlinkConnect {
    fn is_this_kernel(&self) -> bool {
        true
    }

    fn connect(&mut self, deadline: Instant) -> io::Result<Box<dyn Transport>> {
        let socket = Socket::new(NETLINK_SOCK_DIAG)?;
        let left = deadline.saturating_duration_since(Instant::now());
        // A timeout of zero would mean none. To send to the kernel never waits.
        let timeout = left.max(Duration::from_millis(1));
        set_socket_timeout(&socket, Timeout::Recv, Some(timeout))?;
        // Connected to the kernel (port 0), it accepts no other datagrams.
        socket.connect(&SocketAddr::new(0, 0))?;
        Ok(Box::new(socket))
    }
}

/// Not to be cloned: netlink-sys would close the descriptor twice.
impl Transport for Socket {
    fn send(&mut self, request: &[u8]) -> io::Result<()> {
        // The whole datagram or an error.
        Self::send(self, request, 0).map(|_| ())
    }

    fn receive(&mut self, buffer: &mut Vec<u8>) -> io::Result<usize> {
        buffer.clear();
        self.recv(buffer, RecvFlags::TRUNC.bits().cast_signed())
    }
}
