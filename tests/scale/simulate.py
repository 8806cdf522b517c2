#!/usr/bin/env python3
"""Many exporters in one process, scraped by a real Prometheus with our rules.

    EXPORTER=target/release/timewait_exporter tests/scale/simulate.py [--targets 1000] [--seconds 300] ...

Serves the pages of `--targets` hosts (see pages.py), each on its own loopback address, to a Prometheus that scrapes them
every `--interval` seconds, and reports the cost: samples per second, memory, CPU, the time of each group of rules, and
the time of queries about the fleet with the recording rules and without.

With `--shards N` N Prometheus servers share the hosts by hashmod and one more federates them, configured by
deploy/scale/shard.yml and deploy/scale/global.yml; it also checks that the fleet's values are the same.

Runs in its own network namespace (as root, or where user namespaces are allowed) and ends only what it started. Ends with
"N passed, N failed". The checks also pass on a slow machine: every host is ingested, no rule fails and each has results,
no value is lost in federation.
"""

import argparse
import asyncio
import contextlib
import json
import os
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse

import arithmetic
from pages import FEW, MANY, OWN_COLLECTORS, Host, get, page_with_another, program, real_pages, series_of, until

ROOT = pathlib.Path(__file__).resolve().parents[2]
PORT = 10072
JOB = "timewait_exporter"
RULES = ROOT / "deploy/prometheus"
SCALE = ROOT / "deploy/scale"

# The queries of a fleet dashboard, with raw and with recorded series.
QUESTIONS = {
    "hosts at 75% and above": (
        "count(max by (job, instance) (timewait_port_range_exhaustion_ratio) >= 0.75)",
        "sum(job:timewait_hosts_low:count)",
    ),
    "worst ratio": (
        "max(timewait_port_range_exhaustion_ratio)",
        "max(job:timewait_port_range_exhaustion_ratio:max)",
    ),
    "worst 20 hosts": (
        "topk(20, max by (job, instance, netns) (timewait_port_range_exhaustion_ratio))",
        "topk(20, instance:timewait_port_range_exhaustion_ratio:max)",
    ),
    "TIME-WAIT in all": ("sum(timewait_sockets)", "sum(job:timewait_sockets:sum)"),
    "ports in use by destination": (
        "topk(10, sum by (dst_addr, dst_port) (timewait_destination_ports))",
        "topk(10, sum by (dst_addr, dst_port) (job_dst:timewait_destination_ports:sum))",
    ),
}

results = {"ok": 0, "FAIL": 0}


def check(name, complaint=None):
    state = "FAIL" if complaint else "ok"
    results[state] += 1
    print(f"{state:4} scale: {name}" + (f": {complaint}" if complaint else ""), flush=True)


# --- the exporters ---------------------------------------------------------------------------------------------------


def address(number):
    return f"127.{1 + number // 62500}.{number // 250 % 250}.{1 + number % 250}"


class Fleet:
    """All hosts behind one listening socket: the destination address of a scrape selects the page."""

    def __init__(self, hosts):
        self.hosts = {address(number): host for number, host in enumerate(hosts)}
        self.scrapes = 0
        self.seconds = 0.0

    async def serve(self, reader, writer):
        host = self.hosts.get(writer.get_extra_info("sockname")[0])
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while host:
                await reader.readuntil(b"\r\n\r\n")
                began = time.perf_counter()
                body = host.page().encode()
                self.seconds += time.perf_counter() - began
                self.scrapes += 1
                head = f"HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\nContent-Length: {len(body)}\r\n\r\n"
                writer.write(head.encode() + body)
                await writer.drain()
        writer.close()

    def run(self):
        async def forever():
            server = await asyncio.start_server(self.serve, "0.0.0.0", PORT, backlog=4096)
            await server.serve_forever()

        threading.Thread(target=asyncio.run, args=(forever(),), daemon=True).start()


# --- Prometheus ------------------------------------------------------------------------------------------------------


