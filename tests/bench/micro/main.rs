//! The exporter's own work on a dump: decoding and counting a record, selecting the top N, encoding.
//!
//! ```text
//! cargo bench --bench micro                 # times, by criterion
//! cargo bench --bench micro -- decode       # those whose name contains this
//! ```
//!
//! On a machine too busy for times, count the instructions of one run over the same input instead (the path
//! is printed by `cargo bench --bench micro --no-run`):
//!
//! ```text
//! valgrind --tool=callgrind --collect-atstart=no --toggle-collect='micro::measured*' \
//!     --callgrind-out-file=/dev/null target/release/deps/micro-… --once destinations
//! ```

#![allow(
    unreachable_pub,
    clippy::as_conversions,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a benchmark fails at once where its expectation is not met"
)]

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use criterion::{Criterion, Throughput};
use timewait_exporter::build_info::BUILD;
use timewait_exporter::domain::census::{Census, Moment};
use timewait_exporter::domain::collectors::CollectorId;
use timewait_exporter::domain::namespace::HostSnapshot;
use timewait_exporter::domain::options::CensusOptions;
use timewait_exporter::domain::ports::PortRange;
use timewait_exporter::domain::settings::Settings;
use timewait_exporter::domain::snapshot::{Snapshot, SocketSummary, Source};
use timewait_exporter::exposition::{ExporterMetrics, Format, compress, encode, families};
use timewait_exporter::kernel::sock_diag::datagram::{Message, Messages};
use timewait_exporter::kernel::sock_diag::links::LinkNames;
use timewait_exporter::kernel::sock_diag::record::{Record, decode_socket};

/// The number of records of the small inputs.
const RECORDS: u32 = 100_000;

/// An input: the datagrams of a dump.
struct Dump {
    records: u32,
    datagrams: Vec<Vec<u8>>,
}

/// What the kernel sends: 96 bytes a TIME-WAIT socket, 32 KiB a datagram.
fn dump(records: u32, socket: impl Fn(u32) -> (IpAddr, u16, IpAddr, u16)) -> Dump {
    const LENGTH: usize = 96;
    let mut bytes = Vec::new();
    for number in 0..records {
        // In no order, as in the kernel's hash table.
        let (src, src_port, dst, dst_port) = socket(number.wrapping_mul(0x9e37_79b1) % records);
        bytes.extend(96_u32.to_ne_bytes());
        bytes.extend(18_u16.to_ne_bytes());
        bytes.extend(2_u16.to_ne_bytes());
        bytes.extend([1_u32.to_ne_bytes(), [0; 4]].concat());
        bytes.extend([if src.is_ipv4() { 2 } else { 10 }, 6, 3, 0]);
        bytes.extend(src_port.to_be_bytes());
        bytes.extend(dst_port.to_be_bytes());
        for address in [src, dst] {
            let mut octets = match address {
                IpAddr::V4(v4) => v4.octets().to_vec(),
                IpAddr::V6(v6) => v6.octets().to_vec(),
            };
            octets.resize(16, 0);
            bytes.extend(octets);
        }
        bytes.extend([0; 12]);
        bytes.extend((number % 60_000).to_ne_bytes());
        bytes.extend([0; 16]);
        bytes.resize(bytes.len().next_multiple_of(LENGTH), 0);
    }
    let datagrams = bytes
        .chunks(32 * 1024 / LENGTH * LENGTH)
        .map(<[u8]>::to_vec)
        .collect();
    Dump { records, datagrams }
}

/// To 50 servers, from the same number of ports each.
fn destinations() -> Dump {
    dump(RECORDS, |number| {
        let server = Ipv4Addr::from_bits(0x0a00_0001 + number % 50);
        let port = 32_768 + u16::try_from(number / 50 % 28_000).unwrap();
        (Ipv4Addr::LOCALHOST.into(), port, server.into(), 443)
    })
}

/// Each from a different client.
fn remotes(records: u32) -> Dump {
    dump(records, |number| {
        let client = Ipv4Addr::from_bits(0x0b00_0000 + number);
        (Ipv4Addr::LOCALHOST.into(), 443, client.into(), 50_000)
    })
}

