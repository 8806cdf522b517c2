//! The document against src/report/report.schema.json, by as much of JSON Schema as that uses; and the
//! schema against the types.

use proptest::prelude::*;
use schemars::generate::SchemaSettings;
use serde_json::Value;

use super::*;
use crate::domain::collectors::CollectorId;
use crate::domain::snapshot::Snapshot;
use crate::report::testing::{report, snapshot};

fn schema() -> Value {
    serde_json::from_str(include_str!("../report.schema.json")).unwrap()
}

#[test]
fn the_schema_is_that_of_the_types() {
    let mut settings = SchemaSettings::draft2020_12().for_serialize();
    settings.inline_subschemas = true;
    let schema = settings
        .into_generator()
        .into_root_schema_for::<Document<'_>>();
    let generated = serde_json::to_string_pretty(&schema).unwrap() + "\n";
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/src/report/report.schema.json");
    if std::env::var_os("TIMEWAIT_UPDATE_GOLDEN").is_some() {
        std::fs::write(file, &generated).unwrap();
    }
    assert!(
        generated == include_str!("../report.schema.json"),
        "{file} differs from the types: run this test with TIMEWAIT_UPDATE_GOLDEN=1 and review the diff"
    );
}

fn written(report: &Report) -> Value {
    serde_json::to_value(document(report)).unwrap()
}

/// What is wrong with a value, and where.
fn errors(value: &Value, schema: &Value, path: &str) -> Vec<String> {
    let mut errors = Vec::new();
    let complain = |what: &str| format!("{path}: {what}: {value}");
    for (keyword, rule) in schema.as_object().unwrap() {
        match keyword.as_str() {
            "type" if !has_type(value, rule) => errors.push(complain("type")),
            "enum" if !rule.as_array().unwrap().contains(value) => errors.push(complain("enum")),
            "const" if rule != value => errors.push(complain("const")),
            "minimum" if value.is_number() && value.as_f64() < rule.as_f64() => {
                errors.push(complain("minimum"));
            }
            "maximum" if value.is_number() && value.as_f64() > rule.as_f64() => {
                errors.push(complain("maximum"));
            }
            "required" => {
                for name in rule
                    .as_array()
                    .unwrap()
                    .iter()
                    .filter(|_| value.is_object())
                {
                    if value.get(name.as_str().unwrap()).is_none() {
                        errors.push(complain(&format!("no {name}")));
                    }
                }
            }
            "items" => {
                for item in value.as_array().into_iter().flatten() {
                    errors.extend(self::errors(item, rule, &format!("{path}[]")));
                }
            }
            "anyOf" | "oneOf" => {
                let alternatives = rule.as_array().unwrap().iter();
                let mut failures = alternatives.map(|rule| self::errors(value, rule, path));
                if failures.all(|errors| !errors.is_empty()) {
                    errors.push(complain(keyword));
                }
            }
            "properties"
            | "additionalProperties"
            | "format"
            | "type"
            | "enum"
            | "const"
            | "minimum"
            | "maximum"
            | "description"
            | "title"
            | "$schema" => {}
            other => panic!("the schema uses {other}, which is not understood here"),
        }
    }
    for (name, member) in value.as_object().into_iter().flatten() {
        let path = format!("{path}.{name}");
        // Consumers must accept undocumented members; here each one is an error.
        let properties = schema.get("properties").and_then(|known| known.get(name));
        match properties.or_else(|| schema.get("additionalProperties")) {
            Some(rule) => errors.extend(self::errors(member, rule, &path)),
            None => errors.push(format!("{path} is not in the schema")),
        }
    }
    errors
}

