//! Metrics of several network namespaces.

use super::*;

#[test]
fn another_namespace_has_the_same_series_as_the_exporters_under_its_label() {
    let samples = samples_of_host(&rich_host(), &silent_exporter());
    let is_netns = |label: &(String, String)| label.0 == "netns" && label.1 == "blue";
    let (other, own): (Vec<Sample>, Vec<Sample>) = samples
        .into_iter()
        .filter(|sample| !sample.name.starts_with("timewait_netns_"))
        .partition(|sample| sample.labels.iter().any(is_netns));
    let of_host = [
        "timewait_memory_bytes",
        "timewait_connect_failures_total",
        "timewait_exporter_build_info",
    ];
    let mut own = own;
    own.retain(|sample| {
        let is_of = |value: &str| sample.labels.iter().any(|(_, label)| label == value);
        !of_host.contains(&&*sample.name)
            && !["netns", "slabinfo", "failures"].into_iter().any(is_of)
    });
    let without_label = other.into_iter().map(|mut sample| {
        sample.labels.retain(|label| !is_netns(label));
        sample
    });
    assert!(without_label.eq(own));
}

#[test]
fn owners_and_the_number_of_namespaces_not_exported_are_exported() {
    let samples = samples_of_host(&rich_host(), &silent_exporter());
    assert_eq!(
        values_of(&samples, "timewait_netns_info"),
        ["blue 4026532281 77 nginx c0ffee : 1"]
    );
    assert_eq!(
        values_of(&samples, "timewait_netns_age_seconds"),
        ["blue: 12.5"]
    );
    assert_eq!(values_of(&samples, "timewait_netns_unreadable"), [": 1"]);
    assert_eq!(values_of(&samples, "timewait_netns_left_out"), [": 2"]);
    let own_alone = self::samples(&rich_snapshot());
    assert!(names(&own_alone).iter().all(|name| !name.contains("netns")));
}
