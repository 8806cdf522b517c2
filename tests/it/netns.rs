//! Other network namespaces: real ones, with and without names, with processes in them and without,
//! that come and go.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use serde_json::Value;
use tempfile::TempDir;
use timewait_exporter::collector::{Collector, CollectorConfig, NamespaceChoice};
use timewait_exporter::kernel::sock_diag::NetlinkConnect;

use crate::namespace::{enter_new_namespace, in_namespace, set_sysctl};
use crate::net::{at, connect_from, connected, eventually, listening};
use crate::program::{Metrics, Program};

/// A thread that lives in a network namespace of its own, and does there what it is told to.
struct Place {
    work: mpsc::Sender<Box<dyn FnOnce() + Send>>,
    /// The file of its namespace, while it lives.
    file: PathBuf,
    inode: u64,
}

impl Place {
    fn new() -> Self {
        let (work, jobs) = mpsc::channel::<Box<dyn FnOnce() + Send>>();
        let (tell, told) = mpsc::channel();
        thread::spawn(move || {
            enter_new_namespace(&[]);
            let task = rustix::thread::gettid().as_raw_nonzero();
            tell.send(format!("/proc/self/task/{task}/ns/net")).unwrap();
            for job in jobs {
                job();
            }
        });
        let file = PathBuf::from(told.recv().unwrap());
        let inode = fs::metadata(&file).unwrap().ino();
        Self { work, file, inode }
    }

    fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> T {
        let (tell, told) = mpsc::channel();
        let job = move || {
            let _test_over = tell.send(job());
        };
        self.work.send(Box::new(job)).unwrap();
        told.recv().expect("the job in the namespace went well")
    }

    /// Leaves so many sockets in TIME-WAIT to one destination.
    fn close(&self, port: u16, connections: usize) {
        self.run(move || {
            let to = at("127.0.0.1", port);
            let listener = listening(to);
            for _ in 0..connections {
                connected(None, &listener, to).close_client_first();
            }
        });
    }

    /// A process that lives there, until it is dropped.
    fn process(&self) -> Resident {
        let child = self.run(|| {
            let mut command = Command::new("sleep");
            command.arg("1000").stdin(Stdio::null()).spawn().unwrap()
        });
        Resident(child)
    }
}

struct Resident(Child);

impl Drop for Resident {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _gone = self.0.wait();
    }
}

/// A directory in which namespaces have names, as /run/netns, in a mount namespace of the test's own.
struct Names(TempDir);

impl Names {
    fn new() -> Self {
        unshare(CloneFlags::CLONE_NEWNS).unwrap();
        let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
        mount(None::<&str>, "/", None::<&str>, private, None::<&str>).unwrap();
        Self(tempfile::tempdir().unwrap())
    }

    fn flag(&self) -> String {
        format!("--path.netns={}", self.0.path().display())
    }

    fn give(&self, name: &str, place: &Place) {
        let file = self.0.path().join(name);
        fs::write(&file, "").unwrap();
        let bind = MsFlags::MS_BIND;
        mount(Some(&place.file), &file, None::<&str>, bind, None::<&str>).unwrap();
    }

    fn take(&self, name: &str) {
        let file = self.0.path().join(name);
        umount2(&file, MntFlags::MNT_DETACH).unwrap();
        fs::remove_file(&file).unwrap();
    }

    fn named(&self, name: &str) -> Place {
        let place = Place::new();
        self.give(name, &place);
        place
    }
}

impl Drop for Names {
    fn drop(&mut self) {
        for entry in fs::read_dir(self.0.path()).unwrap() {
            let _not_mounted = umount2(&entry.unwrap().path(), MntFlags::MNT_DETACH);
        }
    }
}

fn start(names: &Names, flags: &[&str]) -> Program {
    let path = names.flag();
    let all: Vec<&str> = flags.iter().copied().chain([&*path]).collect();
    Program::start(&all)
}

/// The values of one metric with one label set, by namespace; "" is the own one.
fn by_netns(metrics: &Metrics, metric: &str, labels: &str) -> BTreeMap<String, f64> {
    let mut found = BTreeMap::new();
    for (series, value) in metrics.of(metric) {
        let inner = series
            .split_once('{')
            .map_or("", |(_, rest)| rest.strip_suffix('}').unwrap());
        let (own, netns) = match inner.split_once("netns=\"") {
            Some((own, rest)) => (own.trim_end_matches(','), rest.trim_end_matches('"')),
            None => (inner, ""),
        };
        if own == labels {
            assert_eq!(found.insert(netns.to_owned(), value), None, "{series}");
        }
    }
    found
}

fn told(metrics: &Metrics) -> Vec<String> {
    let all = by_netns(
        metrics,
        "timewait_scrape_collector_success",
        "collector=\"sockstat\"",
    );
    all.into_keys().filter(|name| !name.is_empty()).collect()
}

fn expect(pairs: &[(&str, f64)]) -> BTreeMap<String, f64> {
    let pairs = pairs.iter();
    pairs
        .map(|(name, value)| ((*name).to_owned(), *value))
        .collect()
}

