//! The situations and their targets.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::bare;
use crate::exporter::{Cost, Server, exchange, exporter_path, values};
use crate::namespace;
use crate::namespace::time_wait_sockets;
use crate::peers;
use crate::pods;
use crate::sockets;
use crate::table::{Table, least, median, mib, ms, ratio};

/// One of the times of a cost.
pub type Time = fn(&Cost) -> Duration;

/// Both times, by their names in the table.
pub const TIMES: [(&str, Time); 2] = [("CPU", |cost| cost.cpu), ("wall time", |cost| cost.wall)];

/// A situation: creates its sockets, measures, and adds lines.
type Row = fn(&Scale, &mut Table);

/// All situations by name, in the order of the table.
pub const ALL: [(&str, Row); 17] = [
    ("destinations", destinations),
    ("remotes", remotes),
    ("remotes6", remotes_v6),
    ("established", established),
    ("udp", udp),
    ("nothing", nothing),
    ("peers", against_peers),
    ("namespaces", namespaces),
    ("pods", pods::pods),
    ("pods500", pods::many_pods),
    ("churn", pods::churn),
    ("checked", pods::checked),
    ("first", pods::first),
    ("crowd", crowd),
    ("clients", clients),
    (COUNTED, counted),
    ("idle", idle),
];

/// The row that needs the privilege to open perf events in the initial user namespace.
pub const COUNTED: &str = "counted";

pub const FULL_SOAK: Duration = Duration::from_secs(60);
pub const SMOKE_SOAK: Duration = Duration::from_secs(2);

/// As for an ordinary user: only root can read the slabs.
pub const ORDINARY: &str = "--no-collector.slabinfo";

/// The size of each situation.
pub struct Scale {
    many: usize,
    destinations: usize,
    pub some: usize,
    few: usize,
    accepted: usize,
    idle_connections: usize,
    namespaces: usize,
    pairs: usize,
    idle: Duration,
    pub pods: usize,
    /// How often exporters are scraped alternately, and at what interval.
    pub turns: usize,
    pub pace: Duration,
    has_peers: bool,
}

impl Scale {
    pub const FULL: Self = Self {
        many: 1_000_000,
        destinations: 50,
        some: 200_000,
        few: 10_000,
        accepted: 100_000,
        idle_connections: 1_000,
        namespaces: 200,
        pairs: 11,
        idle: Duration::from_secs(10),
        pods: 100,
        turns: 12,
        pace: Duration::from_secs(3),
        has_peers: true,
    };

    pub const SMOKE: Self = Self {
        many: 2_000,
        destinations: 10,
        some: 400,
        few: 200,
        accepted: 400,
        idle_connections: 20,
        namespaces: 5,
        pairs: 2,
        idle: Duration::from_millis(500),
        pods: 10,
        turns: 2,
        pace: Duration::from_millis(100),
        has_peers: false,
    };
}

pub fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Alternating scrapes and bare dumps.
struct Pairs {
    scrape: Vec<Cost>,
    bare: Vec<Cost>,
    /// The last answer.
    answer: String,
}

impl Pairs {
    fn measure(server: &Server, states: u32, count: usize) -> Self {
        Self::with(server, || bare::dump(states).1, count)
    }

    fn with(server: &Server, bare: impl Fn() -> Cost, count: usize) -> Self {
        let mut pairs = Self {
            scrape: Vec::new(),
            bare: Vec::new(),
            answer: String::new(),
        };
        // The first scrape opens files and starts threads.
        server.scrape();
        for _ in 0..count {
            let (answer, cost) = server.scrape();
            pairs.scrape.push(cost);
            pairs.bare.push(bare());
            pairs.answer = answer;
        }
        pairs
    }

