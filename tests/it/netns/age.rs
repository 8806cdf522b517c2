//! How old metrics of another namespace can be: the last dump is exported again only where no ratio can be high.

use crate::support::exposition::Metrics;
use crate::support::features::Feature;
use crate::support::namespace::{in_namespace, set_sysctl};
use crate::support::program::Program;
use crate::support::sockets::{Connection, at, connected, listening};

use super::place::{Names, Place};
use super::{by_netns, start_by_age};

fn ages(metrics: &Metrics) -> Vec<(String, f64)> {
    let ages = by_netns(metrics, "timewait_netns_age_seconds", "");
    ages.into_iter().collect()
}

/// The ratio of the namespace "blue", and whether it was dumped for this scrape.
fn ratio(metrics: &Metrics) -> (f64, bool) {
    let name = "timewait_port_range_exhaustion_ratio";
    let ratio = by_netns(metrics, name, "family=\"ipv4\"")["blue"];
    (
        ratio,
        by_netns(metrics, "timewait_netns_age_seconds", "")["blue"] == 0.0,
    )
}

/// Opens so many connections to port 7000.
fn open(place: &Place, connections: usize) -> Vec<Connection> {
    place.run(move || {
        let to = at("127.0.0.1", 7000);
        let listener = listening(to);
        (0..connections)
            .map(|_| connected(None, &listener, to))
            .collect()
    })
}

fn blue(flags: &[&str]) -> (Names, Place, Program) {
    let names = Names::new();
    let place = names.named("blue");
    place.run(|| set_sysctl("ip_local_port_range", "40000 40999"));
    let flags = [flags, &["--collector.netns=named"]].concat();
    let program = start_by_age(&names, &flags);
    (names, place, program)
}

#[test]
fn a_dump_is_exported_again_with_its_age_and_inexpensive_metrics_are_fresh() {
    in_namespace(|| {
        let (_names, place, program) = blue(&[]);
        let _some = open(&place, 10);
        let mut scraper = program.scraper();
        let first = scraper.metrics();
        // The program has read once at its start, perhaps after the connections were opened.
        assert_eq!(ages(&first).len(), 1);
        let _more = place.run(|| {
            let to = at("127.0.0.1", 7001);
            let listener = listening(to);
            for _ in 0..5 {
                connected(None, &listener, to).close_client_first();
            }
            listener
        });
        let again = scraper.metrics();
        assert_eq!(ratio(&again), (ratio(&first).0, false));
        assert!(ages(&again)[0].1 > 0.0);
        let of = |metrics: &Metrics, name: &str| by_netns(metrics, name, "")["blue"];
        assert_eq!(
            of(&again, "timewait_buckets"),
            of(&first, "timewait_buckets") + 5.0
        );
        let opens = "timewait_active_opens_total";
        assert_eq!(of(&again, opens), of(&first, opens) + 5.0);
        if Feature::CountedOnEntry.is_here_or_skips() {
            let entered = "timewait_entered_total";
            assert_eq!(of(&again, entered), of(&first, entered) + 5.0);
        }
        let sockets = by_netns(&again, "timewait_sockets", "family=\"ipv4\"");
        assert_eq!(sockets["blue"], 0.0);
    });
}

#[test]
fn a_namespace_that_connect_fills_between_two_scrapes_is_dumped_again() {
    in_namespace(|| {
        let (_names, place, program) = blue(&[]);
        let mut kept = open(&place, 10);
        let mut scraper = program.scraper();
        scraper.metrics();
        for connections in [390, 200, 390] {
            kept.extend(place.run(move || {
                let to = at("127.0.0.2", 7000);
                let listener = listening(to);
                let connections = (0..connections).map(|_| connected(None, &listener, to));
                connections.collect::<Vec<_>>()
            }));
            let (ratio, is_fresh) = ratio(&scraper.metrics());
            assert!(is_fresh, "{connections}: {ratio}");
            assert!(ratio >= 0.19, "{ratio}");
        }
    });
}

