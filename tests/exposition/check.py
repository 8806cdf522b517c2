"""Checks the exporter's output with other programs.

Runs inside its own network namespace (see `run`), creates sockets there, starts the exporter, and always ends it.
Connects only to 127.0.0.1 inside the namespace.
"""

import gzip
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.parse

from prometheus_client.openmetrics.parser import text_string_to_metric_families as strict_parser
from prometheus_client.parser import text_string_to_metric_families as text_parser

EXPORTER_PORT = 10072
PATIENCE_SECONDS = 60
# The Accept headers of Prometheus 2.42 and 3, and one that requests protobuf.
OPENMETRICS = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
PROTOBUF = (
    "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited"
)
TEXT = "text/plain;version=0.0.4"


class Processes:
    """The processes of this test, which are always ended."""

    def __init__(self):
        self.running = []

    def start(self, command, log):
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self.running.append(process)
        return process

    def end(self):
        for process in self.running:
            process.send_signal(signal.SIGTERM)
        for process in self.running:
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def eventually(what, holds):
    end = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            result = holds()
        except (OSError, http.client.HTTPException):
            result = None
        if result:
            return result
        if time.monotonic() > end:
            raise AssertionError(f"not within {PATIENCE_SECONDS} s: {what}")
        time.sleep(0.1)


def get(port, path, headers=None):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", path, headers=headers or {})
        response = connection.getresponse()
        body = response.read()
        if response.status != 200:
            raise http.client.HTTPException(f"{path}: {response.status} {body!r}")
        return dict(response.getheaders()), body
    finally:
        connection.close()


def metrics(accept):
    headers, body = get(EXPORTER_PORT, "/metrics", {"Accept": accept})
    return headers["content-type"], body


def make_sockets():
    """TIME-WAIT sockets on the client's and on the server's side, established ones, IPv4 and IPv6."""
    kept = []
    for family, address, port in [
        (socket.AF_INET, "127.0.0.1", 8080),
        (socket.AF_INET6, "::1", 8443),
    ]:
        server = socket.socket(family, socket.SOCK_STREAM)
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind((address, port))
        server.listen(64)
        kept.append(server)
        for number in range(30):
            client = socket.create_connection((address, port))
            accepted, _ = server.accept()
            if number % 3 == 0:
                kept += [client, accepted]
                continue
            first, second = (client, accepted) if number % 3 == 1 else (accepted, client)
            first.close()
            second.recv(1)
            second.close()
    return kept


def series(families):
    """The identity of every series, each once."""
    identities = []
    for family in families:
        for sample in family.samples:
            identities.append((sample.name, tuple(sorted(sample.labels.items()))))
    assert len(identities) == len(set(identities)), "a series is exported twice"
    return set(identities)


def promtool_has_no_complaints(_):
    content_type, body = metrics(TEXT)
    assert content_type == "text/plain; version=0.0.4; charset=utf-8", content_type
    result = subprocess.run(
        ["promtool", "check", "metrics"], input=body, capture_output=True, timeout=30, check=False
    )
    said = result.stdout + result.stderr
    assert result.returncode == 0 and not said, said.decode()


def the_strict_parser_reads_openmetrics(_):
    content_type, body = metrics(OPENMETRICS)
    assert content_type == "application/openmetrics-text; version=1.0.0; charset=utf-8", content_type
    found = series(strict_parser(body.decode()))
    assert ("timewait_sockets", (("family", "ipv4"),)) in found
    assert len(found) > 80, len(found)


def text_and_openmetrics_contain_the_same_series(_):
    text = series(text_parser(metrics(TEXT)[1].decode()))
    openmetrics = series(strict_parser(metrics(OPENMETRICS)[1].decode()))
    assert text == openmetrics, text ^ openmetrics


def the_strict_parser_finds_errors(_):
    """Tests the parser: what is not OpenMetrics is refused."""
    body = metrics(OPENMETRICS)[1].decode()
    as_counter = body.replace("# TYPE timewait_sockets gauge", "# TYPE timewait_sockets counter")
    assert as_counter != body
    for broken in [body.replace("# EOF\n", ""), as_counter]:
        try:
            list(strict_parser(broken))
        except ValueError:
            continue
        raise AssertionError("the strict parser took a broken body")


def gzip_is_the_same_body(_):
    headers, body = get(
        EXPORTER_PORT, "/metrics", {"Accept": TEXT, "Accept-Encoding": "gzip;q=0.9"}
    )
    assert headers["content-encoding"] == "gzip"
    assert series(text_parser(gzip.decompress(body).decode()))


