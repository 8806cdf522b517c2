//! The text as a reader meets it.

use super::*;
use crate::domain::advice::Id;
use crate::report::testing::report;

const PLAIN: Style = Style {
    color: false,
    width: None,
};

#[test]
fn the_state_comes_first_and_every_part_is_there() {
    let text = render(&report(99), None, PLAIN);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(
        lines.first(),
        Some(&"timewait_exporter 1.2.3, Linux 6.18.0")
    );
    assert_eq!(lines.get(2), Some(&"CRITICAL"));
    for part in [
        "FINDINGS",
        "PORT RANGE",
        "DESTINATIONS",
        "LOCAL ADDRESSES",
        "TIME-WAIT",
        "PROCESSES",
        "SETTINGS",
        "READ",
        "sysctl -w net.ipv4.tcp_tw_reuse=1",
        "Gives: headroom 0 -> 99, ratio 100% -> 0%.",
        "198.51.100.1 port 5432",
        "slabinfo  FAILED",
        "belong to no process any more",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
}

#[test]
fn nothing_but_colour_is_added_on_a_terminal() {
    let colored = Style {
        color: true,
        width: None,
    };
    let text = render(&report(99), None, colored);
    assert!(text.contains("\x1b[1;31mCRITICAL\x1b[0m"));
    let mut bare = String::new();
    let mut rest = text.as_str();
    while let Some((before, after)) = rest.split_once("\x1b[") {
        bare.push_str(before);
        rest = after.split_once('m').map_or("", |(_, rest)| rest);
    }
    bare.push_str(rest);
    assert_eq!(bare, render(&report(99), None, PLAIN));
}

#[test]
fn a_process_cannot_write_to_the_terminal_by_its_name() {
    let text = render(&report(99), None, PLAIN);
    assert!(text.contains("evil?[2J (pid 77)"), "{text}");
    assert!(!text.contains('\x1b'));
}

#[test]
fn lines_keep_to_the_width_but_for_commands() {
    for width in [40, 60, 80, 120] {
        let style = Style {
            color: false,
            width: Some(width),
        };
        for line in render(&report(99), None, style).lines() {
            let is_command = line.contains("sysctl") || line.contains("ss -tan");
            let is_table = line.starts_with("  ip_unprivileged");
            let length = line.chars().count();
            assert!(length <= width || is_command || is_table, "{width}: {line}");
        }
    }
}

#[test]
fn commands_that_stand_above_are_not_told_again() {
    let text = render(&report(99), None, PLAIN);
    let widen = "sysctl -w net.ipv4.ip_local_port_range='16384 65535'";
    assert_eq!(text.matches(widen).count(), 1, "{text}");
    assert!(text.contains("the commands stand above"));
}

#[test]
fn what_has_changed_since_the_last_look_is_told() {
    let text = render(&report(99), Some(&report(50)), PLAIN);
    let (_, changed) = text.split_once("CHANGED").unwrap();
    let (changed, _) = changed.split_once("FINDINGS").unwrap();
    assert!(
        changed.contains("New: connect() to 198.51.100.1"),
        "{changed}"
    );
    assert!(
        changed.contains("Gone: Ephemeral ports are plentiful"),
        "{changed}"
    );
    assert!(changed.contains("50 -> 99 ports held (+49)"), "{changed}");
    let text = render(&report(50), Some(&report(50)), PLAIN);
    assert!(text.contains("CHANGED\n  Nothing."), "{text}");
}

#[test]
fn changed_settings_and_what_comes_of_them_are_told() {
    let (mut before, now) = (report(50), report(50));
    let snapshot = &mut before.namespaces[0].snapshot;
    let settings = snapshot.settings_mut().unwrap();
    settings.tcp_tw_reuse = Some(7);
    let sockets = snapshot.sockets_mut().unwrap();
    sockets.ports.as_mut().unwrap().usable += 1_000;
    before.namespaces[0].advice.findings.clear();
    let mut bound = now.namespaces[0].advice.findings[0].clone();
    bound.id = Id::BoundInRange;
    bound.destination = None;
    let mut with = |mut report: Report, sentence: &str| {
        bound.sentence = sentence.to_owned();
        report.namespaces[0].advice.findings.push(bound.clone());
        report
    };
    let (before, now) = (with(before, "20 ports"), with(now, "21 ports"));
    let text = render(&now, Some(&before), PLAIN);
    for told in [
        "tcp_tw_reuse: 7 -> ",
        "Usable ports of each destination: 1,",
        "Now: 21 ports",
    ] {
        assert!(text.contains(told), "{told}: {text}");
    }
}