#[test]
fn each_namespace_has_its_own_sockets_range_and_settings() {
    in_namespace(|| {
        let names = Names::new();
        let (blue, red) = (names.named("blue"), names.named("red"));
        red.run(|| {
            set_sysctl("ip_local_port_range", "40000 40099");
            set_sysctl("tcp_tw_reuse", "0");
        });
        // The same addresses and ports in both, and in the own one.
        blue.close(80, 7);
        red.close(80, 40);
        let program = start(&names, &["--collector.netns=named"]);
        let metrics = program.scraper().metrics();
        assert_eq!(
            by_netns(&metrics, "timewait_sockets", "family=\"ipv4\""),
            expect(&[("", 0.0), ("blue", 7.0), ("red", 40.0)])
        );
        assert_eq!(
            by_netns(&metrics, "timewait_port_range_min", ""),
            expect(&[("", 32_768.0), ("blue", 32_768.0), ("red", 40_000.0)])
        );
        assert_eq!(
            by_netns(&metrics, "timewait_sysctl_tcp_tw_reuse", "")["red"],
            0.0
        );
        assert_eq!(
            by_netns(&metrics, "timewait_entered_total", "")["red"],
            40.0
        );
        assert_eq!(by_netns(&metrics, "timewait_buckets", "")["blue"], 7.0);
        let destination = "src_addr=\"127.0.0.1\",dst_addr=\"127.0.0.1\",dst_port=\"80\"";
        let ratio = by_netns(
            &metrics,
            "timewait_destination_exhaustion_ratio",
            destination,
        );
        assert_eq!((ratio.len(), ratio["red"]), (2, 0.4));
        // What is told is what connect() then gives.
        let headroom =
            by_netns(&metrics, "timewait_destination_headroom_ports", destination)["red"];
        let given = red.run(|| {
            let to = at("127.0.0.1", 80);
            let _listener = listening(to);
            let tries = std::iter::repeat_with(|| connect_from(None, to));
            let given: Vec<_> = tries.map_while(Result::ok).take(1_000).collect();
            given.len()
        });
        assert_eq!(given as f64, headroom);
        // Nothing in a namespace that the others do not have but what is of the host.
        assert_eq!(metrics.of("timewait_netns_info").len(), 2);
        assert_eq!(metrics.value("timewait_netns_unreadable"), 0.0);
        assert_eq!(metrics.value("timewait_netns_left_out"), 0.0);
    });
}

#[test]
fn a_namespace_without_a_name_is_found_by_its_process_and_one_with_both_is_told_once() {
    in_namespace(|| {
        let names = Names::new();
        let (named, nameless) = (names.named("blue"), Place::new());
        let (of_named, of_nameless) = (named.process(), nameless.process());
        nameless.close(80, 3);
        let program = start(&names, &["--collector.netns=all"]);
        let metrics = program.scraper().metrics();
        let inode = nameless.inode.to_string();
        let mut expected = vec!["blue".to_owned(), inode.clone()];
        expected.sort();
        assert_eq!(told(&metrics), expected);
        let info: Vec<&str> = metrics.of("timewait_netns_info").into_keys().collect();
        for (label, place, process) in [
            ("blue", &named, &of_named),
            (inode.as_str(), &nameless, &of_nameless),
        ] {
            let (inode, pid) = (place.inode, process.0.id());
            let series = format!(
                "timewait_netns_info{{netns=\"{label}\",inode=\"{inode}\",pid=\"{pid}\",comm=\"sleep\","
            );
            assert!(
                info.iter().any(|told| told.starts_with(&series)),
                "{series} {info:?}"
            );
        }
        assert_eq!(
            by_netns(&metrics, "timewait_sockets", "family=\"ipv4\"")[&inode],
            3.0
        );
        // Without their processes there is only the name left.
        drop((of_named, of_nameless));
        assert_eq!(told(&program.scraper().metrics()), ["blue"]);
    });
}

#[test]
fn only_what_is_asked_for_is_told() {
    in_namespace(|| {
        let names = Names::new();
        let places = ["a", "b", "c"].map(|name| names.named(name));
        names.give("second", &places[0]);
        fs::write(names.0.path().join("leftover"), "").unwrap();
        for (flag, expected) in [
            ("--collector.netns=self", vec![]),
            ("--collector.netns=named", vec!["a", "b", "c"]),
            (
                "--collector.netns=c,second,nowhere,self",
                vec!["c", "second"],
            ),
        ] {
            let program = start(&names, &[flag]);
            let metrics = program.scraper().metrics();
            assert_eq!(told(&metrics), expected, "{flag}");
            let is_silent = metrics.get("timewait_netns_unreadable").is_none();
            assert_eq!(is_silent, expected.is_empty(), "{flag}");
            let expected = usize::from(flag.contains("nowhere"));
            // The log is written, and read, beside the answer.
            eventually("what is not there is said once", || {
                let text = "There are no network namespaces of these names";
                program.logged(text).len() == expected
            });
        }
        let flags = ["--collector.netns=named", "--path.netns=/nowhere"];
        let program = Program::start(&flags);
        eventually("a directory that is not there is said", || {
            program.logged("directory=/nowhere").len() == 1
        });
    });
}

#[test]
fn settings_are_read_anew_and_a_namespace_that_wakes_up_is_walked() {
    in_namespace(|| {
        let names = Names::new();
        let place = names.named("blue");
        let program = start(&names, &["--collector.netns=named"]);
        let mut scraper = program.scraper();
        let value = |metrics: &Metrics, metric: &str| by_netns(metrics, metric, "")["blue"];
        let quiet = scraper.metrics();
        assert_eq!(value(&quiet, "timewait_scrape_dump_messages"), 0.0);
        // The sums are known to be 0; there is nothing to break down.
        let of_blue = |metrics: &Metrics, metric: &str| {
            let series = metrics.of(metric);
            series
                .keys()
                .filter(|series| series.contains("blue"))
                .count()
        };
        assert_eq!(of_blue(&quiet, "timewait_sockets"), 2);
        assert_eq!(of_blue(&quiet, "timewait_sockets_by_age"), 0);
        assert_eq!(of_blue(&quiet, "timewait_destination_ports"), 0);
        // Nothing was read, from whichever source.
        assert_eq!(of_blue(&quiet, "timewait_scrape_source"), 0);
        assert_eq!(value(&quiet, "timewait_port_range_usable_ports"), 28_232.0);
        place.run(|| set_sysctl("ip_local_port_range", "50000 50099"));
        assert_eq!(
            value(&scraper.metrics(), "timewait_port_range_usable_ports"),
            100.0
        );
        place.close(443, 5);
        let busy = scraper.metrics();
        assert_eq!(value(&busy, "timewait_destinations"), 1.0);
        assert_eq!(of_blue(&busy, "timewait_sockets_by_age"), 6);
        assert_eq!(of_blue(&busy, "timewait_scrape_source"), 1);
        assert!(value(&busy, "timewait_scrape_dump_messages") >= 5.0);
        // Sockets of IPv6 alone wake it up, too.
        let six = names.named("six");
        let listener = six.run(|| listening(at("::1", 50_050)));
        let ports = by_netns(&scraper.metrics(), "timewait_listeners_in_port_range", "")["six"];
        assert_eq!(ports, 1.0);
        drop(listener);
    });
}

