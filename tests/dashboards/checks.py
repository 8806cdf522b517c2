"""Structure checks of dashboards/, deploy/prometheus/ and tests/rules/. Started by ./run.

Each check is a function `test_…`; those with a parameter `board` run once for each dashboard. A check fails
by an assertion or by returning a non-empty list of complaints. `linter` has the 17 rules of
grafana/dashboard-linter, and test_the_linter_rules_find_errors breaks a board for each of them.
"""

import copy
import inspect
import json
import pathlib
import re
import sys

import yaml

import linter
import promql

ROOT = pathlib.Path(__file__).resolve().parents[2]
HERE = pathlib.Path(__file__).resolve().parent
PROMETHEUS = ROOT / "deploy/prometheus"
# Documents with queries for users.
DOCUMENTS = [ROOT / "dashboards/README.md", ROOT / "src/collector/README.md"]
REPOSITORY = "https://github.com/timewait-exporter/timewait_exporter/blob/main/"
TARGET = {"job", "instance"}
# Custom labels that a target may have: they are kept everywhere.
OWNED = {"cluster"}

BOARDS = {path.stem: json.loads(path.read_text()) for path in sorted((ROOT / "dashboards").glob("*.json"))}
ALERTS_FILE = [
    rule for group in yaml.safe_load((PROMETHEUS / "alerts.yml").read_text())["groups"] for rule in group["rules"]
]
ALERTS = [rule for rule in ALERTS_FILE if "alert" in rule]
# Those of fleet.yml that are not in alerts.yml as well.
SHARD_ALERTS = [
    rule
    for group in yaml.safe_load((ROOT / "deploy/scale/fleet.yml").read_text())["groups"]
    for rule in group["rules"]
    if "alert" in rule and rule["alert"] not in {known["alert"] for known in ALERTS}
]
# Series that the alerts record for themselves, and the recording rules.
STATES = [rule for rule in ALERTS_FILE if "record" in rule]
RECORDS = STATES + [
    rule for group in yaml.safe_load((PROMETHEUS / "recording.yml").read_text())["groups"] for rule in group["rules"]
]


