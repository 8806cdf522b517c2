//! Crowds of clients.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::os::fd::AsFd as _;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::net::sockopt;

use super::{
    PIECES_MARGIN_KIB, Steady, USUAL_LIMIT, connect, raise_descriptor_limit, write_crowded_table,
};
use crate::support::PATIENCE;
use crate::support::client::get;
use crate::support::eventually;
use crate::support::namespace::{enter_new_namespace, in_namespace, ip};
use crate::support::program::Program;

const CROWD: usize = 1_000;

fn milliseconds(time: Duration) -> u128 {
    time.as_millis()
}

/// Whether the other end has closed or reset it.
fn is_closed(stream: &mut TcpStream) -> bool {
    stream.set_nonblocking(true).unwrap();
    match stream.read(&mut [0; 1024]) {
        Ok(0) => true,
        Ok(_) => false,
        Err(error) => error.kind() != ErrorKind::WouldBlock,
    }
}

#[test]
fn a_thousand_slow_senders_delay_no_other_client() {
    in_namespace(|| {
        raise_descriptor_limit();
        let steady = Steady::start_with("slow headers", &[], USUAL_LIMIT);
        let begin = Instant::now();
        let mut crowd: Vec<TcpStream> = (0..CROWD).map(|_| steady.connect()).collect();
        let mut slowest = Duration::ZERO;
        let mut cut_off = 0;
        // Each remaining client sends one byte per round.
        for letter in "GET /metrics HTTP/1.1\r\nX-Slow: abcdefghij"
            .bytes()
            .cycle()
        {
            crowd.retain_mut(|stream| {
                let gone = stream.write_all(&[letter]).is_err() || is_closed(stream);
                stream.set_nonblocking(false).unwrap();
                cut_off += usize::from(gone);
                !gone
            });
            slowest = slowest.max(steady.assert_answers());
            if crowd.is_empty() {
                break;
            }
            assert!(
                begin.elapsed() < PATIENCE * 3,
                "{} clients are still connected",
                crowd.len()
            );
            thread::sleep(Duration::from_millis(200));
        }
        assert_eq!(cut_off, CROWD);
        // The allocator reuses the memory of one crowd for the next: it does not grow.
        let five_crowds = || {
            for _ in 0..5 {
                let again: Vec<TcpStream> = (0..CROWD).map(|_| steady.connect()).collect();
                for mut stream in &again {
                    let _cut_off_already = stream.write_all(b"GET /metrics HTTP/1.1\r\nX-Slow: ");
                }
                drop(again);
                steady.await_no_connection();
            }
            steady.process.resident_kib()
        };
        // Which blocks are reused is random: it may grow once, but not repeatedly.
        let mut resident = five_crowds();
        let no_longer_grows = |_| {
            let before = std::mem::replace(&mut resident, five_crowds());
            resident <= before + 1024
        };
        assert!((0..5).any(no_longer_grows), "{resident} KiB, and growing");
        let result = format!(
            "{CROWD} clients, all cut off after {} ms; slowest scrape of others meanwhile {} ms",
            milliseconds(begin.elapsed()),
            milliseconds(slowest)
        );
        steady.assert_unmoved_but_for(PIECES_MARGIN_KIB, &result);
    });
}

#[test]
fn a_thousand_slow_readers_delay_no_other_client() {
    in_namespace(|| {
        raise_descriptor_limit();
        let tree = crate::collector::copy();
        // An answer of some 100 kB: more than the buffers of a slow reader.
        write_crowded_table(tree.path(), 1_000);
        let flags = ["--collector.top=1000"];
        let steady = Steady::over("slow readers", tree, &flags, USUAL_LIMIT);
        let (mut crowd, mut slowest, peak_kib) = steady.slow_readers(CROWD, |stream| stream);
        let mut alive = 0;
        for stream in &mut crowd {
            alive += usize::from(stream.read(&mut [0]).is_ok_and(|bytes| bytes == 1));
        }
        slowest = slowest.max(steady.assert_answers());
        let open = steady.process.descriptors() - steady.descriptors;
        drop(crowd);
        steady.assert_unmoved(&format!(
            "{CROWD} clients, {alive} of whom got another byte, {open} open at the end; answers of \
             {} kB; slowest scrape of others meanwhile {} ms; at most {peak_kib} KiB resident \
             meanwhile",
            steady.answer.len() / 1000,
            milliseconds(slowest)
        ));
    });
}

#[test]
fn connections_of_vanished_clients_time_out() {
    const GONE: usize = 200;
    in_namespace(|| {
        let flags = ["--web.listen-address=192.0.2.1:10073"];
        let steady = Steady::start_with_link("half-open", &flags);
        let (begin, cut) = (Instant::now(), mpsc::channel::<()>());
        let (ready, is_ready) = mpsc::channel();
        let (at, clients) = mpsc::channel();
        let clients_end = thread::spawn(move || {
            enter_new_namespace(&[]);
            let id = nix::unistd::gettid();
            at.send(id).unwrap();
            cut.1.recv().unwrap();
            ip(&["address", "add", "192.0.2.2/24", "dev", "far"]);
            ip(&["link", "set", "far", "up"]);
            let crowd: Vec<TcpStream> = (0..GONE)
                .map(|_| {
                    let mut stream = connect("192.0.2.1:10073");
                    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost").unwrap();
                    stream
                })
                .collect();
            ready.send(()).unwrap();
            cut.1.recv().unwrap();
            // From now on nothing they send arrives.
            drop(crowd);
        });
        let far = clients.recv().unwrap().to_string();
        ip(&["link", "set", "far", "netns", &far]);
        cut.0.send(()).unwrap();
        is_ready.recv().unwrap();
        eventually("all are accepted", || {
            steady.process.descriptors() >= steady.descriptors + GONE
        });
        // The cable is cut.
        ip(&["link", "del", "near"]);
        cut.0.send(()).unwrap();
        clients_end.join().unwrap();
        let open = steady.process.descriptors() - steady.descriptors;
        assert_eq!(open, GONE);
        steady.assert_answers();
        while steady.process.descriptors() > steady.descriptors {
            assert!(begin.elapsed() < PATIENCE * 3, "they are not given up");
            thread::sleep(Duration::from_millis(50));
        }
        steady.assert_unmoved(&format!(
            "{GONE} clients gone without a FIN, all given up after {} ms",
            milliseconds(begin.elapsed())
        ));
    });
}