#[test]
fn a_process_that_moves_to_another_namespace_takes_nothing_along() {
    in_namespace(|| {
        let names = Names::new();
        let [old, new] = ["old", "new"].map(|name| names.named(name));
        let to = names.0.path().join("new");
        let mut moving = old.run(move || {
            let mut command = Command::new("sh");
            command.args(["-c", "read line; exec nsenter --net=\"$0\" sleep 1000"]);
            command.arg(to).stdin(Stdio::piped());
            Resident(command.spawn().unwrap())
        });
        let program = start(&names, &["--collector.netns=named"]);
        let mut scraper = program.scraper();
        let mut expect_in_old = |sockets| {
            let metrics = scraper.metrics();
            let told = by_netns(&metrics, "timewait_sockets", "family=\"ipv4\"");
            assert_eq!(told, expect(&[("", 0.0), ("new", 0.0), ("old", sockets)]));
            metrics
        };
        for _ in 0..3 {
            expect_in_old(0.0);
        }
        old.close(80, 2);
        expect_in_old(2.0);
        let (inode, pid) = (new.inode, moving.0.id());
        writeln!(moving.0.stdin.take().unwrap(), "now").unwrap();
        eventually("it has moved", || {
            fs::metadata(format!("/proc/{pid}/ns/net")).is_ok_and(|found| found.ino() == inode)
        });
        expect_in_old(2.0);
        let metrics = expect_in_old(2.0);
        let lives_there = format!("netns=\"new\",inode=\"{inode}\",pid=\"{pid}\"");
        let mut info = metrics.of("timewait_netns_info").into_keys();
        assert!(info.any(|told| told.contains(&lives_there)));
    });
}

#[test]
fn namespaces_that_come_and_go_are_no_error_and_leave_nothing_behind() {
    in_namespace(|| {
        let names = Names::new();
        let places: Vec<Place> = (0..100).map(|_| Place::new()).collect();
        let staying = names.named("staying");
        staying.close(80, 2);
        let program = start(&names, &["--collector.netns=named", "--log.level=debug"]);
        let mut scraper = program.scraper();
        scraper.metrics();
        let before = held(&program);
        for round in 0..100 {
            let called = |index: usize| format!("r{round}-{index}");
            for (index, place) in places.iter().enumerate() {
                names.give(&called(index), place);
            }
            // Half of them go while it is looked around.
            thread::scope(|scope| {
                let going = scope.spawn(|| {
                    for index in 0..50 {
                        names.take(&called(index));
                    }
                });
                let metrics = scraper.metrics();
                assert_eq!(metrics.value("timewait_netns_unreadable"), 0.0);
                let sockets = by_netns(&metrics, "timewait_sockets", "family=\"ipv4\"");
                assert_eq!(sockets["staying"], 2.0);
                assert!((51..=101).contains(&told(&metrics).len()));
                going.join().unwrap();
            });
            for index in 50..100 {
                names.take(&called(index));
            }
        }
        // Real ends, too: no thread, no name.
        for round in 0..20 {
            let short = names.named(&format!("short-{round}"));
            short.close(80, 1);
            assert_eq!(told(&scraper.metrics()).len(), 2);
            names.take(&format!("short-{round}"));
        }
        assert_eq!(told(&scraper.metrics()), ["staying"]);
        assert_eq!(held(&program), before);
        assert!(program.logged("level=ERROR").is_empty());
    });
}

/// What a program has that it might leak: descriptors, those of namespaces among them, threads and the
/// namespaces that they are in, and mounts.
fn held(program: &Program) -> (usize, usize, Vec<u64>, usize) {
    let process = PathBuf::from(format!("/proc/{}", program.id()));
    let entries = |name: &str| -> Vec<PathBuf> {
        let entries = fs::read_dir(process.join(name)).unwrap();
        entries.map(|entry| entry.unwrap().path()).collect()
    };
    let is_namespace = |path: &PathBuf| {
        let target = fs::read_link(path).unwrap_or_default();
        target.to_string_lossy().starts_with("net:")
    };
    let descriptors = entries("fd");
    let of_namespaces = descriptors.iter().filter(|path| is_namespace(path)).count();
    let mut inside: Vec<u64> = entries("task")
        .iter()
        .map(|task| fs::metadata(task.join("ns/net")).unwrap().ino())
        .collect();
    let threads = inside.len();
    inside.dedup();
    assert_eq!(inside.len(), 1, "every thread is at home");
    assert_eq!(of_namespaces, 1, "its own, to go home");
    let mounts = fs::read_to_string(process.join("mountinfo")).unwrap();
    // Those of the test itself are not the program's.
    let mounts = mounts
        .lines()
        .filter(|line| !line.contains(" net:["))
        .count();
    (descriptors.len(), threads, inside, mounts)
}

