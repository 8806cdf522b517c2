"""Pages of many hosts, made from pages of the real exporter.

`real_pages` runs the exporter with real sockets and keeps its output; a `Host` is such a page with different addresses
and values. Only these are invented; names, labels, help texts and the number of series are the exporter's.

Must run in its own network namespace. Independent of Prometheus.
"""

import contextlib
import ctypes
import pathlib
import random
import re
import signal
import socket
import subprocess
import time
import urllib.request

import arithmetic

# More than --collector.top, so that every breakdown has its `other`.
MANY = 25
FEW = 3
EXPORTER = "127.0.0.1:10071"
SERIES = re.compile(r"^(\w+)(?:\{(.*)\})? (\S+)$")
LABEL = re.compile(r'(\w+)="([^"]*)"')
# Series of the exporter, not of a namespace.
OWN = ("process_", "promhttp_", "timewait_exporter_build_info", "timewait_netns_", "timewait_memory_bytes")
OWN_COLLECTORS = [("collector", name) for name in arithmetic.OF_THE_HOST]


def die_with_parent():
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


@contextlib.contextmanager
def program(arguments, log):
    """A program that ends with this block, or with this process."""
    with open(log, "w") as out:
        started = subprocess.Popen(
            arguments, stdout=out, stderr=out, stdin=subprocess.DEVNULL, preexec_fn=die_with_parent
        )
        try:
            yield started
        finally:
            if started.poll() is None:
                started.terminate()
                try:
                    started.wait(20)
                except subprocess.TimeoutExpired:
                    started.kill()
                    started.wait()


def get(url, timeout=30):
    with urllib.request.urlopen(url, timeout=timeout) as answer:
        return answer.read().decode()


def until(what, seconds, condition):
    """Polls until the condition is truthy, and returns its value."""
    end = time.monotonic() + seconds
    while True:
        try:
            found = condition()
        except OSError:
            found = None
        if found:
            return found
        if time.monotonic() > end:
            raise TimeoutError(f"{what}: not within {seconds} s")
        time.sleep(0.1)


class Sockets:
    """Connections over loopback, each destination with its own addresses and port."""

    def __init__(self):
        self.kept = []
        self.servers = []

    def destinations(self, first, last):
        for number in range(first, last):
            address = (f"127.0.2.{number + 1}", 9000 + number)
            server = socket.create_server(address)
            self.servers.append(server)
            udp = socket.socket(type=socket.SOCK_DGRAM)
            udp.bind((f"127.0.1.{number + 1}", 0))
            self.kept.append(udp)
            for count in range(6):
                client = socket.create_connection(address, source_address=(f"127.0.1.{number + 1}", 0))
                accepted, _ = server.accept()
                if count == 0:
                    self.kept += [client, accepted]
                    continue
                # The end that closes first keeps the TIME-WAIT socket.
                closing, other = (client, accepted) if count % 2 else (accepted, client)
                closing.close()
                other.recv(1)
                other.close()

    def close(self):
        for one in [*self.kept, *self.servers]:
            one.close()


def real_pages(exporter, folder, top=20):
    """The pages of a host with a few destinations and of one with more than `top` of everything."""
    arguments = [exporter, f"--web.listen-address={EXPORTER}", f"--collector.top={top}"]
    sockets = Sockets()
    try:
        with program(arguments, pathlib.Path(folder) / "exporter.log"):
            page = lambda: get(f"http://{EXPORTER}/metrics")
            until("the exporter", 20, page)
            pages = []
            for first, last in ((0, FEW), (FEW, MANY)):
                sockets.destinations(first, last)
                pages.append(page())
            return pages
    finally:
        sockets.close()


