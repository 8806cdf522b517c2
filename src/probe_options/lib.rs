//! The socket options of the port probe. All are plain integers, and no crate in use sets them.

use std::io;
use std::os::fd::{AsFd, AsRawFd as _};

/// include/uapi/linux/in.h; the libc crate does not have it.
const IP_LOCAL_PORT_RANGE: libc::c_int = 51;

/// connect() chooses no other port than this one (Linux >= 6.3), as long as it lies inside
/// `ip_local_port_range`.
pub fn set_local_port(socket: impl AsFd, port: u16) -> io::Result<()> {
    let range = u32::from(port) << 16 | u32::from(port);
    set(&socket, libc::IPPROTO_IP, IP_LOCAL_PORT_RANGE, range)
}

/// bind() to port 0 chooses an address only.
pub fn leave_port_to_connect(socket: impl AsFd) -> io::Result<()> {
    set(&socket, libc::IPPROTO_IP, libc::IP_BIND_ADDRESS_NO_PORT, 1)
}

/// connect() chooses a port and sends nothing until data is written, without a Fast Open cookie.
pub fn defer_syn(socket: impl AsFd) -> io::Result<()> {
    set(&socket, libc::IPPROTO_TCP, libc::TCP_FASTOPEN_NO_COOKIE, 1)?;
    set(&socket, libc::IPPROTO_TCP, libc::TCP_FASTOPEN_CONNECT, 1)
}

fn set(socket: &impl AsFd, level: i32, name: i32, value: u32) -> io::Result<()> {
    let (fd, value) = (socket.as_fd().as_raw_fd(), &raw const value);
    // SAFETY: the descriptor is open while it is borrowed, and `value` points to the 4 bytes of a
    // live local, which the kernel only reads.
    let status = unsafe { libc::setsockopt(fd, level, name, value.cast(), 4) };
    match status {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