#[test]
fn without_the_right_to_enter_the_log_names_it_once_and_the_own_namespace_is_told() {
    in_namespace(|| {
        let names = Names::new();
        let _places = ["a", "b"].map(|name| names.named(name));
        let path = names.flag();
        // In a user namespace those of the host.
        let hidden = f64::from(u8::from(has_hidden_processes()));
        for (flag, bounding, missing, unreadable) in [
            ("named", "-sys_admin", vec!["CAP_SYS_ADMIN"], 2.0),
            ("all", "-sys_admin", vec!["CAP_SYS_ADMIN"], 2.0 + hidden),
            ("all", "-sys_ptrace", vec!["CAP_SYS_PTRACE"], 1.0),
            (
                "all",
                "-sys_admin,-sys_ptrace",
                vec!["CAP_SYS_ADMIN", "CAP_SYS_PTRACE"],
                3.0,
            ),
        ] {
            let bounding = format!("--bounding-set={bounding}");
            let flags = [&*format!("--collector.netns={flag}"), &path];
            let program = Program::start_through(&["setpriv", &bounding], &flags);
            let mut scraper = program.scraper();
            let metrics = (0..3).map(|_| scraper.metrics()).last().unwrap();
            assert_eq!(
                metrics.value("timewait_netns_unreadable"),
                unreadable,
                "{flags:?}"
            );
            assert_eq!(metrics.value("timewait_port_range_ports"), 28_232.0);
            let said = program.logged("for want of capabilities");
            assert_eq!(said.len(), 1, "{said:?}");
            let names = format!("missing=\"{}\"", missing.join(", "));
            let bare = format!("missing={}", missing.join(", "));
            assert!(
                said[0].contains(&names) || said[0].contains(&bare),
                "{said:?}"
            );
            // Nothing of it is said again with each scrape.
            let said = program.logged("level=ERROR");
            assert!(said.is_empty(), "{said:?}");
            let said = program.logged("level=WARN");
            let of_start = ["want of capabilities", "running as root"];
            let is_of_start = |line: &String| of_start.iter().any(|text| line.contains(text));
            assert!(said.iter().all(is_of_start), "{said:?}");
        }
    });
}

/// Whether there are processes whose namespace not even the test may look up.
fn has_hidden_processes() -> bool {
    fs::read_dir("/proc").unwrap().any(|entry| {
        let namespace = fs::read_link(entry.unwrap().path().join("ns/net"));
        namespace.is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied)
    })
}

#[test]
fn the_rights_of_another_user_namespace_are_missed_by_their_names_once() {
    in_namespace(|| {
        let names = Names::new();
        let _place = names.named("blue");
        let nameless = Place::new();
        let _process = nameless.process();
        let path = names.flag();
        let through = ["unshare", "--user", "--map-root-user"];
        let program = Program::start_through(&through, &["--collector.netns=all", &path]);
        let mut scraper = program.scraper();
        let metrics = (0..3).map(|_| scraper.metrics()).last().unwrap();
        assert_eq!(told(&metrics), [""; 0]);
        assert_eq!(metrics.value("timewait_netns_unreadable"), 2.0);
        for (text, times) in [
            ("it takes CAP_SYS_ADMIN in the user namespace", 1),
            ("in spite of CAP_SYS_PTRACE", 1),
            ("cannot go back", 0),
        ] {
            eventually(text, || program.logged(text).len() >= times);
            assert_eq!(program.logged(text).len(), times, "{text}");
        }
    });
}

#[test]
fn one_that_may_not_be_entered_is_logged_once_though_its_processes_come_and_go() {
    in_namespace(|| {
        // The exporter may look at those whose user namespace it shares, but not enter where they live.
        let lives_there = |program: u32| {
            let mut command = Command::new("nsenter");
            command.args(["--preserve-credentials", "--user", "--target"]);
            command.args([&*program.to_string(), "sleep", "1000"]);
            let there = Resident(command.stdin(Stdio::null()).spawn().unwrap());
            let comm = format!("/proc/{}/comm", there.0.id());
            eventually("it has begun", || {
                fs::read_to_string(&comm).is_ok_and(|comm| comm.trim() == "sleep")
            });
            there
        };
        let through = ["unshare", "--user", "--map-root-user", "--net", "sh", "-c"];
        let script = ["ip link set lo up && exec \"$@\"", "sh"];
        let through: Vec<&str> = through.into_iter().chain(script).collect();
        let program = Program::start_through(&through, &["--collector.netns=all"]);
        let mut resident = lives_there(program.id());
        let there = fs::File::open(format!("/proc/{}/ns/net", program.id())).unwrap();
        for _ in 0..4 {
            let ask = || {
                setns(&there, CloneFlags::CLONE_NEWNET).unwrap();
                program.scraper().metrics()
            };
            let metrics = thread::scope(|scope| scope.spawn(ask).join().unwrap());
            assert!(metrics.value("timewait_netns_unreadable") >= 1.0);
            resident = lives_there(program.id());
        }
        drop(resident);
        let text = "it takes CAP_SYS_ADMIN in the user namespace";
        eventually(text, || !program.logged(text).is_empty());
        let said = program.logged(text);
        assert_eq!(said.len(), 1, "{said:?}");
        assert!(said[0].contains("/proc/"), "{said:?}");
    });
}

#[test]
fn a_name_that_may_not_be_looked_at_counts_as_unreadable_and_is_logged_once() {
    in_namespace(|| {
        let names = Names::new();
        let _place = names.named("blue");
        let nameless = Place::new();
        let process = nameless.process();
        // As people give containers a name that have none.
        let target = format!("/proc/{}/ns/net", process.0.id());
        std::os::unix::fs::symlink(target, names.0.path().join("link")).unwrap();
        let path = names.flag();
        for flag in ["--collector.netns=named", "--collector.netns=link,blue"] {
            let through = ["setpriv", "--bounding-set=-sys_ptrace"];
            let program = Program::start_through(&through, &[flag, &path]);
            let mut scraper = program.scraper();
            let metrics = (0..3).map(|_| scraper.metrics()).last().unwrap();
            assert_eq!(told(&metrics), ["blue"], "{flag}");
            assert_eq!(metrics.value("timewait_netns_unreadable"), 1.0, "{flag}");
            let text = "may not be looked at";
            eventually(text, || !program.logged(text).is_empty());
            let said = program.logged(text);
            assert_eq!(said.len(), 1, "{said:?}");
            assert!(said[0].contains("netns=link"), "{said:?}");
            assert!(program.logged("There are no network namespaces").is_empty());
        }
    });
}