def protobuf_has_its_content_type(_):
    content_type, body = metrics(PROTOBUF)
    assert content_type.startswith("application/vnd.google.protobuf"), content_type
    assert b"timewait_sockets" in body


def prometheus(processes, folder, port, flags):
    """Starts a Prometheus that scrapes the exporter once a second."""
    config = os.path.join(folder, "prometheus.yml")
    with open(config, "w", encoding="utf-8") as file:
        json.dump(
            {
                "global": {"scrape_interval": "1s", "scrape_timeout": "1s"},
                "scrape_configs": [
                    {
                        "job_name": "timewait",
                        "static_configs": [{"targets": [f"127.0.0.1:{EXPORTER_PORT}"]}],
                    }
                ],
            },
            file,
        )
    data = os.path.join(folder, f"data-{port}")
    with open(os.path.join(folder, f"prometheus-{port}.log"), "wb") as log:
        processes.start(
            [
                "prometheus",
                f"--config.file={config}",
                f"--storage.tsdb.path={data}",
                f"--web.listen-address=127.0.0.1:{port}",
                *flags,
            ],
            log,
        )


def query(port, expression):
    _, body = get(port, "/api/v1/query?" + urllib.parse.urlencode({"query": expression}))
    answer = json.loads(body)
    assert answer["status"] == "success", answer
    return answer["data"]["result"]


def prometheus_has_every_metric(port):
    """Waits for a scrape, and compares the names with those of the text format."""
    eventually("a scrape that went well", lambda: query(port, 'up{job="timewait"} == 1'))
    wanted = {name for name, _ in series(text_parser(metrics(TEXT)[1].decode()))}

    def has_all():
        found = query(port, 'count by (__name__) ({job="timewait"})')
        return wanted <= {row["metric"]["__name__"] for row in found}

    eventually("every metric is there", has_all)
    breakdowns = ["src_addr", "src_port", "dst_addr", "dst_port", "age"]
    for breakdown in breakdowns:
        difference = f"sum(timewait_sockets_by_{breakdown}) - scalar(sum(timewait_sockets))"
        (row,) = query(port, difference)
        assert float(row["value"][1]) == 0, (breakdown, row)
    (row,) = query(port, "max(timewait_port_range_exhaustion_ratio)")
    assert 0 < float(row["value"][1]) < 1, row


def a_prometheus_scrapes_openmetrics(environment):
    prometheus(environment.processes, environment.folder, 9090, [])
    prometheus_has_every_metric(9090)


def a_prometheus_scrapes_protobuf(environment):
    prometheus(
        environment.processes, environment.folder, 9091, ["--enable-feature=native-histograms"]
    )
    prometheus_has_every_metric(9091)


class Environment:
    def __init__(self, processes, folder):
        self.processes = processes
        self.folder = folder


CHECKS = [
    promtool_has_no_complaints,
    the_strict_parser_reads_openmetrics,
    the_strict_parser_finds_errors,
    text_and_openmetrics_contain_the_same_series,
    gzip_is_the_same_body,
    protobuf_has_its_content_type,
    a_prometheus_scrapes_openmetrics,
    a_prometheus_scrapes_protobuf,
]


def main():
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    folder = tempfile.mkdtemp(prefix="timewait-exposition-")
    processes = Processes()
    passed = failed = 0
    try:
        kept = make_sockets()
        with open(os.path.join(folder, "exporter.log"), "wb") as log:
            listen = f"--web.listen-address=127.0.0.1:{EXPORTER_PORT}"
            processes.start([sys.argv[1], listen], log)
        eventually("the exporter answers", lambda: get(EXPORTER_PORT, "/-/healthy"))
        environment = Environment(processes, folder)
        for check in CHECKS:
            try:
                check(environment)
            except Exception as error:  # every failure is reported
                failed += 1
                print(f"FAILED exposition: {check.__name__}: {error!r}")
            else:
                passed += 1
                print(f"ok exposition: {check.__name__}")
        for end in kept:
            end.close()
    finally:
        processes.end()
        if failed:
            for name in sorted(os.listdir(folder)):
                if name.endswith(".log"):
                    with open(os.path.join(folder, name), encoding="utf-8") as log:
                        print(f"--- {name}\n{log.read()[-4000:]}")
        shutil.rmtree(folder, ignore_errors=True)
    print(f"{passed} passed, {failed} failed")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
