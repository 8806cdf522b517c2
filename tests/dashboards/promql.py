"""Analysis of PromQL expressions for the checks: their parts, and the labels of their results."""

import re

import promql_parser as parser

SET_OPERATORS = {"and", "or", "unless"}
COMPARISONS = {"==", "!=", ">", "<", ">=", "<="}

# Any duration will do: these are replaced only so that the expression can be parsed.
GLOBALS = {"__rate_interval": "5m", "__interval": "1m", "__range": "1h"}


def expand(text):
    """Expands Grafana's variables outside of quotes, as dashboard-linter does."""
    parts = text.split('"')
    for index in range(0, len(parts), 2):
        parts[index] = re.sub(
            r"\$(?:(\w+)|\{(\w+)[^}]*\})",
            lambda found: GLOBALS.get(found[1] or found[2], found[1] or found[2]),
            parts[index],
        )
    return '"'.join(parts)


def parse(text):
    return parser.parse(expand(text))


def kind(node):
    return type(node).__name__


def children(node):
    name = kind(node)
    if name == "BinaryExpr":
        return [node.lhs, node.rhs]
    if name == "AggregateExpr":
        return [node.expr] + ([node.param] if node.param is not None else [])
    if name == "Call":
        return list(node.args)
    if name in ("ParenExpr", "UnaryExpr", "SubqueryExpr"):
        return [node.expr]
    if name == "MatrixSelector":
        return [node.vector_selector]
    return []


def walk(node, parents=()):
    yield node, parents
    for child in children(node):
        yield from walk(child, (*parents, node))


def selectors(node):
    return [found for found, _ in walk(node) if kind(found) == "VectorSelector"]


def metric(selector):
    """The name, also where a matcher contains it."""
    if selector.name:
        return selector.name
    return next((one.value for one in selector.matchers.matchers if one.name == "__name__"), None)


def metrics(node):
    return {metric(selector) for selector in selectors(node)}


def named_labels(node):
    """Every label that the expression names: in matchers, by, without, on, ignoring, group_left, functions."""
    names = set()
    for found, _ in walk(node):
        if kind(found) == "VectorSelector":
            names |= {one.name for one in found.matchers.matchers if one.name != "__name__"}
        elif kind(found) == "AggregateExpr" and found.modifier is not None:
            names |= set(found.modifier.labels)
        elif kind(found) == "BinaryExpr" and found.modifier is not None:
            if found.modifier.matching is not None:
                names |= set(found.modifier.matching.labels)
            names |= set(found.modifier.group_labels or [])
        elif kind(found) == "Call" and found.func.name == "label_replace":
            if found.args[3].val:
                names.add(found.args[3].val)
    return names


def is_number(node):
    return kind(node) == "NumberLiteral" or (kind(node) in ("ParenExpr", "UnaryExpr") and is_number(node.expr))


def scalar(node):
    """A node without any labels."""
    return is_number(node) or (kind(node) == "BinaryExpr" and scalar(node.lhs) and scalar(node.rhs))


def result_labels(node, of_metric):
    """The labels that the result may have; of_metric returns those of a metric."""
    name = kind(node)
    if name == "VectorSelector":
        return set(of_metric(metric(node)))
    if name in ("MatrixSelector",):
        return result_labels(node.vector_selector, of_metric)
    if name in ("ParenExpr", "UnaryExpr", "SubqueryExpr"):
        return result_labels(node.expr, of_metric)
    if name == "AggregateExpr":
        inner = result_labels(node.expr, of_metric)
        operator = str(node.op)
        if operator in ("topk", "bottomk"):
            return inner
        if node.modifier is None:
            left = set()
        elif str(node.modifier.type).endswith("Without"):
            left = inner - set(node.modifier.labels)
        else:
            left = inner & set(node.modifier.labels)
        if operator == "count_values":
            left = left | {node.param.val}
        return left
    if name == "Call":
        if node.func.name == "absent":
            return set()
        labels = set()
        for argument in node.args:
            if kind(argument) not in ("NumberLiteral", "StringLiteral"):
                labels |= result_labels(argument, of_metric)
        if node.func.name == "label_replace":
            labels |= {node.args[1].val}
        return labels
    if name == "BinaryExpr":
        if scalar(node.lhs):
            return result_labels(node.rhs, of_metric)
        if scalar(node.rhs):
            return result_labels(node.lhs, of_metric)
        left, right = result_labels(node.lhs, of_metric), result_labels(node.rhs, of_metric)
        if str(node.op) == "or":
            return left | right
        if str(node.op) in SET_OPERATORS:
            return left
        matching = node.modifier.matching if node.modifier is not None else None
        grouped = node.modifier is not None and "Many" in str(node.modifier.card)
        if grouped:
            return left | set(node.modifier.group_labels or [])
        if matching is not None and not grouped:
            listed = set(matching.labels)
            return left & listed if str(matching.type).endswith("Include") else left - listed
        return left
    return set()


def comparisons(node):
    """(compared expression, operator, number) for every comparison with a number."""
    for found, _ in walk(node):
        if kind(found) == "BinaryExpr" and str(found.op) in COMPARISONS and kind(found.rhs) == "NumberLiteral":
            yield found.lhs, str(found.op), found.rhs.val


def aggregations(node):
    return [found for found, _ in walk(node) if kind(found) == "AggregateExpr"]
