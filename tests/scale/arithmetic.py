#!/usr/bin/env python3
"""How many series there can be, from the list of metrics and from --collector.top.

    tests/scale/arithmetic.py            prints the table of deploy/scale/README.md
    tests/scale/arithmetic.py --write    writes it there

The list is tests/fixtures/contract/metrics.txt, which a test compares with the program's.
"""

import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
METRICS = ROOT / "tests/fixtures/contract/metrics.txt"
DOCUMENT = ROOT / "deploy/scale/README.md"
BEGIN, END = "<!-- made by tests/scale/arithmetic.py -->\n", "<!-- end -->\n"

HOSTS, NAMESPACES = 10_000, 50

# How many series a metric can have with N values a breakdown, by its labels: (times N, and).
SHAPES = {
    (): (0, 1),
    ("family",): (0, 2),
    ("src_addr",): (1, 1),
    ("dst_addr",): (1, 1),
    # Two aggregated values: other and ephemeral.
    ("src_port",): (1, 2),
    ("dst_port",): (1, 2),
    ("age_seconds",): (0, 6),
    ("src_addr", "dst_addr", "dst_port"): (1, 0),
    ("src_addr", "dst_addr", "dst_port", "state"): (3, 3),
    ("counter",): (0, 6),
    # Without those of the host: slabinfo, failures, netns.
    ("collector",): (0, 8),
    ("source",): (0, 1),
    # One per namespace, without its own label here.
    ("inode", "pid", "comm", "container_id", "pod_uid"): (0, 1),
}
# Exported once per exporter, whatever namespaces it reads.
OF_THE_EXPORTER = (
    "process_",
    "promhttp_",
    "timewait_exporter_",
    "timewait_memory_bytes",
    "timewait_netns_left_out",
    "timewait_netns_unreadable",
)
# Collectors of the host, not of a namespace.
OF_THE_HOST = ("slabinfo", "failures", "netns")
EXPORTER_SHAPES = {("cause",): 2, ("code",): 3}
# A local address has no `other` here: the others are not summed.
WITHOUT_OTHER = {
    "timewait_source_ports",
    "timewait_source_exhaustion_ratio",
    "timewait_udp_source_ports",
    "timewait_udp_source_exhaustion_ratio",
}
# Which metrics a switch takes away.
SWITCHES = {
    "by-src-addr": ("timewait_sockets_by_src_addr",),
    "by-src-port": ("timewait_sockets_by_src_port",),
    "by-dst-addr": ("timewait_sockets_by_dst_addr",),
    "by-dst-port": ("timewait_sockets_by_dst_port",),
    "by-age": ("timewait_sockets_by_age",),
    "by-source": ("timewait_source_",),
}


def metrics():
    for line in METRICS.read_text().splitlines():
        name, _, *labels = line.split(" ")
        # Fixed values are listed behind the label, and `netns?` is that of other namespaces.
        labels = [label.partition("=")[0] for label in labels[0].split(",")] if labels else []
        labels = tuple(label for label in labels if label not in ("netns", "netns?"))
        if labels not in SHAPES and labels not in EXPORTER_SHAPES and not name.startswith(OF_THE_EXPORTER):
            sys.exit(f"{name}: say in SHAPES how many series the labels {', '.join(labels)} can have")
        yield name, labels


def of_the_exporter():
    """Series exported once, at most."""
    own = sum(EXPORTER_SHAPES.get(labels, 1) for name, labels in metrics() if name.startswith(OF_THE_EXPORTER))
    # Success and duration of the host's collectors.
    return own + len(OF_THE_HOST) * sum(labels == ("collector",) for _, labels in metrics())


def of_a_namespace(top, without=()):
    """Series of one namespace, at most."""
    gone = tuple(prefix for switch in without for prefix in SWITCHES[switch])
    count = 0
    for name, labels in metrics():
        if name.startswith(OF_THE_EXPORTER) or name.startswith(gone):
            continue
        times, more = SHAPES[labels]
        count += times * top + (0 if name in WITHOUT_OTHER else more)
    return count


# What is exported of a pod that has this many of everything, when it is not the worst.
USUAL = 4
SLIM = tuple(SWITCHES)
ROWS = (
    ("as it comes: top 20, every 15 s", 20, (), 15),
    ("`--collector.top=5`, every 15 s", 5, (), 15),
    ("`--collector.top=5`, every 30 s", 5, (), 30),
    ("top 5, no breakdown but `by-destination`, every 30 s", 5, SLIM, 30),
    ("top 1, no breakdown but `by-destination`, every 60 s", 1, SLIM, 60),
)
# The document gives the sources.
BYTES_A_SERIES = 4000
BYTES_A_SAMPLE = 2
SERIES_A_SHARD = 4_000_000
RETENTION = 15 * 86400


def rows(of_a_pod):
    """One line for each setting; of_a_pod returns the series of one from top and switches."""
    yield "| | series a pod | series in all | samples a second | memory | disk, 15 days | shards |"
    yield "|---|---:|---:|---:|---:|---:|---:|"
    for name, top, without, interval in ROWS:
        pod = of_a_pod(top, without)
        node = of_a_namespace(top, without) + of_the_exporter()
        total = HOSTS * (node + (NAMESPACES - 1) * pod)
        samples = total / interval
        memory = total * BYTES_A_SERIES / 1e9
        disk = samples * BYTES_A_SAMPLE * RETENTION / 1e12
        shards = -(-total // SERIES_A_SHARD)
        yield (
            f"| {name} | {pod} | {total / 1e6:.1f} million | {samples / 1e6:.2f} million "
            f"| {memory:,.0f} GB | {disk:,.1f} TB | {shards} |"
        )


def table():
    base, each = of_a_namespace(0), of_a_namespace(1) - of_a_namespace(0)
    text = [
        f"A namespace has at most {base} + {each} N series with `--collector.top=N`, pinned ports and destinations "
        f"aside; an exporter has {of_the_exporter()} of its own.",
        "",
        f"{HOSTS:,} hosts with {NAMESPACES} namespaces each, the host's own included.",
        "",
        "At the worst, where every namespace has more than N of everything:",
        "",
        *rows(of_a_namespace),
        "",
        f"Where the host has, and a pod talks to {USUAL} destinations from {USUAL} addresses and ports:",
        "",
        *rows(lambda top, without: of_a_namespace(min(top, USUAL), without)),
    ]
    return "\n".join(text) + "\n"


# Mimir's published values, for ingesters that store each series three times: cores and GB.
MIMIR = re.compile(r"For .* million series every 30 s that is .* cores and .* TB for ingesters alone")


def mimir():
    """What Mimir would need for the third row."""
    _, top, without, interval = ROWS[2]
    assert interval == 30
    total = HOSTS * (NAMESPACES * of_a_namespace(top, without) + of_the_exporter())
    held = 3 * total / 300_000
    return f"For {total / 1e6:.1f} million series every 30 s that is {held:.0f} cores and {held * 2.5 / 1000:.1f} TB for ingesters alone"


def document():
    """The document with the table, and what follows from it, as they should be."""
    text = DOCUMENT.read_text()
    head, rest = text.split(BEGIN)
    _, tail = rest.split(END)
    tail, found = MIMIR.subn(mimir(), tail)
    assert found == 1, f"{DOCUMENT}: {found} sentences on Mimir"
    return f"{head}{BEGIN}{table()}{END}{tail}"


if __name__ == "__main__":
    if sys.argv[1:] == ["--write"]:
        DOCUMENT.write_text(document())
    elif sys.argv[1:]:
        sys.exit(__doc__)
    else:
        print(table(), end="")
