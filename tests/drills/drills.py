"""The drills. Started by ./run in separate namespaces.

An incident is a function that causes a problem on a host, waits for the expected notifications, and ends the problem
where that is part of it. It declares the expected notifications, each once and no others: name, severity and labels of
the alert, firing or resolved, and a pattern for the text.
"""

import contextlib
import http.server
import json
import os
import pathlib
import re
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
import urllib.request

from host import die_with_parent, loopback_up
from shorten import shortened

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
RULES = ROOT / "deploy/prometheus"
FACTOR = 20
SCRAPE = 2
JOB = "timewait_exporter"
PROMETHEUS, AGENT, ALERTMANAGER, WEBHOOK = "127.0.0.1:9090", "127.0.0.1:9091", "127.0.0.1:9093", "127.0.0.1:9095"
# A small range causes a separate alert (info), once per host, when it has existed long enough.
EXPECTED_ANYWHERE = "TimewaitPortRangeNarrow"
SMALL = "40000 40399"
PORTS = 400
TO = ("127.0.0.9", 7000)

results = {"ok": 0, "FAIL": 0}


def check(name, complaint=None):
    state = "FAIL" if complaint else "ok"
    results[state] += 1
    print(f"{state:4} drills: {name}" + (f"\n       {complaint}" if complaint else ""), flush=True)


# --- notifications ---------------------------------------------------------------------------------------------------


class Inbox:
    """The received notifications. A firing alert counts once, however often Alertmanager repeats it."""

    def __init__(self):
        self.lock = threading.Condition()
        self.seen = {}
        self.count = 0
        self.began = time.monotonic()

    def take(self, notification):
        with self.lock:
            self.count += 1
            for alert in notification["alerts"]:
                labels = alert["labels"]
                key = (json.dumps(labels, sort_keys=True), alert["startsAt"], alert["status"])
                if key not in self.seen:
                    self.seen[key] = {
                        "at": time.monotonic() - self.began, "labels": labels, "status": alert["status"],
                        "text": alert["annotations"]["description"], "receiver": notification["receiver"], "message": self.count,
                    }
            self.lock.notify_all()

    def of(self, cluster, instance):
        """In the order of arrival. Alerts about a whole job have no instance: None."""
        with self.lock:
            return [one for one in self.seen.values() if one["labels"].get("instance") == instance and one["labels"].get("cluster") == cluster]

    def wait(self, cluster, instance, name, status, seconds):
        end = time.monotonic() + seconds
        while True:
            for one in self.of(cluster, instance):
                if one["labels"]["alertname"] == name and one["status"] == status:
                    return one
            left = end - time.monotonic()
            if left <= 0:
                return None
            with self.lock:
                self.lock.wait(min(left, 0.5))


