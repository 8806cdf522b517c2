"""Checks that the unit tests of the alerts find wrong alerts. Started by ./run.

Every alert is changed in one way at a time: its numbers slightly up and down, its `for` shorter and longer, a part of
its condition removed, a comparison made strict or non-strict, its windows, its share of time, its aggregation and its
job pattern. The same for the series that alerts record. For each change promtool's unit tests must fail.
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


def unit_tests(text):
    """All scalars as text, since YAML reads the series 0x33 as a number; except for values of samples."""
    content = yaml.load(text, yaml.BaseLoader)
    for case in content["tests"]:
        for sample in (sample for one in case.get("promql_expr_test", []) for sample in one["exp_samples"]):
            sample["value"] = float(sample["value"])
    return content


TESTS = {path.name: unit_tests(path.read_text()) for path in sorted((ROOT / "tests/rules").glob("*.yml")) if "alerts.yml" in path.read_text()}

RATIO = "timewait_port_range_exhaustion_ratio"
STATES = [rule["record"] for group in RULES["groups"] for rule in group["rules"] if "record" in rule]

# Changes that mean the same, with the reason.
SAME = {
    ("TimewaitPortsRunningOut", ">= 1 becomes > 1"): "a forecast is never exactly 1",
    ("TimewaitBucketsOverflow", "> 0 with 1"): "Prometheus extrapolates one more to a little over one",
    ("TimewaitBucketsOverflow", "> 0 becomes >= 1"): "whole numbers",
    ("TimewaitRecycleOn", "> 0 becomes >= 1"): "whole numbers",
    ("TimewaitListenerInPortRange", "> 0 becomes >= 1"): "whole numbers",
    ("TimewaitNamespacesUnreadable", "> 0 becomes >= 1"): "whole numbers",
    ("TimewaitConnectSlow", "> 0 becomes >= 1"): "whole numbers",
    ("netns:timewait_port_range_exhausted:last", "max becomes min"): "there is one collector of that name",
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
        # Counts by one; measured values slightly.
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
    for share in re.findall(r"quantile_over_time\((0\.\d)", expr):
        for other in (float(share) - 0.15, float(share) + 0.15):
            yield from changed(f"share {share} becomes {other:g}", expr.replace(f"quantile_over_time({share}", f"quantile_over_time({other:g}"))
    # A window that is much shorter or longer, one at a time. A forecast is an estimate with any window.
    for found in [] if "predict_linear" in expr else re.finditer(r"\[(\d+)([mh])\]|offset (\d+)([mh])", expr):
        number, unit = found[1] or found[3], found[2] or found[4]
        # The first thing that ends TimewaitPortsLow is its own window of four minutes.
        longer = [] if expr[: found.start()].endswith(f"unless\n  (\n      (last_over_time({RATIO}") else [int(number) * 5 // 4 + 1]
        for other in (max(1, int(number) * 4 // 5), *longer):
            if other != int(number):
                text = found[0].replace(number, str(other))
                yield from changed(f"{found[0]} at {found.start()} becomes {text}", expr[: found.start()] + text + expr[found.end():])
    for selector in re.findall(r'netns!?=""', expr):
        yield from changed(f"without {selector}", re.sub(rf",?{selector}", "", expr, count=1))
    for ignored in re.findall(r"ignoring \(family, netns\)", expr):
        yield from changed("only its own family", expr.replace(ignored, "ignoring (netns)"))
    if "for" in rule:
        value, unit = re.fullmatch(r"(\d+)([sm])", rule["for"]).groups()
        seconds = int(value) * (60 if unit == "m" else 1)
        if seconds > 30:
            yield "for, half a minute shorter", {**rule, "for": f"{seconds - 30}s"}
        yield "for, half a minute longer", {**rule, "for": f"{seconds + 30}s"}
        yield "no for", {key: item for key, item in rule.items() if key != "for"}
    if "alert" in rule:
        yield "another severity", {**rule, "labels": {"severity": "page"}}


def name_of(rule):
    return rule.get("alert") or rule["record"]


def about(name):
    """The expectations of the unit tests about a rule, and every rule that they or it need."""
    # The effect of a state is visible in the alerts that read it.
    names = {name} | {name_of(rule) for group in RULES["groups"] for rule in group["rules"] if name in STATES and name in rule["expr"]}
    kept, needed = {}, {*names, *STATES}
    for file, content in TESTS.items():
        cases = []
        for case in content["tests"]:
            alerts = [one for one in case.get("alert_rule_test", []) if one["alertname"] in names]
            queries = [one for one in case.get("promql_expr_test", []) if any(each in one["expr"] for each in names)]
            needed |= set(re.findall(r"Timewait\w+", " ".join(one["expr"] for one in queries)))
            if alerts or queries:
                cases.append({**case, "alert_rule_test": alerts, "promql_expr_test": queries})
        if cases:
            kept[file] = {**content, "tests": cases}
    return kept, needed


def fails(folder, changed):
    """Whether the unit tests about this rule fail with it; the others would pass, and take most of the time."""
    kept, needed = about(name_of(changed))
    (folder / "tests/rules").mkdir(parents=True)
    (folder / "deploy/prometheus").mkdir(parents=True)
    rules = copy.deepcopy(RULES)
    for group in rules["groups"]:
        place = lambda rule: changed if same_place(rule, changed) else rule
        group["rules"] = [place(rule) for rule in group["rules"] if name_of(rule) in needed]
    rules["groups"] = [group for group in rules["groups"] if group["rules"]]
    (folder / "deploy/prometheus/alerts.yml").write_text(yaml.safe_dump(rules))
    for file, content in kept.items():
        (folder / "tests/rules" / file).write_text(yaml.safe_dump(content))
    done = subprocess.run(["promtool", "test", "rules", *(folder / "tests/rules" / file for file in kept)], capture_output=True, text=True)
    return done.returncode != 0


def same_place(rule, changed):
    """An alert can have two severities: they have different texts."""
    return name_of(rule) == name_of(changed) and rule.get("annotations") == changed.get("annotations")


def main():
    with tempfile.TemporaryDirectory() as work, concurrent.futures.ThreadPoolExecutor(2) as pool:
        jobs, sound = [], []
        folder = lambda: pathlib.Path(work, str(len(jobs) + len(sound)))
        for rule in (rule for group in RULES["groups"] for rule in group["rules"]):
            label = f"{name_of(rule)} ({rule.get('labels', {}).get('severity', 'recorded')})"
            # Without a change they pass: otherwise their failure would mean nothing.
            sound.append((label, pool.submit(fails, folder(), rule)))
            for what, changed in mutations(rule):
                if (name_of(rule), what) not in SAME:
                    jobs.append((f"{label}: {what}", pool.submit(fails, folder(), changed)))
        results = [(name, job.result()) for name, job in jobs]
        broken = [name for name, job in sound if job.result()]
    failed = [name for name, found in results if not found]
    for name in broken:
        print(f"FAIL mutations: the unit tests about {name} fail without a change")
    for name in failed:
        print(f"FAIL mutations: no unit test notices: {name}")
    failed += broken
    if not failed:
        print(f"ok   mutations: {len(results)} ways to get an alert wrong, all noticed by unit tests")
    print(f"{1 if not failed else 0} passed, {len(failed)} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
