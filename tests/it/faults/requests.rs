//! Bytes that are not a valid request.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::thread;

use super::{Steady, USUAL_LIMIT};
use crate::oracle::random::Random;
use crate::support::namespace::in_namespace;

/// Sends bytes, and returns everything received until the server closes.
fn exchange(steady: &Steady, bytes: &[u8]) -> Vec<u8> {
    let mut stream = steady.connect();
    // The server may answer and close before it has read all.
    let _closed = stream.write_all(bytes);
    read_to_end(&mut stream)
}

/// The same, closing the sending side afterwards, for bytes that may be an incomplete request.
fn exchange_and_end(steady: &Steady, bytes: &[u8]) -> Vec<u8> {
    let mut stream = steady.connect();
    let _closed = stream.write_all(bytes);
    let _closed = stream.shutdown(Shutdown::Write);
    read_to_end(&mut stream)
}

fn read_to_end(stream: &mut TcpStream) -> Vec<u8> {
    let mut answer = Vec::new();
    if let Err(error) = stream.read_to_end(&mut answer) {
        // It closes with a reset if it has not read all bytes.
        assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}");
    }
    answer
}

/// The statuses of all answers in a row.
fn statuses(answer: &[u8]) -> Vec<u16> {
    let text = String::from_utf8_lossy(answer);
    text.match_indices("HTTP/1.1 ")
        .map(|(at, name)| {
            let begin = at + name.len();
            text[begin..begin + 3].parse().unwrap()
        })
        .collect()
}

#[test]
fn a_mebibyte_of_headers_is_refused_and_not_buffered() {
    const TIMES: usize = 100;
    const LENGTH: usize = 1024 * 1024;
    in_namespace(|| {
        let steady = Steady::start("1 MiB of headers");
        let one = format!("X-Long: {}\r\n", "x".repeat(LENGTH));
        let many = "X-Many: abcdefghijklmnop\r\n".repeat(LENGTH / 26);
        let name = format!("{}: x\r\n", "X".repeat(LENGTH));
        let path = format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "y".repeat(LENGTH));
        let mut answered = 0;
        for number in 0..TIMES {
            let headers = [&one, &many, &name][number % 3];
            let request = format!("GET /metrics HTTP/1.1\r\nHost: x\r\n{headers}\r\n");
            let bytes = if number % 4 == 3 { &path } else { &request };
            let got = statuses(&exchange(&steady, bytes.as_bytes()));
            // The answer may be lost, since the rest of the request was not read.
            assert!(matches!(got[..], [] | [431 | 414]), "{got:?}");
            answered += got.len();
        }
        steady.assert_unmoved(&format!(
            "{TIMES} requests, {answered} answers that arrived"
        ));
    });
}

#[test]
fn pipelined_requests_are_answered_in_order_and_no_faster_than_they_are_read() {
    in_namespace(|| {
        let steady = Steady::start("pipelining");
        let one = |method: &str, path: &str| format!("{method} {path} HTTP/1.1\r\nHost: x\r\n\r\n");
        let mut requests = String::new();
        let mut expected = Vec::new();
        for _ in 0..50 {
            for (method, path, status) in [
                ("GET", "/-/healthy", 200),
                ("GET", "/metrics", 200),
                ("HEAD", "/metrics", 200),
                ("GET", "/nothing", 404),
                ("POST", "/metrics", 405),
            ] {
                requests += &one(method, path);
                expected.push(status);
            }
        }
        requests += "GET /-/ready HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
        expected.push(200);
        let answer = exchange(&steady, requests.as_bytes());
        assert_eq!(statuses(&answer), expected);
        // The client does not read: the server must stop reading requests.
        let mut stream = steady.connect();
        stream.set_nonblocking(true).unwrap();
        let many = one("GET", "/metrics").repeat(1000);
        let mut taken = 0;
        let mut idle_rounds = 0;
        while idle_rounds < 50 {
            match stream.write(many.as_bytes()) {
                Ok(bytes) => {
                    taken += bytes;
                    idle_rounds = 0;
                }
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::WouldBlock);
                    idle_rounds += 1;
                    thread::sleep(std::time::Duration::from_millis(10));
                }
            }
        }
        let peak = steady.process.resident_kib();
        steady.assert_answers();
        drop(stream);
        steady.assert_unmoved(&format!(
            "{} answers in order; of a client that does not read {} kB were read, {peak} KiB \
             resident meanwhile",
            expected.len(),
            taken / 1000
        ));
    });
}