#[test]
fn where_the_names_cannot_be_listed_the_namespaces_of_processes_are_told_and_not_for_all() {
    in_namespace(|| {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("no-directory");
        fs::write(&file, "").unwrap();
        let place = Place::new();
        let _lives_there = place.process();
        let flags = [
            "--collector.netns=all",
            &*format!("--path.netns={}", file.display()),
        ];
        let program = Program::start(&flags);
        let mut scraper = program.scraper();
        let metrics = (0..3).map(|_| scraper.metrics()).last().unwrap();
        assert!(told(&metrics).contains(&place.inode.to_string()));
        let whole = metrics.value("timewait_scrape_collector_success{collector=\"netns\"}");
        assert_eq!(whole, 0.0);
        let said = program.logged("collector failed");
        assert_eq!(said.len(), 1, "{said:?}");
        assert!(said[0].contains(file.to_str().unwrap()), "{said:?}");
    });
}

#[test]
fn no_more_rights_are_needed_than_one_for_names_and_two_for_processes() {
    in_namespace(|| {
        let names = Names::new();
        let named = names.named("blue");
        named.close(80, 4);
        let nameless = Place::new();
        let _process = nameless.process();
        let path = names.flag();
        for (flag, bounding, found) in [
            ("named", "--bounding-set=-all,+sys_admin", 1),
            ("all", "--bounding-set=-all,+sys_admin,+sys_ptrace", 2),
        ] {
            let flags = [&*format!("--collector.netns={flag}"), &path];
            let program = Program::start_through(&["setpriv", bounding], &flags);
            let metrics = program.scraper().metrics();
            assert_eq!(told(&metrics).len(), found, "{flag}");
            let sockets = by_netns(&metrics, "timewait_sockets", "family=\"ipv4\"");
            assert_eq!(sockets["blue"], 4.0);
            assert!(program.logged("for want of capabilities").is_empty());
        }
    });
}

#[test]
fn of_too_many_those_with_the_worst_ratio_are_told() {
    in_namespace(|| {
        let names = Names::new();
        let places: Vec<Place> = (0..6).map(|n| names.named(&format!("n{n}"))).collect();
        places[4].run(|| set_sysctl("ip_local_port_range", "40000 40099"));
        places[4].close(80, 30);
        places[2].close(80, 30);
        let flags = ["--collector.netns=named", "--collector.netns-max=2"];
        let program = start(&names, &flags);
        let mut scraper = program.scraper();
        let metrics = scraper.metrics();
        assert_eq!(told(&metrics), ["n2", "n4"]);
        assert_eq!(metrics.of("timewait_netns_info").len(), 2);
        assert_eq!(metrics.value("timewait_netns_left_out"), 4.0);
        places[0].run(|| set_sysctl("ip_local_port_range", "40000 40099"));
        places[0].close(80, 50);
        assert_eq!(told(&scraper.metrics()), ["n0", "n4"]);
    });
}

#[test]
fn the_top_holds_for_each_namespace() {
    in_namespace(|| {
        let names = Names::new();
        let place = names.named("blue");
        for port in 80..90 {
            place.close(port, usize::from(port) - 78);
        }
        let program = start(&names, &["--collector.netns=named", "--collector.top=3"]);
        let metrics = program.scraper().metrics();
        let of_ports = metrics.of("timewait_sockets_by_dst_port");
        let of_blue = of_ports.keys().filter(|series| series.contains("blue"));
        // The top three, the rest, and the ephemeral ones.
        assert_eq!(of_blue.count(), 5);
        let by_port =
            |label: &str| by_netns(&metrics, "timewait_sockets_by_dst_port", label)["blue"];
        assert_eq!(by_port("dst_port=\"89\""), 11.0);
        let rest: u32 = (2..=8).sum();
        assert_eq!(by_port("dst_port=\"other\""), f64::from(rest));
    });
}

/// So many namespaces with 100 sockets in TIME-WAIT each.
fn busy(names: &Names, many: usize) -> Vec<Place> {
    let places = (0..many).map(|n| names.named(&format!("n{n}")));
    places.inspect(|place| place.close(80, 100)).collect()
}