class Prometheus:
    def __init__(self, folder, name, port, configuration, interval):
        self.url = f"http://127.0.0.1:{port}"
        self.folder = pathlib.Path(folder) / name
        self.folder.mkdir()
        for rules in (*RULES.glob("*.yml"), *SCALE.glob("*.yml")):
            (self.folder / rules.name).write_text(rules.read_text())
        text = re.sub(r"((?:scrape|evaluation)_interval): \w+", rf"\1: {interval}s", configuration)
        text = re.sub(r"scrape_timeout: \w+", f"scrape_timeout: {interval}s", text)
        # The alerts of this Prometheus are sent to no one.
        text = re.sub(r"\nalerting:\n(?:  .*\n|\n)*", "\n", text)
        (self.folder / "prometheus.yml").write_text(text)
        self.arguments = [
            "prometheus",
            f"--config.file={self.folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={self.folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
        ]

    def program(self):
        return program(self.arguments, self.folder / "log")

    def query(self, expression):
        text = get(f"{self.url}/api/v1/query?{urllib.parse.urlencode({'query': expression})}", 60)
        return json.loads(text)["data"]["result"]

    def number(self, expression):
        found = self.query(expression)
        return float(found[0]["value"][1]) if found else 0.0

    def own(self):
        """Its own metrics: value by series."""
        found = {}
        for name, labels, value in series_of(get(f"{self.url}/metrics", 60)):
            found[name, *(text for _, text in labels)] = value
        return found

    def rules(self):
        for group in json.loads(get(f"{self.url}/api/v1/rules", 60))["data"]["groups"]:
            for rule in group["rules"]:
                yield group["name"], rule


def static_targets(hosts):
    return json.dumps([{"targets": [f"{address(number)}:{PORT}" for number in range(hosts)]}])


def alone(interval):
    """deploy/prometheus/prometheus.yml with our targets."""
    text = (RULES / "prometheus.yml").read_text()
    plain = re.sub(r"(?m)^ *#.*\n", "", text)
    return plain.replace('static_configs:\n      - targets: ["localhost:10072"]', "file_sd_configs:\n      - files: [targets.json]")


# --- measuring -------------------------------------------------------------------------------------------------------


def of_group(values, name):
    return {key[1].rpartition(";")[2]: value for key, value in values.items() if key[0] == name}


def missed(values):
    return sum(of_group(values, "prometheus_rule_group_iterations_missed_total").values())


def pressure():
    """Microseconds for which something on this machine has waited for a resource since boot."""
    found = {}
    for what in ("cpu", "memory", "io"):
        with contextlib.suppress(OSError):
            text = pathlib.Path("/proc/pressure", what).read_text()
            found[what] = int(re.search(r"some .*total=(\d+)", text)[1])
    return found


def measured(prometheus, seconds):
    """Prometheus' own metrics, over some seconds."""
    first, began, waited = prometheus.own(), time.monotonic(), pressure()
    durations, memory = {}, 0
    while time.monotonic() - began < seconds:
        time.sleep(min(1, seconds / 20))
        now = prometheus.own()
        memory = max(memory, now["process_resident_memory_bytes",])
        for group, value in of_group(now, "prometheus_rule_group_last_duration_seconds").items():
            durations.setdefault(group, []).append(value)
    last, lasted = prometheus.own(), time.monotonic() - began
    waits = {what: (total - waited[what]) / 1e6 / lasted for what, total in pressure().items()}
    grown = lambda name: last.get((name,), 0) - first.get((name,), 0)
    return {
        "seconds": lasted,
        "samples": grown("prometheus_tsdb_head_samples_appended_total") or sum(
            value - first.get(key, 0) for key, value in last.items() if key[0] == "prometheus_tsdb_head_samples_appended_total"
        ),
        "series": last["prometheus_tsdb_head_series",],
        "memory": memory,
        "heap": last["go_memstats_heap_inuse_bytes",],
        "cpu": grown("process_cpu_seconds_total"),
        "durations": durations,
        "waits": waits,
        "missed": missed(last) - missed(first),
        "failed": sum(value for key, value in last.items() if key[0] == "prometheus_rule_evaluation_failures_total"),
    }