    fn record(&self, situation: &str, goal: &str, table: &mut Table) {
        let (scrape, bare) = (median(&self.scrape), median(&self.bare));
        let (least_scrape, least_bare) = (least(&self.scrape), least(&self.bare));
        for (name, of) in TIMES {
            let measured = format!(
                "{:.2} ({} of {}; least {:.2})",
                ratio(of(&scrape), of(&bare)),
                ms(of(&scrape)),
                ms(of(&bare)),
                ratio(of(&least_scrape), of(&least_bare)),
            );
            table.add(
                situation,
                &format!("{name}, of the bare dump"),
                goal,
                measured,
            );
        }
    }
}

/// Measures a row with many sockets: pairs, peak memory, and memory afterwards.
fn many(
    situation: &str,
    goal: &str,
    peak_goal: &str,
    scale: &Scale,
    table: &mut Table,
    make: impl FnOnce(),
) {
    let server = Server::exporter(&[ORDINARY]);
    let (_, _) = server.scrape();
    let before = server.status_bytes("VmRSS");
    let begin = Instant::now();
    make();
    eprintln!(
        "  {} exist after {:?}",
        time_wait_sockets(),
        begin.elapsed()
    );
    server.reset_peak();
    let pairs = Pairs::measure(&server, bare::CONNECTED, scale.pairs);
    let measured = values(&pairs.answer, "timewait_scrape_dump_messages");
    eprintln!(
        "  {} exist at the end, {measured:?} exported",
        time_wait_sockets()
    );
    pairs.record(situation, goal, table);
    table.add(
        situation,
        "peak memory",
        peak_goal,
        mib(server.status_bytes("VmHWM")),
    );
    let after = server.status_bytes("VmRSS");
    table.add(
        situation,
        "memory before, and given back to",
        "",
        format!("{}, {}", mib(before), mib(after)),
    );
    let series = pairs
        .answer
        .lines()
        .filter(|line| line.starts_with("timewait_"))
        .count();
    table.add(
        situation,
        "series",
        "no more than before",
        series.to_string(),
    );
}

fn destinations(scale: &Scale, table: &mut Table) {
    let situation = format!(
        "{} TIME-WAIT, {} destinations",
        grouped(scale.many),
        scale.destinations
    );
    let make = || sockets::many_time_wait_of_clients(scale.many, scale.many / scale.destinations);
    many(&situation, "≤ 1.10", "≤ 16 MiB", scale, table, make);
}

fn remotes(scale: &Scale, table: &mut Table) {
    let situation = format!(
        "{} TIME-WAIT, each of another IPv4 client",
        grouped(scale.many)
    );
    let make = || sockets::time_wait_of_servers(scale.many, false);
    many(&situation, "≤ 1.35", "≤ 64 MiB", scale, table, make);
}

fn remotes_v6(scale: &Scale, table: &mut Table) {
    let situation = format!(
        "{} TIME-WAIT, each of another IPv6 client",
        grouped(scale.many)
    );
    let make = || sockets::time_wait_of_servers(scale.many, true);
    many(&situation, "≤ 1.35", "≤ 64 MiB", scale, table, make);
}

fn established(scale: &Scale, table: &mut Table) {
    let situation = format!(
        "{} TIME-WAIT and {} established that a server accepted",
        grouped(scale.few),
        grouped(scale.accepted)
    );
    let server = Server::exporter(&[ORDINARY]);
    let _sockets = sockets::established(scale.accepted);
    sockets::time_wait_of_clients(scale.few, scale.few / 2);
    let pairs = Pairs::measure(&server, bare::TIME_WAIT, scale.pairs);
    pairs.record(&situation, "≤ 1.5 of TIME-WAIT alone", table);
    add_filter(&situation, scale, table);
}

/// The UDP collector alone, with the sysctls that it needs.
fn udp(scale: &Scale, table: &mut Table) {
    let others = [
        "sockets",
        "netstat",
        "snmp",
        "sockstat",
        "probe",
        "conntrack",
        "failures",
    ];
    let mut flags: Vec<String> = others.map(|name| format!("--no-collector.{name}")).into();
    flags.push(ORDINARY.to_owned());
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let server = Server::exporter(&flags);
    let _sockets = sockets::udp(scale.accepted);
    let pairs = Pairs::with(&server, || bare::udp_dump().1, scale.pairs);
    let none = "timewait_udp_source_ports{src_addr=\"0.0.0.0\"} 0\n";
    assert!(
        pairs.answer.contains("timewait_udp_source_ports{") && !pairs.answer.contains(none),
        "no UDP socket was counted"
    );
    let situation = format!(
        "{} UDP sockets, the udp collector alone",
        grouped(scale.accepted)
    );
    pairs.record(&situation, "≤ 1.1", table);
}

