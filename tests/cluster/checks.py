"""Checks of the Helm chart and of the kustomizations. Started by ./run, which installs what they need.

Each function test_* is one test and returns a list of complaints. Shared results are computed once.
"""

import contextlib
import copy
import functools
import gzip
import itertools
import json
import os
import pathlib
import re
import socket
import subprocess
import sys
import tarfile
import tempfile
import textwrap
import time
import urllib.error
import urllib.request

import helm_python as helm
import jsonschema
import kubernetes_validate
import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
CHART = ROOT / "deploy/helm/timewait-exporter"
MANIFESTS = ROOT / "deploy/kubernetes"
BOARDS = sorted((ROOT / "dashboards").glob("*.json"))
RULES = {name: ROOT / f"deploy/prometheus/{name}.yml" for name in ("alerts", "recording")}
# The oldest version that the chart allows, the newest with published schemas, and one between.
KUBERNETES = ("1.25", "1.31", "1.37")
# Kinds whose schemas Kubernetes does not have.
OPERATORS = ("monitoring.coreos.com/v1", "grafana.integreatly.org/v1beta1")
OPERATOR_KINDS = {"PodMonitor", "ServiceMonitor", "PrometheusRule", "GrafanaDashboard"}
OPENSHIFT = "security.openshift.io/v1"

DEFAULTS = yaml.safe_load((CHART / "values.yaml").read_text())
LOADED = helm.Chart.load(CHART)


# --- inputs --------------------------------------------------------------------------------------------------------


def merged(*layers):
    """Later values win, as Helm merges them."""
    result = {}
    for layer in copy.deepcopy(layers):
        for key, value in layer.items():
            if isinstance(value, dict) and isinstance(result.get(key), dict):
                result[key] = merged(result[key], value)
            else:
                result[key] = value
    return result


class Once(yaml.CSafeLoader):
    """Refuses duplicate keys, as other YAML readers than Helm do."""

    def construct_mapping(self, node, deep=False):
        keys = [key.value for key, _ in node.value]
        twice = sorted({key for key in keys if keys.count(key) > 1})
        assert not twice, f"line {node.start_mark.line + 1}: twice: {', '.join(twice)}"
        return super().construct_mapping(node, deep)


def rendered(values=None, name="tw", namespace="monitoring"):
    """The objects that the chart renders for these values."""
    files = LOADED.render(values or {}, name=name, namespace=namespace)
    texts = (text for path, text in files.items() if not path.endswith("NOTES.txt"))
    return [item for text in texts for item in yaml.load_all(text, Loader=Once) if item]


def refusal(values):
    """Why the chart refuses values, or None."""
    try:
        LOADED.validate_schema(values)
        LOADED.render(values, name="tw", namespace="monitoring")
    except helm.HelmError as error:
        return str(error)
    return None


def of_kind(objects, kind):
    return [item for item in objects if item["kind"] == kind]


def the(objects, kind):
    found = of_kind(objects, kind)
    assert len(found) == 1, f"{len(found)} objects of kind {kind}"
    return found[0]


def pod(objects):
    return the(objects, "DaemonSet")["spec"]["template"]["spec"]


def container(objects):
    containers = pod(objects)["containers"]
    assert len(containers) == 1
    return containers[0]


@functools.cache
def built_text(folder):
    done = subprocess.run([os.environ["KUBECTL"], "kustomize", ROOT / folder], capture_output=True, text=True)
    assert done.returncode == 0 and not done.stderr, done.stderr
    return done.stdout


def built(folder):
    return list(yaml.load_all(built_text(folder), Loader=yaml.CSafeLoader))


BASE = "deploy/kubernetes/base"
PODS = "deploy/kubernetes/overlays/pods-namespaces"
EVERYTHING = "tests/cluster/everything"

SWITCHES = {
    "namespaces": {"podNamespaces": {"enabled": True}},
    "failures": {"connectFailures": {"enabled": True}},
    "openshift": {"openshift": {"enabled": True}},
    "service": {"service": {"enabled": True}},
    "monitor": {"prometheus": {"podMonitor": {"enabled": True}}},
    "rules": {"prometheusRule": {"enabled": True}},
    "dashboards": {"dashboards": {"enabled": True}},
    "grafana operator": {"dashboards": {"grafanaOperator": {"enabled": True}}},
    "policy": {"networkPolicy": {"enabled": True}},
}
ALL_ON = merged(*SWITCHES.values())

