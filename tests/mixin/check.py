"""Checks of the mixin. Started by ./run. Each function test_* is one test and returns a list of complaints."""

import functools
import json
import pathlib
import re
import subprocess
import sys
import tempfile

import _gojsonnet

ROOT = pathlib.Path(__file__).resolve().parents[2]
MIXIN = ROOT / "deploy/mixin"
RULES = ("alerts.yml", "recording.yml")
DASHBOARDS = ("timewait-host.json", "timewait-fleet.json")
CHANGED = {
    "timewaitSelector": 'environment="prod"',
    "clusterLabel": "k8s_cluster",
    "warningRatio": "0.6",
    "criticalRatio": "0.85",
    "runbookBase": "https://runbooks.example/timewait",
}


def imported(directory, relative):
    path = (pathlib.Path(directory) / relative).resolve()
    return str(path), path.read_bytes()


@functools.cache
def evaluated(field, changed):
    config = json.dumps(CHANGED if changed else {})
    code = f"((import 'mixin.libsonnet') + {{ _config+:: {config} }}).{field}"
    return json.loads(_gojsonnet.evaluate_snippet(str(MIXIN / "check"), code, import_callback=imported))


def original(name):
    return (ROOT / ("deploy/prometheus" if name in RULES else "dashboards") / name).read_text()


def test_the_defaults_render_the_files_byte_for_byte():
    files = evaluated("files", False)
    # jsonnet -S adds the line break at the end of each file.
    return [name for name in (*RULES, *DASHBOARDS) if files[name] + "\n" != original(name)]


def test_the_mixins_objects_equal_the_files():
    complaints = []
    for changed in (False, True):
        files = evaluated("files", changed)
        for name, dashboard in evaluated("grafanaDashboards", changed).items():
            complaints += [] if json.loads(files[name]) == dashboard else [f"{name} differs"]
        for field in ("prometheusAlerts", "prometheusRules"):
            complaints += [] if evaluated(field, changed)["groups"] else [f"{field} has no groups"]
    return complaints


def test_promtool_accepts_rules_with_other_parameters():
    with tempfile.TemporaryDirectory() as folder:
        paths = [pathlib.Path(folder) / name for name in RULES]
        for path in paths:
            path.write_text(evaluated("files", True)[path.name])
        done = subprocess.run(["promtool", "check", "rules", *paths], capture_output=True, text=True)
    return [] if done.returncode == 0 else [done.stdout + done.stderr]


def expressions():
    for field in ("prometheusAlerts", "prometheusRules"):
        for group in evaluated(field, True)["groups"]:
            for rule in group["rules"]:
                yield rule.get("alert", rule.get("record")), rule["expr"]


def test_every_selector_of_the_rules_has_the_matchers():
    complaints = []
    for name, expr in expressions():
        for metric, selector in re.findall(r"((?:[a-z_]+:)?timewait_[a-z0-9_:]+|\bup)\b(\{[^}]*\})?", expr):
            if 'environment="prod"' not in selector:
                complaints.append(f"{name}: {metric}{selector}")
    return complaints


def test_every_query_of_the_dashboards_has_the_matchers():
    complaints = []
    for name, dashboard in evaluated("grafanaDashboards", True).items():
        for panel in dashboard["panels"] + [inner for row in dashboard["panels"] for inner in row.get("panels", [])]:
            for target in panel.get("targets", []):
                for selector in re.findall(r"\{[^}]*job=[^}]*\}", target["expr"]):
                    if 'environment="prod"' not in selector:
                        complaints.append(f"{name}: {panel['title']}: {selector}")
    return complaints


def test_no_default_remains_with_other_parameters():
    complaints = []
    for name, text in evaluated("files", True).items():
        for what, pattern in {
            "a threshold": r"[<>]=? 0\.(75|9)\b|\"value\": 0\.(75|9)\b",
            "the cluster label": r"[lL]abels\.cluster\b|\bcluster=~",
            "the runbook's address": r"timewait_exporter/blob/main/deploy/prometheus/runbooks\.md#",
        }.items():
            if found := re.search(pattern, text):
                complaints.append(f"{name}: {what}: {found[0]}")
    return complaints


def test_the_parameters_reach_the_output():
    complaints = []
    for name, wanted in {
        "alerts.yml": (">= 0.6", ">= 0.85", "labels.k8s_cluster", "https://runbooks.example/timewait#timewaitportslow"),
        "recording.yml": (">= 0.6", ">= 0.85", ">= 0.999"),
        "timewait-host.json": ('"value": 0.6', '"value": 0.85'),
        "timewait-fleet.json": ('"value": 0.6',),
    }.items():
        text = evaluated("files", True)[name]
        complaints += [f"{name}: no {part}" for part in wanted if part not in text]
    return complaints


def main():
    passed = failed = 0
    for name, test in [item for item in globals().items() if item[0].startswith("test_")]:
        complaints = test()
        failed += bool(complaints)
        passed += not complaints
        print(f"{'FAIL' if complaints else 'ok  '} {name}")
        for complaint in complaints[:20]:
            print(f"       {complaint}")
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