/// What a filter program saves or costs with the current sockets.
fn add_filter(situation: &str, scale: &Scale, table: &mut Table) {
    let (mut all, mut filtered, mut owners) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..scale.pairs {
        owners.push(bare::dump(bare::OWNERS).1);
        all.push(bare::dump(bare::CONNECTED).1);
        filtered.push(bare::filtered_dump(bare::CONNECTED).1);
    }
    let measured = format!(
        "{} with, {} without",
        ms(median(&filtered).cpu),
        ms(median(&all).cpu)
    );
    table.add(situation, "bare dump, filter program, CPU", "", measured);
    let measured = ms(median(&owners).cpu);
    table.add(
        situation,
        "bare dump of listening and bound sockets, CPU",
        "",
        measured,
    );
}

fn nothing(scale: &Scale, table: &mut Table) {
    let flags: [(&str, &[&str]); 2] = [
        ("nothing", &[ORDINARY]),
        ("nothing, as root, with the memory of slabs", &[]),
    ];
    for (situation, flags) in flags {
        let server = Server::exporter(flags);
        let pairs = Pairs::measure(&server, bare::CONNECTED, scale.pairs * 5);
        let (scrape, bare) = (median(&pairs.scrape), median(&pairs.bare));
        for (name, one, other) in [
            ("CPU", scrape.cpu, bare.cpu),
            ("wall time", scrape.wall, bare.wall),
        ] {
            table.add(
                situation,
                &format!("{name} above the empty dump"),
                "≤ 1 ms",
                format!(
                    "{} ({} less {})",
                    ms(one.saturating_sub(other)),
                    ms(one),
                    ms(other)
                ),
            );
        }
    }
}

fn against_peers(scale: &Scale, table: &mut Table) {
    let situation = format!("against others on {} TIME-WAIT, CPU", grouped(scale.some));
    let server = Server::exporter(&[ORDINARY]);
    let node_exporter = scale.has_peers.then(peers::node_exporter).flatten();
    sockets::many_time_wait_of_clients(scale.some, scale.some / 10);
    server.scrape();
    let (mut own, mut bare_dumps) = (Vec::new(), Vec::new());
    let mut others: [Vec<Cost>; 4] = Default::default();
    for _ in 0..scale.pairs.min(7) {
        own.push(server.scrape().1);
        bare_dumps.push(bare::dump(bare::CONNECTED).1);
        others[0].extend(node_exporter.as_ref().map(|peer| peer.scrape().1));
        others[1].extend(peers::ss());
        others[2].push(peers::read("/proc/net/tcp"));
        others[3].push(peers::read("/proc/net/tcp6"));
    }
    add_filter(&situation, scale, table);
    let (own, floor) = (median(&own).cpu, median(&bare_dumps).cpu);
    table.add(&situation, "the exporter", "", ms(own));
    table.add(&situation, "the bare dump", "", ms(floor));
    let names = [
        ("node_exporter (tcpstat alone)", "≥ 2.3"),
        ("ss -Htan", "≥ 6"),
        ("reading /proc/net/tcp", "≥ 7"),
        ("reading /proc/net/tcp6, which has none", ""),
    ];
    for ((name, goal), costs) in names.into_iter().zip(&others) {
        let measured = if costs.is_empty() {
            "not installed".to_owned()
        } else {
            let cpu = median(costs).cpu;
            // No exporter that requests the dump can be faster than the dump.
            format!(
                "{:.1} times as much ({}; {:.1} of the bare dump)",
                ratio(cpu, own),
                ms(cpu),
                ratio(cpu, floor)
            )
        };
        table.add(&situation, name, goal, measured);
    }
}