def exported():
    """The exporter's metrics: name → labels, as metrics.txt lists them."""
    metrics = {}
    for line in (HERE / "metrics.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            name, _, *labels = line.split()
            assert name not in metrics, f"{name} is listed twice"
            metrics[name] = set(labels)
    return metrics


EXPORTED = exported()
# What Prometheus itself adds.
OWN = {
    "up": set(),
    # Of kube-state-metrics.
    "kube_pod_info": {"uid", "namespace", "pod", "exported_namespace", "exported_pod"},
    "ALERTS": {"alertname", "alertstate", "severity", "family", "src_addr", "collector", "netns"},
}


def labels_of(name):
    if name in RECORDED:
        return RECORDED[name]
    known = EXPORTED.get(name, OWN.get(name))
    assert known is not None, f"no such metric: {name}"
    return known | TARGET | OWNED


# A state reads its previous value.
RECORDED = {rule["record"]: TARGET | {"family", "netns"} for rule in STATES}
for _rule in RECORDS:
    # In order: a rule may read those before it. `or` and similar operators give no more than both sides.
    RECORDED[_rule["record"]] = promql.result_labels(promql.parse(_rule["expr"]), labels_of)


def panels(board):
    """Also those inside of collapsed rows."""
    return list(linter.panels(board))


def targets(board):
    return [(panel, target) for panel in panels(board) for target in panel["targets"]]


def variable_queries(board):
    """The PromQL inside the query of each variable."""
    for variable in board["templating"]["list"]:
        if variable["type"] == "query":
            function, inner = re.fullmatch(r"([a-z_]+)\((.+)\)", variable["query"], re.S).groups()
            if function == "label_values" and "," in inner:
                inner, label = inner.rsplit(",", 1)
                yield variable["name"], inner.strip(), label.strip()
            else:
                yield variable["name"], inner, None


def annotation_queries(board):
    return [(one["name"], one["expr"]) for one in board["annotations"]["list"] if "expr" in one]


def board_expressions(board):
    """(where, PromQL) of every query of a board."""
    yield from ((f"{panel['title']}/{target['refId']}", target["expr"]) for panel, target in targets(board))
    yield from ((f"${name}", inner) for name, inner, _ in variable_queries(board))
    yield from ((f"annotation {name}", expr) for name, expr in annotation_queries(board))


def rule_expressions():
    yield from ((rule["alert"], rule["expr"]) for rule in ALERTS)
    yield from ((rule["record"], rule["expr"]) for rule in RECORDS)


def readme_expressions():
    """Every line of the PromQL blocks in documents for users."""
    for path in DOCUMENTS:
        text = path.read_text()
        for block in re.findall(r"^```promql\n(.*?)^```", text, re.M | re.S):
            yield from ((f"{path.relative_to(ROOT)}", line) for line in block.splitlines() if line.strip() and not line.startswith("#"))


def every_expression():
    for name, board in BOARDS.items():
        yield from ((f"{name}: {where}", expr) for where, expr in board_expressions(board))
    yield from rule_expressions()
    yield from readme_expressions()


# ---- dashboards ---------------------------------------------------------------------------------


def test_there_are_two_boards():
    assert set(BOARDS) == {"timewait-fleet", "timewait-host"}


def test_follows_dashboard_linter(board):
    return [f"{rule}: {message}" for rule, message in linter.lint(board)]


def test_the_linter_rules_find_errors():
    """Each of the 17 rules, broken on purpose in a copy of a board, must be reported by its name."""
    complaints = []
    for rule, breaking in linter.BREAKAGES:
        broken = copy.deepcopy(BOARDS["timewait-fleet"])
        breaking(broken)
        found = {name for name, _ in linter.lint(broken)}
        if rule not in found:
            complaints.append(f"{rule} does not notice: {inspect.getsource(breaking).strip()}")
    assert {rule for rule, _ in linter.BREAKAGES} == set(linter.RULES), "a rule without a broken example"
    return complaints


def test_uid_is_fixed_and_the_files_name():
    uids = [board["uid"] for board in BOARDS.values()]
    assert uids == list(BOARDS), uids
    assert all(re.fullmatch(r"[a-z0-9-]{1,40}", uid) for uid in uids)


def test_conventions(board):
    assert board["schemaVersion"] == 41
    assert board["id"] is None
    assert board["editable"] is False
    assert board["graphTooltip"] == 1
    assert "__inputs" not in board and "__requires" not in board
    assert "timewait_exporter" in board["tags"]
    assert board["refresh"] and board["title"] and board["description"]


def test_nothing_newer_than_grafana_10(board):
    """Panel types, and transformations, that Grafana 10 has."""
    complaints = []
    for panel in board["panels"]:
        if panel["type"] not in {"row", "stat", "timeseries", "table"}:
            complaints.append(f"{panel['title']}: type {panel['type']}")
        for transformation in panel.get("transformations", []):
            if transformation["id"] not in {"merge", "organize"}:
                complaints.append(f"{panel['title']}: transformation {transformation['id']}")
    return complaints


def test_variables(board):
    variables = {one["name"]: one for one in board["templating"]["list"]}
    assert variables["datasource"]["label"] == "Data source"
    for name in ("job", "instance"):
        assert variables[name]["multi"] and variables[name]["allValue"] == ".+" and variables[name]["refresh"] == 2
    assert variables["cluster"]["multi"] and variables["cluster"]["allValue"] == ".*" and variables["cluster"]["refresh"] == 2
    assert ("netns" in variables) == (board["uid"] == "timewait-host")
    used = {found for text in map(str, [board["panels"], board["annotations"], board["templating"]]) for found in re.findall(r"\$\{?(\w+)", text)}
    return [f"${name} is not used" for name in variables if name not in used]


def test_boards_are_linked_with_time_and_variables(board):
    other = ({"timewait-fleet", "timewait-host"} - {board["uid"]}).pop()
    links = [link for link in board["links"] if link["url"] == f"/d/{other}"]
    assert links and all(link["keepTime"] and link["includeVars"] for link in links)
    urls = re.findall(r'"/d/([\w-]+)[?"]', json.dumps(board))
    assert set(urls) <= set(BOARDS), urls
    complaints = []
    for panel in panels(board):
        columns = {name for one in panel.get("transformations", []) if one["id"] == "organize" for name in one["options"]["renameByName"].values()}
        for url in re.findall(r'"(/d/[^"]+)"', json.dumps(panel)):
            known = {one["name"] for one in BOARDS[re.match(r"/d/([\w-]+)", url)[1]]["templating"]["list"]}
            given = re.findall(r"var-(\w+)=", url) + re.findall(r"\$\{(\w+):queryparam\}", url)
            complaints += [f"{panel['title']}: ${name} is no variable of the other board" for name in given if name not in known]
            complaints += [f"{panel['title']}: no column {name}" for name in re.findall(r"__data\.fields\.(\w+)", url) if name not in columns]
            if not {"datasource", "cluster", "job", "instance"} <= set(given) or "${__url_time_range}" not in url:
                complaints.append(f"{panel['title']}: {url} leaves something out")
    return complaints


def test_alerts_are_annotated(board):
    expressions = " ".join(expr for _, expr in annotation_queries(board))
    for severity in ("critical", "warning"):
        assert f'severity="{severity}"' in expressions
    assert 'alertstate="firing"' in expressions


def test_panel_ids_are_unique(board):
    ids = [panel["id"] for panel in [*board["panels"], *(one for row in board["panels"] for one in row.get("panels", []))]]
    assert len(ids) == len(set(ids)) and all(isinstance(one, int) and one > 0 for one in ids)


def test_panels_have_a_title_description_and_unit(board):
    complaints = []
    for panel in panels(board):
        if not (panel.get("title") and panel.get("description", "").endswith(".")):
            complaints.append(f"{panel.get('title')}: title or description")
        if panel["fieldConfig"]["defaults"].get("unit") not in linter.UNITS:
            complaints.append(f"{panel['title']}: unit")
        for override in panel["fieldConfig"]["overrides"]:
            for one in override["properties"]:
                if one["id"] == "unit" and one["value"] not in linter.UNITS:
                    complaints.append(f"{panel['title']}: unit {one['value']}")
    titles = [panel["title"] for panel in panels(board)]
    complaints += [f"{title}: title used twice" for title in titles if titles.count(title) > 1]
    return complaints


def test_every_query_uses_the_chosen_data_source(board):
    complaints = []
    places = [(panel["title"], panel) for panel in panels(board)] + [(panel["title"], target) for panel, target in targets(board)]
    places += [(one["name"], one) for one in board["templating"]["list"] if one["type"] == "query"]
    places += [(one["name"], one) for one in board["annotations"]["list"] if "expr" in one]
    for where, thing in places:
        if thing.get("datasource") != {"type": "prometheus", "uid": "${datasource}"}:
            complaints.append(f"{where}: {thing.get('datasource')}")
    return complaints


def shown_together(board):
    """The panels that are visible together: the board with its rows collapsed, and those of each row."""
    return [board["panels"], *(row["panels"] for row in board["panels"] if row.get("panels"))]


def test_no_panel_overlaps_another_or_the_edge(board):
    complaints = []
    for together in shown_together(board):
        cells = {}
        for panel in together:
            place = panel["gridPos"]
            if place["x"] < 0 or place["x"] + place["w"] > 24 or place["w"] < 1 or place["h"] < 1:
                complaints.append(f"{panel['title']}: {place}")
            for x in range(place["x"], place["x"] + place["w"]):
                for y in range(place["y"], place["y"] + place["h"]):
                    if (x, y) in cells:
                        complaints.append(f"{panel['title']} overlaps {cells[x, y]}")
                    cells[x, y] = panel["title"]
    return sorted(set(complaints))


def test_there_is_no_gap_between_panels(board):
    """Every line of the grid has a panel: otherwise Grafana would move panels up and change the layout."""
    for together in shown_together(board):
        lines = {y for panel in together for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])}
        assert lines == set(range(min(lines), max(lines) + 1))