#[test]
fn bad_framing_never_turns_a_body_into_a_request() {
    in_namespace(|| {
        let steady = Steady::start("bad chunking");
        let smuggled = "GET /-/healthy HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
        let mut tried = 0;
        let chunked = "Transfer-Encoding: chunked\r\n";
        for method in ["GET", "POST"] {
            for (headers, body) in [
                (chunked, "zz\r\n"),
                (chunked, "-1\r\n"),
                (chunked, "ffffffffffffffffff\r\nx"),
                (chunked, "7fffffffffffffff\r\nx"),
                (chunked, "5 5\r\nhello\r\n0\r\n\r\n"),
                (chunked, "5\nhello\n0\n\n"),
                (chunked, "5\r\nhelloXX0\r\n\r\n"),
                (chunked, "0x5\r\nhello\r\n0\r\n\r\n"),
                (chunked, "\r\n"),
                (chunked, "5;x=\"\r\nhello\r\n"),
                ("Transfer-Encoding: xchunked\r\n", "0\r\n\r\n"),
                ("Transfer-Encoding: chunked, identity\r\n", "0\r\n\r\n"),
                (
                    "Transfer-Encoding: identity\r\nContent-Length: 4\r\n",
                    "abcd",
                ),
                ("Transfer-Encoding : chunked\r\n", "0\r\n\r\n"),
                (" Transfer-Encoding: chunked\r\n", "0\r\n\r\n"),
                ("Content-Length: 4\r\nContent-Length: 5\r\n", "abcd"),
                ("Content-Length: +4\r\n", "abcd"),
                ("Content-Length: -4\r\n", "abcd"),
                ("Content-Length: 4,4\r\n", "abcd"),
                ("Content-Length: 0x4\r\n", "abcd"),
                ("Content-Length: 99999999999999999999\r\n", "abcd"),
                ("Content-Length: 99\r\n", "abcd"),
            ] {
                let request = format!(
                    "{method} /nothing HTTP/1.1\r\nHost: x\r\n{headers}\r\n{body}{smuggled}"
                );
                let got = statuses(&exchange(&steady, request.as_bytes()));
                assert!(matches!(got[..], [] | [400 | 404]), "{request:?}: {got:?}");
                tried += 1;
            }
            // A valid one in every spelling: the next request is answered.
            for (headers, body) in [
                (chunked, "5;x=y\r\nhello\r\n0\r\nX-Trailer: z\r\n\r\n"),
                ("Content-Length: 5\r\n", "hello"),
            ] {
                let request = format!(
                    "{method} /nothing HTTP/1.1\r\nHost: x\r\n{headers}\r\n{body}{smuggled}"
                );
                let got = statuses(&exchange(&steady, request.as_bytes()));
                assert!(
                    matches!(got[..], [404] | [404, 200]),
                    "{request:?}: {got:?}"
                );
                tried += 1;
            }
        }
        steady.assert_unmoved(&format!("{tried} kinds"));
    });
}

