//! States other than TIME-WAIT and ESTABLISHED: each has its own fix, and only that one helps.

use std::os::fd::OwnedFd;
use std::thread;
use std::time::{Duration, Instant};

use timewait_exporter::domain::advice::{Finding, Id, RemedyId, Severity, advise};

use super::{
    about_server, apply, client, connections, count, exhaust, finding, remedy, scrape, server,
    small_host,
};
use crate::support::namespace::{in_namespace, set_sysctl};
use crate::support::sockets::{connected, connecting, listening_with, settle};

fn has(finding: &Finding, id: RemedyId) -> bool {
    finding.remedies.iter().any(|remedy| remedy.id == id)
}

#[track_caller]
fn says(finding: &Finding, words: &[&str]) {
    for word in words {
        assert!(
            finding.sentence.contains(word),
            "{word}: {}",
            finding.sentence
        );
    }
}

/// Connections that the client has closed and the server has not. Returns the server's ends.
fn orphans(listener: &OwnedFd, times: usize) -> Vec<OwnedFd> {
    let orphan = |_| connected(client(), listener, server()).orphan_client();
    let servers = (0..times).map(orphan).collect();
    settle();
    servers
}

#[test]
fn sockets_in_close_wait_are_freed_when_their_program_closes_them() {
    in_namespace(|| {
        let listener = small_host();
        let mut leaked = Vec::new();
        for connection in connections(&listener, 48) {
            drop(connection.server);
            leaked.push(connection.client);
        }
        let advice = advise(&scrape());
        let low = about_server(&advice);
        says(
            low,
            &[
                "48 in CLOSE-WAIT",
                "the program on this host has not",
                "will not help",
            ],
        );
        let close = remedy(low, RemedyId::CloseSockets);
        assert!(!has(low, RemedyId::Reuse) && !has(low, RemedyId::FinTimeout));
        // The command that finds the program finds this one.
        let typed = close.commands.concat();
        let found = std::process::Command::new("sh")
            .args(["-c", &typed])
            .output()
            .unwrap();
        let found = String::from_utf8(found.stdout).unwrap();
        let own = format!("pid={}", std::process::id());
        assert_eq!(found.matches(&own).count(), 48, "{typed}: {found}");
        // Settings do not help, close() does.
        set_sysctl("tcp_tw_reuse", "1");
        set_sysctl("tcp_fin_timeout", "1");
        thread::sleep(Duration::from_millis(1_200));
        let few = exhaust(client(), &listener, server());
        assert_eq!(count(&few), 2);
        drop(few);
        drop(leaked);
        let deadline = Instant::now() + Duration::from_secs(10);
        let mut given = 0;
        while given < 48 && Instant::now() < deadline {
            given = count(&exhaust(client(), &listener, server()));
        }
        assert!(given >= 48, "{given}");
    });
}

#[test]
fn orphaned_fin_wait_2_ends_sooner_with_a_lower_fin_timeout() {
    in_namespace(|| {
        let listener = small_host();
        let old = orphans(&listener, 20);
        let advice = advise(&scrape());
        assert!(
            !advice
                .findings
                .iter()
                .any(|finding| finding.destination.is_some())
        );
        let more = orphans(&listener, 28);
        let advice = advise(&scrape());
        let low = about_server(&advice);
        says(
            low,
            &[
                "48 in FIN-WAIT-2 without a process",
                "tcp_fin_timeout ends them",
            ],
        );
        assert!(!has(low, RemedyId::Reuse) && !has(low, RemedyId::CloseSockets));
        let mut lower = remedy(low, RemedyId::FinTimeout);
        assert_eq!(lower.commands, ["sysctl -w net.ipv4.tcp_fin_timeout=10"]);
        apply(&lower);
        // The same fix with a shorter time, for a faster test.
        lower.commands = vec![lower.commands[0].replace("=10", "=2")];
        apply(&lower);
        let young = orphans(&listener, 2);
        assert_eq!(count(&exhaust(client(), &listener, server())), 0);
        thread::sleep(Duration::from_millis(3_500));
        // Sockets closed after the change end sooner, older ones keep their time.
        assert_eq!(count(&exhaust(client(), &listener, server())), 2);
        drop((old, more, young));
    });
}

#[test]
fn a_low_fin_timeout_is_not_lowered_further() {
    in_namespace(|| {
        let listener = small_host();
        set_sysctl("tcp_fin_timeout", "10");
        let kept = orphans(&listener, 48);
        let advice = advise(&scrape());
        assert!(!has(about_server(&advice), RemedyId::FinTimeout));
        drop(kept);
    });
}

#[test]
fn an_unanswered_connect_times_out_sooner_with_fewer_retries() {
    in_namespace(|| {
        let listener = small_host();
        drop(listener);
        // It accepts nothing: beyond its backlog SYNs are dropped.
        let silent = listening_with(server(), 0, false);
        let mut pending: Vec<OwnedFd> = Vec::new();
        while let Ok(socket) = connecting(client(), server()) {
            pending.push(socket);
        }
        assert_eq!(pending.len(), 50);
        let advice = advise(&scrape());
        let exhausted = about_server(&advice);
        says(
            exhausted,
            &["in SYN-SENT", "the peer does not answer", "will not help"],
        );
        let waiting = exhausted
            .values
            .iter()
            .find(|(name, _)| *name == "syn_sent");
        assert!(waiting.is_some(), "{exhausted:?}");
        let fewer = remedy(exhausted, RemedyId::SynRetries);
        apply(&fewer);
        let mut quick = fewer.clone();
        quick.commands = vec![fewer.commands[0].replace("=3", "=1")];
        apply(&quick);
        let deadline = Instant::now() + Duration::from_secs(15);
        let mut given = Vec::new();
        while given.len() < 40 && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(200));
            given.extend(connecting(client(), server()));
        }
        assert!(given.len() >= 40, "{}", given.len());
        drop((silent, pending));
    });
}

#[test]
fn a_rate_that_cannot_be_sustained_is_a_finding_before_the_ports_are_low() {
    in_namespace(|| {
        let listener = small_host();
        set_sysctl("ip_local_port_range", "40000 40199");
        // Fewer than 50 in 10 s are a burst.
        super::close(&listener, 45);
        assert!(
            advise(&scrape())
                .findings
                .iter()
                .all(|finding| finding.id != Id::RateTooHigh)
        );
        super::close(&listener, 75);
        let advice = advise(&scrape());
        let rate = finding(&advice, Id::RateTooHigh);
        assert_eq!(rate.severity, Severity::Warning);
        says(
            rate,
            &[
                "80 ports are left",
                "12 connections per second close, 3.3 are sustainable",
                "ports run out in about 7 s",
            ],
        );
        assert!(has(rate, RemedyId::ReuseConnections));
        // At this rate for 7 s more.
        super::close(&listener, 80);
        assert_eq!(count(&exhaust(client(), &listener, server())), 0);
    });
}