def test_the_first_panels_are_in_the_order_of_an_incident():
    order = {
        "timewait-host": ["Fullest destination", "Headroom", "Search length", "Time left", "TIME-WAIT share", "Exporter", "Firing alerts", "Destinations",
            "Ratio by destination", "Ports by state", "TIME-WAIT rate against the sustainable rate", "Search length by destination"],
        "timewait-fleet": ["No port left", "Hosts at 90% or more", "Hosts at 75% or more", "Not answering", "Hosts", "Firing alerts", "Worst hosts", "Worst destinations"],
    }
    for name, titles in order.items():
        seen = [panel for panel in BOARDS[name]["panels"] if panel["type"] != "row"]
        found = [panel["title"] for panel in sorted(seen, key=lambda panel: (panel["gridPos"]["y"], panel["gridPos"]["x"]))]
        assert found[: len(titles)] == titles, found
    assert all(row["collapsed"] for board in BOARDS.values() for row in board["panels"] if row["type"] == "row")


def test_ended_series_are_not_shown_as_current(board):
    """Stats and legends show the last value, which a series that has ended does not have."""
    complaints = []
    for panel in panels(board):
        if panel["type"] == "stat":
            if panel["options"]["reduceOptions"]["calcs"] != ["last"] or not panel["targets"][0].get("instant"):
                complaints.append(f"{panel['title']}: not the present value")
            if panel["options"]["textMode"] != "value_and_name" or not panel["targets"][0]["legendFormat"]:
                complaints.append(f"{panel['title']}: does not say what it is of")
        if panel["type"] == "timeseries" and "lastNotNull" in panel["options"]["legend"]["calcs"]:
            complaints.append(f"{panel['title']}: lastNotNull")
    return complaints


def test_selectors_name_the_namespace(board):
    """On the host board, every selector of a per-namespace metric has the variable, and none of a per-host metric has."""
    if board["uid"] != "timewait-host":
        return []
    complaints = []
    for panel, target in targets(board):
        for selector in promql.selectors(promql.parse(target["expr"])):
            matchers = {(one.name, one.value) for one in selector.matchers.matchers}
            has = bool({("netns", "$netns"), ("netns", "$netns|")} & matchers)
            if has != ("netns" in labels_of(promql.metric(selector))):
                complaints.append(f"{panel['title']}: {promql.metric(selector)}")
    return complaints


def test_legends_and_columns_are_labels_of_the_result(board):
    complaints = []
    for panel in panels(board):
        columns = {"Time", "Value"}
        for target in panel["targets"]:
            labels = promql.result_labels(promql.parse(target["expr"]), labels_of)
            columns |= labels | {f"Value #{target['refId']}"}
            for name in re.findall(r"\{\{\s*(\w+)\s*\}\}", target.get("legendFormat", "")):
                if name not in labels:
                    complaints.append(f"{panel['title']}/{target['refId']}: legend {name}")
        shown = set()
        for transformation in panel.get("transformations", []):
            if transformation["id"] == "organize":
                options = transformation["options"]
                for name in [*options["renameByName"], *options["excludeByName"], *options["indexByName"]]:
                    if name not in columns:
                        complaints.append(f"{panel['title']}: column {name}")
                # A column that is neither renamed nor excluded would show its raw name.
                for name in columns - set(options["renameByName"]) - set(options["excludeByName"]):
                    if name == "Value" and len(panel["targets"]) > 1 or name.startswith("Value #") and len(panel["targets"]) == 1:
                        continue
                    complaints.append(f"{panel['title']}: column {name} keeps its raw name")
                shown = set(options["renameByName"].values())
        legends = {target.get("legendFormat") for target in panel["targets"]}
        refs = {target["refId"] for target in panel["targets"]}
        for override in panel["fieldConfig"]["overrides"]:
            matcher = override["matcher"]
            known = {"byName": shown | legends, "byFrameRefID": refs}[matcher["id"]]
            if matcher["options"] not in known:
                complaints.append(f"{panel['title']}: override of {matcher['options']}")
    return complaints


def alert_thresholds():
    """Compared expression → the thresholds of the alerts; `> 0` and `== 0` of a count are 1."""
    thresholds = {}
    for rule in ALERTS_FILE:
        for compared, operator, number in promql.comparisons(promql.parse(rule["expr"])):
            if any(node.func.name in ("predict_linear", "count_over_time", "deriv") for node, _ in promql.walk(compared) if promql.kind(node) == "Call"):
                continue
            key = frozenset(promql.metrics(compared))
            if rule.get("alert") in ("TimewaitFleetPressure", "TimewaitPortsRunningOut"):
                continue
            thresholds.setdefault(key, set()).add(1 if number == 0 and operator in (">", "==") else number)
    ratio = frozenset({"timewait_port_range_exhaustion_ratio"})
    # Findings of `report` without an alert of their own: headroom, share of the range, seconds left.
    thresholds[frozenset({"timewait_destination_headroom_ports"})] = {1}
    thresholds[frozenset({"timewait_destination_headroom_ports", "timewait_port_range_usable_ports"})] = {1}
    thresholds[frozenset({"timewait_destination_search_ports", "timewait_port_range_ports"})] = {0.25, 0.5}
    thresholds[frozenset({"up", "timewait_scrape_collector_success"})] = {1}
    thresholds[frozenset({"timewait_destination_headroom_ports", "timewait_destination_close_rate", "timewait_port_range_usable_ports"})] = {30}
    # The ratio of a namespace is that of its worst destination.
    thresholds[frozenset({"timewait_destination_exhaustion_ratio"})] = thresholds[ratio]
    thresholds[frozenset({"instance:timewait_port_range_exhaustion_ratio:max"})] = thresholds[ratio]
    thresholds[frozenset({"netns:timewait_buckets:per_limit"})] = thresholds[frozenset({"timewait_buckets", "timewait_buckets_limit"})]
    return thresholds