# A non-default value for each leaf of values.yaml, and the other values that it needs to take effect.
ON = {switch: values for switch, values in SWITCHES.items()}
ON["service monitor"] = merged(ON["service"], {"prometheus": {"serviceMonitor": {"enabled": True}}})
ALL_ON = merged(ALL_ON, ON["service monitor"])
SIDECAR = {"name": "proxy", "image": "proxy:1", "ports": [{"name": "proxied", "containerPort": 10099}]}
MANIFEST = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "{{ .Release.Name }}-more"}, "data": {"a": "b"}}
RUN_MOUNT = {
    "extraVolumes": [{"name": "run", "emptyDir": {}}],
    "extraVolumeMounts": [{"name": "run", "mountPath": "/run/timewait"}],
}
MONITOR = {
    "namespace": "other",
    "additionalLabels": {"release": "prometheus"},
    "jobLabel": "team",
    "podTargetLabels": ["team"],
    "attachMetadata": {"node": True},
    "port": "proxied",
    "path": "/other",
    "interval": "",
    "scrapeTimeout": "5s",
    "scheme": "https",
    "tlsConfig": {"insecureSkipVerify": True},
    "basicAuth": {"username": {"name": "s", "key": "u"}, "password": {"name": "s", "key": "p"}},
    "authorization": {"credentials": {"name": "s", "key": "t"}},
    "honorLabels": True,
    "relabelings": [{"targetLabel": "cluster", "replacement": "c1"}],
    "metricRelabelings": [{"action": "labeldrop", "regex": "x"}],
    "sampleLimit": 50000,
    "targetLimit": 1000,
    "labelLimit": 30,
    "labelNameLengthLimit": 200,
    "labelValueLengthLimit": 500,
}
OTHER = {
    "global.imageRegistry": ("mirror.example", {}),
    "global.imagePullSecrets": (["registry", {"name": "another"}], {}),
    "image.registry": ("registry.example", {}),
    "image.repository": ("mirror/exporter", {}),
    "image.tag": ("9.9.9", {}),
    "image.digest": ("sha256:" + "0" * 64, {}),
    "image.pullPolicy": ("Always", {}),
    "imagePullSecrets": ([{"name": "registry"}], {}),
    "nameOverride": ("ports", {}),
    "fullnameOverride": ("ports", {}),
    "namespaceOverride": ("elsewhere", {}),
    "commonLabels": ({"team": "network"}, {}),
    "port": (10073, {}),
    "listenAddresses": (["$(HOST_IP):10072"], {}),
    "extraArgs": (["--collector.top=10", "--log.format=json"], {}),
    "env": (
        {
            "TIMEWAIT_EXPORTER_COLLECTOR_TOP": 10,
            "RUST_BACKTRACE": "1",
            "NODE_NAME": {"valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
        },
        {},
    ),
    "secrets": ([{"name": "web-config", "mountPath": "/etc/web"}], {}),
    "configmaps": ([{"name": "web-config", "mountPath": "/etc/config"}], {}),
    "extraVolumes": ([{"name": "run", "hostPath": {"path": "/run/timewait"}}], RUN_MOUNT),
    "extraVolumeMounts": ([{"name": "run", "mountPath": "/other"}], RUN_MOUNT),
    "sidecars": ([SIDECAR], ON["service"]),
    "extraManifests": ([MANIFEST, json.dumps(merged(MANIFEST, {"metadata": {"name": "{{ .Values.port }}"}}))], {}),
    "podNamespaces.enabled": (True, {}),
    "podNamespaces.select": ("named", ON["namespaces"]),
    "podNamespaces.max": (64, ON["namespaces"]),
    "connectFailures.enabled": (True, {}),
    "openshift.enabled": (True, {}),
    "serviceAccount.automountToken": (True, {}),
    "service.enabled": (True, {}),
    "service.annotations": ({"a": "b"}, ON["service"]),
    "service.labels": ({"a": "b"}, ON["service"]),
    "serviceAccount.create": (False, {}),
    "serviceAccount.name": ("other", {}),
    "serviceAccount.annotations": ({"a": "b"}, {}),
    "prometheus.podMonitor.enabled": (True, {}),
    "prometheus.serviceMonitor.enabled": (True, ON["service"]),
    **{
        f"prometheus.{kind}.{key}": (value, ON[switch])
        for kind, switch in {"podMonitor": "monitor", "serviceMonitor": "service monitor"}.items()
        for key, value in MONITOR.items()
    },
    "prometheusRule.enabled": (True, {}),
    "prometheusRule.namespace": ("other", ON["rules"]),
    "prometheusRule.additionalLabels": ({"release": "prometheus"}, ON["rules"]),
    "prometheusRule.alerts": (False, ON["rules"]),
    "prometheusRule.recording": (False, ON["rules"]),
    "prometheusRule.disabledAlerts": (["TimewaitPortsLow"], ON["rules"]),
    "prometheusRule.additionalRuleLabels": ({"team": "network"}, ON["rules"]),
    "prometheusRule.additionalRuleAnnotations": ({"dashboard": "https://grafana.example"}, ON["rules"]),
    "prometheusRule.thresholds.warning": (0.6, ON["rules"]),
    "prometheusRule.thresholds.critical": (0.95, ON["rules"]),
    "prometheusRule.runbookBase": ("https://runbooks.example/timewait", ON["rules"]),
    "dashboards.enabled": (True, {}),
    "dashboards.namespace": ("grafana", ON["dashboards"]),
    "dashboards.labels": ({"grafana_dashboard": "yes"}, ON["dashboards"]),
    "dashboards.annotations": ({"grafana_folder": "Network"}, ON["dashboards"]),
    "dashboards.grafanaOperator.enabled": (True, {}),
    "dashboards.grafanaOperator.instanceSelector": ({"matchLabels": {"grafana": "main"}}, ON["grafana operator"]),
    "dashboards.grafanaOperator.folder": ("Network", ON["grafana operator"]),
    "dashboards.grafanaOperator.resyncPeriod": ("1h", ON["grafana operator"]),
    "dashboards.grafanaOperator.allowCrossNamespaceImport": (False, ON["grafana operator"]),
    "networkPolicy.enabled": (True, {}),
    "networkPolicy.from": ([{"namespaceSelector": {"matchLabels": {"a": "b"}}}], ON["policy"]),
    "updateStrategy.type": ("OnDelete", {}),
    "updateStrategy.rollingUpdate.maxUnavailable": ("10%", {}),
    "revisionHistoryLimit": (2, {}),
    "priorityClassName": ("system-node-critical", {}),
    "dnsPolicy": ("ClusterFirstWithHostNet", {}),
    "hostUsers": (True, {}),
    "terminationGracePeriodSeconds": (30, {}),
    "resources.requests.cpu": ("20m", {}),
    "resources.requests.memory": ("32Mi", {}),
    "podAnnotations": ({"a": "b"}, {}),
    "podLabels": ({"a": "b"}, {}),
    "daemonsetAnnotations": ({"a": "b"}, {}),
    "securityContext": ({"seLinuxOptions": {"type": "spc_t"}}, {}),
    "containerSecurityContext": ({"procMount": "Default"}, {}),
    "nodeSelector": ({"disk": "ssd"}, {}),
    "tolerations": ([], {}),
    "affinity": ({"podAntiAffinity": {}}, {}),
    **{
        f"{probe}.{key}": (value, {})
        for probe in ("livenessProbe", "readinessProbe")
        for key, value in {
            "scheme": "HTTPS",
            "host": "127.0.0.1",
            "httpHeaders": [{"name": "Authorization", "value": "Basic x"}],
            "initialDelaySeconds": 1,
            "periodSeconds": 20,
            "timeoutSeconds": 2,
            "failureThreshold": 4,
        }.items()
    },
}
# Objects of values.yaml that are one value, not a group of values.
SINGLE_VALUES = {
    "nodeSelector",
    "affinity",
    "dashboards.labels",
    "dashboards.grafanaOperator.instanceSelector",
    "prometheus.podMonitor.attachMetadata",
    "prometheus.serviceMonitor.attachMetadata",
}


def at(path, value):
    """The values that set one path."""
    for key in reversed(path.split(".")):
        value = {key: value}
    return value


def leaves(values=DEFAULTS, prefix=""):
    for key, value in values.items():
        path = f"{prefix}{key}"
        if isinstance(value, dict) and value and path not in SINGLE_VALUES:
            yield from leaves(value, f"{path}.")
        else:
            yield path, value


def groups(values=DEFAULTS, prefix=""):
    """The paths of the objects whose keys the chart defines; "" is the whole file."""
    yield prefix.rstrip(".")
    for key, value in values.items():
        path = f"{prefix}{key}"
        if isinstance(value, dict) and value and path not in SINGLE_VALUES | {"resources.requests"}:
            yield from groups(value, f"{path}.")


# --- the chart -----------------------------------------------------------------------------------------------------


def test_helm_lint_has_no_complaints():
    complaints = []
    for values in (None, ALL_ON):
        report = helm.lint(CHART, values, strict=True, kube_version="v1.25.0")
        complaints += report["errors"]
        complaints += [m["error"] for m in report["messages"] if m["error"] != "icon is recommended"]
    return complaints


def test_versions_are_those_of_the_program():
    cargo = re.search(r'^version = "(.*)"', (ROOT / "Cargo.toml").read_text(), re.M)[1]
    image = container(built(BASE))["image"].rpartition(":")[2]
    found = {"chart": LOADED.version, "appVersion": LOADED.metadata["appVersion"], "kustomize image": image}
    example = (ROOT / "deploy/container/README.md").read_text()
    found["deploy/container/README.md"] = re.search(r"timewait_exporter:(\S+)-amd64", example)[1]
    for lock in ("Cargo.lock", "tests/fuzz/Cargo.lock"):
        found[lock] = re.search(r'name = "timewait_exporter"\nversion = "(.*)"', (ROOT / lock).read_text())[1]
    return [f"{what}: {version}, not {cargo}" for what, version in found.items() if version != cargo]


def test_nothing_that_could_surprise_is_on_by_default():
    objects = rendered()
    kinds = sorted(item["kind"] for item in objects)
    spec = pod(objects)
    complaints = [] if kinds == ["DaemonSet", "ServiceAccount"] else [f"made: {kinds}"]
    complaints += [f"{key} is set" for key in ("hostIPC", "volumes", "initContainers") if key in spec]
    complaints += ["hostPID"] if spec["hostPID"] else []
    expected = {"readOnlyRootFilesystem": True, "allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    if container(objects)["securityContext"] != expected:
        complaints.append(f"container: {container(objects)['securityContext']}")
    expected = {
        "runAsNonRoot": True,
        "runAsUser": 65534,
        "runAsGroup": 65534,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    if spec["securityContext"] != expected:
        complaints.append(f"pod: {spec['securityContext']}")
    for item in (spec, the(objects, "ServiceAccount")):
        if item["automountServiceAccountToken"] is not False:
            complaints.append("a token is mounted")
    if spec["hostNetwork"] is not True:
        complaints.append("not the host's network")
    return complaints


def test_each_switch_adds_its_objects_and_nothing_else():
    added = {
        "namespaces": ["DaemonSet"],
        "failures": ["DaemonSet"],
        "openshift": ["DaemonSet", "RoleBinding"],
        "service": ["Service"],
        "monitor": ["PodMonitor"],
        "rules": ["PrometheusRule", "PrometheusRule"],
        "dashboards": ["ConfigMap"] * len(BOARDS),
        "grafana operator": ["ConfigMap"] * len(BOARDS) + ["GrafanaDashboard"] * len(BOARDS),
        "policy": ["NetworkPolicy"],
    }
    complaints = []
    base = rendered()
    for switch, values in SWITCHES.items():
        objects = rendered(values)
        new = sorted(item["kind"] for item in objects if item not in base)
        if new != added[switch]:
            complaints.append(f"{switch}: {new}")
    return complaints


def test_pod_namespaces_need_two_capabilities_and_host_proc():
    objects = rendered(SWITCHES["namespaces"])
    spec, one = pod(objects), container(objects)
    complaints = []
    if one["securityContext"] != {
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"], "add": ["SYS_ADMIN", "SYS_PTRACE"]},
    }:
        complaints.append(f"container: {one['securityContext']}")
    user = {key: spec["securityContext"][key] for key in ("runAsUser", "runAsGroup", "runAsNonRoot")}
    if user != {"runAsUser": 0, "runAsGroup": 0, "runAsNonRoot": False}:
        complaints.append(f"user: {user}")
    if spec["securityContext"]["seccompProfile"] != {"type": "RuntimeDefault"}:
        complaints.append("no seccomp profile")
    if not (spec["hostPID"] and spec["hostNetwork"]):
        complaints.append("hostPID or hostNetwork is missing")
    paths = {volume["name"]: volume["hostPath"]["path"] for volume in spec["volumes"]}
    mounts = {paths[mount["name"]]: mount for mount in one["volumeMounts"]}
    if sorted(mounts) != ["/proc", "/run/netns"] or not all(mount["readOnly"] for mount in mounts.values()):
        complaints.append(f"mounts: {mounts}")
    for flag, path in (("--path.procfs", "/proc"), ("--path.netns", "/run/netns")):
        if f"{flag}={mounts[path]['mountPath']}" not in one["args"]:
            complaints.append(f"{flag} is not where {path} is mounted")
    if mounts["/run/netns"]["mountPropagation"] != "HostToContainer":
        complaints.append("namespaces made later would not appear")
    return complaints


def test_failed_connect_calls_need_one_capability_and_one_file():
    complaints = []
    for switches, capabilities in ((["failures"], ["PERFMON"]), (["namespaces", "failures"], ["SYS_ADMIN", "SYS_PTRACE", "PERFMON"])):
        objects = rendered(merged(ON["openshift"], *(SWITCHES[switch] for switch in switches)))
        spec, one = pod(objects), container(objects)
        if one["securityContext"]["capabilities"] != {"drop": ["ALL"], "add": capabilities}:
            complaints.append(f"{switches}: {one['securityContext']}")
        if ("namespaces" not in switches) != (one["securityContext"].get("allowPrivilegeEscalation") is False):
            complaints.append(f"{switches}: {one['securityContext']}")
        if spec["securityContext"]["runAsUser"] != 0 or spec["hostPID"] != ("namespaces" in switches):
            complaints.append(f"{switches}: user or hostPID")
        paths = {volume["name"]: volume["hostPath"] for volume in spec["volumes"]}
        mount = next(mount for mount in one["volumeMounts"] if mount["name"] == "tracepoint")
        file = {"path": "/sys/kernel/tracing/events/sock/inet_sock_set_state/id", "type": "File"}
        if paths["tracepoint"] != file or mount["readOnly"] is not True:
            complaints.append(f"{switches}: {paths}, {mount}")
        directory = next(one for one in one["env"] if one["name"] == "CREDENTIALS_DIRECTORY")["value"]
        if mount["mountPath"] != f"{directory}/inet_sock_set_state":
            complaints.append(f"{switches}: {mount['mountPath']} is not in {directory}")
        constraints = the(objects, "SecurityContextConstraints")
        if constraints["allowedCapabilities"] != capabilities or constraints["allowHostPID"] != spec["hostPID"]:
            complaints.append(f"{switches}: {constraints}")
    return complaints


def test_every_value_changes_the_output():
    complaints = []
    for path, default in leaves():
        if path not in OTHER:
            complaints.append(f"{path}: no other value is listed here")
            continue
        value, context = OTHER[path]
        if value == default:
            complaints.append(f"{path}: the other value is the default")
        elif rendered(merged(context, at(path, value))) == rendered(context):
            complaints.append(f"{path}: nothing changes")
    return complaints


def test_the_schema_has_every_value_and_no_other():
    schema = LOADED.schema

    def paths(node, prefix=""):
        for key, child in node.get("properties", {}).items():
            if "$ref" in child:
                child = schema["definitions"][child["$ref"].rpartition("/")[2]]
            path = f"{prefix}{key}"
            below = list(paths(child, f"{path}."))
            whole = path in SINGLE_VALUES or child.get("type") == "array" or not below
            yield from [path] if whole else below

    # `resources` has free names below requests and limits; `enabled` is the parent chart's.
    known = {path if not path.startswith("resources.") else "resources" for path in paths(schema)} - {"enabled"}
    listed = {path if not path.startswith("resources.") else "resources" for path, _ in leaves()}
    return sorted(f"{path}: only in one of values.yaml and the schema" for path in known ^ listed)


def test_every_value_is_described():
    """By a comment above it or above its neighbours; values below a described group need none."""
    complaints = []
    names = {path.rpartition(".")[2] for path, _ in leaves()}
    described = {}  # by indentation: whether the last key, or the neighbours above it, had a comment
    above = ""
    for line in (CHART / "values.yaml").read_text().splitlines():
        key = re.match(r"( *)([A-Za-z]\w*):", line)
        if key:
            depth = len(key[1])
            described = {at: known for at, known in described.items() if at <= depth}
            known = above.startswith("#") or (above != "" and described.get(depth, False)) or described.get(depth - 2, False)
            described[depth] = known
            complaints += [] if known or key[2] not in names else [line.strip()]
        above = line.strip()
    return complaints


def test_a_misspelt_value_is_refused_at_every_level():
    complaints = []
    # `global` may have values for other charts.
    for path in set(groups()) - {"global"}:
        values = at(f"{path}.enabeld" if path else "enabeld", True)
        reason = refusal(values)
        if reason is None or "enabeld" not in reason:
            complaints.append(f"{path or 'top'}: {reason}")
    return complaints


def test_a_value_of_another_type_is_refused():
    complaints = []
    for path, default in leaves():
        wrong = [7] if isinstance(default, (str, int)) else "text" if isinstance(default, (list, dict)) else 7
        if refusal(at(path, wrong)) is None:
            complaints.append(f"{path}: {wrong!r} is taken")
    return complaints


def test_a_null_value_is_optional_or_refused_by_its_name():
    complaints = []
    for path, _ in leaves():
        values = merged(ALL_ON, at(path, None))
        reason = refusal(values)
        if reason is not None:
            needed = f"missing property '{path.rpartition('.')[2]}'" in reason or f"set {path}" in reason
            complaints += [] if needed else [f"{path}: {reason}"]
            continue
        objects = rendered(values)
        made = json.dumps([item for item in objects if item["kind"] != "ConfigMap"])
        complaints += [f"{path}: there is a <nil>"] if "<nil>" in made else []
        complaints += [f"{path}: there is a null"] if "null" in json.dumps(of_kind(objects, "PodMonitor") + of_kind(objects, "ServiceMonitor")) else []
    return complaints


def test_nonsense_is_refused():
    cases = [
        {"port": 0},
        {"port": 65536},
        {"port": "10072"},
        {"image": {"pullPolicy": "Sometimes"}},
        {"image": {"digest": "sha256:abc"}},
        {"image": {"tag": "a b"}},
        {"fullnameOverride": "Upper_Case"},
        {"fullnameOverride": "a..b"},
        {"nameOverride": "a.-b"},
        {"serviceAccount": {"name": "a-.b"}},
        {"commonLabels": {"a b": "c"}},
        {"commonLabels": {"a/b/c": "d"}},
        {"podLabels": {"k" * 64: "a"}},
        {"podAnnotations": {"a b": "c"}},
        {"daemonsetAnnotations": {"/a": "b"}},
        {"nodeSelector": {"": "a"}},
        {"port": 80},
        {"port": 1023, "podNamespaces": {"enabled": True}},
        {"port": 80, "containerSecurityContext": {"capabilities": {"drop": ["ALL"]}}},
        {"listenAddresses": ["127.0.0.1 :10072"]},
        {"listenAddresses": [" :10072"]},
        {"secrets": [{"name": "a", "mountPath": "/etc/a"}, {"name": "b", "mountPath": "/etc/a"}]},
        {"secrets": [{"name": "a", "mountPath": "/etc/a"}, {"name": "b", "mountPath": "/etc/a/"}]},
        {"podNamespaces": {"enabled": True}, "secrets": [{"name": "a", "mountPath": "/host/proc"}]},
        {"podNamespaces": {"enabled": True}, "extraArgs": ["--collector.netns=named"]},
        {"podNamespaces": {"enabled": True}, "extraArgs": ["--log.format=json", "--collector.netns-max=3"]},
        {"revisionHistoryLimit": 2147483648},
        {"prometheus": {"podMonitor": {"interval": "1s1m"}}},
        {"prometheus": {"podMonitor": {"interval": "5s5s"}}},
        {"podNamespaces": {"enabled": "yes"}},
        {"podNamespaces": {"select": "self"}},
        {"podNamespaces": {"select": "a,,b"}},
        {"podNamespaces": {"select": "blue,all"}},
        {"podNamespaces": {"max": 0}},
        {"extraArgs": ["collector.top=1"]},
        {"extraArgs": "--collector.top=1"},
        {"env": {"1A": "x"}},
        {"env": {"HOST_IP": "x"}},
        {"env": {"A": {"valueFrom": {}}}},
        {"listenAddresses": ["localhost"]},
        {"listenAddresses": [":9100"]},
        {"port": 9100, "listenAddresses": ["$(HOST_IP):10072"]},
        {"port": None},
        {"dashboards": None},
        {"namespaceOverride": "a.b"},
        {"commonLabels": {"team": "a b"}},
        {"secrets": [{"name": "a"}]},
        {"secrets": [{"name": "a", "mountPath": "relative"}]},
        {"hostNetwork": False},
        {"updateStrategy": {"rollingUpdate": {"maxSurge": 1}}},
        {"updateStrategy": {"rollingUpdate": {"maxUnavailable": 0}}},
        {"updateStrategy": {"type": "Recreate"}},
        {"podLabels": {"app.kubernetes.io/name": "other"}},
        {"commonLabels": {"helm.sh/chart": "other"}},
        {"podLabels": {"a": 1}},
        {"dashboards": {"labels": {"grafana_dashboard": 1}}},
        {"prometheus": {"podMonitor": {"interval": "15"}}},
        {"prometheus": {"podMonitor": {"scheme": "HTTPS"}}},
        {"prometheus": {"podMonitor": {"path": "metrics"}}},
        {"prometheus": {"monitor": {"enabled": True}}},
        {"prometheus": {"serviceMonitor": {"enabled": True}}},
        {"prometheus": {"podMonitor": {"port": "Metrics"}}},
        {"prometheus": {"podMonitor": {"attachMetadata": {"nodes": True}}}},
        {"prometheus": {"podMonitor": {"labelLimit": -1}}},
        {"prometheus": {"podMonitor": {"enabled": True, "basicAuth": {"a": 1}, "authorization": {"b": 1}}}},
        {"service": {"enabled": True}, "prometheus": {"serviceMonitor": {"enabled": True, "scrapeTimeout": "1m"}}},
        {"prometheusRule": {"disabledAlerts": ["PortsLow"]}},
        {"prometheusRule": {"additionalRuleLabels": {"a-b": "c"}}},
        {"prometheusRule": {"thresholds": {"warning": 75}}},
        {"prometheusRule": {"thresholds": {"warning": "0.75"}}},
        {"prometheusRule": {"enabled": True, "thresholds": {"warning": 0.95}}},
        {"prometheusRule": {"enabled": True, "disabledAlerts": ["TimewaitPortsLwo"]}},
        {"prometheusRule": {"runbookBase": "runbooks.example"}},
        {"prometheusRule": {"runbookBase": "https://runbooks.example/#"}},
        {"global": {"imageRegistry": 1}},
        {"global": {"imagePullSecrets": ["Not_A_Name"]}},
        {"env": {"A": {"value": "x"}}},
        {"configmaps": [{"name": "a", "mountPath": "etc"}]},
        {"secrets": [{"name": "a", "mountPath": "/etc/a"}], "configmaps": [{"name": "b", "mountPath": "/etc/a"}]},
        {"extraVolumes": [{"emptyDir": {}}]},
        {"extraVolumes": [{"name": "proc", "emptyDir": {}}]},
        {"extraVolumes": [{"name": "a", "emptyDir": {}}, {"name": "a", "emptyDir": {}}]},
        {"extraVolumeMounts": [{"name": "a", "mountPath": "/a"}]},
        {"sidecars": [{"image": "a"}]},
        {"sidecars": [{"name": "timewait-exporter", "image": "a"}]},
        {"sidecars": [{"name": "a", "image": "a", "ports": [{"name": "metrics", "containerPort": 1}]}]},
        {"sidecars": [{"name": "a", "image": "a", "ports": [{"name": "b", "containerPort": 10072}]}]},
        {"extraManifests": [7]},
        {"dnsPolicy": "None of these"},
        {"hostUsers": "false"},
        {"openshift": {"enabled": "yes"}},
        {"networkPolicy": {"from": [{}]}},
        {"networkPolicy": {"from": [{"podselector": {}}]}},
        {"tolerations": [{"effect": "NoScheduling"}]},
        {"resources": {"limit": {"memory": "64Mi"}}},
        {"resources": {"limits": {"memory": "64 MB"}}},
        {"resources": {"limits": {"memory": "1mi"}}},
        {"livenessProbe": {"scheme": "https"}},
        {"livenessProbe": {"httpHeaders": {"Authorization": "Basic x"}}},
        {"readinessProbe": {"httpHeaders": [{"name": "Authorization"}]}},
        {"livenessProbe": {"periodSeconds": 0}},
    ]
    return [f"taken: {case}" for case in cases if refusal(case) is None]


def test_refusals_name_the_value_and_the_fix():
    cases = {
        "service.enabled": {"prometheus": {"serviceMonitor": {"enabled": True}}},
        "warning must be below critical": {"prometheusRule": {"enabled": True, "thresholds": {"warning": 0.95}}},
        "TimewaitPortsLwo": {"prometheusRule": {"enabled": True, "disabledAlerts": ["TimewaitPortsLwo"]}},
        "two volumes at mountPath /a": {"configmaps": [{"name": n, "mountPath": "/a"} for n in "bc"]},
        "choose others": {"sidecars": [{"name": "a", "image": "a", "ports": [{"containerPort": 10072}]}]},
    }
    reasons = {wanted: refusal(values) or "" for wanted, values in cases.items()}
    return [f"{wanted}: {reason}" for wanted, reason in reasons.items() if wanted not in reason]


def test_sensible_values_are_accepted():
    cases = [
        {"global": {"anything": 1}, "enabled": True},
        {"livenessProbe": None, "readinessProbe": None, "securityContext": None, "containerSecurityContext": None},
        {"podNamespaces": {"enabled": True, "select": "blue,green-2"}},
        {"podNamespaces": {"enabled": True, "select": "all"}},
        {"resources": {"limits": {"memory": "64Mi", "cpu": 1}, "requests": {"cpu": 0.1}}},
        {"resources": {"limits": {"memory": "1e9", "cpu": ".5"}}},
        {"listenAddresses": ["[$(HOST_IP)]:10072", "127.0.0.1:10072", ":1"]},
        {"updateStrategy": {"rollingUpdate": {"maxUnavailable": 25}}},
        {"image": {"registry": ""}},
        {"livenessProbe": {"scheme": "TCP"}, "readinessProbe": {"scheme": "TCP"}},
        {"affinity": None, "tolerations": None, "resources": None},
        {"prometheus": {"podMonitor": {"enabled": True, "interval": "1m30s", "scrapeTimeout": ""}}},
        {"prometheus": {"podMonitor": {"interval": "5s", "scrapeTimeout": "10s"}}},
        {"fullnameOverride": "a.b-c.d", "podAnnotations": {"Example.com/a_b.c": "a b"}, "commonLabels": {"a.b/c": ""}},
        {"port": 1024},
        {"port": 443, "containerSecurityContext": {"capabilities": {"add": ["NET_BIND_SERVICE"]}}},
        {"containerSecurityContext": {"capabilities": None}},
        {"containerSecurityContext": {"capabilities": {"add": None}}},
        {"secrets": [{"name": "a", "mountPath": "/etc/a"}, {"name": "a", "mountPath": "/etc/a/b"}]},
        {"secrets": [{"name": "a", "mountPath": "/host/proc"}], "extraArgs": ["--collector.netns=named"]},
        {"podNamespaces": {"enabled": True}, "extraArgs": ["--collector.netnsx", "--collector.top=3"]},
    ]
    return [f"{case}: {reason}" for case in cases if (reason := refusal(case))]


def test_a_scrape_timeout_above_the_interval_is_refused():
    """As in the operator; only where both are given and the monitor is on."""
    complaints = []
    for interval, timeout, taken in [
        ("5s", "10s", False),
        ("15s", "15s", True),
        ("15s", "15s1ms", False),
        ("15s", "15001ms", False),
        ("15s", "15000ms", True),
        ("1m", "60s", True),
        ("1m", "61s", False),
        ("1m30s", "90s", True),
        ("1m30s", "1m31s", False),
        ("89s", "1m30s", False),
        ("1h", "59m60s", True),
        ("1h", "59m61s", False),
        ("1m", "30s500ms", True),
        ("500ms", "1s", False),
        ("010s", "9s", True),
        ("010s", "11s", False),
        ("999999h", "999999h", True),
        ("", "10h", True),
        ("1s", "", True),
    ]:
        values = merged(ON["monitor"], {"prometheus": {"podMonitor": {"interval": interval, "scrapeTimeout": timeout}}})
        reason = refusal(values)
        if (reason is None) != taken:
            complaints.append(f"{interval}, {timeout}: {reason}")
        elif reason and f"scrapeTimeout {timeout} is above interval {interval}" not in reason:
            complaints.append(f"{interval}, {timeout}: does not say so: {reason}")
    return complaints


def test_names_are_short_enough_and_consistent():
    complaints = []
    for name, values in {
        "tw": {},
        "timewait-exporter": {},
        "r" * 53: {},
        "a": {"fullnameOverride": "f" * 80},
        "b": {"fullnameOverride": "f" * 51 + ".f"},
        "c": {"nameOverride": "n" * 62 + ".n"},
    }.items():
        objects = rendered(merged(ALL_ON, values), name=name)
        for item in objects:
            for text in (item["metadata"]["name"], item["metadata"]["labels"]["app.kubernetes.io/name"]):
                if not re.fullmatch("[a-z0-9]([a-z0-9.-]{,61}[a-z0-9])?", text) or ".-" in text:
                    complaints.append(f"{name}: {text}")
        keys = [(item["kind"], item["metadata"]["name"]) for item in objects]
        if len(set(keys)) < len(keys):
            complaints.append(f"{name}: two objects of one name: {keys}")
        selector = the(objects, "DaemonSet")["spec"]["selector"]["matchLabels"]
        labels = the(objects, "DaemonSet")["spec"]["template"]["metadata"]["labels"]
        for what, chosen in {
            "DaemonSet": selector,
            "PodMonitor": the(objects, "PodMonitor")["spec"]["selector"]["matchLabels"],
            "ServiceMonitor": the(objects, "ServiceMonitor")["spec"]["selector"]["matchLabels"],
            "Service": the(objects, "Service")["spec"]["selector"],
            "NetworkPolicy": the(objects, "NetworkPolicy")["spec"]["podSelector"]["matchLabels"],
        }.items():
            if not chosen.items() <= labels.items() or chosen != selector:
                complaints.append(f"{name}: {what} does not select the pods")
        if pod(objects)["serviceAccountName"] != the(objects, "ServiceAccount")["metadata"]["name"]:
            complaints.append(f"{name}: the service account is another")
    return complaints


def test_a_label_that_is_given_twice_exists_once_with_the_more_specific_value():
    values = merged(ALL_ON, {
        "commonLabels": {"team": "all", "grafana_dashboard": "no"},
        "podLabels": {"team": "pods"},
        "podAnnotations": {"kubectl.kubernetes.io/default-container": "other"},
        "prometheus": {"podMonitor": {"additionalLabels": {"team": "monitors"}}},
        "prometheusRule": {"additionalLabels": {"team": "rules"}},
    })
    objects = rendered(values)
    template = the(objects, "DaemonSet")["spec"]["template"]["metadata"]
    found = {item["kind"]: item["metadata"]["labels"]["team"] for item in objects} | {"pod": template["labels"]["team"]}
    wanted = dict.fromkeys(found, "all") | {"pod": "pods", "PodMonitor": "monitors", "PrometheusRule": "rules"}
    complaints = [] if found == wanted else [f"{found}"]
    if {item["metadata"]["labels"]["grafana_dashboard"] for item in of_kind(objects, "ConfigMap")} != {"1"}:
        complaints.append("the sidecar does not find the boards")
    if template["annotations"]["kubectl.kubernetes.io/default-container"] != "other":
        complaints.append(f"{template['annotations']}")
    return complaints


def test_large_numbers_are_rendered_without_exponents():
    """Helm's own numbers are floats, and 1000000 would be 1e+06."""
    values = merged(SWITCHES["monitor"], {
        "env": {"A": 1000000, "B": 0.5, "C": True, "D": "007", "E": 1e21, "F": -3.0},
        "terminationGracePeriodSeconds": 2000000,
        "revisionHistoryLimit": 3000000,
        "prometheus": {"podMonitor": {"sampleLimit": 1000000}},
    })
    objects = rendered(values)
    rendered_values = [variable["value"] for variable in container(objects)["env"]]
    limit = the(objects, "PodMonitor")["spec"]["sampleLimit"]
    rendered_values += [pod(objects)["terminationGracePeriodSeconds"], the(objects, "DaemonSet")["spec"]["revisionHistoryLimit"]]
    wanted = ["1000000", "0.5", "true", "007", "1" + "0" * 21, "-3", 2000000, 3000000, 1000000]
    return [] if [*rendered_values, limit] == wanted else [f"{rendered_values}, {limit!r}"]


def test_a_probe_can_be_disabled():
    one = container(rendered({"livenessProbe": None}))
    return [] if "livenessProbe" not in one and "readinessProbe" in one else [f"{sorted(one)}"]


def test_every_object_is_in_the_requested_namespace():
    complaints = []
    wanted = merged(ALL_ON, {"namespaceOverride": "here", "dashboards": {"namespace": "grafana"}})
    for item in rendered(wanted):
        expected = "grafana" if item["kind"] in ("ConfigMap", "GrafanaDashboard") else "here"
        expected = None if item["kind"] in ("SecurityContextConstraints", "ClusterRole") else expected
        if item["metadata"].get("namespace") != expected:
            complaints.append(f"{item['kind']}: {item['metadata'].get('namespace')}")
    for kind in ("PodMonitor", "ServiceMonitor"):
        if the(rendered(wanted), kind)["spec"]["namespaceSelector"] != {"matchNames": ["here"]}:
            complaints.append(f"the {kind} selects another namespace")
    return complaints


# --- rules and boards are the repository's ----------------------------------------------------------------------------


def rules_complaints(objects, where):
    complaints = []
    for name, path in RULES.items():
        found = [item for item in of_kind(objects, "PrometheusRule") if item["metadata"]["name"].endswith(f"-{name}")]
        if len(found) != 1 or found[0]["spec"] != yaml.safe_load(path.read_text()):
            complaints.append(f"{where}: {path.name} is not what its object has")
    return complaints


def boards_complaints(objects, where):
    maps = [item for item in of_kind(objects, "ConfigMap") if "grafana_dashboard" in item["metadata"]["labels"]]
    found = {name: text for item in maps for name, text in item["data"].items()}
    expected = {path.name: path.read_text() for path in BOARDS}
    complaints = [f"{where}: {name} is not the same, byte by byte" for name in expected if found.get(name) != expected[name]]
    complaints += [f"{where}: {name} is no board" for name in found.keys() - expected.keys()]
    for item in maps:
        # What kubectl apply keeps of an object in an annotation is limited to 256 KiB.
        if len(json.dumps(item)) > 262144:
            complaints.append(f"{where}: {item['metadata']['name']} is too large for kubectl apply")
    return complaints


def test_rules_and_boards_of_the_chart_are_the_repositorys():
    objects = rendered(ALL_ON)
    return rules_complaints(objects, "chart") + boards_complaints(objects, "chart")


def test_alerts_can_be_dropped_labelled_and_given_other_thresholds_and_runbooks():
    wanted = yaml.safe_load(RULES["alerts"].read_text())
    found = 0
    for group in wanted["groups"]:
        group["rules"] = [rule for rule in group["rules"] if rule.get("alert") != "TimewaitPortsLow"]
        for rule in group["rules"]:
            rule["expr"], warning = re.subn(r"([<>]=? )0\.75\b", r"\g<1>0.6", rule["expr"])
            rule["expr"], critical = re.subn(r"([<>]=? )0\.9\b", r"\g<1>0.75", rule["expr"])
            found += warning + critical
            if "alert" not in rule:
                continue
            rule.setdefault("labels", {}).update({"team": "network", "severity": "page"})
            rule["annotations"]["dashboard"] = "https://grafana.example"
            page, _, anchor = rule["annotations"]["runbook_url"].partition("#")
            rule["annotations"]["runbook_url"] = f"https://runbooks.example/timewait#{anchor}"
    values = {
        "enabled": True,
        "recording": False,
        "disabledAlerts": ["TimewaitPortsLow"],
        "additionalRuleLabels": {"team": "network", "severity": "page"},
        "additionalRuleAnnotations": {"dashboard": "https://grafana.example"},
        "thresholds": {"warning": 0.6, "critical": 0.75},
        "runbookBase": "https://runbooks.example/timewait",
    }
    made = the(rendered({"prometheusRule": values}), "PrometheusRule")["spec"]
    complaints = [] if found else ["no threshold is left in the alerts"]
    rules = lambda spec: {(rule.get("alert"), rule["expr"]): rule for group in spec["groups"] for rule in group["rules"]}
    made, wanted = rules(made), rules(wanted)
    complaints += [f"only one has {key}" for key in made.keys() ^ wanted.keys()]
    return complaints + [f"{key}: {made[key]}" for key in made.keys() & wanted.keys() if made[key] != wanted[key]]


def test_a_parent_charts_registry_and_pull_secrets_are_used():
    pull = {"imageRegistry": "mirror.example", "imagePullSecrets": ["all", {"name": "own"}]}
    objects = rendered({"global": pull, "imagePullSecrets": [{"name": "own"}]})
    complaints = [] if container(objects)["image"].startswith("mirror.example/timewait-exporter/") else [container(objects)["image"]]
    secrets = pod(objects)["imagePullSecrets"]
    return complaints + ([] if secrets == [{"name": "all"}, {"name": "own"}] else [f"{secrets}"])


def test_openshift_uses_the_projects_uid_and_an_scc_that_allows_the_pod():
    objects = rendered(SWITCHES["openshift"])
    spec, binding = pod(objects), the(objects, "RoleBinding")
    complaints = [f"{key} is set" for key in ("runAsUser", "runAsGroup") if key in spec["securityContext"]]
    if binding["roleRef"]["name"] != "system:openshift:scc:hostnetwork-v2":
        complaints.append(f"bound to {binding['roleRef']}")
    if binding["subjects"][0]["name"] != spec["serviceAccountName"]:
        complaints.append("another service account is bound")
    objects = rendered(merged(SWITCHES["openshift"], SWITCHES["namespaces"]))
    spec, one, scc = pod(objects), container(objects), the(objects, "SecurityContextConstraints")
    role, binding = the(objects, "ClusterRole"), the(objects, "RoleBinding")
    annotation = the(objects, "DaemonSet")["spec"]["template"]["metadata"]["annotations"]["openshift.io/required-scc"]
    if not annotation == scc["metadata"]["name"] == role["rules"][0]["resourceNames"][0]:
        complaints.append(f"the pod asks for {annotation}")
    if binding["roleRef"]["name"] != role["metadata"]["name"]:
        complaints.append("the service account may not use it")
    if sorted(scc["allowedCapabilities"]) != sorted(one["securityContext"]["capabilities"]["add"]):
        complaints.append(f"capabilities {scc['allowedCapabilities']}")
    kinds = {next(key for key in volume if key != "name") for volume in spec["volumes"]}
    if not kinds <= set(scc["volumes"]) or not (scc["allowHostPID"] and scc["allowHostNetwork"]):
        complaints.append("the SCC does not allow the pod")
    return complaints


def test_the_readmes_proxy_protects_the_exporter():
    objects = rendered(example("kube-rbac-proxy"))
    exporter, proxy = pod(objects)["containers"]
    complaints = [] if "--web.listen-address=127.0.0.1:10073" in exporter["args"] else [f"{exporter['args']}"]
    complaints += [f"{probe} asks the node's address" for probe in ("livenessProbe", "readinessProbe")
                   if exporter[probe]["httpGet"].get("host") != "127.0.0.1"]
    if the(objects, "PodMonitor")["spec"]["podMetricsEndpoints"][0]["port"] not in {p["name"] for p in proxy["ports"]}:
        complaints.append("the monitor does not ask the proxy")
    if not pod(objects)["automountServiceAccountToken"]:
        complaints.append("the proxy has no token for its reviews")
    return complaints


def test_rules_and_boards_of_kustomize_are_the_repositorys():
    objects = built(EVERYTHING)
    complaints = rules_complaints(objects, "kustomize") + boards_complaints(objects, "kustomize")
    for name, path in RULES.items():
        copy_of = (MANIFESTS / f"components/rules/{name}.yaml").read_text()
        text = copy_of.partition("\nspec:\n")[2]
        if "".join(line.removeprefix("  ") for line in text.splitlines(keepends=True)) != path.read_text():
            complaints.append(f"components/rules/{name}.yaml is not {path.name} indented: run tests/cluster/refresh")
    return complaints


def test_the_packaged_chart_contains_files_and_no_links():
    complaints = []
    expected = {f"files/rules/{path.name}": path for path in RULES.values()}
    expected |= {f"files/dashboards/{path.name}": path for path in BOARDS}
    with tempfile.TemporaryDirectory() as folder:
        with tarfile.open(helm.package(CHART, destination=folder)) as archive:
            members = {member.name.partition("/")[2]: member for member in archive}
            for name, path in expected.items():
                member = members.get(name)
                if member is None or not member.isreg() or archive.extractfile(member).read() != path.read_bytes():
                    complaints.append(f"{name} is not {path.name}")
            links = [name for name, member in members.items() if not (member.isreg() or member.isdir())]
    return complaints + [f"{name} is a link" for name in links]


# --- schemas ----------------------------------------------------------------------------------------------------------


@functools.cache
def every_object():
    """All objects of every combination of switches, every other value, and every kustomization: text by origin."""
    cases = {}
    for chosen in itertools.product((False, True), repeat=len(SWITCHES)):
        on = [switch for switch, is_on in zip(SWITCHES, chosen) if is_on]
        cases["+".join(on) or "defaults"] = rendered(merged(*(SWITCHES[switch] for switch in on)))
    for path, (value, context) in OTHER.items():
        cases[path] = rendered(merged(context, at(path, value)))
        cases[f"{path} and all"] = rendered(merged(ALL_ON, context, at(path, value)))
    for name in ("a web configuration", "kube-rbac-proxy"):
        cases[f"README, {name}"] = rendered(example(name))
    cases["openshift and namespaces"] = rendered(merged(SWITCHES["openshift"], SWITCHES["namespaces"]))
    cases["TCP"] = rendered({"livenessProbe": {"scheme": "TCP"}, "readinessProbe": {"scheme": "TCP"}})
    # Words that YAML does not read as text, and invalid volume names.
    for word in ("123", "true"):
        names = ("nameOverride", "fullnameOverride", "namespaceOverride", "priorityClassName")
        values = merged(ALL_ON, dict.fromkeys(names, word), {"serviceAccount": {"name": word}})
        cases[f"called {word}"] = rendered(merged(ALL_ON, {"commonLabels": {"a": word}}), name=word, namespace=word)
        cases[f"all is {word}"] = rendered(values)
    secrets = [{"name": name, "mountPath": f"/etc/#{n} #: x"} for n, name in enumerate(("s" * 200, "a.b", "a.b", "1"))]
    cases["secrets"] = rendered({"secrets": secrets})
    for folder in (BASE, PODS, EVERYTHING):
        cases[folder] = built(folder)
    texts = {}
    for where, objects in cases.items():
        for item in objects:
            texts.setdefault(json.dumps(item, sort_keys=True), where)
    return [(f"{where}: {json.loads(text)['kind']}", json.loads(text)) for text, where in texts.items()]


def test_kubernetes_accepts_every_object():
    complaints = []
    for where, item in every_object():
        if item["apiVersion"] in (*OPERATORS, OPENSHIFT):
            continue
        for version in KUBERNETES:
            try:
                kubernetes_validate.validate(item, version, strict=True)
            except kubernetes_validate.ValidationError as error:
                complaints.append(f"{where}, {version}: {'.'.join(map(str, error.path))}: {error.message}")
    return complaints


def test_volumes_have_unique_valid_names():
    complaints = []
    for where, item in every_object():
        if item["kind"] == "DaemonSet":
            spec = item["spec"]["template"]["spec"]
            names = [volume["name"] for volume in spec.get("volumes", [])]
            mounted = [mount["name"] for mount in spec["containers"][0].get("volumeMounts", [])]
            wrong = [name for name in names if not re.fullmatch("[a-z0-9-]{1,63}", name)]
            if wrong or sorted(set(names)) != sorted(mounted):
                complaints.append(f"{where}: {names}, {mounted}")
    return complaints


def test_the_schemas_of_kubernetes_find_a_typo():
    item = copy.deepcopy(the(rendered(), "DaemonSet"))
    item["spec"]["template"]["spec"]["hostNetwrok"] = True
    try:
        kubernetes_validate.validate(item, KUBERNETES[-1], strict=True)
    except kubernetes_validate.ValidationError:
        return []
    return ["an unknown field is taken"]


def operator_says(cases):
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump([{"from": where, "object": item} for where, item in cases], file)
        file.flush()
        done = subprocess.run(
            ["node", "check.mjs", file.name], cwd=os.environ["OPERATOR"], capture_output=True, text=True
        )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@functools.cache
def openshift_schema():
    """OpenShift's own definitions, made strict: OpenAPI 2 accepts unknown fields."""
    with gzip.open(pathlib.Path(os.environ["OPENSHIFT"]) / "openshift-openapi-spec.json.gz") as file:
        definitions = json.load(file)["definitions"]
    for definition in definitions.values():
        if definition.get("properties"):
            definition["additionalProperties"] = False
    name = "com.github.openshift.api.security.v1.SecurityContextConstraints"
    return {"definitions": definitions, "$ref": f"#/definitions/{name}"}


def openshift_says(item):
    validator = jsonschema.Draft4Validator(openshift_schema())
    # `priority` is required and may be null, which OpenAPI 2 cannot say.
    return [error.message for error in validator.iter_errors(item | {"priority": 0})]


def test_openshift_accepts_the_constraints_and_finds_a_typo():
    found = [(where, item) for where, item in every_object() if item["apiVersion"] == OPENSHIFT]
    complaints = [f"{where}: {reason}" for where, item in found for reason in openshift_says(item)]
    slip = found[0][1] | {"allowHostNetwrok": True}
    return complaints + ([] if openshift_says(slip) else ["an unknown field is taken"])


def test_the_operators_accept_every_object():
    cases = [case for case in every_object() if case[1]["apiVersion"] in OPERATORS]
    results = operator_says(cases)
    if len(results) != len(cases) or {item["kind"] for _, item in cases} != OPERATOR_KINDS:
        return [f"{len(results)} answers on {len(cases)} objects"]
    return [line for line in results if not line.startswith("ok ")]


def test_the_definitions_of_the_operator_find_a_typo():
    monitor = the(rendered(SWITCHES["monitor"]), "PodMonitor")
    unknown, wrong = copy.deepcopy(monitor), copy.deepcopy(monitor)
    unknown["spec"]["podMetricsEndpoints"][0]["intervall"] = "15s"
    wrong["spec"]["podMetricsEndpoints"][0]["interval"] = "soon"
    results = operator_says([("unknown", unknown), ("wrong", wrong)])
    return [line for line in results if not line.startswith("FAIL ")]


# --- consistency --------------------------------------------------------------------------------------------------------


def test_the_alerts_use_the_job_and_instance_is_the_node():
    complaints = []
    known = set(re.findall(r'up\{job=~"([^"]+)"\}', RULES["alerts"].read_text()))
    for where, objects in {"chart": rendered(ALL_ON), "kustomize": built(EVERYTHING)}.items():
        monitor = the(objects, "PodMonitor")["spec"]
        labels = the(objects, "DaemonSet")["spec"]["template"]["metadata"]["labels"]
        job = labels[monitor["jobLabel"]]
        complaints += [f"{where}: job {job} is not {rule}" for rule in known if not re.fullmatch(rule, job)]
        endpoint = monitor["podMetricsEndpoints"][0]
        node = {"sourceLabels": ["__meta_kubernetes_pod_node_name"], "targetLabel": "instance"}
        if node not in endpoint["relabelings"]:
            complaints.append(f"{where}: instance is not the node")
        ports = {port["name"] for port in container(objects)["ports"]}
        policy = the(objects, "NetworkPolicy")["spec"]["ingress"][0]["ports"]
        for port in [endpoint["port"], *(port["port"] for port in policy)]:
            if port not in ports:
                complaints.append(f"{where}: no port is called {port}")
    return complaints + ([] if known else ["no alert names a job"])


def test_kustomize_and_the_chart_run_the_same_pod():
    complaints = []
    for folder, values in {BASE: {}, PODS: SWITCHES["namespaces"]}.items():
        ours, charts = built(folder), rendered(values, name="timewait-exporter")
        if pod(ours) != pod(charts):
            complaints.append(f"{folder}: the pod is not the chart's")
        if the(ours, "DaemonSet")["spec"]["updateStrategy"] != the(charts, "DaemonSet")["spec"]["updateStrategy"]:
            complaints.append(f"{folder}: updates go otherwise")
    for kind in ("PodMonitor", "NetworkPolicy"):
        ours = copy.deepcopy(the(built(EVERYTHING), kind)["spec"])
        charts = copy.deepcopy(the(rendered(ALL_ON), kind)["spec"])
        charts.pop("namespaceSelector", None)
        for spec in (ours, charts):
            (spec.get("selector") or spec["podSelector"]).clear()
        if ours != charts:
            complaints.append(f"{kind} is not the chart's")
    return complaints


def test_kustomize_has_nothing_on_that_could_surprise():
    kinds = sorted(item["kind"] for item in built(BASE))
    return [] if kinds == ["DaemonSet", "Namespace", "ServiceAccount"] else [f"made: {kinds}"]


def test_another_namespace_applies_to_every_object():
    with tempfile.TemporaryDirectory(dir=ROOT / "target") as folder:
        up = os.path.relpath(ROOT / EVERYTHING, folder)
        text = f"resources: [{up}]\nnamespace: observability\n"
        (pathlib.Path(folder) / "kustomization.yaml").write_text(text)
        objects = built(os.path.relpath(folder, ROOT))
    return [
        f"{item['kind']} stays in {item['metadata'].get('namespace')}"
        for item in objects
        if item["metadata"].get("namespace", item["metadata"]["name"]) != "observability"
    ]


def test_the_program_accepts_the_arguments_and_answers_the_probes():
    help_text = subprocess.run([os.environ["EXPORTER"], "--help"], capture_output=True, text=True, check=True).stdout
    complaints = []
    for values in ({}, SWITCHES["namespaces"]):
        flags = [argument.partition("=")[0] for argument in container(rendered(values))["args"]]
        complaints += [f"no such flag: {flag}" for flag in flags if not re.search(rf"{re.escape(flag)}\b", help_text)]
    if complaints:
        return complaints
    port = free_port()
    path = the(rendered(SWITCHES["monitor"]), "PodMonitor")["spec"]["podMetricsEndpoints"][0]["path"]
    with running(rendered({"port": port})) as requests:
        return [complaint for url, headers in [*requests, (path, {})] if (complaint := answer(port, url, headers, 200))]


def test_a_web_configuration_from_a_secret_allows_only_probes_without_a_password():
    values = example("a web configuration")
    reason = refusal(values)
    if reason:
        return [f"the README's example: {reason}"]
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        # "secret"; without TLS, for which there is no certificate here.
        users = "basic_auth_users:\n  kubelet: $2y$07$abcdefghijklmnopqrstuuIs/gM0Fa6RfwP3m2cvkz9ya9wGeauxW\n"
        (pathlib.Path(folder) / "web.yml").write_text(users)
        with running(rendered(merged(values, {"port": port})), {"/etc/timewait": folder}) as requests:
            complaints = [answer(port, path, headers, 200) for path, headers in requests]
            complaints += [answer(port, path, {}, 401) for path, _ in requests]
    return [complaint for complaint in complaints if complaint]


def example(name):
    """The values of an example in the chart's README: the block that begins with a comment of this name."""
    text = re.search(rf"```yaml\n( *)# {re.escape(name)}\n(.*?)\n *```", (CHART / "README.md").read_text(), re.S)
    return yaml.safe_load(textwrap.dedent(text[1] + "# x\n" + text[2]))


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@contextlib.contextmanager
def running(objects, mounts=None):
    """The program with the container's arguments, and the probes' requests: path and headers."""
    one = container(objects)
    arguments = one["args"]
    for mount, folder in (mounts or {}).items():
        assert mount in (found["mountPath"] for found in one["volumeMounts"])
        arguments = [argument.replace(mount, folder) for argument in arguments]
    probes = [one[probe]["httpGet"] for probe in ("livenessProbe", "readinessProbe")]
    requests = [
        (probe["path"], {header["name"]: header["value"] for header in probe.get("httpHeaders", [])}) for probe in probes
    ]
    started = subprocess.Popen([os.environ["EXPORTER"], *arguments], stderr=subprocess.DEVNULL)
    try:
        yield requests
    finally:
        started.terminate()
        started.wait(20)


def test_the_capabilities_of_the_container_suffice_for_another_pods_namespace():
    """And only those: the program runs with the capabilities that the manifest adds, and no others."""
    one = container(built(PODS))
    capabilities = one["securityContext"]["capabilities"]["add"]
    user = [] if os.geteuid() == 0 else ["-Ur"]
    script = pathlib.Path(__file__).with_name("other_namespace.py")
    with tempfile.TemporaryDirectory() as empty:
        where = {"/host/proc": "/proc", "/host/run/netns": empty}
        words = (word.partition("=") for word in one["args"])
        arguments = [f"{flag}={where.get(value, value)}" for flag, _, value in words]
        # A separate PID namespace: this machine may have more network namespaces than the manifest's maximum.
        alone = ["unshare", *user, "-n", "--pid", "--mount-proc", "--fork", "--kill-child"]
        done = subprocess.run(
            [*alone, sys.executable, script, ",".join(capabilities), os.environ["EXPORTER"], *arguments],
            capture_output=True,
            text=True,
            timeout=60,
        )
    if done.returncode:
        return [done.stderr]
    result = json.loads(done.stdout)
    bits = sum(1 << {"SYS_PTRACE": 19, "SYS_ADMIN": 21}[name] for name in capabilities)
    complaints = [] if int(result["effective"], 16) == bits else [f"it ran with {result['effective']}"]
    if not any(f'inode="{result["pod"]}"' in identity for identity in result["identities"]) or result["series"] < 20:
        complaints.append(f"namespace {result['pod']} is not exported: {result['series']} series, {result['identities']}")
    return complaints


def answer(port, path, headers, wanted):
    """What is wrong with the answer to a request, tried until the server listens."""
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers=headers)
    end = time.monotonic() + 20
    while True:
        try:
            with urllib.request.urlopen(request, timeout=10) as response:
                status = response.status
        except urllib.error.HTTPError as error:
            status = error.code
        except OSError as error:
            if time.monotonic() > end:
                return f"{path}: {error}"
            time.sleep(0.05)
            continue
        return None if status == wanted else f"{path}: {status} and not {wanted}"


def main():
    passed = failed = 0
    tests = [item for item in globals().items() if item[0].startswith("test_")]
    for name, test in tests:
        try:
            complaints = test()
        except Exception as error:  # a check that fails in any way is a failed test, and the others continue
            complaints = [f"{type(error).__name__}: {error}"]
        if complaints:
            failed += 1
            print(f"FAIL {name}")
            for complaint in complaints[:20]:
                print(f"       {complaint}")
        else:
            passed += 1
            print(f"ok   {name}")
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