/// A collector that looks at the named namespaces, inside this process, and what it runs on.
fn collector(names: &Names) -> (Collector, tokio::runtime::Runtime) {
    let config = CollectorConfig {
        namespaces: NamespaceChoice::Named,
        namespace_names: names.0.path().to_owned(),
        ..CollectorConfig::default()
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    let collector = Collector::open(config, Box::new(NetlinkConnect)).unwrap();
    (collector, runtime)
}

#[test]
fn what_is_not_reached_by_the_deadline_is_told_as_late_and_has_its_turn() {
    in_namespace(|| {
        let names = Names::new();
        let _places = busy(&names, 50);
        let (collector, runtime) = collector(&names);
        let mut read = BTreeMap::<String, u32>::new();
        let (mut late, mut cut_off, mut time) = (0, 0, Duration::from_micros(500));
        let begin = Instant::now();
        // So little time that it never suffices for all, and more if it does for none.
        while late < 20 || cut_off < 3 || read.len() < 50 || read.values().any(|times| *times < 3) {
            assert!(
                begin.elapsed() < Duration::from_secs(120),
                "{read:?} {late} {cut_off} {time:?}"
            );
            let host = runtime.block_on(collector.scrape(Instant::now() + time));
            let mut reached = 0;
            for other in host.others() {
                let sockets = other.snapshot.sockets.as_ref().unwrap();
                if let Some(figures) = &sockets.value {
                    assert_eq!(figures.time_wait.ipv4, 100);
                    *read.entry(other.identity.label.clone()).or_default() += 1;
                    reached += 1;
                } else {
                    assert!(!sockets.success);
                    late += 1;
                    // What was read before its walk was cut off is told.
                    let settings = other.snapshot.sysctl.as_ref();
                    cut_off += u32::from(settings.is_some_and(|settings| settings.success));
                }
            }
            match reached {
                0 => time += time / 8,
                40.. => time -= time / 4,
                _ => {}
            }
        }
        // With time enough nothing is late.
        let deadline = Instant::now() + Duration::from_secs(30);
        let host = runtime.block_on(collector.scrape(deadline));
        let namespaces = host.namespaces.clone().unwrap();
        assert!(namespaces.success);
        assert_eq!(
            host.others()
                .filter(|one| one.worst_ratio().is_some())
                .count(),
            50
        );
    });
}

#[test]
fn a_short_deadline_beside_a_long_one_tells_every_namespace() {
    in_namespace(|| {
        let names = Names::new();
        let _places = busy(&names, 50);
        let (collector, runtime) = collector(&names);
        let long = Duration::from_secs(30);
        let begin = Instant::now();
        runtime.block_on(collector.scrape(begin + long));
        // Not enough for all.
        let short = begin.elapsed() / 8;
        for is_long_first in [true, false] {
            let mut asked = [long, short];
            if !is_long_first {
                asked.reverse();
            }
            let now = Instant::now();
            let [one, other] = asked.map(|time| collector.scrape(now + time));
            let (one, other) = runtime.block_on(async { tokio::join!(one, other) });
            for host in [one, other] {
                assert_eq!(host.others().count(), 50);
            }
        }
    });
}

#[test]
fn report_check_and_page_tell_every_namespace_the_worst_first() {
    in_namespace(|| {
        let names = Names::new();
        let (_well, full) = (names.named("well"), names.named("full"));
        full.run(|| set_sysctl("ip_local_port_range", "40000 40099"));
        full.close(80, 95);
        let path = names.flag();
        let run = |arguments: &[&str]| {
            let mut command = Command::new(env!("CARGO_BIN_EXE_timewait_exporter"));
            command
                .args(arguments)
                .args(["--collector.netns=named", &path]);
            command.stdin(Stdio::null()).output().unwrap()
        };
        let report = run(&["report"]);
        let text = String::from_utf8(report.stdout).unwrap();
        let entrance = names.0.path().join("full");
        let typed = format!("nsenter --net={} sysctl -w net.ipv4.", entrance.display());
        assert!(text.contains(&typed), "{text}");
        assert!(
            text.contains("\nCRITICAL\nNetwork namespace full: "),
            "{text}"
        );
        assert!(!text.contains("/etc/sysctl.d"), "{text}");
        let place = |what: &str| text.find(what).unwrap_or_else(|| panic!("{what}: {text}"));
        assert!(place("NETWORK NAMESPACE full") < place("NETWORK NAMESPACE well"));
        assert!(place("NETWORK NAMESPACE full") < place("OWN NETWORK NAMESPACE"));
        // What is to be typed there can be typed, and helps.
        let command = text.lines().find(|line| line.contains(&typed)).unwrap();
        let status = Command::new("sh")
            .args(["-c", command])
            .stdout(Stdio::null())
            .status();
        assert!(status.unwrap().success(), "{command}");
        let check = run(&["check"]);
        let line = String::from_utf8(check.stdout).unwrap();
        let json: Value =
            serde_json::from_slice(&run(&["report", "--format=json"]).stdout).unwrap();
        let labels: Vec<Option<&str>> = json["namespaces"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| one["netns"].as_str())
            .collect();
        assert_eq!(labels, [None, Some("full"), Some("well")]);
        assert_eq!(json["namespaces"][1]["inode"], full.inode);
        assert_eq!(json["namespaces_unreadable"], 0);
        assert!(line.contains(" 'full_ipv4_ratio'="), "{line}");
        let program = start(&names, &["--collector.netns=named"]);
        let page = page(&program);
        assert!(page.contains("Network namespace full"), "{page}");
        assert!(page.contains("id=\"namespaces\""), "{page}");
    });
}

#[test]
fn the_way_in_is_that_of_the_host_where_its_procfs_is_mounted_elsewhere() {
    in_namespace(|| {
        let names = Names::new();
        let full = names.named("full");
        full.run(|| set_sysctl("ip_local_port_range", "40000 40099"));
        full.close(80, 95);
        let process = full.process();
        let elsewhere = tempfile::tempdir().unwrap();
        let procfs = elsewhere.path().join("proc");
        std::os::unix::fs::symlink("/proc", &procfs).unwrap();
        let output = Command::new(env!("CARGO_BIN_EXE_timewait_exporter"))
            .args(["report", "--collector.netns=named", &names.flag()])
            .arg(format!("--path.procfs={}", procfs.display()))
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let typed = format!("nsenter --net=/proc/{}/ns/net sysctl -w ", process.0.id());
        assert!(text.contains(&typed), "{text}");
    });
}

#[test]
fn report_names_who_holds_the_sockets_of_another_namespace_whatever_the_source() {
    in_namespace(|| {
        let names = Names::new();
        let place = names.named("full");
        let _held = place.run(|| {
            set_sysctl("ip_local_port_range", "40000 40099");
            let to = at("127.0.0.1", 80);
            let listener = listening(to);
            let held: Vec<_> = (0..95).map(|_| connected(None, &listener, to)).collect();
            (listener, held)
        });
        for source in ["netlink", "procfs"] {
            let mut command = Command::new(env!("CARGO_BIN_EXE_timewait_exporter"));
            command.args(["report", "--format=json", "--collector.netns=full"]);
            command.args([names.flag(), format!("--collector.source={source}")]);
            let output = command.stdin(Stdio::null()).output().unwrap();
            let json: Value = serde_json::from_slice(&output.stdout).unwrap();
            let holders = &json["namespaces"][1]["holders"][0];
            assert_eq!(holders["live_sockets"], 95, "{source}: {holders}");
            assert_eq!(
                holders["processes"][0]["pid"],
                std::process::id(),
                "{source}"
            );
        }
    });
}

#[test]
fn check_is_critical_for_another_namespace_and_unknown_where_one_cannot_be_entered() {
    in_namespace(|| {
        let names = Names::new();
        let full = names.named("full");
        full.run(|| set_sysctl("ip_local_port_range", "40000 40099"));
        full.close(80, 95);
        let path = names.flag();
        let program = env!("CARGO_BIN_EXE_timewait_exporter");
        let arguments = [program, "check", "--collector.netns=named", &path];
        let output = Command::new(arguments[0])
            .args(&arguments[1..])
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        let line = String::from_utf8(output.stdout).unwrap();
        assert!(line.starts_with("TIMEWAIT CRITICAL - full: 95%"), "{line}");
        let mut blind = Command::new("setpriv");
        let output = blind
            .arg("--bounding-set=-sys_admin")
            .args(arguments)
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(3), "{output:?}");
        let line = String::from_utf8(output.stdout).unwrap();
        assert!(
            line.contains("1 network namespace could not be entered"),
            "{line}"
        );
    });
}