fn remotes_v6(records: u32) -> Dump {
    dump(records, |number| {
        let client = Ipv6Addr::from_bits((0x2001_0db8_u128 << 96) + (u128::from(number) << 40));
        (Ipv6Addr::LOCALHOST.into(), 443, client.into(), 50_000)
    })
}

fn census() -> Census {
    let settings = Settings {
        port_range: PortRange::new(32_768, 60_999),
        ..Settings::default()
    };
    Census::new(CensusOptions::default(), &settings, Moment::default(), &[])
}

fn added(dump: &Dump) -> Census {
    let (mut census, mut links) = (census(), LinkNames::default());
    for datagram in &dump.datagrams {
        for message in Messages::new(datagram, 1) {
            let Ok(Message::Record(_, payload)) = message else {
                panic!("no record");
            };
            let (record, attributes) = Record::parse(payload).unwrap();
            if let Some(socket) = decode_socket(record, attributes, &mut links) {
                census.add(&socket);
            }
        }
    }
    census
}

fn summary(dump: &Dump) -> SocketSummary {
    added(dump).finish(Source::Netlink, dump.records.into())
}

fn snapshot() -> HostSnapshot {
    HostSnapshot {
        own: Snapshot::default().with(CollectorId::Sockets, summary(&destinations())),
        namespaces: None,
    }
}

fn encoded(snapshot: &HostSnapshot, format: Format, gzip: bool) -> usize {
    let exporter = ExporterMetrics {
        build: BUILD,
        process: None,
        handler: None,
    };
    let body = encode(families(snapshot, &exporter), format).unwrap();
    if gzip {
        compress(&body).unwrap().unwrap().len()
    } else {
        body.len()
    }
}

/// The function whose instructions callgrind counts.
#[inline(never)]
fn measured<T>(body: impl FnOnce() -> T) -> T {
    body()
}

fn once(name: &str) {
    match name {
        "destinations" => {
            let input = destinations();
            black_box(measured(|| added(&input)));
        }
        "remotes" => {
            let input = remotes(RECORDS);
            black_box(measured(|| added(&input)));
        }
        "remotes6" => {
            let input = remotes_v6(RECORDS);
            black_box(measured(|| added(&input)));
        }
        "top" => {
            let census = added(&remotes(RECORDS));
            black_box(measured(|| census.finish(Source::Netlink, 0)));
        }
        "encode" => {
            let snapshot = snapshot();
            black_box(measured(|| encoded(&snapshot, Format::Text, false)));
        }
        other => panic!("{other}: destinations, remotes, remotes6, top, encode"),
    }
    println!("{name}: {RECORDS} records");
}

fn adding(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("decode and add a record");
    for (name, input) in [
        ("50 destinations", destinations()),
        ("100,000 IPv4 clients", remotes(RECORDS)),
        ("1,000,000 IPv4 clients", remotes(10 * RECORDS)),
        ("1,000,000 IPv6 clients", remotes_v6(10 * RECORDS)),
    ] {
        group.throughput(Throughput::Elements(input.records.into()));
        group.sample_size(10).bench_function(name, |bench| {
            // With its end, since what is put off while adding is done there.
            bench.iter(|| summary(&input));
        });
    }
    group.finish();
    let mut group = criterion.benchmark_group("top N");
    for (name, input) in [
        ("50 destinations", destinations()),
        ("100,000 clients", remotes(RECORDS)),
    ] {
        group.sample_size(10).bench_function(name, |bench| {
            bench.iter_batched(
                || added(&input),
                |census| census.finish(Source::Netlink, 0),
                criterion::BatchSize::PerIteration,
            );
        });
    }
    group.finish();
}

fn encoding(criterion: &mut Criterion) {
    let snapshot = snapshot();
    let mut group = criterion.benchmark_group("encode");
    for (name, format, gzip) in [
        ("text", Format::Text, false),
        ("text, gzip", Format::Text, true),
        ("OpenMetrics", Format::OpenMetrics, false),
        ("protobuf", Format::Protobuf, false),
    ] {
        group.bench_function(name, |bench| {
            bench.iter(|| encoded(&snapshot, format, gzip));
        });
    }
    group.finish();
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [mode, name] = arguments.as_slice()
        && mode == "--once"
    {
        return once(name);
    }
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(3))
        .configure_from_args();
    adding(&mut criterion);
    encoding(&mut criterion);
    criterion.final_summary();
}