def test_alert_thresholds_are_those_of_check():
    """The warning and critical values of `timewait_exporter check`, and one for exhausted destinations."""
    assert alert_thresholds()[frozenset({"timewait_port_range_exhaustion_ratio"})] == {0.75, 0.9, 0.999}


def steps(thresholds):
    return {step["value"] for step in thresholds["steps"] if step["value"] is not None}


def derived(node):
    """Whether the value shown is a rate or is divided by a number, unlike the value that the alert compares."""
    return any(
        (promql.kind(found) == "Call" and found.func.name == "rate") or (promql.kind(found) == "BinaryExpr" and str(found.op) == "/" and promql.is_number(found.rhs))
        for found, _ in promql.walk(node)
    )


def test_thresholds_equal_the_alerts(board):
    known, complaints = alert_thresholds(), []
    for panel in panels(board):
        shown = {}
        first = promql.parse(panel["targets"][0]["expr"])
        shown[frozenset(promql.metrics(first))] = steps(panel["fieldConfig"]["defaults"]["thresholds"])
        if panel["type"] == "table":
            shown = {}
            columns = {f"Value #{target['refId']}": target["expr"] for target in panel["targets"]}
            columns["Value"] = panel["targets"][0]["expr"]
            names = panel["transformations"][-1]["options"]["renameByName"]
            for override in panel["fieldConfig"]["overrides"]:
                for one in override["properties"]:
                    if one["id"] == "thresholds":
                        column = next(raw for raw, name in names.items() if name == override["matcher"]["options"])
                        # The column's own metric comes first; what follows chooses the rows.
                        compared = promql.metric(promql.selectors(promql.parse(columns[column]))[0])
                        shown[frozenset({compared})] = steps(one["value"])
        counts = str(first.op) == "count" if promql.kind(first) == "AggregateExpr" else "count(" in panel["targets"][0]["expr"]
        for key, values in shown.items():
            if panel["type"] == "stat" and counts:
                # A count of hosts, alerts or collectors: 1 is already too many.
                if not values <= {1}:
                    complaints.append(f"{panel['title']}: {values}")
            elif values and values != known.get(key):
                complaints.append(f"{panel['title']}: {values}, but alerts say {known.get(key)}")
            elif not values and panel["type"] != "table" and key in known and len(panel["targets"]) == 1 and not derived(first):
                complaints.append(f"{panel['title']}: no thresholds, but alerts say {known[key]}")
        # And the numbers inside queries.
        for target in panel["targets"]:
            for compared, operator, number in promql.comparisons(promql.parse(target["expr"])):
                key = frozenset(promql.metrics(compared))
                if (operator, number) != ("==", 0) and number not in known.get(key, ()):
                    complaints.append(f"{panel['title']}: compares {set(key)} with {number}")
    return complaints


def test_titles_contain_the_thresholds():
    board = BOARDS["timewait-fleet"]
    for number in (0.75, 0.9):
        titles = [panel["title"] for panel, target in targets(board) if panel["type"] == "stat" and re.search(rf">= {number}\b", target["expr"])]
        assert titles == [f"Hosts at {number:.0%} or more"], titles


def test_the_readme_has_queries_for_what_the_dashboards_show():
    """The PromQL in the README covers the dashboards' subjects."""
    asked = {name for _, text in readme_expressions() for name in promql.metrics(promql.parse(text))}
    about = {name for name in EXPORTED if re.match(r"timewait_(sockets_by|destination_[ehcs]|destination_ports|source_ex|buckets|overflows|port_range_(exh|usable|free))", name)}
    return sorted(about - asked)


def test_links_of_the_dashboards_readme():
    folder = ROOT / "dashboards"
    return [link for link in re.findall(r"\]\(([^)#:]+)\)", (folder / "README.md").read_text()) if not (folder / link).exists()]


def test_the_sustainable_rate_is_usable_ports_per_minute():
    expressions = [target["expr"] for _, target in targets(BOARDS["timewait-host"])]
    assert sum("timewait_port_range_usable_ports" in one and "/ 60" in one for one in expressions) >= 2


# ---- metrics and labels --------------------------------------------------------------------------


def test_only_known_metrics_and_labels():
    complaints = []
    for where, text in every_expression():
        try:
            node = promql.parse(text)
        except ValueError as error:
            complaints.append(f"{where}: {error}")
            continue
        for selector in promql.selectors(node):
            name = promql.metric(selector)
            if name not in EXPORTED and name not in OWN and name not in RECORDED:
                complaints.append(f"{where}: no such metric: {name}")
                continue
            for matcher in selector.matchers.matchers:
                if matcher.name not in labels_of(name):
                    complaints.append(f"{where}: {name} has no label {matcher.name}")
        known = set().union(*(labels_of(name) for name in promql.metrics(node) if name in EXPORTED or name in OWN or name in RECORDED))
        # A DaemonSet's targets have these; fleets are counted without them.
        for name in promql.named_labels(node) - known - {"namespace", "pod", "node"}:
            complaints.append(f"{where}: no label {name}")
    return complaints