fn has_type(value: &Value, rule: &Value) -> bool {
    let is = |name: &Value| match name.as_str().unwrap() {
        "null" => value.is_null(),
        "string" => value.is_string(),
        "integer" => value.is_u64() || value.is_i64(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("the schema names the type {other}"),
    };
    match rule {
        Value::Array(names) => names.iter().any(is),
        name => is(name),
    }
}

#[test]
fn a_document_matches_the_schema() {
    for time_wait in [0, 50, 80, 99] {
        assert_eq!(errors(&written(&report(time_wait)), &schema(), ""), [""; 0]);
    }
}

#[test]
fn the_validator_above_finds_errors() {
    let mut document = written(&report(99));
    document["severity"] = "bad".into();
    document["namespaces"][0]["more"] = 1.into();
    document["namespaces"][0]["destinations"][0]["headroom"] = Value::Null;
    document.as_object_mut().unwrap().remove("kernel");
    assert_eq!(errors(&document, &schema(), "").len(), 4);
}

#[test]
fn the_numbers_are_those_of_the_snapshot() {
    let document = written(&report(99));
    assert_eq!(document["severity"], "critical");
    let own = &document["namespaces"][0];
    assert_eq!(own["netns"], Value::Null);
    assert_eq!(own["destinations"][0]["time_wait"], 99);
    assert_eq!(own["port_range"]["exhaustion_ratio_ipv4"], 1.0);
    assert_eq!(own["findings"][0]["id"], "destination_exhausted");
    let remedies = own["findings"][0]["remedies"].as_array().unwrap();
    let reuse = remedies
        .iter()
        .find(|remedy| remedy["id"] == "tcp_tw_reuse");
    let effect = &reuse.unwrap()["effect"];
    assert_eq!(
        (&effect["before"]["headroom"], &effect["after"]["headroom"]),
        (&0.into(), &99.into())
    );
    assert_eq!(own["holders"][0]["processes"][0]["pid"], 77);
}

proptest! {
    #[test]
    fn whatever_is_missing_the_document_matches_the_schema(missing: u16, time_wait in 0_u16..100) {
        let has = |bit: u16| missing & (1 << bit) == 0;
        let mut snapshot = snapshot(time_wait);
        if let Some(sockets) = snapshot.sockets_mut() {
            if !has(0) { sockets.by_age = None; }
            if let Some(ports) = &mut sockets.ports {
                if !has(1) { ports.by_destination = None; }
                if !has(2) { ports.by_source = None; }
            }
            if !has(3) { sockets.ports = None; }
        }
        if !has(4) { snapshot.set(CollectorId::Sockets, None); }
        if !has(5) { snapshot.set(CollectorId::Sysctl, None); }
        if !has(6) { snapshot = snapshot.without_buckets(); }
        if !has(7) { snapshot = Snapshot::default(); }
        let report = Report::new("1", "h".to_owned(), "k".to_owned(), snapshot.into());
        prop_assert_eq!(errors(&written(&report), &schema(), ""), [""; 0]);
    }
}

fn texts<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
    match value {
        Value::String(text) => found.push(text),
        Value::Array(items) => items.iter().for_each(|item| texts(item, found)),
        Value::Object(members) => members.values().for_each(|item| texts(item, found)),
        _ => {}
    }
}

#[test]
fn no_text_has_two_spaces_in_a_row() {
    // Enough reserved ports for a caution about the length of the line.
    let mut crowded = snapshot(99);
    let settings = crowded.settings_mut();
    settings.unwrap().reserved_ports = Some((1..20_000).step_by(2).collect());
    let ports = &mut crowded.sockets_mut().unwrap().ports;
    ports.as_mut().unwrap().sets.reserved = Some((1..20_000).step_by(2).collect());
    let crowded = Report::new("1", "h".to_owned(), "k".to_owned(), crowded.into());
    let documents = [report(0), report(80), report(99), crowded].map(|report| written(&report));
    let mut found = Vec::new();
    for document in &documents {
        texts(document, &mut found);
    }
    assert!(found.iter().any(|text| text.contains("4,095 bytes")));
    for text in found {
        assert!(!text.contains("  "), "{text:?}");
    }
}
