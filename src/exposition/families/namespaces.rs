//! Metrics of the host's other network namespaces: which there are, their owners, and which are
//! not exported. The metrics of each have the label `netns` and are in the other modules.

use super::Values::Host;
use super::{MetricDescription, Series, float, labelled, single};
use crate::domain::namespace::{HostSnapshot, Namespaces};

pub(super) const METRICS: &[MetricDescription] = &[
    labelled(
        "timewait_netns_info",
        &["netns", "inode", "pid", "comm", "container_id", "pod_uid"],
        "Always 1, for each other network namespace that is exported: its name (or its inode, if it has none), its \
         inode, one of its processes with its name, and the container and Kubernetes pod of that process, by the \
         name of its control group. Unknown labels are empty.",
        Host(info),
    ),
    labelled(
        "timewait_netns_age_seconds",
        &["netns"],
        "Age of the socket metrics of another network namespace: 0 if dumped for this scrape, otherwise at most \
         --collector.netns-max-age. Namespaces where a ratio can be 0.4 or more are dumped for every scrape. Absent \
         if the namespace has no socket metrics.",
        Host(|host, series| {
            for namespace in host.others() {
                if let Some(age) = namespace.age {
                    series.push(&[&namespace.identity.label], age.as_secs_f64());
                }
            }
            Some(())
        }),
    ),
    single(
        "timewait_netns_unreadable",
        "Network namespaces that were found but could not be entered. All processes whose namespace cannot be \
         determined count as one. Absent if other namespaces are not read (--collector.netns=self).",
        Host(|host, series| series.number(Some(float(found(host)?.unreadable)))),
    ),
    single(
        "timewait_netns_left_out",
        "Network namespaces not exported because of --collector.netns-max; those with the highest ratio are kept, as \
         far as they were read. Absent if other namespaces are not read.",
        Host(|host, series| series.number(Some(float(found(host)?.left_out)))),
    ),
];

fn found(host: &HostSnapshot) -> Option<&Namespaces> {
    host.namespaces.as_ref()?.value.as_ref()
}

fn info(host: &HostSnapshot, series: &mut Series) -> Option<()> {
    for namespace in &found(host)?.exported {
        let identity = &namespace.identity;
        let container = &identity.container;
        let pid = identity.pid.map(|pid| pid.to_string());
        let known = |value: &Option<String>| value.clone().unwrap_or_default();
        series.push(
            &[
                &identity.label,
                &identity.inode,
                &known(&pid),
                &known(&identity.comm),
                &known(&container.container_id),
                &known(&container.pod_uid),
            ],
            1.0,
        );
    }
    Some(())
}