#[test]
fn invalid_utf8_is_answered_like_any_other_text() {
    in_namespace(|| {
        let steady = Steady::start("invalid UTF-8");
        let mut tried = 0;
        for path in [
            &b"/\xff\xfe"[..],
            b"/metrics\xff",
            b"/\xc0\xafmetrics",
            b"/metrics?x=\xf0\x28\x8c\x28",
            b"/%ff%fe",
            b"/metrics%00",
            b"/%",
            b"/\xed\xa0\x80",
        ] {
            let request = [
                b"GET ",
                path,
                b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
            ]
            .concat();
            let got = statuses(&exchange(&steady, &request));
            let is_metrics = path.starts_with(b"/metrics?");
            assert!(
                matches!(got[..], [400 | 404]) || is_metrics && got == [200],
                "{}: {got:?}",
                path.escape_ascii()
            );
            tried += 1;
        }
        for header in [
            "Host",
            "Accept",
            "Accept-Encoding",
            "X-Prometheus-Scrape-Timeout-Seconds",
            "Authorization",
            "User-Agent",
        ] {
            for value in [
                &b"\xff\xfe"[..],
                b"text/plain;q=\xc3\x28",
                b"\xf8\xa1\xa1\xa1",
                b"\x80",
            ] {
                // The characters of a host name are defined.
                let (host, expected) = match header {
                    "Host" => (&b""[..], 400),
                    _ => (&b"Host: x\r\n"[..], 200),
                };
                let head = [
                    b"GET /metrics HTTP/1.1\r\n",
                    host,
                    header.as_bytes(),
                    b": ",
                    value,
                ]
                .concat();
                let request = [&head, &b"\r\nConnection: close\r\n\r\n"[..]].concat();
                let answer = exchange(&steady, &request);
                assert_eq!(
                    statuses(&answer),
                    [expected],
                    "{header}: {}",
                    value.escape_ascii()
                );
                tried += 1;
            }
            let name = format!("GET /metrics HTTP/1.1\r\nHost: x\r\n{header}");
            let request = [name.as_bytes(), b"\xff: x\r\n\r\n"].concat();
            assert_eq!(statuses(&exchange(&steady, &request)), [400], "{header}");
            tried += 1;
        }
        steady.assert_unmoved(&format!("{tried} requests"));
    });
}

/// A request that was good before some of its bytes were changed, or bytes that never were one.
fn strange(random: &mut Random) -> Vec<u8> {
    let mut bytes = match random.below(4) {
        0 => (0..random.below(300)).map(|_| random.byte()).collect(),
        1 => b"GET /metrics HTTP/1.1\r\nHost: x\r\nAccept: text/plain;q=0.5, */*\r\n\r\n".to_vec(),
        2 => {
            b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n".to_vec()
        }
        _ => b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\x12\x04\0\0\0\0\0\0\x03\0\0\0\x80".to_vec(),
    };
    for _ in 0..random.below(8) {
        let at = random.below(bytes.len() + 1);
        match random.below(3) {
            0 => bytes.insert(at, random.byte()),
            1 => bytes.truncate(at),
            _ => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = random.byte();
                }
            }
        }
    }
    bytes
}

#[test]
fn ten_thousand_random_byte_strings_break_nothing() {
    const STRINGS: usize = 10_000;
    in_namespace(|| {
        let seed =
            std::env::var("TIMEWAIT_BYTES_SEED").map_or(20_260, |seed| seed.parse().unwrap());
        println!("random bytes: TIMEWAIT_BYTES_SEED={seed}");
        let mut random = Random::new(seed);
        let steady = Steady::start_with("random bytes", &[], USUAL_LIMIT);
        let mut counts = std::collections::BTreeMap::new();
        for _ in 0..STRINGS {
            let bytes = strange(&mut random);
            let answer = exchange_and_end(&steady, &bytes);
            assert!(
                answer.is_empty() || answer.starts_with(b"HTTP/1."),
                "{}: {}",
                bytes.escape_ascii(),
                answer.escape_ascii()
            );
            let status = answer.get(9..12).map_or(0, |status| {
                str::from_utf8(status).unwrap().parse::<u16>().unwrap()
            });
            *counts.entry(status).or_insert(0) += 1;
        }
        // Some of them are valid requests, some are not.
        assert!(counts.len() > 2, "{counts:?}");
        steady.assert_unmoved(&format!(
            "{STRINGS} strings, by status (0 is none): {counts:?}"
        ));
    });
}