def page_with_another(exporter, folder):
    """The page of an exporter that exports a process's namespace as well as its own."""
    names = pathlib.Path(folder) / "netns"
    names.mkdir()
    arguments = [exporter, f"--web.listen-address={EXPORTER}", "--collector.netns=all", f"--path.netns={names}"]
    with program(["unshare", "-n", "sleep", "600"], names.with_suffix(".log")) as pod:
        namespace = lambda pid: pathlib.Path(f"/proc/{pid}/ns/net").readlink()
        until("a namespace", 20, lambda: namespace(pod.pid) != namespace("self"))
        with program(arguments, pathlib.Path(folder) / "exporter.log"):
            return until("the exporter", 20, lambda: get(f"http://{EXPORTER}/metrics"))


def parsed(page):
    """Each line as it is, or as (name, labels, value) if it is a series."""
    for line in page.splitlines():
        found = SERIES.match(line)
        yield (found[1], LABEL.findall(found[2] or ""), float(found[3])) if found else line


def series_of(page):
    return [line for line in parsed(page) if not isinstance(line, str)]


class Host:
    """One host's page. Deterministic except for the time.

    Its local addresses are its own. Of the remote ones, `shared` in a page are the fleet's and the others its own.
    Every 50th host is at 80% of its ports, every 100th has none left; all of them with `full`.
    """

    def __init__(self, number, templates, shared, full=False):
        self.random = random.Random(number)
        self.shared = shared
        self.number = number
        self.pressure = 1.0 if full or number % 100 == 0 else 0.8 if number % 50 == 0 else None
        self.started = time.monotonic() - self.random.uniform(0, 3600)
        self.lines = []
        families = {}
        for netns, template in templates:
            self.add(families, netns, template)
        for head, lines in families.values():
            self.lines += [(line, None, None) for line in head] + lines
        self.count = sum(kind is not None for _, kind, _ in self.lines)

    def add(self, families, netns, template):
        """Series of one family are adjacent, whatever their namespace is."""
        head = []
        for item in parsed(template):
            if isinstance(item, str):
                head.append(item)
                continue
            name, labels, value = item
            lines = families.setdefault(name, (head, []))[1]
            head = []
            if netns and (name.startswith(OWN) or any(label in OWN_COLLECTORS for label in labels)):
                continue
            labels = [(label, self.address(label, text)) for label, text in labels]
            if netns:
                labels.append(("netns", netns))
            text = ",".join(f'{label}="{text}"' for label, text in labels)
            lines.append((f"{name}{{{text}}} " if text else f"{name} ", self.kind(name, value), value))

    def address(self, label, text):
        found = re.fullmatch(r"127\.0\.([12])\.(\d+)", text)
        if not found:
            return text
        place = int(found[2])
        own = f"10.{self.number // 256}.{self.number % 256}.{place}"
        return f"10.255.0.{place}" if label == "dst_addr" and place <= self.shared else own

    def kind(self, name, value):
        fixed = ("timewait_sysctl_", "timewait_port_range_m", "timewait_buckets_limit", "timewait_scrape_collector_")
        # A fleet has few hosts that close sockets without TIME-WAIT, and each is an alert.
        if name.startswith(fixed) or (name == "timewait_overflows_total" and not self.pressure):
            return "fixed"
        if name.endswith("_total"):
            return "counter"
        if name.endswith("_ratio"):
            return "ratio"
        return "whole" if value == int(value) else "real"

    def page(self):
        age = time.monotonic() - self.started
        noise = self.random.random
        text = []
        for line, kind, value in self.lines:
            if kind is None:
                text.append(line)
            elif kind == "fixed":
                text.append(f"{line}{value:.17g}")
            elif kind == "counter":
                text.append(f"{line}{value + int(age * 3):.17g}")
            elif kind == "ratio":
                text.append(f"{line}{self.pressure or value * (0.5 + noise()):.17g}")
            elif kind == "whole":
                # 0 and 1 are states as often as counts.
                text.append(f"{line}{value if value <= 1 else int(value * (0.5 + noise()))}")
            else:
                text.append(f"{line}{value * (0.5 + noise()):.17g}")
        return "\n".join(text) + "\n"
