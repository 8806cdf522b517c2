//! Metrics of the host's other network namespaces: which there are, who lives there, and which are
//! not told. What is told of each has the label `netns` and is of the other modules.

use super::Values::{Host, HostValue};
use super::{MetricDescription, Series, float};
use crate::domain::namespace::{HostSnapshot, Namespaces};

pub(super) const METRICS: &[MetricDescription] = &[
    MetricDescription::gauge(
        "timewait_netns_info",
        &["netns", "inode", "pid", "comm", "container_id", "pod_uid"],
        "1 for each network namespace that is told beside the exporter's own: its name (or, without one, \
         its inode), its inode, one process that lives there with its name, and the container and \
         Kubernetes pod of that process by the name of its control group. What is unknown is empty.",
        Host(info),
    ),
    MetricDescription::gauge(
        "timewait_netns_unreadable",
        &[],
        "Network namespaces that were found and could not be entered, of which nothing is told. \
         All processes whose namespace may not be looked up count as one. Absent where other \
         namespaces are not looked at (--collector.netns=self).",
        HostValue(|host| Some(float(found(host)?.unreadable))),
    ),
    MetricDescription::gauge(
        "timewait_netns_left_out",
        &[],
        "Network namespaces that were found and are not told, since there are more than \
         --collector.netns-max; none of them has a worse ratio than those that are told, as far as they \
         were read. Absent where other namespaces are not looked at.",
        HostValue(|host| Some(float(found(host)?.left_out))),
    ),
];

fn found(host: &HostSnapshot) -> Option<&Namespaces> {
    host.namespaces.as_ref()?.value.as_ref()
}

fn info(host: &HostSnapshot, series: &mut Series) {
    for namespace in host.others() {
        let identity = &namespace.identity;
        let pid = identity.pid.map(|pid| pid.to_string()).unwrap_or_default();
        let text = |value: &Option<String>| value.clone().unwrap_or_default();
        series.push(
            &[
                &identity.label,
                &identity.inode,
                &pid,
                &text(&identity.comm),
                &text(&identity.container.container_id),
                &text(&identity.container.pod_uid),
            ],
            1.0,
        );
    }
}
