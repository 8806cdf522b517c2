"""Generates what a small fleet of exporters would have exported during the last hours, as OpenMetrics text for
`promtool tsdb create-blocks-from openmetrics`.

With it the dashboards can be rendered with data in every panel: one host that runs out of ports, one that runs low,
one with other problems, and idle ones. It does not model the kernel: the exporter's own tests and end_to_end check
the values.
"""

import argparse
import math
import random
import time

USABLE = 28232 - 3
JOB = "timewait_exporter"
AGES = (("0-1", 1), ("1-5", 4), ("5-15", 10), ("15-30", 15), ("30-45", 15), ("45-60", 15))
# The hosts' destinations: source, destination, port, share of the range at the peak.
DATABASE = ("192.0.2.11", "198.51.100.9", "5432")
CACHE = ("192.0.2.11", "198.51.100.7", "6379")
GATEWAY = ("2001:db8::11", "2001:db8:5::1", "443")
SEARCH = ("192.0.2.11", "203.0.113.40", "9200")
LOOPBACK = ("127.0.0.1", "127.0.0.1", "8080")


def wave(at, end, hours):
    """0 at the beginning, 1 at the end, with the fluctuation of real load."""
    part = 1 - (end - at) / (hours * 3600)
    return max(0.0, part**2 + 0.04 * math.sin(at / 97) + 0.03 * math.sin(at / 31))


def hosts(at, end, hours):
    """For each host and namespace: the destinations with their ports in TIME-WAIT, established and other."""
    rise = wave(at, end, hours)
    rng = random.Random(int(at))
    jitter = lambda: 1 + rng.uniform(-0.04, 0.04)
    yield "web-1:10072", None, [
        (DATABASE, min(USABLE - 380, int(USABLE * (0.15 + 0.86 * rise) * jitter())), 340, 12),
        (CACHE, int(5200 * jitter()), 120, 0),
        (GATEWAY, int(2400 * jitter()), 210, 3),
        (LOOPBACK, int(900 * jitter()), 40, 0),
    ]
    yield "web-1:10072", "pod-7f9c", [(SEARCH, int(1400 * jitter()), 60, 0)]
    yield "web-2:10072", None, [
        (DATABASE, int(USABLE * (0.1 + 0.7 * rise) * jitter()), 280, 4),
        (CACHE, int(4100 * jitter()), 100, 0),
    ]
    yield "api-1:10072", None, [
        (SEARCH, int(9000 * jitter()), 2600, 30),
        (GATEWAY, int(7000 * jitter()), 400, 0),
    ]
    for name in ("api-2:10072", "batch-1:10072", "batch-2:10072"):
        yield name, None, [(CACHE, int(1500 * jitter()), 80, 0), (DATABASE, int(2200 * jitter()), 60, 0)]