#[test]
fn check_is_unknown_where_a_namespace_that_was_asked_for_is_not_there() {
    in_namespace(|| {
        let names = Names::new();
        let _there = names.named("there");
        let check = |asked: &str| {
            let output = Command::new(env!("CARGO_BIN_EXE_timewait_exporter"))
                .args(["check", asked, &names.flag()])
                .output()
                .unwrap();
            let line = String::from_utf8(output.stdout).unwrap();
            (output.status.code(), line)
        };
        assert_eq!(check("--collector.netns=there").0, Some(0));
        let (status, line) = check("--collector.netns=there,gone");
        assert_eq!(status, Some(3), "{line}");
        let says = "1 network namespace that was asked for is not there";
        assert!(line.contains(says), "{line}");
        // Nor is one of another kind that has its name.
        std::os::unix::fs::symlink("/proc/self/ns/uts", names.0.path().join("uts")).unwrap();
        let (status, line) = check("--collector.netns=there,uts");
        assert_eq!(status, Some(3), "{line}");
        assert!(line.contains(says), "{line}");
    });
}

#[test]
fn check_is_unknown_where_the_names_cannot_be_listed_and_report_says_so() {
    in_namespace(|| {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("no-directory");
        fs::write(&file, "").unwrap();
        let run = |arguments: &[&str]| {
            let output = Command::new(env!("CARGO_BIN_EXE_timewait_exporter"))
                .args(arguments)
                .args(["--collector.netns=all", "--path.netns"])
                .arg(&file)
                .stdin(Stdio::null())
                .output()
                .unwrap();
            let text = String::from_utf8(output.stdout).unwrap();
            (
                output.status.code(),
                text.split_whitespace().collect::<Vec<_>>().join(" "),
            )
        };
        let says = "The names of network namespaces could not be listed";
        let (status, line) = run(&["check"]);
        assert_eq!(status, Some(3), "{line}");
        assert!(line.contains(says), "{line}");
        let (_, text) = run(&["report"]);
        assert!(text.contains(says), "{text}");
    });
}

#[test]
fn one_without_a_usable_port_is_told_before_those_that_have_some() {
    in_namespace(|| {
        let names = Names::new();
        let places: Vec<Place> = (0..6).map(|n| names.named(&format!("n{n}"))).collect();
        let flags = ["--collector.netns=named", "--collector.netns-max=2"];
        places[5].run(|| {
            set_sysctl("ip_local_port_range", "40000 40099");
            set_sysctl("ip_local_reserved_ports", "40000-40099");
        });
        places[1].close(80, 3);
        let program = start(&names, &flags);
        let mut scraper = program.scraper();
        for _ in 0..3 {
            let metrics = scraper.metrics();
            assert_eq!(told(&metrics), ["n1", "n5"]);
            let usable = by_netns(&metrics, "timewait_port_range_usable_ports", "");
            assert_eq!(usable["n5"], 0.0);
            let ratio = "timewait_port_range_exhaustion_ratio";
            assert_eq!(by_netns(&metrics, ratio, "family=\"ipv4\"")["n5"], 0.0);
        }
        places[5].run(|| set_sysctl("ip_local_reserved_ports", "1"));
        eventually("it has made way", || {
            told(&scraper.metrics()) == ["n0", "n1"]
        });
    });
}

fn page(program: &Program) -> String {
    let mut stream = TcpStream::connect(program.address).unwrap();
    let request = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    stream.write_all(request).unwrap();
    std::io::read_to_string(stream).unwrap()
}

#[test]
fn what_holds_a_namespace_alive_is_not_the_exporter() {
    in_namespace(|| {
        let names = Names::new();
        let program = start(&names, &["--collector.netns=named"]);
        let mut scraper = program.scraper();
        let mut kept = Kept(Vec::new());
        let is_free_again = |tries: u32| {
            let place = names.named("short");
            let inode = place.inode;
            place.close(80, 1);
            assert_eq!(told(&scraper.metrics()), ["short"]);
            names.take("short");
            drop(place);
            kept.with_inode(inode, 5 + tries).is_some()
        };
        assert!((1..30).any(is_free_again), "no namespace went away");
    });
}

