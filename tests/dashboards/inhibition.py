"""What deploy/prometheus/alertmanager.yml holds back, asked of a real Alertmanager. Started by ./run."""

import json
import pathlib
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]

LOW, SPENT = "TimewaitPortsLow", "TimewaitPortsExhausted"
# (labels, whether it is to be held back). All of them are posted at once.
CASES = [
    # A host of its own for each matter.
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
    ({"alertname": SPENT, "severity": "critical", "instance": "c", "netns": "red"}, False),
    ({"alertname": LOW, "severity": "critical", "instance": "c", "netns": "red"}, True),
    ({"alertname": LOW, "severity": "warning", "instance": "c", "netns": "red"}, True),
    ({"alertname": "TimewaitPortsRunningOut", "severity": "warning", "instance": "c", "netns": "red"}, True),
    # A pool of its own: not explained by a full destination.
    ({"alertname": "TimewaitBindPoolLow", "severity": "warning", "instance": "c", "netns": "red"}, False),
    ({"alertname": "TimewaitBucketsOverflow", "severity": "warning", "instance": "d"}, False),
    ({"alertname": "TimewaitBucketsNearLimit", "severity": "warning", "instance": "d"}, True),
    ({"alertname": "TimewaitBucketsNearLimit", "severity": "warning", "instance": "e"}, False),
    ({"alertname": "TimewaitCollectorFailing", "severity": "warning", "instance": "f", "collector": "sockets"}, False),
    ({"alertname": "TimewaitScrapeSlow", "severity": "warning", "instance": "f", "collector": "sockets"}, True),
    ({"alertname": "TimewaitScrapeSlow", "severity": "warning", "instance": "f", "collector": "sysctl"}, False),
    # Somebody else's alerts are left alone.
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
            held = {}
            for _ in range(100):
                try:
                    request = urllib.request.Request(base, body, {"Content-Type": "application/json"})
                    urllib.request.urlopen(request, timeout=5).close()
                    with urllib.request.urlopen(base, timeout=5) as answer:
                        told = json.load(answer)
                except OSError:
                    assert server.poll() is None, log.seek(0) or log.read()
                    time.sleep(0.1)
                    continue
                held = {json.dumps(one["labels"], sort_keys=True): bool(one["status"]["inhibitedBy"]) for one in told}
                if all(held.get(json.dumps(alert["labels"], sort_keys=True)) == wanted for alert, (_, wanted) in zip(alerts, CASES)):
                    break
                time.sleep(0.1)
        finally:
            server.terminate()
            server.wait(10)
    failed = 0
    for alert, (labels, wanted) in zip(alerts, CASES):
        got = held.get(json.dumps(alert["labels"], sort_keys=True))
        failed += got != wanted
        print(f"{'ok  ' if got == wanted else 'FAIL'} inhibition: {'held back' if wanted else 'told'}: {labels}")
    print(f"{len(CASES) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