def asked(prometheus, expression):
    """Median milliseconds of an instant query, and the number of its results."""
    times, found = [], 0
    for _ in range(7):
        began = time.perf_counter()
        found = len(prometheus.query(expression))
        times.append((time.perf_counter() - began) * 1000)
    return statistics.median(times), found


def mebibytes(count):
    return f"{count / 2**20:,.0f} MiB"


def report(options, hosts, prometheus, values):
    series = sum(host.count for host in hosts)
    rate = values["samples"] / values["seconds"]
    print(f"\nexporters            {len(hosts):,}, {options.namespaces} namespaces each, {series:,} series in all")
    print(f"scraped              every {options.interval} s: {series / options.interval:,.0f} samples/s expected")
    print(f"ingested             {rate:,.0f} samples/s over {values['seconds']:.0f} s, rules' own included")
    print(f"series in the head   {values['series']:,.0f}")
    print(f"memory               {mebibytes(values['memory'])} resident at most, {mebibytes(values['heap'])} heap in use")
    print(f"                     {values['memory'] / values['series']:,.0f} bytes a series")
    print(f"CPU                  {values['cpu'] / values['seconds']:.2f} cores")
    for group, seen in sorted(values["durations"].items()):
        print(f"rules                {group}: median {statistics.median(seen) * 1000:.1f} ms, at most {max(seen) * 1000:.1f} ms")
    print(f"evaluations missed   {values['missed']:.0f}")
    waits = ", ".join(f"{what} {share:.0%}" for what, share in values["waits"].items()) or "not known"
    print(f"the machine          load {os.getloadavg()[1]:.1f} on {os.cpu_count()} cores; of the time something waited for: {waits}")
    for one in prometheus.query("count by (alertname, alertstate) (ALERTS)"):
        print(f"alerts               {one['value'][1]:>8} {one['metric']['alertname']}, {one['metric']['alertstate']}")
    slowest = sorted(prometheus.rules(), key=lambda found: -found[1]["evaluationTime"])[:5]
    for _, rule in slowest:
        print(f"slowest rules        {rule['evaluationTime'] * 1000:.1f} ms {rule['name']}")
    recorded = prometheus.query('count by (__name__) ({__name__=~".+:.+"})')
    print(f"recorded             {sum(int(one['value'][1]) for one in recorded):,} series")
    for one in sorted(recorded, key=lambda one: -int(one["value"][1]))[:4]:
        print(f"                     {one['value'][1]:>8} {one['metric']['__name__']}")
    for question, (raw, short) in QUESTIONS.items():
        (slow, many), (quick, few) = asked(prometheus, raw), asked(prometheus, short)
        print(f"question             {question}: {slow:.1f} ms, recorded {quick:.1f} ms ({many} and {few} series)")
    print()


# --- checks ----------------------------------------------------------------------------------------------------------


def check_pages(few, many):
    """The arithmetic is correct for the real exporter."""
    most = arithmetic.of_a_namespace(20)
    exported = sum(
        not name.startswith(arithmetic.OF_THE_EXPORTER) and not any(label in OWN_COLLECTORS for label in labels)
        for name, labels, _ in series_of(many)
    )
    # Absent here: settings and counters that this kernel does not have, and the lower bound of the ratios, which only
    # kernels need that reuse ports in FIN-WAIT-2.
    complaint = None if most - 10 <= exported <= most else f"{exported} series are exported, {most} are expected"
    check(f"a host with {MANY} of everything exports the {most} series that are expected at most", complaint)
    exported = len(series_of(few))
    check(f"a host with {FEW} destinations exports fewer", None if exported < most * 0.6 else f"{exported}")


def check_another(page):
    """A further namespace is exported as simulated: the same series, with the label `netns` last."""
    own, other = {}, {}
    for name, labels, _ in series_of(page):
        keys = [key for key, _ in labels]
        if name != "timewait_netns_info":
            (other if "netns" in keys else own)[name] = keys
    strange = [name for name, keys in other.items() if keys != [*own.get(name, []), "netns"]]
    few = f"only {len(other)} families" if len(other) < 20 else None
    check("a further namespace is exported as it is simulated", ", ".join(strange) or few)