impl Steady {
    /// With one end of a link, the other end of which is "far".
    fn start_with_link(name: &'static str, flags: &[&str]) -> Self {
        ip(&["link", "add", "near", "type", "veth", "peer", "name", "far"]);
        ip(&["address", "add", "192.0.2.1/24", "dev", "near"]);
        ip(&["link", "set", "near", "up"]);
        Self::start_with(name, flags, USUAL_LIMIT)
    }
}

#[test]
fn clients_that_disconnect_during_an_answer_leak_nothing() {
    const AWAY: usize = 400;
    in_namespace(|| {
        let tree = crate::collector::copy();
        write_crowded_table(tree.path(), 1_000);
        let flags = ["--collector.top=1000"];
        let steady = Steady::over("gone in mid-answer", tree, &flags, USUAL_LIMIT);
        let mut got_some = 0;
        for number in 0..AWAY {
            let mut stream = steady.connect();
            sockopt::set_socket_recv_buffer_size(stream.as_fd(), 2048).unwrap();
            stream
                .write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
                .unwrap();
            match number % 4 {
                // Before the answer, after its first byte, with an end of sending, with a reset.
                0 => {}
                1 => got_some += stream.read(&mut [0]).unwrap(),
                2 => stream.shutdown(std::net::Shutdown::Write).unwrap(),
                _ => {
                    got_some += stream.read(&mut [0; 100]).unwrap().min(1);
                    let at_once = Some(Duration::ZERO);
                    sockopt::set_socket_linger(stream.as_fd(), at_once).unwrap();
                }
            }
        }
        assert_eq!(got_some, AWAY / 2);
        steady.assert_unmoved(&format!("{AWAY} clients"));
    });
}

#[test]
fn with_64_descriptors_a_crowd_leaves_enough_for_complete_scrapes() {
    const LIMIT: usize = 64;
    in_namespace(|| {
        let steady = Steady::start_with("64 descriptors", &[], &format!("ulimit -n {LIMIT}"));
        // Some send nothing, some were answered and stay connected.
        let mut slowest = Duration::ZERO;
        let mut most = 0;
        let mut crowd = Vec::new();
        for number in 0..300 {
            let mut stream = steady.connect();
            if number % 2 == 0 {
                stream
                    .write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
                    .unwrap();
                assert!(stream.read(&mut [0; 16]).unwrap() > 0);
            }
            crowd.push(stream);
            most = most.max(steady.process.descriptors());
            if number % 10 == 9 {
                // Every collector could open its files.
                slowest = slowest.max(steady.assert_answers());
            }
        }
        assert!(most <= LIMIT, "{most}");
        drop(crowd);
        steady.assert_unmoved(&format!(
            "300 connections, at most {most} descriptors; slowest scrape of others meanwhile {} ms",
            milliseconds(slowest)
        ));
    });
}

#[test]
fn with_16_descriptors_idle_connections_leave_enough_for_the_collectors() {
    in_namespace(|| {
        let process = Program::start_through(&["prlimit", "--nofile=16"], &[]);
        let address = process.address();
        let crowd: Vec<TcpStream> = (0..40)
            .map(|_| TcpStream::connect(address).unwrap())
            .collect();
        for _ in 0..10 {
            let metrics = get(address, "/metrics").metrics();
            for collector in ["sockets", "sysctl", "netstat", "sockstat", "snmp"] {
                assert!(metrics.success(collector), "{collector}");
            }
            assert_eq!(get(address, "/-/ready").status, 200);
        }
        drop(crowd);
        process.end();
    });
}

#[test]
fn too_few_descriptors_are_logged_and_it_recovers() {
    // Enough for what is always open, but not for one scrape and a client.
    in_namespace(|| {
        let mut process = Program::start(&["--web.disable-exporter-metrics"]);
        let address = process.address();
        process.line_with("Read the connection table");
        // The connection uses the last one.
        process.limit_descriptors(process.first_free_descriptor() + 1);
        let metrics = get(address, "/metrics").metrics();
        assert!(!metrics.success("sysctl"), "{metrics:#?}");
        // Absent, not 0.
        assert_eq!(metrics.get("timewait_sysctl_tcp_timestamps"), None);
        process.line_with("tcp_timestamps: Too many open files");
        process.limit_descriptors(1024);
        let metrics = get(address, "/metrics").metrics();
        let success = metrics.of("timewait_scrape_collector_success");
        assert!(success.values().all(|value| *value == 1.0), "{success:?}");
        process.end();
    });
}