#[test]
fn accepted_sockets_that_lose_their_listener_are_dumped_again() {
    in_namespace(|| {
        let (_names, place, program) = blue(&[]);
        let mut scraper = program.scraper();
        let listener = place.run(|| listening(at("127.0.0.1", 80)));
        scraper.metrics();
        // Their listeners are inside the range: once these are closed the accepted ends use ports of it.
        let accepted = place.run(|| {
            let listeners = (40_100..40_600).map(|port| listening(at("127.0.0.1", port)));
            let listeners: Vec<_> = listeners.collect();
            let ports = (40_100..40_600).zip(&listeners);
            let from = Some("127.0.0.9".parse().unwrap());
            let connections: Vec<_> = ports
                .map(|(port, listener)| connected(from, listener, at("127.0.0.1", port)))
                .collect();
            drop(listeners);
            connections
        });
        let (_, is_fresh) = ratio(&scraper.metrics());
        assert!(is_fresh);
        drop((listener, accepted));
    });
}

#[test]
fn a_changed_range_and_a_new_namespace_of_the_same_name_are_dumped_at_once() {
    in_namespace(|| {
        let (names, place, program) = blue(&[]);
        let _some = open(&place, 10);
        let mut scraper = program.scraper();
        scraper.metrics();
        assert!(!ratio(&scraper.metrics()).1);
        for (name, value) in [
            ("ip_local_port_range", "40000 41999"),
            ("ip_local_reserved_ports", "40500-40509"),
            ("ip_local_reserved_ports", "\n"),
        ] {
            place.run(move || set_sysctl(name, value));
            assert!(ratio(&scraper.metrics()).1, "{name}");
            assert!(!ratio(&scraper.metrics()).1, "{name}");
        }
        names.take("blue");
        let other = names.named("blue");
        let _others = open(&other, 20);
        assert!(ratio(&scraper.metrics()).1);
    });
}

#[test]
fn the_last_dump_is_exported_no_longer_than_the_flag_allows_and_never_with_0() {
    in_namespace(|| {
        let (_names, place, program) = blue(&["--collector.netns-max-age=0"]);
        let _some = open(&place, 10);
        let mut scraper = program.scraper();
        for _ in 0..3 {
            assert!(ratio(&scraper.metrics()).1);
        }
        let (_names, place, program) = blue(&["--collector.netns-max-age=0.2"]);
        let _some = open(&place, 10);
        let mut scraper = program.scraper();
        let mut fresh = 0;
        let begin = std::time::Instant::now();
        while fresh < 3 {
            let metrics = scraper.metrics();
            assert!(ages(&metrics)[0].1 < 0.2);
            fresh += u32::from(ratio(&metrics).1);
            assert!(begin.elapsed() < crate::support::PATIENCE);
        }
    });
}

#[test]
fn the_page_and_the_report_dump_a_namespace_requested_by_name() {
    in_namespace(|| {
        let names = Names::new();
        let place = names.named("blue");
        let _some = open(&place, 10);
        let program = start_by_age(&names, &["--collector.netns=blue"]);
        let mut scraper = program.scraper();
        scraper.metrics();
        let more = place.run(|| {
            let to = at("127.0.0.1", 7001);
            let listener = listening(to);
            connected(None, &listener, to)
        });
        assert!(!ratio(&scraper.metrics()).1);
        let report = crate::support::client::get(program.address(), "/api/v1/report");
        let report: serde_json::Value = serde_json::from_str(report.text()).unwrap();
        let namespaces = report["namespaces"].as_array().unwrap();
        let blue = namespaces
            .iter()
            .find(|one| one["netns"] == "blue")
            .unwrap();
        let destinations = blue["destinations"].as_array().unwrap();
        assert_eq!(destinations.len(), 2, "{blue}");
        drop(more);
    });
}
