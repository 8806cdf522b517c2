//! Which container a control group belongs to, for each runtime: `tests/fixtures/cgroup` has
//! `/proc/PID/cgroup` in the layouts that their sources and documents show, with the expected result.

use std::collections::BTreeMap;
use std::fs;

use timewait_exporter::domain::container::ContainerIdentity;

const FIXTURES: &str = "tests/fixtures/cgroup";

fn expected() -> BTreeMap<String, ContainerIdentity> {
    let table = fs::read_to_string(format!("{FIXTURES}/expected.tsv")).unwrap();
    let lines = table.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let fields: Vec<&str> = line.split('\t').collect();
            let text = |field: &str| (!field.is_empty()).then(|| field.to_owned());
            let found = ContainerIdentity {
                container_id: text(fields[1]),
                pod_uid: text(fields[2]),
            };
            (fields[0].to_owned(), found)
        })
        .collect()
}

#[test]
fn the_container_and_the_pod_are_found_in_every_known_layout() {
    let mut seen = 0;
    for (name, found) in expected() {
        let text = fs::read_to_string(format!("{FIXTURES}/{name}.cgroup")).unwrap();
        assert_eq!(ContainerIdentity::parse(&text), found, "{name}");
        seen += 1;
    }
    let files = fs::read_dir(FIXTURES).unwrap().count();
    assert_eq!(seen, files - 1, "every layout is in the table");
}