def serve_webhook(inbox):
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            inbox.take(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            pass

    host, port = WEBHOOK.split(":")
    server = http.server.ThreadingHTTPServer((host, int(port)), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()


# --- programs --------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def program(arguments, log):
    with open(log, "w") as out:
        started = subprocess.Popen(arguments, stdout=out, stderr=out, stdin=subprocess.DEVNULL, preexec_fn=die_with_parent)
        try:
            yield started
        finally:
            started.kill()
            started.wait()


def get(url):
    with urllib.request.urlopen(url, timeout=10) as answer:
        return json.load(answer)


def until(what, seconds, condition):
    end = time.monotonic() + seconds
    while True:
        with contextlib.suppress(OSError):
            found = condition()
            if found:
                return found
        if time.monotonic() > end:
            raise TimeoutError(f"{what}: not within {seconds} s")
        time.sleep(0.2)


def query(expression):
    return get(f"http://{PROMETHEUS}/api/v1/query?{urllib.parse.urlencode({'query': expression})}")["data"]["result"]


class Targets:
    """The targets of Prometheus, and of the agent: a file that both read every second or so."""

    def __init__(self, path):
        self.path, self.lock, self.groups = path, threading.Lock(), {}
        self.write()

    def write(self):
        temporary = self.path.with_suffix(".new")
        temporary.write_text(json.dumps(list(self.groups.values())))
        temporary.rename(self.path)

    def add(self, address, labels):
        with self.lock:
            self.groups[address] = {"targets": [address], "labels": labels}
            self.write()

    def remove(self, address):
        with self.lock:
            del self.groups[address]
            self.write()


class Host:
    """A host: its process, its target, its notifications."""

    numbers = iter(range(1, 250))

    def __init__(self, drill, instance, cluster=None, targets=None, flags=(), sysctls=(), before=()):
        self.drill, self.instance, self.cluster = drill, instance, cluster
        self.targets = targets or drill.targets
        self.address = f"127.0.1.{next(Host.numbers)}:10072"
        self.labels = {"instance": instance, **({"cluster": cluster} if cluster else {})}
        self.start(flags, sysctls, before)
        self.targets.add(self.address, self.labels)

    def start(self, flags=(), sysctls=(), before=()):
        address, port = self.address.split(":")
        listening = socket.socket()
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((address, int(port)))
        listening.listen(64)
        log = f"{self.drill.folder}/{self.instance}-{self.cluster}.log"
        self.process = subprocess.Popen(
            # A separate PID namespace, as on a real host.
            ["unshare", "--net", "--pid", "--fork", "--mount-proc", "--kill-child", sys.executable, HERE / "host.py", str(listening.fileno())], pass_fds=(listening.fileno(),), text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**os.environ, "DRILL_LOG": log})
        listening.close()
        for name, value in sysctls:
            self.do("sysctl", name, value)
        for command in before:
            self.do(*command)
        self.do("exporter", "--log.level=warn", *flags)

    def do(self, name, *arguments, seconds=150):
        self.process.stdin.write(f"{name} {json.dumps(arguments)}\n")
        self.process.stdin.flush()
        if not select.select([self.process.stdout], [], [], seconds)[0]:
            raise TimeoutError(f"{self.instance}: {name}: no answer")
        line = self.process.stdout.readline()
        state, value = json.loads(line) if line else ("error", f"{name}: the process has ended")
        if state != "ok":
            raise RuntimeError(f"{self.instance}: {value}")
        return value

    def end(self):
        self.process.kill()
        self.process.wait()

    def wait(self, name, status="firing", seconds=60):
        return self.drill.inbox.wait(self.cluster, self.instance, name, status, seconds)

    def received(self):
        return self.drill.inbox.of(self.cluster, self.instance)


# --- incidents -------------------------------------------------------------------------------------------------------

# (title, hosts, expected)
INCIDENTS = []


class Fleet:
    """In place of a host: notifications about all hosts of a cluster."""

    def __init__(self, drill, cluster=None):
        self.drill, self.instance, self.cluster = drill, None, cluster
        self.labels = {"cluster": cluster} if cluster else {}

    wait, received = Host.wait, Host.received


class Expected:
    """One notification. `text` is a pattern that the description must match. One that is `optional` may be listed with others."""

    def __init__(self, name, severity, status="firing", text=None, optional=False, **labels):
        self.name, self.severity, self.status, self.text, self.optional, self.labels = name, severity, status, text, optional, labels

    def __str__(self):
        return f"{self.name} {self.severity} {self.status.upper() if self.status == 'resolved' else self.status}"

    def complaint(self, one, host):
        wanted = {"alertname": self.name, "severity": self.severity, "job": JOB, **host.labels, **self.labels}
        receiver = {"critical": "page", "warning": "default", "info": "report"}[self.severity]
        if one["labels"] != wanted:
            return f"labels {one['labels']} and not {wanted}"
        if one["receiver"] != receiver:
            return f"sent to {one['receiver']}"
        if self.text and not re.search(self.text, one["text"]):
            return f"the text does not match {self.text!r}: {one['text']}"
        return None


def incident(title):
    def register(function):
        INCIDENTS.append((title, function))
        return function

    return register


def full(to=TO, states=f"{PORTS} established", left=0):
    return f"The fullest destination is {re.escape(to[0])} port {to[1]} from 127.0.0.1. Ports in use: {states}. Ports left: {left}. First command on the host: timewait_exporter report"


def exhausted(**more):
    labels = {"family": "ipv4", **more.pop("labels", {})}
    return [
        Expected("TimewaitPortsExhausted", "critical", text=more.pop("text", full()), **labels),
        Expected("TimewaitPortsExhausted", "critical", "resolved", **labels),
    ]


LAST_SEEN = Expected("TimewaitExhaustedWhenLastSeen", "critical", text="no metrics for 15 minutes.*" + full(), family="ipv4")
SMALL_RANGE = {"sysctls": [("ip_local_port_range", SMALL), ("tcp_tw_reuse", 0)], "before": [("listen", *TO)]}


def was_full_and_recovers(host, hold=0):
    host.do("fill", *TO, PORTS + 10)
    host.wait("TimewaitPortsExhausted")
    time.sleep(hold)
    host.do("clear")
    host.wait("TimewaitPortsExhausted", "resolved")


@incident("slow connect(): 60% of the default range in use to one destination")
def slow(drill):
    host = Host(drill, "slow", sysctls=[("tcp_tw_reuse", 0)], before=[("listen", *TO)])
    yield host, [
        Expected("TimewaitConnectSlow", "warning", text=r"examines up to 14\d\d\d ports.*slowest destination is 127.0.0.9 port 7000 from 127.0.0.1. Ports in use: 1\d{4} in TIME-WAIT. Ports left: 1\d{4}"),
        Expected("TimewaitConnectSlow", "warning", "resolved"),
    ]
    host.do("time_wait", *TO, 17000)
    host.wait("TimewaitConnectSlow")
    # A TIME-WAIT socket still lives for 60 seconds.
    host.wait("TimewaitConnectSlow", "resolved", 120)


@incident("two thirds in use, and closes at a rate that cannot be sustained")
def rate(drill):
    host = Host(drill, "rate", **SMALL_RANGE)
    yield host, exhausted(text=full(states=f"{PORTS} in TIME-WAIT"))
    host.do("time_wait", *TO, PORTS * 2 // 3)
    host.do("time_wait", *TO, PORTS, 150)
    host.wait("TimewaitPortsExhausted", "resolved", 150)


def in_turns(drill, name, seconds):
    host = Host(drill, name, **SMALL_RANGE)
    yield host, [
        Expected("TimewaitPortsLow", "critical", text=r"^turns-\w+: 9\d% or more.*The fullest destination is 127.0.0.9 port 7000 from 127.0.0.1. Ports in use: \d+ established", family="ipv4"),
        Expected("TimewaitPortsLow", "critical", "resolved", family="ipv4"),
    ]
    host.do("fill", *TO, PORTS * 70 // 100)
    host.do("turns", *TO, PORTS * 25 // 100, seconds, seconds)
    host.wait("TimewaitPortsLow")
    time.sleep(60)
    host.do("clear")
    host.wait("TimewaitPortsLow", "resolved")


@incident("70% and 95% in turns of 30 s")
def short_turns(drill):
    yield from in_turns(drill, "turns-short", 30 / FACTOR)


@incident("70% and 95% in turns of 100 s")
def long_turns(drill):
    yield from in_turns(drill, "turns-long", 100 / FACTOR)


@incident("a leak of 2.5% a minute")
def leak(drill):
    host = Host(drill, "leak", **SMALL_RANGE)
    low = {"family": "ipv4"}
    yield host, [
        Expected("TimewaitPortsRunningOut", "warning", text=r"none is left in \d+ minutes. The fullest destination is 127.0.0.9 port 7000", **low),
        Expected("TimewaitPortsLow", "warning", **low),
        Expected("TimewaitPortsLow", "critical", **low),
        *exhausted(),
        Expected("TimewaitPortsLow", "critical", "resolved", **low),
        Expected("TimewaitPortsLow", "warning", "resolved", **low),
        # It was inhibited when it ended: Alertmanager may include it in the message above.
        Expected("TimewaitPortsRunningOut", "warning", "resolved", optional=True, **low),
    ]
    host.do("leak", *TO, PORTS + 10, 60 / 2.5 * 100 / FACTOR * (PORTS + 10) / PORTS, seconds=200)
    host.wait("TimewaitPortsExhausted")
    host.do("clear")
    host.wait("TimewaitPortsExhausted", "resolved")
    host.wait("TimewaitPortsLow", "resolved")


@incident("the exporter hangs while the host is exhausted, and is well again later")
def hangs(drill):
    host = Host(drill, "hangs", **SMALL_RANGE)
    yield host, [*exhausted(), LAST_SEEN, Expected("TimewaitExhaustedWhenLastSeen", "critical", "resolved", family="ipv4")]
    host.do("fill", *TO, PORTS + 10)
    host.wait("TimewaitPortsExhausted")
    host.do("stop")
    host.wait("TimewaitExhaustedWhenLastSeen", seconds=90)
    host.wait("TimewaitPortsExhausted", "resolved", 30)
    host.do("clear")
    host.do("go_on")
    host.wait("TimewaitExhaustedWhenLastSeen", "resolved")


@incident("the exporter dies while the host is exhausted")
def dies(drill):
    host = Host(drill, "dies", **SMALL_RANGE)
    yield host, [*exhausted(), LAST_SEEN]
    host.do("fill", *TO, PORTS + 10)
    host.wait("TimewaitPortsExhausted")
    host.do("kill")
    host.wait("TimewaitExhaustedWhenLastSeen", seconds=90)
    host.wait("TimewaitPortsExhausted", "resolved", 30)


@incident("the host leaves service discovery while it is exhausted")
def leaves(drill):
    host = Host(drill, "leaves", **SMALL_RANGE)
    yield host, [*exhausted(), LAST_SEEN]
    host.do("fill", *TO, PORTS + 10)
    host.wait("TimewaitPortsExhausted")
    drill.targets.remove(host.address)
    host.wait("TimewaitExhaustedWhenLastSeen", seconds=90)
    host.wait("TimewaitPortsExhausted", "resolved", 30)


@incident("the exporter of a host that is well dies")
def dies_well(drill):
    host = Host(drill, "dies-well")
    yield host, [Expected("TimewaitExporterDown", "warning", text="has not answered for 5 minutes")]
    drill.scraped(host)
    host.do("kill")
    host.wait("TimewaitExporterDown")


@incident("a pod's namespace is full, then deleted")
def pod(drill):
    host = Host(drill, "pod", flags=["--collector.netns=all", "--path.netns=/nowhere"])
    made, inode = host.do("pod", *TO, PORTS + 10)
    assert made == PORTS, made
    yield host, exhausted(labels={"netns": str(inode)}, text=rf"^pod, network namespace {inode} \(process python3?[\w.]*, pid \d+\): .*{full()} --collector.netns=all")
    host.wait("TimewaitPortsExhausted")
    host.do("delete_pod")
    host.wait("TimewaitPortsExhausted", "resolved")


@incident("orphans in FIN-WAIT-2 have the ports")
def orphans(drill):
    host = Host(drill, "orphans", **SMALL_RANGE)
    yield host, exhausted(text=full(states=f"{PORTS} in other states"))
    host.do("orphans", *TO, PORTS + 10)
    host.wait("TimewaitPortsExhausted", "resolved", 150)


@incident("one full destination for longer than 15 minutes")
def one_alert(drill):
    host = Host(drill, "full", **SMALL_RANGE)
    yield host, exhausted()
    was_full_and_recovers(host, 20 * 60 / FACTOR)


@incident("one port that is free and in use in turns")
def flaps(drill):
    host = Host(drill, "flaps", **SMALL_RANGE)
    yield host, exhausted(text=r"The fullest destination is 127.0.0.9 port 7000 from 127.0.0.1. Ports in use: (399|400) established. Ports left: [01]\.")
    host.do("fill", *TO, PORTS + 10)
    host.wait("TimewaitPortsExhausted")
    host.do("free", 1)
    # Not synchronous with the scrapes.
    host.do("turns", *TO, 1, 1.6, 0.7)
    time.sleep(40)
    host.do("clear")
    host.wait("TimewaitPortsExhausted", "resolved")


@incident("bind() has taken every port")
def bind(drill):
    host = Host(drill, "bind", sysctls=SMALL_RANGE["sysctls"], before=[("listen", "0.0.0.0", 7000)])
    made = host.do("bound", 7000, PORTS + 10)
    assert made == PORTS, made
    # With the port probe no port is usable; without it the ports available to bind() are used up.
    drill.scraped(host)
    if host_value(host, "timewait_port_range_usable_ports") == 0:
        name, expected = "TimewaitPortsExhausted", exhausted(text="No port of the range is usable, for no destination")
    else:
        name = "TimewaitBindPoolLow"
        expected = [Expected(name, "warning"), Expected(name, "warning", "resolved")]
    yield host, expected
    host.wait(name, seconds=90)
    host.do("clear")
    host.wait(name, "resolved")


def host_value(host, metric):
    found = query(f'{metric}{{instance="{host.instance}"}}')
    return float(found[0]["value"][1]) if found else None


@incident("/proc is hollow")
def hollow(drill):
    empty = pathlib.Path(drill.folder, "hollow")
    empty.mkdir()
    host = Host(drill, "hollow", flags=[f"--path.procfs={empty}"])
    drill.scraped(host)
    failing = {one["metric"]["collector"] for one in query('timewait_scrape_collector_success{instance="hollow"} == 0')}
    assert "sysctl" in failing, f"failing collectors: {failing}"
    yield host, [Expected("TimewaitCollectorFailing", "warning", collector=one) for one in sorted(failing)]
    host.wait("TimewaitCollectorFailing")


@incident("two clusters with the same instance name, one exhausted and one low")
def clusters(drill):
    low = ("127.0.0.8", 7001)
    first = Host(drill, "node-1", cluster="a", **SMALL_RANGE)
    second = Host(drill, "node-1", cluster="b", sysctls=SMALL_RANGE["sysctls"], before=[("listen", *low)])
    yield first, exhausted(text="^node-1, cluster a: .*" + full())
    yield second, [
        Expected("TimewaitPortsLow", "critical", text="^node-1, cluster b: .*" + full(low, f"{PORTS * 95 // 100} established", PORTS * 5 // 100), family="ipv4"),
        Expected("TimewaitPortsLow", "critical", "resolved", family="ipv4"),
    ]
    first.do("fill", *TO, PORTS + 10)
    second.do("fill", *low, PORTS * 95 // 100)
    first.wait("TimewaitPortsExhausted")
    second.wait("TimewaitPortsLow")
    time.sleep(20)
    first.do("clear")
    second.do("clear")
    first.wait("TimewaitPortsExhausted", "resolved")
    second.wait("TimewaitPortsLow", "resolved")


@incident("an agent with remote write dies, with its two hosts")
def agent(drill):
    hosts = [Host(drill, f"remote-{number}", cluster="edge", targets=drill.agent_targets) for number in (1, 2)]
    # About the job, not about a host; the alerts on each host are inhibited.
    edge = Fleet(drill, "edge")
    yield edge, [Expected("TimewaitAgentVanished", "info", text="^Job timewait_exporter in cluster edge had 2 targets an hour ago and has none now")]
    for host in hosts:
        yield host, []
        drill.scraped(host)
    # They must have existed for longer than the alert's lookback.
    time.sleep(15 * 60 / FACTOR)
    drill.agent.kill()
    edge.wait("TimewaitAgentVanished", seconds=250)


@incident("more than a tenth of a fleet is low at once")
def fleet(drill):
    whole = Fleet(drill)
    yield whole, [
        Expected("TimewaitFleetPressure", "warning", text=r"^\d+% of the hosts of job timewait_exporter are running low"),
        Expected("TimewaitFleetPressure", "warning", "resolved"),
    ]
    whole.wait("TimewaitFleetPressure", seconds=90)
    whole.wait("TimewaitFleetPressure", "resolved", seconds=200)


@incident("too many TIME-WAIT sockets: buckets overflow")
def overflow(drill):
    host = Host(drill, "overflow", sysctls=[("tcp_max_tw_buckets", 50)], before=[("listen", *TO)])
    # Ten minutes after the last overflow the table is still full here: TIME-WAIT is not shortened.
    yield host, [
        Expected("TimewaitBucketsOverflow", "warning", text=r"about \d+ sockets were closed without TIME-WAIT"),
        Expected("TimewaitBucketsOverflow", "warning", "resolved"),
        Expected("TimewaitBucketsNearLimit", "warning", text="100% of tcp_max_tw_buckets are in use, 0 TIME-WAIT sockets left"),
        Expected("TimewaitBucketsNearLimit", "warning", "resolved"),
    ]
    drill.scraped(host)
    host.do("time_wait", *TO, 40)
    time.sleep(2 * SCRAPE)
    host.do("time_wait", *TO, 60)
    host.wait("TimewaitBucketsOverflow")
    host.wait("TimewaitBucketsNearLimit", "resolved", 150)


@incident("tcp_tw_reuse without timestamps")
def reuse(drill):
    host = Host(drill, "reuse", sysctls=[("tcp_tw_reuse", 1), ("tcp_timestamps", 0)])
    yield host, [Expected("TimewaitReuseWithoutTimestamps", "info", text="tcp_tw_reuse is 1 and tcp_timestamps is 0")]
    host.wait("TimewaitReuseWithoutTimestamps", seconds=90)


@incident("an idle host")
def idle(drill):
    yield Host(drill, "idle"), []


@incident("a busy server")
def server(drill):
    host = Host(drill, "server", before=[("listen", "127.0.0.9", 80)])
    yield host, []
    host.do("served", "127.0.0.9", 80, 8000)


@incident("a proxy with 2,000 destinations")
def proxy(drill):
    host = Host(drill, "proxy", before=[("listen", "0.0.0.0", 80)])
    yield host, []
    host.do("many", 80, 2000)


@incident("a reboot")
def reboot(drill):
    host = Host(drill, "reboot", before=[("listen", *TO)])
    yield host, []
    host.do("time_wait", *TO, 1000)
    drill.scraped(host)
    host.end()
    time.sleep(3)
    host.start(before=[("listen", *TO)])
    host.do("time_wait", *TO, 200)


# --- the drill -------------------------------------------------------------------------------------------------------


class Drill:
    def __init__(self, folder):
        self.folder, self.inbox = folder, Inbox()
        self.targets = Targets(pathlib.Path(folder, "targets.json"))
        self.agent_targets = Targets(pathlib.Path(folder, "agent.json"))
        self.agent = None

    def write(self, name, text):
        path = pathlib.Path(self.folder, name)
        path.write_text(text)
        return path

    def start(self, stack):
        serve_webhook(self.inbox)
        for name in ("alerts", "recording"):
            self.write(f"{name}.yml", shortened((RULES / f"{name}.yml").read_text(), FACTOR))
        routes = shortened((RULES / "alertmanager.yml").read_text(), FACTOR)
        receivers = re.findall(r"(?m)^  - name: (\w+)$", routes)
        routes = routes[: routes.index("\nreceivers:")] + "\nreceivers:\n" + "".join(
            f"  - name: {name}\n    webhook_configs: [{{url: 'http://{WEBHOOK}/', send_resolved: true}}]\n" for name in receivers)
        routes = self.write("alertmanager.yml", routes)
        times = f"global: {{scrape_interval: {SCRAPE}s, scrape_timeout: {SCRAPE}s, evaluation_interval: 1s}}\n"
        job = lambda file: f"scrape_configs: [{{job_name: {JOB}, file_sd_configs: [{{files: [{file}], refresh_interval: 1s}}]}}]\n"
        main = self.write("prometheus.yml", times + job(self.targets.path) + "rule_files: [alerts.yml, recording.yml]\n"
            f"alerting: {{alertmanagers: [{{static_configs: [{{targets: ['{ALERTMANAGER}']}}]}}]}}\n")
        agent = self.write("agent.yml", times + job(self.agent_targets.path) + f"remote_write: [{{url: 'http://{PROMETHEUS}/api/v1/write', queue_config: {{batch_send_deadline: 1s}}}}]\n")
        run = lambda name, *arguments: stack.enter_context(program(arguments, f"{self.folder}/{name}.log"))
        run("alertmanager", "prometheus-alertmanager", f"--config.file={routes}", f"--storage.path={self.folder}/alertmanager",
            f"--web.listen-address={ALERTMANAGER}", "--cluster.listen-address=")
        # Five minutes of lookback, and alerts sent again every minute, divided like the rest.
        run("prometheus", "prometheus", f"--config.file={main}", f"--storage.tsdb.path={self.folder}/tsdb", f"--web.listen-address={PROMETHEUS}",
            f"--query.lookback-delta={300 // FACTOR}s", "--rules.alert.resend-delay=3s", "--web.enable-remote-write-receiver")
        for address in (ALERTMANAGER, PROMETHEUS):
            until(address, 30, lambda: urllib.request.urlopen(f"http://{address}/-/ready", timeout=5).status == 200)
        self.agent = run("agent", "prometheus", "--enable-feature=agent", f"--config.file={agent}", f"--storage.agent.path={self.folder}/agent", f"--web.listen-address={AGENT}")

    def scraped(self, host):
        until(f"{host.instance} is scraped", 30, lambda: query(f'timewait_exporter_build_info{{instance="{host.instance}"}}'))


def play(drill, title, function, outcome):
    """Runs one incident. Each `yield` is a host and its expected notifications; the rest of the function is the incident."""
    outcome["hosts"] = []
    try:
        for host, expected in function(drill):
            outcome["hosts"].append((host, expected))
    except Exception as error:  # a failed incident does not affect the others
        outcome["error"] = f"{type(error).__name__}: {error}"


def judge(outcome):
    """Differences between received and expected notifications: each once, no others, with the right text."""
    complaints = [outcome["error"]] if "error" in outcome else []
    for host, expected in outcome["hosts"]:
        left = list(expected)
        small = []
        for one in host.received():
            name, status = one["labels"]["alertname"], one["status"]
            if name == EXPECTED_ANYWHERE:
                small.append(status)
                continue
            match = next((each for each in left if (each.name, each.status, each.severity) == (name, status, one["labels"]["severity"])
                          and each.labels.get("collector") == one["labels"].get("collector")), None)
            if not match and said_along(one, host.received()):
                continue
            if not match:
                complaints.append(f"unexpected: {name} {status} of {one['labels']} at {one['at']:.0f} s: {one['text']}")
                continue
            left.remove(match)
            wrong = match.complaint(one, host)
            if wrong:
                complaints.append(f"{match}: {wrong}")
        complaints += [f"missing: {each} of {host.instance}" for each in left if not each.optional]
        if len(small) != len(set(small)):
            complaints.append(f"{host.instance}: {EXPECTED_ANYWHERE} more than once: {small}")
    return complaints


def said_along(one, received):
    """An alert that was always inhibited ends with the one that inhibited it: Alertmanager includes it in that message."""
    same = lambda each: each["labels"] == one["labels"]
    fired = any(same(each) and each["status"] == "firing" for each in received)
    others = [each for each in received if each["message"] == one["message"] and each["status"] == "resolved" and not same(each)]
    return one["status"] == "resolved" and not fired and bool(others)


def table(outcomes):
    width = max(len(title) for title, _ in outcomes)
    print(f"\n{'incident':{width}}  notifications (seconds since the beginning)")
    for title, outcome in outcomes:
        came = [f"{one['labels']['alertname'].removeprefix('Timewait')} {one['labels']['severity']} {'RESOLVED' if one['status'] == 'resolved' else 'firing'} {one['at']:.0f}"
                for host, _ in outcome["hosts"] for one in host.received() if one["labels"]["alertname"] != EXPECTED_ANYWHERE]
        print(f"{title:{width}}  {', '.join(came) or 'none'}")
    print()


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    loopback_up()
    began = time.monotonic()
    wanted = sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        drill = Drill(folder)
        drill.start(stack)
        drill.inbox.began = time.monotonic()
        outcomes, threads = [], []
        for title, function in INCIDENTS:
            if wanted and function.__name__ not in wanted:
                continue
            outcome = {}
            outcomes.append((title, outcome))
            threads.append(threading.Thread(target=play, args=(drill, title, function, outcome), daemon=True))
            threads[-1].start()
            # They begin one after the other: the machine may have two cores.
            time.sleep(0.5)
        for thread in threads:
            thread.join(max(1, began + 320 - time.monotonic()))
        # Wait for pending notifications: group_wait and group_interval of the slowest route.
        time.sleep(2 + 300 / FACTOR)
        for (title, outcome), thread in zip(outcomes, threads):
            if thread.is_alive():
                outcome.setdefault("error", "not over in time")
        table(outcomes)
        for title, outcome in outcomes:
            check(title, "\n       ".join(judge(outcome)))
        failed = [rule["lastError"] for group in get(f"http://{PROMETHEUS}/api/v1/rules")["data"]["groups"] for rule in group["rules"] if rule.get("lastError")]
        check("no rule fails", "; ".join(failed))
        check("no text has an error in it", "; ".join(one["text"] for one in drill.inbox.seen.values() if "error" in one["text"] or "<" in one["text"]))
        if results["FAIL"]:
            for log in sorted(pathlib.Path(folder).glob("*.log")):
                text = log.read_text()[-1500:]
                if text and log.stem in ("prometheus", "alertmanager", "agent"):
                    print(f"-- {log.name}\n{text}")
    print(f"took {time.monotonic() - began:.0f} s")
    print("not covered here: tcp_tw_recycle, which Linux has not had since 4.12 (tests/rules/settings.yml has it)")
    print(f"{results['ok']} passed, {results['FAIL']} failed")
    return 1 if results["FAIL"] else 0


if __name__ == "__main__":
    sys.exit(main())
