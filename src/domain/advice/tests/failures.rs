//! Failed connect() calls.

use super::*;

fn with_failures(host: &Host, recent: u64, seconds: u64) -> Advice {
    let counts = [
        ("failures", 500),
        ("recent_failures", recent),
        ("recent_seconds", seconds),
    ];
    advise(
        &host
            .snapshot()
            .with(CollectorId::Failures, Counts::from_iter(counts)),
    )
}

#[test]
fn failed_calls_are_a_finding_while_they_are_recent() {
    let quiet = using(100, TcpState::TimeWait);
    let advice = with_failures(&quiet, 0, 600);
    assert!(find(&advice, Id::ConnectFailures).is_none());
    let advice = with_failures(&quiet, 73, 600);
    let finding = found(&advice, Id::ConnectFailures);
    assert_eq!(advice.severity, Severity::Critical);
    assert!(
        finding
            .sentence
            .starts_with("73 connect() calls found no free port (EADDRNOTAVAIL) within 10 minutes"),
        "{}",
        finding.sentence
    );
    assert!(finding.sentence.contains("it was a burst"));
    assert!(has(finding, RemedyId::FindHolders));
    let full = using(28_232, TcpState::Established);
    let advice = with_failures(&full, 1, 0);
    let finding = found(&advice, Id::ConnectFailures);
    assert!(finding.sentence.starts_with("1 connect() call found"));
    assert!(!finding.sentence.contains("burst"));
    assert_eq!(
        advice.findings.first().unwrap().id,
        Id::DestinationExhausted
    );
}
