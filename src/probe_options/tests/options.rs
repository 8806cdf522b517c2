//! What the options do to a socket of the running kernel.

use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::os::fd::AsFd as _;

use probe_options::{defer_syn, leave_port_to_connect, set_local_port};

const EOPNOTSUPP: i32 = 95;
const ENOPROTOOPT: i32 = 92;

#[test]
fn a_socket_that_is_no_tcp_socket_is_refused_by_the_kernel() {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let error = defer_syn(socket.as_fd()).unwrap_err();
    assert!(matches!(
        error.raw_os_error(),
        Some(EOPNOTSUPP | ENOPROTOOPT)
    ));
}

#[test]
fn the_options_of_ip_are_taken_by_any_socket_of_ipv4() {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    leave_port_to_connect(socket.as_fd()).unwrap();
    match set_local_port(socket.as_fd(), 40_000) {
        Err(error) if error.raw_os_error() == Some(ENOPROTOOPT) => {
            println!("SKIPPED: IP_LOCAL_PORT_RANGE needs Linux 6.3");
        }
        result => result.unwrap(),
    }
}

#[test]
fn a_connected_socket_cannot_be_deferred() {
    let listener = std::net::TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    assert!(defer_syn(stream.as_fd()).is_err());
}