fn namespaces(scale: &Scale, table: &mut Table) {
    let situation = format!(
        "{} idle namespaces beside one with {} TIME-WAIT",
        scale.namespaces,
        grouped(scale.some)
    );
    let _idle: Vec<Idle> = (0..scale.namespaces).map(|_| Idle::start()).collect();
    let alone = Server::exporter(&[ORDINARY]);
    let address = SocketAddr::from(([127, 0, 0, 1], 10_073));
    let all = Server::exporter_at(address, &[ORDINARY, "--collector.netns=all"]);
    sockets::many_time_wait_of_clients(scale.some, scale.some / 10);
    let series = |answer: &str| answer.matches("timewait_netns_info{").count();
    let found = series(&all.scrape().0);
    assert_eq!(found, scale.namespaces, "all namespaces are exported");
    alone.scrape();
    let (mut of_one, mut of_all) = (Vec::new(), Vec::new());
    for _ in 0..scale.pairs {
        of_one.push(alone.scrape().1);
        of_all.push(all.scrape().1);
    }
    for (name, time) in TIMES {
        let (one, all) = (time(&median(&of_one)), time(&median(&of_all)));
        let measured = format!("{:.2} ({} of {})", ratio(all, one), ms(all), ms(one));
        table.add(
            &situation,
            &format!("{name}, of that one alone"),
            "≤ 1.15",
            measured,
        );
    }
    let resident = all.status_bytes("VmRSS");
    table.add(&situation, "resident after a scrape", "", mib(resident));
}

/// A process in a network namespace of its own, without a socket.
struct Idle(Child);

impl Idle {
    fn start() -> Self {
        let mut command = Command::new("unshare");
        command.args(["--net", "sleep", "600"]).stdin(Stdio::null());
        Self(command.spawn().expect("namespaces can be made"))
    }
}

impl Drop for Idle {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _reaped = self.0.wait();
    }
}

fn crowd(scale: &Scale, table: &mut Table) {
    const CROWD: usize = 40;
    let situation = format!(
        "{CROWD} scrapes at once on {} TIME-WAIT",
        grouped(scale.many)
    );
    let server = Server::exporter(&[ORDINARY, "--web.max-requests=50"]);
    sockets::many_time_wait_of_clients(scale.many, scale.many / scale.destinations);
    let mut singles: Vec<Cost> = (0..3).map(|_| server.scrape().1).collect();
    server.reset_peak();
    singles.push(server.scrape().1);
    let single_peak = server.status_bytes("VmHWM");
    let single = median(&singles);
    let barrier = Barrier::new(CROWD);
    let address = server.address;
    let one_more = thread::spawn({
        move || {
            // The current dump.
            let mut stream = TcpStream::connect(address).unwrap();
            exchange(&mut stream, "text/plain")
        }
    });
    thread::sleep(single.wall / 4);
    let (answers, cost) = Cost::of_process(server.pid(), || {
        thread::scope(|scope| {
            let scrapers: Vec<_> = (0..CROWD)
                .map(|_| {
                    scope.spawn(|| {
                        barrier.wait();
                        let mut stream = TcpStream::connect(address).unwrap();
                        exchange(&mut stream, "text/plain")
                    })
                })
                .collect();
            scrapers
                .into_iter()
                .map(|one| one.join().unwrap())
                .collect::<Vec<String>>()
        })
    });
    let under_way = one_more.join().unwrap();
    // Each dump took a different time: the number of durations is that of dumps.
    let duration = |answer: &String| {
        let name = "timewait_scrape_collector_duration_seconds{collector=\"sockets\"}";
        values(answer, name)
            .first()
            .map_or(0, |seconds| seconds.to_bits())
    };
    let mut dumps: BTreeSet<u64> = answers.iter().map(duration).collect();
    dumps.remove(&duration(&under_way));
    let answered = answers
        .iter()
        .filter(|answer| answer.starts_with("HTTP/1.1 200"))
        .count();
    table.add(
        &situation,
        "answered",
        "all",
        format!("{answered} of {CROWD}"),
    );
    table.add(
        &situation,
        "dumps after the current one",
        "≤ 2",
        dumps.len().to_string(),
    );
    let measured = format!("{} (one scrape: {})", ms(cost.cpu), ms(single.cpu));
    table.add(&situation, "CPU in all", "", measured);
    let peak = server.status_bytes("VmHWM");
    let more = format!(
        "{} ({} for one)",
        mib(peak.saturating_sub(single_peak)),
        mib(single_peak)
    );
    table.add(&situation, "more memory than for one", "≤ 8 MiB", more);
}