#[test]
fn of_too_many_quiet_ones_the_first_are_told_and_none_as_late() {
    in_namespace(|| {
        let names = Names::new();
        let places: Vec<Place> = (0..6).map(|n| names.named(&format!("n{n}"))).collect();
        let flags = ["--collector.netns=named", "--collector.netns-max=3"];
        let program = start(&names, &flags);
        let mut scraper = program.scraper();
        let success = |metrics: &Metrics| {
            let labels = "collector=\"sockets\"";
            by_netns(metrics, "timewait_scrape_collector_success", labels)
        };
        let all_quiet = expect(&[("", 1.0), ("n0", 1.0), ("n1", 1.0), ("n2", 1.0)]);
        for _ in 0..3 {
            assert_eq!(success(&scraper.metrics()), all_quiet);
        }
        // One that holds no port of the range is no worse than those without a socket.
        let listener = places[5].run(|| listening(at("127.0.0.1", 80)));
        assert_eq!(success(&scraper.metrics()), all_quiet);
        drop(listener);
        // One that is better again makes way.
        places[5].run(|| set_sysctl("ip_local_port_range", "40000 40099"));
        let busy = places[5].run(|| {
            let listener = listening(at("127.0.0.1", 80));
            let streams: Vec<_> = (0..5)
                .map(|_| connect_from(None, at("127.0.0.1", 80)).unwrap())
                .collect();
            (listener, streams)
        });
        let one_busy = expect(&[("", 1.0), ("n0", 1.0), ("n1", 1.0), ("n5", 1.0)]);
        assert_eq!(success(&scraper.metrics()), one_busy);
        places[5].run(|| {
            set_sysctl("tcp_max_tw_buckets", "0");
            drop(busy);
        });
        eventually("the namespace is quiet", || {
            success(&scraper.metrics()) == all_quiet
        });
        let metrics = scraper.metrics();
        assert_eq!(metrics.value("timewait_netns_left_out"), 3.0);
        let whole = metrics.value("timewait_scrape_collector_success{collector=\"netns\"}");
        assert_eq!(whole, 1.0);
    });
}

/// Namespaces that are kept, so that no number below theirs becomes free.
///
/// The kernel gives the lowest number that is free, to namespaces and to the some 70 files that each has in
/// /proc/net: one of those may have the number of a namespace that has gone, if others are free below it.
struct Kept(Vec<Place>);

impl Kept {
    /// A new namespace with the number of one that has gone, which is free again some time after nothing
    /// holds it; `None` if something else has it after so many.
    fn with_inode(&mut self, inode: u64, many: u32) -> Option<Place> {
        for n in 0..many {
            let place = Place::new();
            if place.inode == inode {
                return Some(place);
            }
            self.0.push(place);
            thread::sleep(Duration::from_millis(5 << n.min(5)));
        }
        None
    }
}

#[test]
fn a_namespace_that_has_the_name_and_inode_of_one_that_has_gone_is_another() {
    in_namespace(|| {
        let names = Names::new();
        // More than are read anew in one scrape.
        let _quiet: Vec<Place> = (0..40).map(|n| names.named(&format!("n{n:02}"))).collect();
        let program = start(&names, &["--collector.netns=named"]);
        let mut scraper = program.scraper();
        let (mut kept, mut met, mut tries) = (Kept(Vec::new()), 0, 0);
        while met < 3 {
            tries += 1;
            assert!(tries < 30, "no number was given again");
            let first = names.named("pod");
            let inode = first.inode;
            first.run(|| set_sysctl("ip_local_port_range", "40000 40099"));
            let range = by_netns(&scraper.metrics(), "timewait_port_range_min", "");
            assert_eq!(range["pod"], 40_000.0);
            names.take("pod");
            drop(first);
            let Some(same) = kept.with_inode(inode, 5 + tries) else {
                continue;
            };
            names.give("pod", &same);
            let range = by_netns(&scraper.metrics(), "timewait_port_range_min", "");
            assert_eq!(range["pod"], 32_768.0);
            names.take("pod");
            met += 1;
        }
    });
}

#[test]
fn what_is_no_other_network_namespace_is_passed_over() {
    in_namespace(|| {
        let names = Names::new();
        let place = names.named("blue");
        let path = |name: &str| names.0.path().join(name);
        fs::write(path("plain"), "").unwrap();
        fs::create_dir(path("directory")).unwrap();
        std::os::unix::fs::symlink("/nowhere", path("dangling")).unwrap();
        std::os::unix::fs::symlink("/proc/self/ns/uts", path("other-kind")).unwrap();
        let file = place.file.to_str().unwrap();
        let file = file.replace("self", &std::process::id().to_string());
        std::os::unix::fs::symlink(file, path("a-link")).unwrap();
        for (name, target) in [
            ("mounted-other-kind", "/proc/self/ns/uts"),
            ("own", "/proc/self/task/self/ns/net"),
        ] {
            fs::write(path(name), "").unwrap();
            let task = rustix::thread::gettid().as_raw_nonzero().to_string();
            let target = target.replace("task/self", &format!("task/{task}"));
            let bind = MsFlags::MS_BIND;
            mount(
                Some(&*target),
                &path(name),
                None::<&str>,
                bind,
                None::<&str>,
            )
            .unwrap();
        }
        for flag in ["named", "own,a-link,other-kind"] {
            let program = start(&names, &[&format!("--collector.netns={flag}")]);
            let mut scraper = program.scraper();
            let metrics = (0..3).map(|_| scraper.metrics()).last().unwrap();
            assert_eq!(told(&metrics), ["a-link"], "{flag}");
            assert_eq!(metrics.value("timewait_netns_unreadable"), 0.0);
            assert!(program.logged("level=ERROR").is_empty());
            assert!(program.logged("There are no network namespaces").is_empty());
        }
    });
}