def check_document():
    stale = arithmetic.DOCUMENT.read_text() != arithmetic.document()
    check("the table in deploy/scale/README.md is what the list of metrics comes to", "run tests/scale/arithmetic.py --write" if stale else None)
    pressure = lambda path: re.search(r"- alert: TimewaitFleetPressure\n.*?(\n +for: .*?)(?=\n\n|\Z)", path.read_text(), re.S)[1]
    same = pressure(RULES / "alerts.yml") == pressure(SCALE / "fleet.yml")
    check("TimewaitFleetPressure says the same in fleet.yml and in alerts.yml", None if same else "it does not")


def check_advice():
    """The metrics that may be dropped are read by no rule, have the documented number, and are the chart's example too."""
    text = arithmetic.DOCUMENT.read_text()
    regex = re.search(r"regex: (timewait_\S+);\.\+\n    action: drop", text)[1]
    dropped = [name for name, _ in arithmetic.metrics() if re.fullmatch(regex, name)]
    rules = (RULES / "alerts.yml").read_text() + (RULES / "recording.yml").read_text()
    read = [name for name in dropped if re.search(rf"\b{name}\b", rules)]
    check("no rule reads what may be dropped of pods", ", ".join(read) or (None if dropped else "there is nothing"))
    said = f"up to {len(dropped)} series per namespace" in text
    check(f"the document says that this is {len(dropped)} series per namespace", None if said else "it does not")
    example = f"regex: {regex};.+\n" in (ROOT / "deploy/helm/timewait-exporter/values.yaml").read_text()
    check("the chart's example of metricRelabelings is the same", None if example else "it is not")


def check_limits():
    """Beyond sample_limit a scrape fails completely, so no exporter with default flags may reach it."""
    others = int(re.search(r"`--collector.netns-max <N>` \| `(\d+)`", (ROOT / "src/cli/README.md").read_text())[1])
    most = (others + 1) * arithmetic.of_a_namespace(20) + arithmetic.of_the_exporter()
    for path in (SCALE / "shard.yml", RULES / "prometheus.yml"):
        limit = int(re.search(r"sample_limit: (\d+)", path.read_text())[1])
        check(f"sample_limit in {path.name} is above {most}", None if limit > most else f"it is {limit}")


def check_ingestion(hosts, interval, values):
    wanted = sum(host.count for host in hosts) / interval * values["seconds"]
    share = values["samples"] / wanted
    check("at least half of the expected samples are ingested", None if share >= 0.5 else f"{share:.0%} of {wanted:.0f}")


def check_rules(prometheus, values):
    check("no rule fails", None if values["failed"] == 0 else f"{values['failed']:.0f} evaluations failed")
    recorded = {rule["name"] for _, rule in prometheus.rules() if rule["type"] == "recording"}
    present = {one["metric"]["__name__"] for one in prometheus.query('count by (__name__) ({__name__=~".+:.+"})')}
    # Only other namespaces have owners.
    recorded -= {name for name in recorded if "owner" in name}
    complaint = ", ".join(sorted(recorded - present)) or (None if recorded else "there are none")
    check("every recording rule gives a series", complaint)


def check_fleet(prometheus, hosts, what):
    """The recorded values of the fleet equal those of the hosts."""
    low = sum(host.pressure is not None for host in hosts)
    critical = sum(host.pressure == 1 for host in hosts)
    for name, wanted in {
        "job:timewait_hosts:count": len(hosts),
        "job:timewait_hosts_low:count": low,
        "job:timewait_hosts_critical:count": critical,
        "job:timewait_hosts_exhausted:count": critical,
    }.items():
        expression = f'{name}{{job="{JOB}"}}'
        try:
            until(name, 60, lambda: prometheus.number(expression) == wanted)
            complaint = None
        except TimeoutError:
            complaint = f"{prometheus.number(expression):.0f} and not {wanted}"
        check(f"{what}: {name} is {wanted}", complaint)


# The maximum number of samples for one opening of the fleet dashboard, with 1,000 hosts that are all full; Prometheus refuses a single query of 50 million.
OPENING = {"hours": 3, "hosts": 1000, "samples": 5_000_000}