/// Scrapes while other clients misbehave, compared with undisturbed scrapes.
fn clients(scale: &Scale, table: &mut Table) {
    let server = Server::exporter(&[ORDINARY, "--web.max-requests=1"]);
    sockets::many_time_wait_of_clients(scale.some, scale.some / 10);
    let situation = format!(
        "scrapes of others on {} TIME-WAIT, of their usual wall time",
        grouped(scale.some)
    );
    let rounds = scale.pairs;
    let usual = || -> Vec<Cost> { (0..rounds).map(|_| scraped_through(&server)).collect() };
    let mut record = |name: &str, before: &[Cost], during: &[Cost]| {
        let (before, during) = (median(before).wall, median(during).wall);
        let measured = format!(
            "{:.2} ({} of {})",
            ratio(during, before),
            ms(during),
            ms(before)
        );
        table.add(&situation, name, "≤ 1.2", measured);
    };
    server.scrape();

    let before = usual();
    let (refused, during) = at_the_limit(&server, rounds);
    record(
        &format!("--web.max-requests reached, {refused} refused"),
        &before,
        &during,
    );

    let before = usual();
    let readers: Vec<TcpStream> = (0..scale.idle_connections / 5)
        .map(|_| slow_reader(&server))
        .collect();
    // Until the connections' buffers are full these clients request thousands of pages.
    server.wait_until_idle();
    let during = usual();
    record(
        &format!("{} clients that do not read", readers.len()),
        &before,
        &during,
    );
    drop(readers);

    let before = usual();
    let idle: Vec<TcpStream> = (0..scale.idle_connections)
        .filter_map(|_| TcpStream::connect(server.address).ok())
        .collect();
    let during = usual();
    record(
        &format!("{} idle connections", grouped(idle.len())),
        &before,
        &during,
    );
}

/// A scrape that is retried while another one occupies the only slot.
fn scraped_through(server: &Server) -> Cost {
    loop {
        let mut stream = TcpStream::connect(server.address).unwrap();
        let (answer, cost) = Cost::of_process(server.pid(), || exchange(&mut stream, "text/plain"));
        if answer.starts_with("HTTP/1.1 200") {
            return cost;
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// Scrapes that occupy the only slot, while others are refused.
fn at_the_limit(server: &Server, rounds: usize) -> (usize, Vec<Cost>) {
    let (under_way, stop) = (AtomicBool::new(false), AtomicBool::new(false));
    let refused = AtomicUsize::new(0);
    let costs = thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                if under_way.load(Ordering::Relaxed) {
                    let mut stream = TcpStream::connect(server.address).unwrap();
                    let answer = exchange(&mut stream, "text/plain");
                    refused.fetch_add(
                        usize::from(answer.starts_with("HTTP/1.1 503")),
                        Ordering::Relaxed,
                    );
                }
                thread::sleep(Duration::from_millis(1));
            }
        });
        let mut costs = Vec::new();
        while costs.len() < rounds {
            let mut stream = TcpStream::connect(server.address).unwrap();
            let begin = Instant::now();
            write!(
                stream,
                "GET /metrics HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n"
            )
            .unwrap();
            thread::sleep(Duration::from_micros(500));
            under_way.store(true, Ordering::Relaxed);
            // The first bytes end it: then the slot is free for the others.
            let mut head = [0; 12];
            stream.read_exact(&mut head).unwrap();
            under_way.store(false, Ordering::Relaxed);
            let mut rest = Vec::new();
            stream.read_to_end(&mut rest).unwrap();
            // One of the others may have come first, and occupy the slot.
            if head.ends_with(b"200") {
                costs.push(Cost {
                    cpu: Duration::ZERO,
                    wall: begin.elapsed(),
                });
            }
            thread::sleep(Duration::from_millis(20));
        }
        stop.store(true, Ordering::Relaxed);
        costs
    });
    (refused.into_inner(), costs)
}

