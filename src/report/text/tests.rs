//! The text report.

use super::*;
use crate::domain::collectors::CollectorId;
use crate::domain::namespace::NamespaceIdentity;
use crate::report::Missing;
use crate::report::testing::report;

const PLAIN: Style = Style {
    color: false,
    width: None,
};

#[test]
fn the_state_comes_first_and_every_part_is_there() {
    let text = render(&report(99), false, None, PLAIN);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(
        lines.first(),
        Some(&"CRITICAL  web-7  2025-10-09 08:53:20 UTC")
    );
    assert_eq!(lines.last(), Some(&"timewait_exporter 1.2.3, Linux 6.18.0"));
    for part in [
        "FINDINGS",
        "Port range 40000-40099",
        "DESTINATIONS",
        "LOCAL ADDRESSES",
        "TIME-WAIT",
        "PROCESSES",
        "KERNEL SETTINGS",
        "COLLECTORS",
        "sysctl -w net.ipv4.tcp_tw_reuse=1",
        "Effect: 99 left instead of 0, 0% in use instead of 100%.",
        "198.51.100.1 port 5432",
        "slabinfo   FAILED",
        "belong to no process",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
}

#[test]
fn nothing_but_colour_is_added_on_a_terminal() {
    let mut report = report(99);
    report.missing = Some(Missing::default());
    report.namespaces[0].identity = Some(NamespaceIdentity {
        label: "a-namespace-with-its-process".to_owned(),
        comm: Some("nginx".to_owned()),
        pid: Some(4_321),
        ..NamespaceIdentity::default()
    });
    for width in [None, Some(72), Some(64)] {
        let style = |color| Style { color, width };
        let text = render(&report, false, None, style(true));
        assert!(text.contains("\x1b[1;31mCRITICAL\x1b[0m"));
        let mut bare = String::new();
        let mut rest = text.as_str();
        while let Some((before, after)) = rest.split_once("\x1b[") {
            bare.push_str(before);
            rest = after.split_once('m').map_or("", |(_, rest)| rest);
        }
        bare.push_str(rest);
        assert_eq!(bare, render(&report, false, None, style(false)));
    }
}

#[test]
fn a_process_cannot_write_to_the_terminal_by_its_name() {
    let text = render(&report(99), false, None, PLAIN);
    assert!(text.contains("evil?[2J (pid 77)"), "{text}");
    assert!(!text.contains('\x1b'));
}

#[test]
fn lines_keep_to_the_width_except_for_commands() {
    for width in [40, 60, 80, 120] {
        let style = Style {
            color: false,
            width: Some(width),
        };
        for line in render(&report(99), false, None, style).lines() {
            let is_command = line.contains("sysctl") || line.contains("ss -tan");
            let is_table = line.starts_with("  ip_local_reserved");
            let length = line.chars().count();
            assert!(length <= width || is_command || is_table, "{width}: {line}");
        }
    }
}

#[test]
fn commands_already_in_the_text_are_not_repeated() {
    let text = render(&report(99), false, None, PLAIN);
    let widen = "sysctl -w net.ipv4.ip_local_port_range='16384 65535'";
    assert_eq!(text.matches(widen).count(), 1, "{text}");
    assert!(text.contains("(same commands as above)"));
}

#[test]
fn blocks_without_content_are_not_shown() {
    let mut report = report(0);
    let own = &mut report.namespaces[0];
    own.holders = None;
    own.snapshot = own.snapshot.clone().without(CollectorId::Sockets);
    own.advice.findings.clear();
    let text = render(&report, false, None, PLAIN);
    for title in [
        "FINDINGS",
        "DESTINATIONS",
        "ADDRESSES",
        "TIME-WAIT over IPv4",
        "PROCESSES",
    ] {
        assert!(!text.contains(title), "{title} in {text}");
    }
}

#[test]
fn what_could_not_be_read_is_unknown() {
    let mut report = report(0);
    report.missing = Some(Missing {
        unreadable: Some(2),
        left_out: 0,
        absent: 0,
        has_unlisted_names: false,
    });
    assert!(!report.is_complete());
    let text = render(&report, false, None, PLAIN);
    assert!(text.starts_with("UNKNOWN  web-7  "), "{text}");
    assert!(
        text.contains("\n2 network namespaces could not be entered"),
        "{text}"
    );
}

#[test]
fn watching_shows_destinations_first_with_what_has_changed() {
    let text = render(&report(99), true, Some(&report(50)), PLAIN);
    let place = |title| {
        text.find(title)
            .unwrap_or_else(|| panic!("{title} in {text}"))
    };
    assert!(place("DESTINATIONS") < place("CHANGES") && place("CHANGES") < place("FINDINGS"));
    let row = text
        .lines()
        .find(|line| line.contains("198.51.100.1 port 5432 "));
    assert!(
        text.contains("  CHANGE  ") && text.contains(" +49 "),
        "{row:?}"
    );
    let changes = &text[place("CHANGES")..place("FINDINGS")];
    assert!(
        changes.contains("New: connect() to 198.51.100.1"),
        "{changes}"
    );
    assert!(changes.contains("Gone: No problems found"), "{changes}");
    let unchanged = render(&report(50), true, Some(&report(50)), PLAIN);
    assert!(!unchanged.contains("CHANGES"), "{unchanged}");
    let first = render(&report(50), true, None, PLAIN);
    assert!(!first.contains("  CHANGE  "), "{first}");
}

#[test]
fn the_watched_part_fits_into_24_rows_of_80_columns() {
    let style = Style {
        color: false,
        width: Some(80),
    };
    let text = render(&report(99), true, Some(&report(50)), style);
    let shown: Vec<&str> = text.lines().take(23).collect();
    let shown = shown.join("\n");
    for part in [
        "CRITICAL  web-7",
        "198.51.100.1 port 5432",
        "+49",
        "New: connect()",
        "CRITICAL (destination_exhausted)",
    ] {
        assert!(shown.contains(part), "{part} in {shown}");
    }
}

#[test]
fn changed_sysctls_are_shown_with_their_consequence() {
    let (mut before, now) = (report(50), report(50));
    let snapshot = &mut before.namespaces[0].snapshot;
    let settings = snapshot.settings_mut().unwrap();
    settings.tcp_tw_reuse = Some(7);
    let sockets = snapshot.sockets_mut().unwrap();
    sockets.ports.as_mut().unwrap().usable += 1_000;
    let text = render(&now, true, Some(&before), PLAIN);
    for change in ["tcp_tw_reuse: 7 -> 0", "Usable ports per destination: 1,"] {
        assert!(text.contains(change), "{change}: {text}");
    }
}
