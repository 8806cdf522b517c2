"""The 17 rules of grafana/dashboard-linter (lint/rules.go), for boards with Prometheus queries.

The linter itself is a Go program; this is a reimplementation of its rules. It is stricter: it includes tables, which
the linter exempts from some rules, and panels in collapsed rows.
"""

import re

import promql

UNITS = set(
    "none string short percent percentunit locale bytes decbytes s ms µs ns m h d cps ops reqps rps "
    "dateTimeAsIso dateTimeFromNow bool bool_yes_no bool_on_off".split()
)
SHOWN = {"stat", "singlestat", "graph", "table", "timeseries", "gauge"}
QUERIED = {"singlestat", "gauge", "table", "stat", "state-timeline", "timeseries"}


def panels(board):
    """Also those inside of collapsed rows."""
    for panel in board["panels"]:
        yield from panel.get("panels", []) if panel["type"] == "row" else [panel]


def parsed(board):
    """(panel, target, tree or error) of every target."""
    for panel in panels(board):
        for target in panel.get("targets") or []:
            try:
                yield panel, target, promql.parse(target.get("expr", "")), None
            except ValueError as error:
                yield panel, target, None, error


def template(board, name):
    return next((one for one in board["templating"]["list"] if one["name"] == name), None)


def template_datasource(board):
    found = [one for one in board["templating"]["list"] if one["type"] == "datasource"]
    if not found:
        yield "no templated data source"
    for one in found:
        if one["name"] not in ("datasource", "prometheus_datasource"):
            yield f"named {one['name']}"
        if one["label"] not in ("Data source", "Prometheus data source"):
            yield f"labelled {one['label']}"


def required_template(name):
    def rule(board):
        one = template(board, name)
        if one is None:
            yield "missing"
            return
        if one.get("datasource", {}).get("uid") not in ("$datasource", "${datasource}"):
            yield "does not use the data source"
        if one["type"] != "query":
            yield "no query"
        if one["label"] != name.title():
            yield f"labelled {one['label']}"
        if not one["multi"]:
            yield "no multi select"
        if one.get("allValue") != ".+":
            yield "allValue"

    return rule


def template_label_promql(board):
    for one in board["templating"]["list"]:
        if one["type"] == "query":
            found = re.search(r"([a-z_]+)\((.+)\)", one["query"], re.S)
            if not found or found[1] not in ("label_names", "label_values", "metrics", "query_result"):
                yield f"{one['name']}: {one['query']}"
                continue
            inner = found[2]
            if found[1] == "label_values":
                inner = inner.rsplit(",", 1)[0]
            try:
                promql.parse(inner)
            except ValueError as error:
                yield f"{one['name']}: {error}"


def template_on_time_change_reload(board):
    return [one["name"] for one in board["templating"]["list"] if one["type"] == "query" and one["refresh"] != 2]


def panel_datasource(board):
    return [panel["title"] for panel in panels(board) if panel.get("datasource", {}).get("uid") not in ("$datasource", "${datasource}")]


def panel_title_description(board):
    return [panel.get("title") for panel in panels(board) if panel["type"] in SHOWN and not (panel.get("title") and panel.get("description"))]


def panel_units(board):
    for panel in panels(board):
        # The linter accepts mappings instead of a unit; here a unit is always required.
        if panel["type"] in SHOWN and panel["fieldConfig"]["defaults"].get("unit") not in UNITS:
            yield panel["title"]


def panel_no_targets(board):
    return [panel["title"] for panel in panels(board) if panel["type"] in SHOWN and not panel.get("targets")]


def target_logql(board):
    """No target is LogQL: all of them are Prometheus queries."""
    return [panel["title"] for panel, target, _, _ in parsed(board) if re.search(r"\|=|\|~|\| *(json|logfmt)|count_over_time\(\{", target.get("expr", ""))]


def target_logql_auto(board):
    return [panel["title"] for panel, target, _, _ in parsed(board) if "$__auto" in target.get("expr", "")]


def target_promql(board):
    for panel, target, _, error in parsed(board):
        if panel["type"] in QUERIED and (error or not target.get("expr")):
            yield f"{panel['title']}: {error or 'empty'}"


def target_rate_interval(board):
    for panel, target, tree, _ in parsed(board):
        for found, _ in promql.walk(tree) if tree else ():
            if promql.kind(found) == "Call" and found.func.name in ("rate", "irate") and "[$__rate_interval]" not in target["expr"]:
                yield f"{panel['title']}: {target['expr']}"
        if re.search(r"\[\d+\w+\]", target.get("expr", "")):
            yield f"{panel['title']}: a fixed range"