def test_matchers_use_values_that_exist():
    values = {
        "state": {"time_wait", "established", "other"},
        "age_seconds": {"0-1", "1-5", "5-15", "15-30", "30-45", "45-60"},
        "family": {"ipv4", "ipv6"},
        "alertstate": {"pending", "firing"},
        "severity": {"critical", "warning", "info"},
        "collector": {"sockets", "sysctl", "netstat", "sockstat", "slabinfo"},
    }
    complaints, asked = [], set()
    for where, text in every_expression():
        for selector in promql.selectors(promql.parse(text)):
            for matcher in selector.matchers.matchers:
                asked.add((matcher.name, matcher.value))
                if matcher.name in values and matcher.value not in values[matcher.name]:
                    complaints.append(f"{where}: {matcher.name}={matcher.value}")
    for name in ("state", "age_seconds"):
        complaints += [f"nothing shows {name}={value}" for value in values[name] if (name, value) not in asked]
    return complaints


def test_every_metric_is_shown_alerted_on_or_in_the_readme():
    used = {name for _, text in every_expression() for name in promql.metrics(promql.parse(text))}
    text = (ROOT / "src/exposition/README.md").read_text()
    complaints = []
    for name in EXPORTED:
        # The process and handler metrics are Prometheus conventions: a board need not show all of them.
        if name.startswith(("process_", "promhttp_")):
            continue
        if name not in used and f"`{name}`" not in text:
            complaints.append(name)
    return complaints


def test_metrics_that_other_exporters_have_too_are_joined_with_ours():
    """With all jobs chosen, `up` and process_* include those of every other exporter that is scraped."""
    complaints = []
    for key, board in BOARDS.items():
        for where, text in board_expressions(board):
            node = promql.parse(text)
            for found, parents in promql.walk(node):
                if promql.kind(found) == "VectorSelector" and promql.metric(found).startswith(("up", "process_", "promhttp_")):
                    joined = [
                        one for one in parents
                        if promql.kind(one) == "BinaryExpr" and str(one.op) == "and" and one.modifier is not None
                        and set(one.modifier.matching.labels) in (TARGET | OWNED, {"job"} | OWNED) and any("timewait_" in name for name in promql.metrics(one.rhs))
                    ]
                    if not joined:
                        complaints.append(f"{key}: {where}: {promql.metric(found)}")
    return complaints


def test_nothing_is_averaged_and_no_ratio_is_summed():
    complaints = []
    for where, text in every_expression():
        for node, _ in promql.walk(promql.parse(text)):
            if promql.kind(node) == "AggregateExpr" and str(node.op) in ("avg", "quantile", "stddev"):
                complaints.append(f"{where}: {node.op}")
            if promql.kind(node) == "Call" and node.func.name == "avg_over_time":
                complaints.append(f"{where}: avg_over_time")
            # A sum of ratios is not a ratio.
            if promql.kind(node) == "AggregateExpr" and str(node.op) == "sum" and any(name.endswith("_exhaustion_ratio") for name in promql.metrics(node.expr)):
                if not set(promql.result_labels(node.expr, labels_of)) <= set(node.modifier.labels if node.modifier else []) | TARGET | {"netns"}:
                    complaints.append(f"{where}: sum of a ratio")
    return complaints


def test_queries_of_single_destinations_exclude_other():
    """`other` is the sum of many destinations: no maximum, minimum or share may treat it as one."""
    single = {"timewait_destination_headroom_ports", "timewait_destination_close_rate"}
    complaints = []
    for where, text in every_expression():
        for node, parents in promql.walk(promql.parse(text)):
            if promql.kind(node) == "VectorSelector" and promql.metric(node) in single:
                above = [str(one.op) for one in parents if promql.kind(one) == "AggregateExpr"]
                left_out = any(one.name == "dst_addr" and str(one.op).endswith("NotEqual") and one.value == "other" for one in node.matchers.matchers)
                by = [set(one.modifier.labels) for one in parents if promql.kind(one) == "AggregateExpr" and one.modifier]
                if set(above) & {"max", "min"} and not left_out and not any("dst_addr" in one and "Include" for one in by if len(one) > 4):
                    complaints.append(f"{where}: {promql.metric(node)}")
    return complaints


# ---- rules --------------------------------------------------------------------------------------

REQUIRED = {
    "TimewaitPortsExhausted": {"critical"},
    "TimewaitExhaustedWhenLastSeen": {"critical"},
    "TimewaitNoUsablePorts": {"critical"},
    "TimewaitPortsLow": {"warning", "critical"},
    "TimewaitPortsRunningOut": {"warning"},
    "TimewaitConnectSlow": {"warning"},
    "TimewaitBindPoolLow": {"warning"},
    "TimewaitConnectFailures": {"critical"},
    "TimewaitUdpPortsLow": {"warning", "critical"},
    "TimewaitConntrackNearLimit": {"warning", "critical"},
    "TimewaitConntrackInsertFailed": {"warning"},
    "TimewaitBucketsNearLimit": {"warning"},
    "TimewaitBucketsOverflow": {"warning"},
    "TimewaitRecycleOn": {"warning"},
    "TimewaitReuseWithoutTimestamps": {"info"},
    "TimewaitPortRangeNarrow": {"info"},
    "TimewaitListenerInPortRange": {"info"},
    "TimewaitFleetPressure": {"warning"},
    "TimewaitExporterDown": {"warning"},
    "TimewaitExporterAbsent": {"warning"},
    "TimewaitHostVanished": {"info"},
    "TimewaitAgentVanished": {"info"},
    "TimewaitCollectorFailing": {"warning"},
    "TimewaitScrapeSlow": {"warning"},
    "TimewaitNamespacesUnreadable": {"warning"},
}
REQUIRED_OF_SHARDS = {
    "TimewaitShardDown": {"warning"},
    "TimewaitShardWithoutHosts": {"warning"},
}


