//! Namespaces and processes that come and go between scrapes, and during one.

use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use std::{fs, thread};

use super::place::{Names, Place, Resident};
use super::{by_netns, expect, exported, start};
use crate::support::namespace::{in_namespace, ip, set_sysctl};
use crate::support::program::Program;
use crate::support::sockets::{at, listening};
use crate::support::{PATIENCE, eventually};

#[test]
fn a_process_that_moves_to_another_namespace_takes_no_sockets_with_it() {
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
            let sockets_by_netns = by_netns(&metrics, "timewait_sockets", "family=\"ipv4\"");
            assert_eq!(
                sockets_by_netns,
                expect(&[("", 0.0), ("new", 0.0), ("old", sockets)])
            );
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
        let moved_process = format!("netns=\"new\",inode=\"{inode}\",pid=\"{pid}\"");
        let mut info = metrics.of("timewait_netns_info").into_keys();
        assert!(info.any(|series| series.contains(&moved_process)));
    });
}

#[test]
fn namespaces_that_come_and_go_are_no_error_and_leak_nothing() {
    in_namespace(|| {
        let names = Names::new();
        let places: Vec<Place> = (0..100).map(|_| Place::new()).collect();
        let staying = names.named("staying");
        // It stays for the whole test, unlike a socket in TIME-WAIT.
        let _service = staying.run(|| listening(at("127.0.0.1", 40_000)));
        let program = start(&names, &["--collector.netns=named", "--log.level=debug"]);
        let mut scraper = program.scraper();
        scraper.metrics();
        let before = resources_at_rest(&program);
        let (_, of_namespaces, _, inside, _) = &before;
        assert_eq!(*of_namespaces, 1, "its own, to return to it");
        assert_eq!(inside.len(), 1, "no thread is in another namespace");
        for round in 0..100 {
            let called = |index: usize| format!("r{round}-{index}");
            for (index, place) in places.iter().enumerate() {
                names.give(&called(index), place);
            }
            // Half of them disappear during a scrape.
            thread::scope(|scope| {
                let going = scope.spawn(|| {
                    for index in 0..50 {
                        names.take(&called(index));
                    }
                });
                let metrics = scraper.metrics();
                assert_eq!(metrics.value("timewait_netns_unreadable"), 0.0);
                let listeners = by_netns(&metrics, "timewait_listeners_in_port_range", "");
                assert_eq!(listeners["staying"], 1.0);
                assert!((51..=101).contains(&exported(&metrics).len()));
                going.join().unwrap();
            });
            for index in 50..100 {
                names.take(&called(index));
            }
        }
        // Complete ends, too: no thread, no name.
        for round in 0..20 {
            let short = names.named(&format!("short-{round}"));
            short.close(80, 1);
            assert_eq!(exported(&scraper.metrics()).len(), 2);
            names.take(&format!("short-{round}"));
        }
        assert_eq!(exported(&scraper.metrics()), ["staying"]);
        assert_eq!(resources_at_rest(&program), before);
        assert!(program.logged("level=ERROR").is_empty());
    });
}

/// What a program might leak: descriptors, those of namespaces, threads and their namespaces, and mounts.
type Resources = (usize, usize, usize, Vec<u64>, usize);

/// The resources once they no longer change. What the program reads at start may end after the first scrape.
fn resources_at_rest(program: &Program) -> Resources {
    program.wait_for("Read the connection table", 1);
    let (mut last, mut repeated) = (None, 0);
    eventually("its resources do not change", || {
        let now = resources(program);
        repeated = if now.is_some() && now == last {
            repeated + 1
        } else {
            0
        };
        last = now;
        repeated == 10
    });
    last.unwrap()
}

/// `None` while a thread is starting or ending.
fn resources(program: &Program) -> Option<Resources> {
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
    let (mut inside, mut names) = (Vec::new(), Vec::new());
    for task in entries("task") {
        inside.push(fs::metadata(task.join("ns/net")).ok()?.ino());
        names.push(fs::read_to_string(task.join("comm")).ok()?);
    }
    inside.sort_unstable();
    inside.dedup();
    // Until a new thread sets its name, it has that of the main thread.
    let is_starting = names.iter().skip(1).any(|name| *name == names[0]);
    // The second encoder thread is started by the first two concurrent answers.
    let threads = names.iter().filter(|name| *name != "encode\n").count();
    let mounts = fs::read_to_string(process.join("mountinfo")).unwrap();
    // Inherited from the test, not opened by the program.
    let mounts = mounts
        .lines()
        .filter(|line| !line.contains(" net:["))
        .count();
    let found = (descriptors.len(), of_namespaces, threads, inside, mounts);
    (!is_starting).then_some(found)
}

#[test]
fn the_exporter_does_not_keep_a_namespace_alive() {
    in_namespace(|| {
        let names = Names::new();
        let program = start(&names, &["--collector.netns=named"]);
        let mut scraper = program.scraper();
        let short = names.named("short");
        // When its namespace ends one end of the link goes, and the other end with it.
        ip(&["link", "add", "near", "type", "veth", "peer", "name", "far"]);
        let file = names.0.path().join("short");
        ip(&["link", "set", "far", "netns", file.to_str().unwrap()]);
        short.close(80, 1);
        assert_eq!(exported(&scraper.metrics()), ["short"]);
        names.take("short");
        assert_eq!(exported(&scraper.metrics()), [""; 0]);
        let has_link = || fs::exists("/proc/sys/net/ipv4/conf/near").unwrap();
        assert!(has_link(), "its thread keeps it alive");
        drop(short);
        eventually("the namespace is gone", || !has_link());
    });
}

/// Namespaces that are kept, so that no inode number below theirs becomes free.
///
/// The kernel assigns the lowest free number, to namespaces and to the some 70 files that each has in
/// /proc/net: one of those may get the number of a deleted namespace if lower numbers are free.
struct Kept(Vec<Place>);

impl Kept {
    /// A new namespace with the number of a deleted one, which becomes free some time after its last use; `None`
    /// if something else gets it after so many tries.
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
fn a_new_namespace_with_the_name_and_inode_of_a_deleted_one_is_distinguished() {
    in_namespace(|| {
        let names = Names::new();
        // More than are dumped in one scrape.
        let _quiet: Vec<Place> = (0..40).map(|n| names.named(&format!("n{n:02}"))).collect();
        let program = start(&names, &["--collector.netns=named"]);
        let mut scraper = program.scraper();
        let (mut kept, mut met, mut tries) = (Kept(Vec::new()), 0, 0);
        // Which numbers are free is random where others create namespaces too: once is enough.
        let begin = Instant::now();
        while met == 0 || met < 3 && begin.elapsed() < PATIENCE {
            tries += 1;
            assert!(begin.elapsed() < 10 * PATIENCE, "no number was given again");
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