def check_opening(prometheus, hosts, interval):
    """How many samples the queries of the fleet dashboard load, from Prometheus' own count of each at one moment.

    A range query loads that at every step. With fewer simulated hosts the count is scaled up, which overestimates a
    topk(). Ranges are measured over two scrapes. Alerts that are pending here count as firing.
    """
    board = json.loads((ROOT / "dashboards/timewait-fleet.json").read_text())
    seconds = OPENING["hours"] * 3600
    panels = [panel for one in board["panels"] for panel in (one.get("panels", []) if one["type"] == "row" else [one])]
    asked = [(f"{panel['title']}/{target['refId']}", target["expr"], 1 if target.get("instant") else seconds // 15) for panel in panels for target in panel["targets"]]
    asked += [(f"annotation {one['name']}", one["expr"], seconds // 60) for one in board["annotations"]["list"] if "expr" in one]
    variables = {"cluster": ".*", "job": ".+", "instance": ".+", "__rate_interval": f"{4 * interval}s"}

    def samples_of(text, scrapes):
        chosen = {**variables, "__range": f"{scrapes * interval}s"}
        expression = re.sub(r"\$\{?(\w+)\}?", lambda found: chosen.get(found[1], found[0]), text).replace('alertstate="firing"', 'alertstate!=""')
        answer = get(f"{prometheus.url}/api/v1/query?{urllib.parse.urlencode({'query': expression, 'stats': 'all'})}", 60)
        return json.loads(answer)["data"]["stats"]["samples"]["totalQueryableSamples"]

    loaded = {}
    for where, text, steps in asked:
        samples = samples_of(text, 1) * steps
        if "$__range" in text:
            samples += (samples_of(text, 3) - samples_of(text, 1)) / 2 * (seconds / 15)
        loaded[where] = samples * OPENING["hosts"] / len(hosts)
    total = sum(loaded.values())
    print(f"one opening          {total / 1e6:.1f} million samples for {OPENING['hours']} h at {OPENING['hosts']:,} hosts that are all full ({len(asked)} queries)")
    for where, samples in sorted(loaded.items(), key=lambda item: -item[1])[:5]:
        print(f"                     {samples / 1e6:.2f} million: {where}")
    alerts = prometheus.number('count(ALERTS{alertname=~"TimewaitPortsLow|TimewaitPortsExhausted"})')
    check("the alerts of all hosts exist", None if alerts >= 3 * len(hosts) else f"{alerts:.0f} alerts of {len(hosts)} hosts")
    limit = OPENING["samples"]
    check(f"one opening of the fleet dashboard loads at most {limit / 1e6:.0f} million samples", None if total <= limit else f"{total / 1e6:.1f} million")


# --- the runs --------------------------------------------------------------------------------------------------------


def are_up(servers, hosts, interval):
    expression = f'sum(up{{job="{JOB}"}})'
    count = lambda: sum(server.number(expression) for server in servers)
    try:
        until("all hosts up", 60 + 4 * interval, lambda: count() == len(hosts))
        complaint = None
    except TimeoutError:
        complaint = f"{count():.0f} are"
    check(f"all {len(hosts)} hosts are up", complaint)
    return complaint is None


def one_server(options, hosts, folder):
    prometheus = Prometheus(folder, "alone", 9090, alone(options.interval), options.interval)
    (prometheus.folder / "targets.json").write_text(static_targets(len(hosts)))
    with prometheus.program():
        until("Prometheus", 60, lambda: get(f"{prometheus.url}/-/ready"))
        if not are_up([prometheus], hosts, options.interval):
            return
        # The cost of the start is not measured.
        time.sleep(options.settle)
        values = measured(prometheus, options.seconds)
        check_ingestion(hosts, options.interval, values)
        check_rules(prometheus, values)
        check_fleet(prometheus, hosts, "one server")
        if options.full:
            check_opening(prometheus, hosts, options.interval)
        report(options, hosts, prometheus, values)


def sharded(options, hosts, folder):
    servers = []
    with contextlib.ExitStack() as stack:
        for shard in range(options.shards):
            text = (SCALE / "shard.yml").read_text().replace("${SHARD}", str(shard)).replace("${SHARDS}", str(options.shards))
            server = Prometheus(folder, f"shard-{shard}", 9100 + shard, text, options.interval)
            (server.folder / "targets.json").write_text(static_targets(len(hosts)))
            stack.enter_context(server.program())
            servers.append(server)
        whole = Prometheus(folder, "global", 9099, (SCALE / "global.yml").read_text(), options.interval)
        shards = [f"127.0.0.1:{9100 + shard}" for shard in range(options.shards)]
        (whole.folder / "shards.json").write_text(json.dumps([{"targets": shards}]))
        stack.enter_context(whole.program())
        for server in (*servers, whole):
            until("Prometheus", 60, lambda: get(f"{server.url}/-/ready"))
        if not are_up(servers, hosts, options.interval):
            return
        shares = [server.number(f'count(up{{job="{JOB}"}})') for server in servers]
        check(f"each of {options.shards} shards has some hosts", None if min(shares) > 0 else f"{shares}")
        # The series that fleet.yml's alerts on shards read: whether each shard answers, and its number of hosts.
        # The first scrape of one may come after that of another, and one that was late is no fault.
        answering = 'count(up{job="shards"} == 1 and scrape_samples_scraped{job="shards"} > 0)'
        try:
            until("shards", 60 + 4 * options.interval, lambda: whole.number(answering) == options.shards)
            complaint = None
        except TimeoutError:
            complaint = f"{whole.number(answering):.0f} are"
        check(f"all {options.shards} shards are seen to answer", complaint)
        check_fleet(whole, hosts, f"federated from {options.shards} shards")
        federated = whole.number('count({shard=~".+"})')
        print(f"\nshards               {', '.join(f'{share:.0f}' for share in shares)} hosts")
        print(f"federated            {federated:,.0f} series of {sum(host.count for host in hosts):,}\n")


def inside(options):
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    check_document()
    check_advice()
    check_limits()
    with tempfile.TemporaryDirectory() as folder:
        few, many = real_pages(os.environ["EXPORTER"], folder)
        check_pages(few, many)
        check_another(page_with_another(os.environ["EXPORTER"], folder))
        pods = [(f"4026533{number:03}", few) for number in range(1, options.namespaces)]
        hosts = [Host(number, [("", many), *pods], options.shared, options.full) for number in range(options.targets)]
        fleet = Fleet(hosts)
        fleet.run()
        if options.shards:
            sharded(options, hosts, folder)
        else:
            one_server(options, hosts, folder)
        print(f"pages made           {fleet.scrapes:,}, {fleet.seconds / max(fleet.scrapes, 1) * 1000:.2f} ms each")
    print(f"{results['ok']} passed, {results['FAIL']} failed")
    return 1 if results["FAIL"] else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--targets", type=int, default=1000, help="hosts")
    parser.add_argument("--namespaces", type=int, default=1, help="network namespaces of each, the exporter's own included")
    parser.add_argument("--shared", type=int, default=15, help=f"how many of a page's {MANY} destinations are the whole fleet's")
    parser.add_argument("--full", action="store_true", help="no host has a port left; then what one opening of the fleet dashboard loads is measured too")
    parser.add_argument("--interval", type=int, default=15, help="seconds between scrapes, and between evaluations")
    parser.add_argument("--settle", type=int, default=60, help="seconds between the first scrape of all and measuring")
    parser.add_argument("--seconds", type=int, default=300, help="how long to measure")
    parser.add_argument("--shards", type=int, default=0, help="Prometheus servers that share the hosts; 0 is one for all")
    options = parser.parse_args()
    if "SCALE_INSIDE" in os.environ:
        return inside(options)
    user = [] if os.geteuid() == 0 else ["-Ur"]
    command = ["unshare", *user, "-n", "--pid", "--mount-proc", "--fork", "--kill-child", sys.executable, __file__, *sys.argv[1:]]
    return subprocess.run(command, env=os.environ | {"SCALE_INSIDE": "1"}).returncode


if __name__ == "__main__":
    sys.exit(main())