def required_matcher(name):
    def rule(board):
        for panel, _, tree, _ in parsed(board):
            for selector in promql.selectors(tree) if tree else ():
                # Series recorded for a whole job have no instance.
                if name == "instance" and re.match(r"job(_dst|_state)?:", promql.metric(selector) or ""):
                    continue
                # Alerts may have no instance or no job.
                values = {f"${name}", f"${name}|"} if promql.metric(selector) == "ALERTS" else {f"${name}"}
                if not any(one.name == name and str(one.op).endswith(".Re") and one.value in values for one in selector.matchers.matchers):
                    yield f"{panel['title']}: {promql.metric(selector)}"

    return rule


def target_counter_agg(board):
    for panel, _, tree, _ in parsed(board):
        for found, parents in promql.walk(tree) if tree else ():
            if promql.kind(found) == "VectorSelector" and (found.name or "").endswith("_total"):
                call = parents[-2] if len(parents) >= 2 else None
                if promql.kind(call) != "Call" or call.func.name not in ("rate", "irate", "increase"):
                    yield f"{panel['title']}: {found.name}"


def uneditable(board):
    return ["editable"] if board.get("editable") is not False else []


RULES = {
    "template-datasource-rule": template_datasource,
    "template-job-rule": required_template("job"),
    "template-instance-rule": required_template("instance"),
    "template-label-promql-rule": template_label_promql,
    "template-on-time-change-reload-rule": template_on_time_change_reload,
    "panel-datasource-rule": panel_datasource,
    "panel-title-description-rule": panel_title_description,
    "panel-units-rule": panel_units,
    "panel-no-targets-rule": panel_no_targets,
    "target-logql-rule": target_logql,
    "target-logql-auto-rule": target_logql_auto,
    "target-promql-rule": target_promql,
    "target-rate-interval-rule": target_rate_interval,
    "target-job-rule": required_matcher("job"),
    "target-instance-rule": required_matcher("instance"),
    "target-counter-agg-rule": target_counter_agg,
    "uneditable-dashboard": uneditable,
}


def lint(board):
    return [(name, message) for name, rule in RULES.items() for message in rule(board)]


def first(board, kind="timeseries"):
    return next(panel for panel in panels(board) if panel["type"] == kind)


def ask(board, expr):
    first(board)["targets"][0]["expr"] = expr


CHOSEN = 'job=~"$job", instance=~"$instance"'
# For each rule, broken boards that it must report.
BREAKAGES = [
    ("template-datasource-rule", lambda board: template(board, "datasource").update(name="prometheus")),
    ("template-datasource-rule", lambda board: board["templating"].update(list=board["templating"]["list"][1:])),
    ("template-job-rule", lambda board: template(board, "job").update(allValue="")),
    ("template-instance-rule", lambda board: template(board, "instance").update(multi=False)),
    ("template-instance-rule", lambda board: board["templating"].update(list=board["templating"]["list"][:2])),
    ("template-label-promql-rule", lambda board: template(board, "job").update(query="label_value(up, job)")),
    ("template-label-promql-rule", lambda board: template(board, "job").update(query="label_values(up{, job)")),
    ("template-on-time-change-reload-rule", lambda board: template(board, "job").update(refresh=1)),
    ("panel-datasource-rule", lambda board: first(board).update(datasource={"uid": "P1809F7CD0C75ACF3"})),
    ("panel-title-description-rule", lambda board: first(board).update(description="")),
    ("panel-units-rule", lambda board: first(board)["fieldConfig"]["defaults"].update(unit="ports")),
    ("panel-no-targets-rule", lambda board: first(board, "stat").update(targets=[])),
    ("target-logql-rule", lambda board: ask(board, '{app="x"} |= "error"')),
    ("target-logql-auto-rule", lambda board: ask(board, "rate(x[$__auto])")),
    ("target-promql-rule", lambda board: ask(board, "sum(timewait_sockets{")),
    ("target-promql-rule", lambda board: ask(board, "")),
    ("target-rate-interval-rule", lambda board: ask(board, f"rate(timewait_entered_total{{{CHOSEN}}}[5m])")),
    ("target-job-rule", lambda board: ask(board, 'timewait_sockets{instance=~"$instance"}')),
    ("target-job-rule", lambda board: ask(board, 'timewait_sockets{job="$job", instance=~"$instance"}')),
    ("target-instance-rule", lambda board: ask(board, 'timewait_sockets{job=~"$job"} / up{job=~"$job"}')),
    ("target-counter-agg-rule", lambda board: ask(board, f"timewait_entered_total{{{CHOSEN}}}")),
    ("uneditable-dashboard", lambda board: board.update(editable=True)),
]
