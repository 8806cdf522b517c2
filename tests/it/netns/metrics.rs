//! Each namespace has its own metrics.

use super::place::Names;
use super::{by_netns, expect, start};
use crate::support::exposition::Metrics;
use crate::support::features::Feature;
use crate::support::namespace::{in_namespace, set_sysctl};
use crate::support::sockets::{accepted, at, connect_bound, connect_from, listening};

#[test]
fn each_namespace_has_its_own_sockets_range_and_settings() {
    in_namespace(|| {
        let names = Names::new();
        let (blue, red) = (names.named("blue"), names.named("red"));
        red.run(|| {
            set_sysctl("ip_local_port_range", "40000 40099");
            set_sysctl("tcp_tw_reuse", "0");
        });
        // The same addresses and ports in both, and in the exporter's namespace.
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
        if Feature::CountedOnEntry.is_here_or_skips() {
            let entered = by_netns(&metrics, "timewait_entered_total", "");
            assert_eq!(entered["red"], 40.0);
        }
        assert_eq!(by_netns(&metrics, "timewait_buckets", "")["blue"], 7.0);
        let destination = "src_addr=\"127.0.0.1\",dst_addr=\"127.0.0.1\",dst_port=\"80\"";
        let ratio = by_netns(
            &metrics,
            "timewait_destination_exhaustion_ratio",
            destination,
        );
        assert_eq!((ratio.len(), ratio["red"]), (2, 0.4));
        // The exported headroom is what connect() then gets.
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
        // All namespaces have the same metrics, except for those of the whole host.
        assert_eq!(metrics.of("timewait_netns_info").len(), 2);
        assert_eq!(metrics.value("timewait_netns_unreadable"), 0.0);
        assert_eq!(metrics.value("timewait_netns_left_out"), 0.0);
    });
}

#[test]
fn the_ports_of_each_namespace_are_probed_inside_it() {
    in_namespace(|| {
        if !Feature::SocketPortRange.is_here_or_skips() {
            return;
        }
        let names = Names::new();
        let (blue, red) = (names.named("blue"), names.named("red"));
        let connect = |count: usize| {
            move || {
                set_sysctl("ip_local_port_range", "40000 40099");
                let to = at("127.0.0.1", 80);
                let listener = listening(to);
                let bound = || connect_bound(at("127.0.0.1", 0), to).unwrap();
                let kept: Vec<_> = (0..count).map(|_| accepted(bound(), &listener)).collect();
                (kept, listener)
            }
        };
        let _kept = [blue.run(connect(3)), red.run(connect(20))];
        let metrics = start(&names, &["--collector.netns=named"])
            .scraper()
            .metrics();
        let owned = by_netns(&metrics, "timewait_port_range_bind_owned_ports", "");
        assert_eq!((owned["blue"], owned["red"]), (3.0, 20.0));
        let probed = by_netns(
            &metrics,
            "timewait_scrape_collector_success",
            "collector=\"probe\"",
        );
        assert_eq!((probed["blue"], probed["red"]), (1.0, 1.0));
    });
}

#[test]
fn sysctls_are_read_again_and_a_namespace_with_new_sockets_is_dumped() {
    in_namespace(|| {
        let names = Names::new();
        let place = names.named("blue");
        let program = start(&names, &["--collector.netns=named"]);
        let mut scraper = program.scraper();
        let value = |metrics: &Metrics, metric: &str| by_netns(metrics, metric, "")["blue"];
        let quiet = scraper.metrics();
        assert_eq!(value(&quiet, "timewait_scrape_dump_messages"), 0.0);
        // The sums are 0; there is nothing to break down.
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
        // Nothing was dumped, from either source.
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
        // IPv6 sockets alone cause a dump, too.
        let six = names.named("six");
        let listener = six.run(|| listening(at("::1", 50_050)));
        let ports = by_netns(&scraper.metrics(), "timewait_listeners_in_port_range", "")["six"];
        assert_eq!(ports, 1.0);
        drop(listener);
    });
}

#[test]
fn the_top_applies_to_each_namespace() {
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
        // The top three, `other`, and `ephemeral`.
        assert_eq!(of_blue.count(), 5);
        let by_port =
            |label: &str| by_netns(&metrics, "timewait_sockets_by_dst_port", label)["blue"];
        assert_eq!(by_port("dst_port=\"89\""), 11.0);
        let rest: u32 = (2..=8).sum();
        assert_eq!(by_port("dst_port=\"other\""), f64::from(rest));
    });
}
