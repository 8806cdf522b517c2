"""Which alerts deploy/prometheus/alertmanager.yml inhibits, according to a real Alertmanager. Started by ./run."""

import json
import pathlib
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]

LOW, EXHAUSTED = "TimewaitPortsLow", "TimewaitPortsExhausted"
# (labels, whether it must be inhibited). All of them are posted at once.
CASES = [
    # A host of its own for each case.
    ({"alertname": LOW, "severity": "critical", "instance": "a", "family": "ipv4"}, False),
    ({"alertname": LOW, "severity": "warning", "instance": "a", "family": "ipv4"}, True),
    ({"alertname": "TimewaitPortsRunningOut", "severity": "warning", "instance": "a"}, True),
    # Another namespace of that host, and another job, are not silenced by it.
    ({"alertname": LOW, "severity": "warning", "instance": "a", "netns": "blue", "family": "ipv4"}, False),
    ({"alertname": LOW, "severity": "warning", "instance": "a", "job": "other-timewait-exporter"}, False),
    # The other way round: a namespace's critical alert does not silence the host's warning.
    ({"alertname": LOW, "severity": "critical", "instance": "b", "netns": "blue"}, False),
    ({"alertname": LOW, "severity": "warning", "instance": "b", "netns": "blue"}, True),
    ({"alertname": LOW, "severity": "warning", "instance": "b"}, False),
    ({"alertname": EXHAUSTED, "severity": "critical", "instance": "c", "netns": "red"}, False),
    ({"alertname": LOW, "severity": "critical", "instance": "c", "netns": "red"}, True),
    ({"alertname": LOW, "severity": "warning", "instance": "c", "netns": "red"}, True),
    ({"alertname": "TimewaitPortsRunningOut", "severity": "warning", "instance": "c", "netns": "red"}, True),
    ({"alertname": "TimewaitConnectSlow", "severity": "warning", "instance": "c", "netns": "red"}, True),
    ({"alertname": "TimewaitNoUsablePorts", "severity": "critical", "instance": "c", "netns": "red"}, True),
    ({"alertname": "TimewaitNoUsablePorts", "severity": "critical", "instance": "l"}, False),
    ({"alertname": LOW, "severity": "critical", "instance": "l"}, True),
    ({"alertname": "TimewaitBindPoolLow", "severity": "warning", "instance": "c", "netns": "red"}, True),
    ({"alertname": "TimewaitBindPoolLow", "severity": "warning", "instance": "c"}, False),
    ({"alertname": "TimewaitConnectSlow", "severity": "warning", "instance": "b"}, True),
    ({"alertname": "TimewaitConnectSlow", "severity": "warning", "instance": "g"}, False),
    # A critical alert of the host inhibits ExporterDown; a warning does not.
    ({"alertname": "TimewaitExporterDown", "severity": "warning", "instance": "c"}, True),
    ({"alertname": "TimewaitExporterDown", "severity": "warning", "instance": "b"}, False),
    ({"alertname": "TimewaitExhaustedWhenLastSeen", "severity": "critical", "instance": "h", "netns": "red"}, False),
    ({"alertname": "TimewaitExporterDown", "severity": "warning", "instance": "h"}, True),
    ({"alertname": "TimewaitHostVanished", "severity": "info", "instance": "h"}, True),
    ({"alertname": "TimewaitConnectFailures", "severity": "critical", "instance": "c"}, True),
    ({"alertname": "TimewaitConnectFailures", "severity": "critical", "instance": "b"}, False),
    ({"alertname": "TimewaitConntrackNearLimit", "severity": "critical", "instance": "k"}, False),
    ({"alertname": "TimewaitConntrackNearLimit", "severity": "warning", "instance": "k"}, True),
    # Clusters and environments with hosts of the same name.
    ({"alertname": EXHAUSTED, "severity": "critical", "instance": "node-1", "cluster": "b"}, False),
    ({"alertname": LOW, "severity": "critical", "instance": "node-1", "cluster": "a"}, False),
    ({"alertname": LOW, "severity": "critical", "instance": "node-1", "cluster": "b"}, True),
    ({"alertname": LOW, "severity": "critical", "instance": "node-1", "cluster": "b", "environment": "test"}, False),
    ({"alertname": "TimewaitExporterDown", "severity": "warning", "instance": "node-1", "cluster": "a"}, False),
    # An agent, and one of its hosts; another cluster's host.
    ({"alertname": "TimewaitAgentVanished", "severity": "info", "cluster": "c"}, False),
    ({"alertname": "TimewaitHostVanished", "severity": "info", "instance": "i", "cluster": "c"}, True),
    ({"alertname": "TimewaitHostVanished", "severity": "info", "instance": "i", "cluster": "d"}, False),
    ({"alertname": "TimewaitBucketsOverflow", "severity": "warning", "instance": "d"}, False),
    ({"alertname": "TimewaitBucketsNearLimit", "severity": "warning", "instance": "d"}, True),
    ({"alertname": "TimewaitBucketsNearLimit", "severity": "warning", "instance": "e"}, False),
    ({"alertname": "TimewaitCollectorFailing", "severity": "warning", "instance": "f", "collector": "sockets"}, False),
    ({"alertname": "TimewaitScrapeSlow", "severity": "warning", "instance": "f", "collector": "sockets"}, True),
    ({"alertname": "TimewaitScrapeSlow", "severity": "warning", "instance": "f", "collector": "sysctl"}, False),
    # Other alerts are not affected.
    ({"alertname": "NodeDown", "severity": "warning", "instance": "a"}, False),
]


def main():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    base = f"http://127.0.0.1:{port}/api/v2/alerts"
    with tempfile.TemporaryDirectory() as work, open(f"{work}/log", "w+") as log:
        server = subprocess.Popen(
            ["prometheus-alertmanager", f"--config.file={ROOT}/deploy/prometheus/alertmanager.yml", f"--storage.path={work}",
             f"--web.listen-address=127.0.0.1:{port}", "--cluster.listen-address="], stdout=log, stderr=log)
        try:
            alerts = [{"labels": {"job": "timewait_exporter", **labels}} for labels, _ in CASES]
            body = json.dumps(alerts).encode()
            inhibited = {}
            for _ in range(100):
                try:
                    request = urllib.request.Request(base, body, {"Content-Type": "application/json"})
                    urllib.request.urlopen(request, timeout=5).close()
                    with urllib.request.urlopen(base, timeout=5) as answer:
                        found = json.load(answer)
                except OSError:
                    assert server.poll() is None, log.seek(0) or log.read()
                    time.sleep(0.1)
                    continue
                inhibited = {json.dumps(one["labels"], sort_keys=True): bool(one["status"]["inhibitedBy"]) for one in found}
                if all(inhibited.get(json.dumps(alert["labels"], sort_keys=True)) == wanted for alert, (_, wanted) in zip(alerts, CASES)):
                    break
                time.sleep(0.1)
        finally:
            server.terminate()
            server.wait(10)
    failed = 0
    for alert, (labels, wanted) in zip(alerts, CASES):
        got = inhibited.get(json.dumps(alert["labels"], sort_keys=True))
        failed += got != wanted
        print(f"{'ok  ' if got == wanted else 'FAIL'} inhibition: {'inhibited' if wanted else 'sent'}: {labels}")
    print(f"{len(CASES) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