def test_every_alert_exists():
    severities = {}
    for rule in ALERTS:
        severities.setdefault(rule["alert"], set()).add(rule["labels"]["severity"])
        assert re.fullmatch(r"([A-Z][a-z0-9]*)+", rule["alert"]), rule["alert"]
    assert severities == REQUIRED, {name: severities.get(name) for name in set(severities) ^ set(REQUIRED)}


def test_every_alert_of_the_shards_exists():
    severities = {rule["alert"]: {rule["labels"]["severity"]} for rule in SHARD_ALERTS}
    assert severities == REQUIRED_OF_SHARDS, severities
    complaints = [rule["alert"] for rule in SHARD_ALERTS if set(rule["annotations"]) != {"summary", "description", "runbook_url"}]
    return complaints + [rule["alert"] for rule in SHARD_ALERTS if "for" not in rule]


def test_annotations():
    complaints = []
    for rule in ALERTS:
        said = rule["annotations"]
        if set(said) != {"summary", "description", "runbook_url"}:
            complaints.append(f"{rule['alert']}: {sorted(said)}")
        if "{{" in said["summary"] or not said["summary"].endswith("."):
            complaints.append(f"{rule['alert']}: summary")
        named = promql.result_labels(promql.parse(rule["expr"]), labels_of)
        for label in re.findall(r"\$labels\.(\w+)", said["description"]):
            if label not in named | {"cluster", "environment"}:
                complaints.append(f"{rule['alert']}: the description names {label}")
        # A page must say which namespace is meant, where there can be several.
        if "netns" in named and "$labels.netns" not in said["description"]:
            complaints.append(f"{rule['alert']}: the description leaves the namespace out")
        if "instance" in named and "$labels.instance" not in said["description"]:
            complaints.append(f"{rule['alert']}: the description leaves the host out")
        if not re.search("absent|offset", rule["expr"]) and not re.search(r"\$value|\$own|== 0", said["description"] + rule["expr"]):
            complaints.append(f"{rule['alert']}: the description leaves the value out")
    return complaints


def test_descriptions_name_the_first_command_and_the_runbook():
    complaints = []
    for rule in ALERTS:
        said = rule["annotations"]["description"]
        if not re.search(r"First (command|query|page)", said):
            complaints.append(f"{rule['alert']}: no first command")
        if "First command on the host" in said and "/usr/share/timewait_exporter/prometheus/runbooks.md" not in said:
            complaints.append(f"{rule['alert']}: does not name the runbook on the host")
        # Counts are whole numbers: there are no 14.46 sockets.
        if re.search(r"humanize|\$value \| (?!query)", said):
            complaints.append(f"{rule['alert']}: a number that may not be a whole one")
    packages = (ROOT / "Cargo.toml").read_text()
    if packages.count("prometheus/runbooks.md\"") != 2:
        complaints.append("the packages do not ship the runbooks")
    return complaints


def test_descriptions_are_about_the_alerts_own_target():
    """Queries in texts have all labels of the target; lines that several alerts share are identical."""
    complaints, common = [], {}
    text = (PROMETHEUS / "alerts.yml").read_text()
    for line in text.splitlines():
        line = line.strip()
        if not line.startswith("{{"):
            continue
        for query in re.findall(r'printf "([^"]*\{[^"]*)"', line):
            for selector in re.findall(r"\w+(\{[^}]*\})", query):
                if not selector.startswith(("{%s", "{uid=")):
                    complaints.append(f"not all labels of the target: {query}")
        for key in ("$own := ", "$own = printf \"%snetns", "$labels.cluster", "with $labels.netns", 'label "container_id"', 'label "pod_uid"', "$remote :=", "$to :="):
            if key in line and "topk" not in line:
                line_of = re.sub(r"^\{\{- | in (cluster|environment).*", "", line)
                line_of = re.sub(r"(fullest|slowest)", "", line_of)
                common.setdefault(key, set()).add(line_of)
    complaints += [f"{key}: {len(lines)} wordings: {sorted(lines)}" for key, lines in common.items() if len(lines) > (2 if key == "$labels.cluster" else 1)]
    for rule in ALERTS:
        said = rule["annotations"]["description"]
        if "netns" in promql.result_labels(promql.parse(rule["expr"]), labels_of) and "timewait_netns_info" not in said:
            complaints.append(f"{rule['alert']}: does not name the namespace's process")
        if "$labels.instance" in said and "$labels.cluster" not in said:
            complaints.append(f"{rule['alert']}: does not name the cluster")
        if rule["alert"] in {"TimewaitPortsExhausted", "TimewaitExhaustedWhenLastSeen", "TimewaitPortsLow", "TimewaitPortsRunningOut", "TimewaitConnectSlow"}:
            for wanted in ("timewait_destination_ports{", "timewait_destination_headroom_ports{", "in TIME-WAIT"):
                if wanted not in said:
                    complaints.append(f"{rule['alert']}: {wanted}")
    return complaints


def test_alerts_keep_the_targets_labels():
    """An alert that drops labels with by() would hide which cluster it is about."""
    return [rule["alert"] for rule in ALERTS for node in promql.aggregations(promql.parse(rule["expr"])) if node.modifier is None or not str(node.modifier.type).endswith("Without")]


def test_alerts_do_not_need_the_recording_rules():
    return [f"{rule['alert']}: {name}" for rule in ALERTS for name in promql.metrics(promql.parse(rule["expr"])) if ":" in name and name not in {state["record"] for state in STATES}]