def series(at, end, hours):
    """(name, labels, value) of every series at one moment."""
    seen = set()
    for instance, netns, destinations in hosts(at, end, hours):
        base = {"job": JOB, "instance": instance, "cluster": "west" if instance.startswith("batch") else "east"}
        inner = {**base, "netns": netns} if netns else base
        total = sum(d[1] for d in destinations)
        served = 1800
        by_dst, by_dst_port, by_src = {}, {"ephemeral": served}, {}
        worst = {"ipv4": 0.0, "ipv6": 0.0}
        by_family = {"ipv4": served, "ipv6": 0}
        for (src, dst, port), waiting, established, other in destinations:
            labels = {**inner, "src_addr": src, "dst_addr": dst, "dst_port": port}
            held = waiting + established + other
            reusable = waiting * 59 // 60 if dst.startswith("127.") else 0
            ratio = (held - reusable) / USABLE
            family = "ipv6" if ":" in dst else "ipv4"
            worst[family] = max(worst[family], ratio)
            by_family[family] += waiting
            by_dst[dst] = by_dst.get(dst, 0) + waiting
            by_dst_port[port] = by_dst_port.get(port, 0) + waiting
            by_src[src] = by_src.get(src, 0) + waiting
            for state, count in (("time_wait", waiting), ("established", established), ("other", other)):
                yield "timewait_destination_ports", {**labels, "state": state}, count
            yield "timewait_destination_reusable_ports", labels, reusable
            yield "timewait_destination_headroom_ports", labels, USABLE - held + reusable
            yield "timewait_destination_exhaustion_ratio", labels, ratio
            yield "timewait_destination_close_rate", labels, waiting / 60
            yield "timewait_destination_search_ports", labels, int(held / 2 * (held / USABLE) ** 2)
        rest = {**inner, "src_addr": "other", "dst_addr": "other", "dst_port": "other"}
        yield "timewait_destination_ports", {**rest, "state": "time_wait"}, 40
        yield "timewait_destination_ports", {**rest, "state": "established"}, 25
        yield "timewait_destination_ports", {**rest, "state": "other"}, 0
        yield "timewait_destinations", inner, len(destinations) + 9
        for family, ratio in worst.items():
            yield "timewait_port_range_exhaustion_ratio", {**inner, "family": family}, ratio
            yield "timewait_port_range_exhaustion_ratio_lower_bound", {**inner, "family": family}, ratio
            yield "timewait_sockets", {**inner, "family": family}, by_family[family]
        for name, values in (
            ("src_addr", {**by_src, "192.0.2.12": served}),
            ("src_port", {"ephemeral": total, "443": served}),
            ("dst_addr", {**by_dst, "other": served}),
            ("dst_port", by_dst_port),
        ):
            for value, count in values.items():
                yield f"timewait_sockets_by_{name}", {**inner, name: value}, count
        left = total + served
        for band, width in AGES:
            count = left if band == "45-60" else (total + served) * width // 60
            left -= count
            yield "timewait_sockets_by_age", {**inner, "age_seconds": band}, count
        for src, count in by_src.items():
            pool = min(28232, int(count * 1.05) + 8)
            yield "timewait_source_ports", {**inner, "src_addr": src}, pool
            yield "timewait_source_exhaustion_ratio", {**inner, "src_addr": src}, pool / 28232
        for src in (*by_src, "0.0.0.0"):
            yield "timewait_udp_source_ports", {**inner, "src_addr": src}, 40
            yield "timewait_udp_source_exhaustion_ratio", {**inner, "src_addr": src}, 40 / 28232
        uptime = at - (end - 40 * 86400)
        # Sockets beyond the limit are lost on one host, in the last ten minutes.
        lost = max(0, int(at - (end - 600))) * 3 if instance == "api-1:10072" else 0
        for name, value in (
            ("timewait_buckets", total + served + 14),
            ("timewait_buckets_limit", 49152 if instance.startswith("web") else 262144),
            ("timewait_port_range_min", 32768),
            ("timewait_port_range_max", 60999),
            ("timewait_port_range_ports", 28232),
            ("timewait_port_range_reserved_ports", 1),
            ("timewait_port_range_blocked_ports", 2),
            ("timewait_port_range_usable_ports", USABLE),
            ("timewait_port_range_free_ports", max(0, USABLE - int(max(by_src.values()) * 1.05) - 5)),
            ("timewait_listeners_in_port_range", 2 if instance == "web-1:10072" else 0),
            ("timewait_sysctl_tcp_tw_reuse", 1 if instance == "batch-1:10072" else 2),
            ("timewait_sysctl_tcp_tw_reuse_delay", 1000),
            ("timewait_sysctl_tcp_timestamps", 1),
            ("timewait_sysctl_tcp_fin_timeout", 60),
            ("timewait_sysctl_tcp_max_tw_buckets", 49152 if instance.startswith("web") else 262144),
            ("timewait_sysctl_tcp_rfc1337", 0),
            ("timewait_sysctl_ip_unprivileged_port_start", 1024),
            ("timewait_sysctl_ip_local_port_step_width", 0),
            ("timewait_sysctl_ip_autobind_reuse", 0),
            ("timewait_port_range_bind_owned_ports", 4),
            ("timewait_conntrack_entries", 9000 + int(2000 * math.sin(at / 700)) if not instance.startswith("api") else 201_000),
            ("timewait_conntrack_entries_limit", 262144),
            ("timewait_conntrack_insert_failed_total", 3 + lost // 7),
            ("timewait_conntrack_drops_total", 3 + lost // 7),
            ("timewait_conntrack_early_drops_total", 0),
            ("timewait_sysctl_ipv6_bindv6only", 0),
            ("timewait_active_opens_total", int(uptime * 420)),
            ("timewait_passive_opens_total", int(uptime * 260)),
            ("timewait_entered_total", int(uptime * 350)),
            ("timewait_recycled_total", int(uptime * 9)),
            ("timewait_killed_total", int(uptime * 0.4)),
            ("timewait_overflows_total", 77 + lost),
            ("timewait_scrape_dump_messages", total + served + 900),
        ):
            yield name, inner, value
        # Two old hosts of another kind.
        if instance == "batch-2:10072":
            yield "timewait_sysctl_tcp_tw_recycle", inner, 1
            yield "timewait_sysctl_tcp_tw_timeout", inner, 60
        for counter, rate in (("PAWSActive", 0.0), ("PAWSEstab", 0.8), ("PAWSOldAck", 1.9), ("PAWSTimewait", 0.3)):
            yield "timewait_paws_rejects_total", {**inner, "counter": counter}, int(uptime * rate)
        collectors = ("sockets", "sysctl", "netstat", "snmp", "sockstat") + (() if netns else ("slabinfo",))
        for collector in collectors:
            failing = instance == "batch-2:10072" and collector == "slabinfo"
            yield "timewait_scrape_collector_success", {**inner, "collector": collector}, 0 if failing else 1
            cost = 0.00012 if collector != "sockets" else 2.8e-7 * (total + served) + 0.0006
            yield "timewait_scrape_collector_duration_seconds", {**inner, "collector": collector}, cost
        yield "timewait_scrape_source", {**inner, "source": "netlink"}, 1
        if netns:
            yield "timewait_netns_age_seconds", inner, 0
            yield "timewait_netns_info", {**inner, "inode": "4026532771", "pid": "48211", "comm": "searchd",
                "container_id": "5d1f0c8be2a4", "pod_uid": "0b8c1f6e-6d3e-4f43-9c1c-0f4f3f1d7a55"}, 1
        if instance in seen:
            continue
        seen.add(instance)
        for name, value in (
            ("up", 1),
            ("timewait_memory_bytes", (total + served) * 264),
            ("timewait_connect_failures_total", max(0, int(at - (end - 400))) if instance.startswith("web-1") else 0),
            ("timewait_netns_unreadable", 1 if instance == "api-2:10072" else 0),
            ("timewait_netns_left_out", 0),
            ("process_cpu_seconds_total", round(uptime * 0.0011, 3)),
            ("process_open_fds", 11),
            ("process_max_fds", 1024),
            ("process_resident_memory_bytes", 6_400_000 + int(4e5 * math.sin(at / 900))),
            ("process_virtual_memory_bytes", 74_000_000),
            ("process_virtual_memory_max_bytes", 18446744073709551615),
            ("process_start_time_seconds", end - 40 * 86400),
            ("promhttp_metric_handler_requests_in_flight", 1),
        ):
            yield name, base, value
        yield "promhttp_metric_handler_requests_total", {**base, "code": "200"}, int(uptime / 15)
        yield "promhttp_metric_handler_errors_total", {**base, "cause": "gathering"}, 0
        yield "timewait_exporter_build_info", {**base, "version": "0.1.0", "revision": "0b534e5",
            "rustversion": "1.95.0", "target": "x86_64-unknown-linux-gnu"}, 1
        # As the rules would have fired: Prometheus cannot evaluate alerts over the past.
        alert = worst["ipv4"]
        for severity, floor in (("warning", 0.75), ("critical", 0.9)):
            if alert >= floor:
                yield "ALERTS", {**base, "alertname": "TimewaitPortsLow", "alertstate": "firing", "severity": severity, "family": "ipv4"}, 1
        if lost:
            yield "ALERTS", {**base, "alertname": "TimewaitBucketsOverflow", "alertstate": "firing", "severity": "warning"}, 1


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hours", type=float, default=3)
    parser.add_argument("--step", type=int, default=15)
    parser.add_argument("--end", type=int, default=None, help="Unix time of the last sample; default now")
    parser.add_argument("output")
    given = parser.parse_args()
    end = given.end or int(time.time())
    samples = {}
    at = end - int(given.hours * 3600)
    while at <= end:
        for name, labels, value in series(at, end, given.hours):
            text = ",".join(f'{key}="{value}"' for key, value in labels.items())
            samples.setdefault(name, {}).setdefault(text, []).append(f"{value} {at}")
        at += given.step
    with open(given.output, "w", encoding="utf-8") as out:
        for name, by_labels in samples.items():
            if name.endswith("_total"):
                out.write(f"# TYPE {name.removesuffix('_total')} counter\n")
            else:
                out.write(f"# TYPE {name} gauge\n")
            for text, points in by_labels.items():
                for point in points:
                    out.write(f"{name}{{{text}}} {point}\n")
        out.write("# EOF\n")


if __name__ == "__main__":
    main()