/// A client that requests a page again and again and reads nothing.
fn slow_reader(server: &Server) -> TcpStream {
    let mut stream = TcpStream::connect(server.address).unwrap();
    for _ in 0..20 {
        let _full = stream.write_all(b"GET / HTTP/1.1\r\nHost: bench\r\n\r\n");
    }
    stream
}

/// connect() calls while an exporter counts failed ones, and while one does not.
fn counted(scale: &Scale, table: &mut Table) {
    const CALLS: usize = 1_000;
    let situation = format!("{} connect() calls on loopback", grouped(CALLS));
    namespace::mount_tracefs();
    let with_counters = |are_on: bool| {
        let flags = [ORDINARY, "--no-collector.failures"];
        let server = Server::exporter(&flags[..if are_on { 1 } else { 2 }]);
        let is_counting = server
            .scrape()
            .0
            .contains("timewait_connect_failures_total");
        assert!(are_on || !is_counting, "{flags:?}");
        (is_counting == are_on).then(|| {
            // For the first calls the caches are cold.
            sockets::connects(CALLS);
            sockets::connects(CALLS)
        })
    };
    let (mut on, mut off) = (Vec::new(), Vec::new());
    for pair in 0..scale.pairs * 5 {
        // Each comes first equally often.
        for are_on in [pair % 2 == 0, pair % 2 == 1] {
            let Some(cost) = with_counters(are_on) else {
                table.add(
                    &situation,
                    "failed ones counted",
                    "",
                    "not measured: needs root",
                );
                return;
            };
            if are_on { &mut on } else { &mut off }.push(cost);
        }
    }
    let (median_on, median_off) = (median(&on), median(&off));
    let (least_on, least_off) = (least(&on), least(&off));
    for (name, of) in TIMES {
        let measured = format!(
            "{:.3} ({} of {}; least {:.3})",
            ratio(of(&median_on), of(&median_off)),
            ms(of(&median_on)),
            ms(of(&median_off)),
            ratio(of(&least_on), of(&least_off)),
        );
        let measure = format!("{name} while failed ones are counted, of that while not");
        table.add(&situation, &measure, "≤ 1.02", measured);
    }
}

fn idle(scale: &Scale, table: &mut Table) {
    let situation = "idle";
    let mut starts: Vec<Duration> = (0..scale.pairs)
        .map(|_| Server::start_to_first_answer())
        .collect();
    starts.sort_unstable();
    let measured = format!("{} (least {})", ms(starts[starts.len() / 2]), ms(starts[0]));
    table.add(situation, "start to first answer", "≤ 20 ms", measured);
    let server = Server::exporter(&[ORDINARY]);
    server.scrape();
    let resident = server.status_bytes("VmRSS");
    table.add(
        situation,
        "resident after a scrape",
        "≤ 8 MiB",
        mib(resident),
    );
    // Threads that encode end after ten idle seconds.
    thread::sleep(scale.idle + scale.idle / 4);
    let before = server.wake_ups();
    thread::sleep(scale.idle);
    let woken = server.wake_ups() - before;
    let measured = format!("{woken} in {:?}", scale.idle);
    table.add(situation, "wake-ups", "none", measured);
    let size = std::fs::metadata(exporter_path()).unwrap().len();
    table.add(situation, "size of the binary", "≤ 8 MiB", mib(size));
}