def test_only_the_fleets_trends_need_the_recording_rules():
    """On the host board the pod's name comes from one, and has a metric to fall back on."""
    complaints = []
    for where, text in board_expressions(BOARDS["timewait-host"]):
        names = promql.metrics(promql.parse(text))
        if any(":" in name for name in names) and "timewait_netns_info" not in names:
            complaints.append(where)
    fleet = BOARDS["timewait-fleet"]
    for panel, target in targets(fleet):
        names = promql.metrics(promql.parse(target["expr"]))
        recorded = {name for name in names if ":" in name}
        if recorded and "recording rules" not in panel["description"]:
            complaints.append(f"{panel['title']}: does not say that it needs the recording rules")
    return complaints


def test_range_queries_of_the_fleet_board_use_recorded_series():
    """A range query of raw series touches each of them at every step: at 1,000 hosts that are millions."""
    few = {"timewait_connect_failures_total"}
    complaints = []
    for panel, target in targets(BOARDS["timewait-fleet"]):
        names = promql.metrics(promql.parse(target["expr"]))
        if not target.get("instant") and not all(":" in name or name in few for name in names):
            complaints.append(f"{panel['title']}: {names}")
        if "job_dst:" in target["expr"] and not target.get("instant"):
            complaints.append(f"{panel['title']}: a series for each destination")
    return complaints


def test_forecast_has_a_threshold_and_guards():
    rule = next(one for one in ALERTS if one["alert"] == "TimewaitPortsRunningOut")
    parts = rule["expr"].replace("\n", " ").split(" and ")
    assert len(parts) == 4 and any("predict_linear" in one for one in parts) and rule["for"]


def runbooks():
    """Sections of the runbooks: heading → text."""
    text = (PROMETHEUS / "runbooks.md").read_text()
    parts = re.split(r"^## (.+)$", text, flags=re.M)
    return dict(zip(parts[1::2], parts[2::2]))


