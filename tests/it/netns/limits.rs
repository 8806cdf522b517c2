//! More namespaces than are exported, and more than can be read by the deadline.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use timewait_exporter::collector::{Collector, CollectorConfig, NamespaceChoice};
use timewait_exporter::domain::collectors::CollectorId;
use timewait_exporter::kernel::sock_diag::NetlinkConnect;

use super::place::{Names, Place};
use super::{by_netns, expect, exported, start};
use crate::support::PATIENCE;
use crate::support::eventually;
use crate::support::exposition::Metrics;
use crate::support::namespace::{in_namespace, set_sysctl};
use crate::support::server::config;
use crate::support::sockets::{at, connect_from, listening};

#[test]
fn of_too_many_those_with_the_highest_ratio_are_exported() {
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
        assert_eq!(exported(&metrics), ["n2", "n4"]);
        assert_eq!(metrics.of("timewait_netns_info").len(), 2);
        assert_eq!(metrics.value("timewait_netns_left_out"), 4.0);
        places[0].run(|| set_sysctl("ip_local_port_range", "40000 40099"));
        places[0].close(80, 50);
        assert_eq!(exported(&scraper.metrics()), ["n0", "n4"]);
    });
}

#[test]
fn of_too_many_quiet_ones_the_first_are_exported_and_none_counts_as_late() {
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
        // One that uses no port of the range has the same ratio as those without a socket.
        let listener = places[5].run(|| listening(at("127.0.0.1", 80)));
        assert_eq!(success(&scraper.metrics()), all_quiet);
        drop(listener);
        // One whose ratio decreases is replaced.
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
        let success = metrics.value("timewait_scrape_collector_success{collector=\"netns\"}");
        assert_eq!(success, 1.0);
    });
}

#[test]
fn one_without_a_usable_port_is_exported_before_those_that_have_some() {
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
            assert_eq!(exported(&metrics), ["n1", "n5"]);
            let usable = by_netns(&metrics, "timewait_port_range_usable_ports", "");
            assert_eq!(usable["n5"], 0.0);
            let ratio = "timewait_port_range_exhaustion_ratio";
            assert_eq!(by_netns(&metrics, ratio, "family=\"ipv4\"")["n5"], 0.0);
        }
        places[5].run(|| set_sysctl("ip_local_reserved_ports", "1"));
        eventually("it is replaced", || {
            exported(&scraper.metrics()) == ["n0", "n1"]
        });
    });
}

/// So many namespaces with 100 sockets in TIME-WAIT each.
fn busy(names: &Names, many: usize) -> Vec<Place> {
    let places = (0..many).map(|n| names.named(&format!("n{n}")));
    places.inspect(|place| place.close(80, 100)).collect()
}

/// A collector inside this process that reads the named namespaces, and its runtime.
fn collector(names: &Names) -> (Collector, tokio::runtime::Runtime) {
    let config = CollectorConfig {
        namespaces: NamespaceChoice::Named,
        namespace_names: names.0.path().to_owned(),
        max_age: Duration::ZERO,
        ..config(&[]).collector
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    let collector = Collector::open(config, Box::new(NetlinkConnect)).unwrap();
    (collector, runtime)
}

#[test]
fn namespaces_not_reached_by_the_deadline_count_as_late_and_are_read_next() {
    in_namespace(|| {
        let names = Names::new();
        let made = Instant::now();
        let _places = busy(&names, 50);
        let (collector, runtime) = collector(&names);
        let mut read = BTreeMap::<String, u32>::new();
        let (mut late, mut cut_off, mut time) = (0, 0, Duration::from_micros(500));
        let begin = Instant::now();
        // Never enough time for all, but more if it was not enough for any.
        while late < 20 || cut_off < 3 || read.len() < 50 || read.values().any(|times| *times < 3) {
            assert!(
                begin.elapsed() < 10 * PATIENCE,
                "{read:?} {late} {cut_off} {time:?}"
            );
            let host = runtime.block_on(collector.scrape(Instant::now() + time));
            let mut reached = 0;
            for other in host.others() {
                let outcome = other.snapshot.outcome(CollectorId::Sockets).unwrap();
                if let Some(sockets) = other.snapshot.sockets() {
                    // On a slow machine the first sockets leave TIME-WAIT meanwhile.
                    assert!(
                        sockets.time_wait.ipv4 == 100 || made.elapsed() > Duration::from_secs(59)
                    );
                    *read.entry(other.identity.label.clone()).or_default() += 1;
                    reached += 1;
                } else {
                    assert!(!outcome.success);
                    late += 1;
                    // What was read before the deadline is exported.
                    let settings = other.snapshot.outcome(CollectorId::Sysctl);
                    cut_off += u32::from(settings.is_some_and(|settings| settings.success));
                }
            }
            match reached {
                0 => time += time / 8,
                40.. => time -= time / 4,
                _ => {}
            }
        }
        // With enough time nothing is late.
        let deadline = Instant::now() + Duration::from_secs(30);
        let host = runtime.block_on(collector.scrape(deadline));
        let namespaces = host.namespaces.clone().unwrap();
        assert!(namespaces.success);
        assert_eq!(
            host.others()
                .filter(|one| one.snapshot.worst_ratio().is_some())
                .count(),
            50
        );
    });
}

#[test]
fn a_short_and_a_long_deadline_together_export_every_namespace() {
    in_namespace(|| {
        let names = Names::new();
        let _places = busy(&names, 50);
        let (collector, runtime) = collector(&names);
        let long = Duration::from_secs(30);
        let begin = Instant::now();
        runtime.block_on(collector.scrape(begin + long));
        // Not enough time for all.
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
