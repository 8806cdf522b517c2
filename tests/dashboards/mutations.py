"""Do the unit tests of the alerts notice when an alert is wrong? Started by ./run.

Every alert is made slightly wrong, one way at a time: its numbers a little up and down, its `for` shorter and
longer, a part of its condition left out, a comparison turned strict or loose, its aggregation and its job
pattern changed. For each of these promtool's unit tests must fail.
"""

import concurrent.futures
import copy
import pathlib
import re
import subprocess
import sys
import tempfile

import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
RULES = yaml.safe_load((ROOT / "deploy/prometheus/alerts.yml").read_text())
TESTS = sorted(path for path in (ROOT / "tests/rules").glob("*.yml") if "alerts.yml" in path.read_text())

# Changes that mean the same, with the reason.
SAME = {
    ("TimewaitPortsRunningOut", ">= 1 becomes > 1"): "a forecast is never exactly 1",
    ("TimewaitBucketsOverflow", "> 0 with 1"): "Prometheus extrapolates one more to a little over one",
    ("TimewaitBucketsOverflow", "> 0 becomes >= 1"): "whole numbers",
    ("TimewaitRecycleOn", "> 0 becomes >= 1"): "whole numbers",
    ("TimewaitListenerInPortRange", "> 0 becomes >= 1"): "whole numbers",
    ("TimewaitNamespacesUnreadable", "> 0 becomes >= 1"): "whole numbers",
}


def mutations(rule):
    """(what was changed, the changed rule)"""
    expr = rule["expr"]

    def changed(what, new):
        if new != expr:
            yield what, {**rule, "expr": new}

    for found in re.finditer(r"(>=|<=|==|>|<) (\d+(?:\.\d+)?)\b", expr):
        operator, number = found[1], float(found[2])
        span = found.span()
        replaced = lambda text: expr[: span[0]] + text + expr[span[1]:]
        # Counts by one; what is measured by a little.
        step = {"0": 1, "0.1": 0.005, "1": 0.2, "2": 1, "10": 1}.get(found[2], number * 0.002) if operator != "==" else 1
        if not (operator == ">" and number == 0):
            yield from changed(f"{found[0]} with {number - step:g}", replaced(f"{operator} {number - step:g}"))
        yield from changed(f"{found[0]} with {number + step:g}", replaced(f"{operator} {number + step:g}"))
        opposite = {">": ">=", ">=": ">", "<": "<=", "<=": "<", "==": "!="}[operator]
        yield from changed(f"{found[0]} becomes {opposite} {found[2]}", replaced(f"{opposite} {found[2]}"))
    for word in ("and", "or"):
        parts = re.split(rf"\s+{word}\s+(?!on\b)", expr)
        if len(parts) > 1:
            for index in range(len(parts)):
                yield from changed(f"without part {index + 1} of its {word}", f" {word} ".join(parts[:index] + parts[index + 1:]))
    yield from changed("max becomes min", expr.replace("max without", "min without"))
    yield from changed("maximum of the last samples becomes the last one", expr.replace("max_over_time(", "last_over_time("))
    yield from changed("pods count apart", expr.replace("instance, pod, node", "instance"))
    yield from changed("namespaces count apart", expr.replace("(family, netns)", "(family)"))
    yield from changed("only one job name", re.sub(r'=~"\.\*timewait\.\?exporter\.\*"', '="timewait_exporter"', expr))
    yield from changed("increase becomes delta", expr.replace("increase(", "delta("))
    if "for" in rule:
        value, unit = re.fullmatch(r"(\d+)([smh])", rule["for"]).groups()
        yield "for, half a minute shorter", {**rule, "for": f"{int(value) * 60 - 30}s"}
        yield "for, half a minute longer", {**rule, "for": f"{int(value) * 60 + 30}s"}
        yield "no for", {key: item for key, item in rule.items() if key != "for"}
    yield "another severity", {**rule, "labels": {"severity": "page"}}


def noticed(work, number, group, index, rule):
    folder = pathlib.Path(work, str(number))
    (folder / "tests/rules").mkdir(parents=True)
    (folder / "deploy/prometheus").mkdir(parents=True)
    rules = copy.deepcopy(RULES)
    rules["groups"][group]["rules"][index] = rule
    (folder / "deploy/prometheus/alerts.yml").write_text(yaml.safe_dump(rules))
    for test in TESTS:
        (folder / "tests/rules" / test.name).write_text(test.read_text())
    # Only the files that are about the alert: the others would not notice, and cost most of the time.
    about = [folder / "tests/rules" / test.name for test in TESTS if rule["alert"] in test.read_text()]
    done = subprocess.run(["promtool", "test", "rules", *about], capture_output=True, text=True)
    return done.returncode != 0, done.stdout + done.stderr


def main():
    jobs, results = [], []
    with tempfile.TemporaryDirectory() as work, concurrent.futures.ThreadPoolExecutor(2) as pool:
        for group, content in enumerate(RULES["groups"]):
            for index, rule in enumerate(content["rules"]):
                for what, changed in mutations(rule):
                    if (rule["alert"], what) not in SAME:
                        name = f"{rule['alert']} ({rule['labels']['severity']}): {what}"
                        jobs.append((name, pool.submit(noticed, work, len(jobs), group, index, changed)))
        results = [(name, job.result()[0]) for name, job in jobs]
    failed = [name for name, found in results if not found]
    for name in failed:
        print(f"FAIL mutations: no unit test notices: {name}")
    if not failed:
        print(f"ok   mutations: {len(results)} ways to get an alert wrong, all noticed by unit tests")
    print(f"{1 if not failed else 0} passed, {len(failed)} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