def anchor(heading):
    """As GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def test_every_alert_has_its_runbook():
    sections, complaints = runbooks(), []
    anchors = {anchor(heading): heading for heading in sections}
    for rule in ALERTS + SHARD_ALERTS:
        url = rule["annotations"]["runbook_url"]
        path, _, fragment = url.removeprefix(REPOSITORY).partition("#")
        if not url.startswith(REPOSITORY) or not (ROOT / path).is_file():
            complaints.append(f"{rule['alert']}: no file for {url}")
        elif anchors.get(fragment) != rule["alert"]:
            complaints.append(f"{rule['alert']}: no section for #{fragment}")
    stale = {heading for heading in sections if heading.startswith("Timewait")} - set(REQUIRED) - set(REQUIRED_OF_SHARDS)
    return complaints + [f"a section for no alert: {one}" for one in stale]


def test_runbooks_say_what_to_do():
    complaints = []
    for heading, text in runbooks().items():
        if heading.startswith("Timewait"):
            for part in ("Meaning", "Impact", "Diagnosis", "Mitigation"):
                if not re.search(rf"\*\*(\w+ and )?{part}", text, re.I):
                    complaints.append(f"{heading}: {part}")
            if "timewait_exporter report" not in text and "As for [" not in text:
                complaints.append(f"{heading}: does not say what `timewait_exporter report` shows")
    return complaints


def test_links_inside_the_runbooks_resolve():
    text = (PROMETHEUS / "runbooks.md").read_text()
    anchors = {anchor(heading) for heading in re.findall(r"^#+ (.+)$", text, re.M)}
    complaints = [link for link in re.findall(r"\]\(#([^)]+)\)", text) if link not in anchors]
    return complaints + [link for link in re.findall(r"\]\(([^#)][^)]*)\)", text) if not (PROMETHEUS / link).exists()]


def test_recording_rules():
    """level:metric:operations, aggregated with `without`; the level is the remaining labels."""
    complaints = []
    owner = {"inode", "pid", "comm", "container_id", "pod_uid", "namespace", "pod"}
    gone = {"netns_owner": set(), "netns": set(), "instance": {"netns"}, "job": {"netns", "instance"}, "job_dst": {"netns", "instance"}, "job_state": {"netns", "instance"}}
    for rule in RECORDS:
        name = rule["record"]
        found = re.fullmatch(r"([a-z_]+):([a-z_]+):([a-z0-9_]+)", name)
        if not found or found[1] not in gone:
            complaints.append(f"{name}: name")
            continue
        node = promql.parse(rule["expr"])
        for aggregation in promql.aggregations(node):
            # Series of other targets are joined by the labels that they share with ours.
            ours = promql.metrics(aggregation) != {"kube_pod_info"}
            if ours and (aggregation.modifier is None or not str(aggregation.modifier.type).endswith("Without")):
                complaints.append(f"{name}: aggregates without `without`")
        extra = {"job_dst": {"dst_addr", "dst_port"}, "job_state": {"state"}}.get(found[1], set())
        if name.startswith("netns_owner:") or name == "netns:timewait_owner:info":
            extra = owner
        level = {"netns": TARGET | {"netns", "family"} | extra, "netns_owner": TARGET | {"netns"} | extra, "instance": TARGET}.get(found[1], {"job"}) | extra
        labels = RECORDED[name] - OWNED
        if not labels <= level or labels & gone[found[1]]:
            complaints.append(f"{name}: is left with {sorted(labels)}")
    names = [rule["record"] for rule in RECORDS]
    return complaints + [f"{name}: recorded twice" for name in names if names.count(name) > 1]


def test_every_rule_has_unit_tests():
    """Each alert fires in one test, does not fire in another, and each record is compared."""
    fired, silent, pending, spaces, recorded = set(), set(), set(), set(), set()
    for path in (ROOT / "tests/rules").glob("*.yml"):
        for case in yaml.safe_load(path.read_text())["tests"]:
            for one in case.get("alert_rule_test", []):
                if one["exp_alerts"]:
                    fired.add(one["alertname"])
                    spaces |= {one["alertname"] for alert in one["exp_alerts"] if "netns" in alert["exp_labels"]}
            for one in case.get("promql_expr_test", []):
                recorded |= promql.metrics(promql.parse(one["expr"]))
                name = re.search(r'alertname="(\w+)"', one["expr"])
                if not name:
                    continue
                if any('alertstate="pending"' in sample["labels"] for sample in one["exp_samples"]):
                    pending.add(name[1])
                if any("netns=" in sample["labels"] for sample in one["exp_samples"]):
                    spaces.add(name[1])
                if not one["exp_samples"]:
                    silent.add(name[1])
    complaints = []
    for rule in ALERTS:
        name = rule["alert"]
        if name not in fired:
            complaints.append(f"{name}: fires in no test with its texts")
        if name not in silent | pending:
            complaints.append(f"{name}: no test of when it does not fire")
        if "netns" in promql.result_labels(promql.parse(rule["expr"]), labels_of) and name not in spaces | {"TimewaitRecycleOn", "TimewaitBucketsOverflow", "TimewaitConnectFailures"}:
            complaints.append(f"{name}: no test with a second namespace")
    return complaints + [f"{rule['record']}: not compared" for rule in RECORDS if rule["record"] not in recorded]


def test_the_joins_of_the_readme_are_those_with_unit_tests():
    section = (ROOT / "src/collector/README.md").read_text().split("\n### Owners\n")[1].split("\n### ")[0]
    # An expression of several lines is a text block.
    blocks = re.findall(r"^```(?:promql|text)\n(.*?)^```", section, re.M | re.S)
    # One expression after each comment.
    shown = [" ".join(one.split()) for block in blocks for one in re.split(r"^#.*$", block, flags=re.M) if one.strip()]
    cases = yaml.safe_load((ROOT / "tests/rules/readme.yml").read_text())["tests"]
    tested = [" ".join(one["expr"].split()) for case in cases for one in case["promql_expr_test"]]
    assert len(shown) == 2 and shown == tested, f"{shown} {tested}"


def test_inhibition_compares_job_instance_and_namespace():
    rules = yaml.safe_load((PROMETHEUS / "alertmanager.yml").read_text())["inhibit_rules"]
    names = {name for rule in rules for matcher in rule["source_matchers"] + rule["target_matchers"] for name in re.findall(r"Timewait\w+", matcher)}
    assert names <= set(REQUIRED), names - set(REQUIRED)
    of_a_host = {"TimewaitExporterDown", "TimewaitHostVanished", "TimewaitConnectFailures"}
    for rule in rules:
        targets = set(re.findall(r"Timewait\w+", " ".join(rule["target_matchers"])))
        wanted = {"cluster", "environment", "job"} | (set() if rule["source_matchers"] == ['alertname="TimewaitAgentVanished"'] else {"instance"} if targets <= of_a_host else {"instance", "netns"})
        assert wanted <= set(rule["equal"]), rule


def test_critical_alerts_have_a_route_of_their_own():
    route = yaml.safe_load((PROMETHEUS / "alertmanager.yml").read_text())["route"]
    critical = route["routes"][0]
    assert 'severity="critical"' in critical["matchers"] and critical["receiver"] != route["receiver"]
    for key in ("group_wait", "group_interval"):
        assert re.fullmatch(r"[1-5]?\ds", critical[key]), critical[key]
    for one in (route, *route["routes"]):
        assert {"cluster", "environment", "job"} <= set(one.get("group_by", route["group_by"])), one


def test_scrape_configuration_uses_the_job_name_that_alerts_expect():
    configuration = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())
    (job,) = [one["job_name"] for one in configuration["scrape_configs"]]
    patterns = set(re.findall(r'up\{job=~"([^"]+)"\}', (PROMETHEUS / "alerts.yml").read_text()))
    assert len(patterns) == 1 and re.fullmatch(patterns.pop(), job)
    assert all((PROMETHEUS / path).is_file() for path in configuration["rule_files"])
    (target,) = configuration["scrape_configs"][0]["static_configs"][0]["targets"]
    assert target == "localhost:10072"


# ---- the synthetic data for rendering the boards ----------------------------------------------------


def test_synthetic_data_is_what_the_exporter_would_export():
    import synthetic

    complaints, seen = set(), set()
    for name, labels, _ in synthetic.series(1_700_000_000, 1_700_000_000, 3):
        seen.add(name)
        if name not in EXPORTED and name not in OWN:
            complaints.add(f"{name}: no such metric")
        elif not set(labels) <= labels_of(name):
            complaints.add(f"{name}: {sorted(set(labels) - labels_of(name))}")
    return sorted(complaints) + [f"{name}: not made" for name in EXPORTED if name not in seen]


def main():
    passed = failed = 0
    for name, check in sorted(globals().items(), key=lambda item: getattr(getattr(item[1], "__code__", None), "co_firstlineno", 0)):
        if not name.startswith("test_"):
            continue
        cases = [(name, ())]
        if inspect.signature(check).parameters:
            cases = [(f"{name}[{key}]", (board,)) for key, board in BOARDS.items()]
        for label, arguments in cases:
            try:
                complaints = check(*arguments) or []
            except Exception as error:  # a check that fails in any way is a failed test, and the others continue
                complaints = [f"{type(error).__name__}: {error}"]
            if complaints:
                failed += 1
                print(f"FAIL {label}")
                for complaint in complaints:
                    print(f"       {complaint}")
            else:
                passed += 1
                print(f"ok   {label}")
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
