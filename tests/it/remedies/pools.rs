//! Fixes beyond the range: bind(), buckets, and what does not help.

use std::os::fd::OwnedFd;
use std::thread;
use std::time::Duration;

use rustix::net::{SocketFlags, accept_with, connect};
use timewait_exporter::domain::advice::{Id, RemedyId, Severity, advise};

use super::{
    CLIENT, SERVER, about_server, apply, client, close, connections, count, effect, exhaust,
    exhaust_bind, finding, remedy, scrape, server, small_host,
};
use crate::support::namespace::{add_address, in_namespace, set_sysctl};
use crate::support::sockets::{at, bound, listening};

/// So many connections on ports that bind() chose: they use the ports available to bind(), but do not exhaust a
/// destination.
fn connected_after_bind(many: usize, other: &OwnedFd) -> Vec<OwnedFd> {
    let one = || {
        let socket = bound(at(CLIENT, 0)).unwrap();
        connect(&socket, &at(SERVER, 444)).unwrap();
        [accept_with(other, SocketFlags::CLOEXEC).unwrap(), socket]
    };
    (0..many).flat_map(|_| one()).collect()
}

#[test]
fn too_few_ports_for_bind_are_fixed_by_the_option_a_wider_range_or_another_address() {
    in_namespace(|| {
        let listener = small_host();
        set_sysctl("ip_local_reserved_ports", "1024-39999,40070-65535");
        let other = listening(at(SERVER, 444));
        let kept = connected_after_bind(49, &other);
        let advice = advise(&scrape());
        let low = finding(&advice, Id::BindPoolLow);
        assert!(
            low.sentence.contains("1 port left of 50"),
            "{}",
            low.sentence
        );
        let address = remedy(low, RemedyId::MoreClientAddresses);
        add_address("192.0.2.9/32");
        let there = exhaust_bind("192.0.2.9");
        let here = exhaust_bind(CLIENT);
        let given = u64::try_from(here.len() + there.len()).unwrap();
        assert_eq!(given, effect(&address).after.headroom);
        drop((here, there));
        let widen = remedy(low, RemedyId::WidenRange);
        apply(&widen);
        let here = exhaust_bind(CLIENT);
        assert_eq!(
            u64::try_from(here.len()).unwrap(),
            effect(&widen).after.headroom
        );
        drop((here, kept));
        // With the option connect() chooses the port: each destination has the whole range.
        set_sysctl("ip_local_port_range", "40000 40049");
        let to_one = exhaust(client(), &other, at(SERVER, 444));
        let to_another = exhaust(client(), &listener, server());
        assert_eq!((count(&to_one), count(&to_another)), (50, 50));
    });
}

#[test]
fn an_additional_address_has_every_port_but_those_of_wildcard_sockets() {
    in_namespace(|| {
        let _listener = small_host();
        let _services: Vec<_> = (40_000..40_010)
            .map(|port| listening(at("0.0.0.0", port)))
            .collect();
        let _kept = connected_after_bind(38, &listening(at(SERVER, 444)));
        let advice = advise(&scrape());
        let address = remedy(
            finding(&advice, Id::BindPoolLow),
            RemedyId::MoreClientAddresses,
        );
        add_address("192.0.2.9/32");
        let (here, there) = (exhaust_bind(CLIENT), exhaust_bind("192.0.2.9"));
        assert_eq!((here.len(), there.len()), (2, 40));
        assert_eq!(effect(&address).after.headroom, 42);
    });
}

#[test]
fn few_ports_for_bind_are_informational_where_one_destination_uses_them() {
    in_namespace(|| {
        let listener = small_host();
        let kept = connections(&listener, 48);
        let advice = advise(&scrape());
        let low = finding(&advice, Id::BindPoolLow);
        assert_eq!(low.severity, Severity::Info, "{}", low.sentence);
        assert_eq!(about_server(&advice).severity, Severity::Critical);
        drop(kept);
    });
}

#[test]
fn reserved_listeners_take_no_ports_from_bind() {
    in_namespace(|| {
        let _listener = small_host();
        set_sysctl("ip_local_reserved_ports", "1024-39999,40070-65535");
        let addresses = [CLIENT, "0.0.0.0", "127.0.0.5"].into_iter().cycle();
        let services = addresses
            .zip(40_000..40_008)
            .map(|(address, port)| at(address, port));
        let _services: Vec<_> = services.map(listening).collect();
        let _kept = connected_after_bind(40, &listening(at(SERVER, 444)));
        let advice = advise(&scrape());
        let widen = remedy(finding(&advice, Id::BindPoolLow), RemedyId::WidenRange);
        assert_eq!(widen.settings.len(), 2);
        apply(&widen);
        let here = exhaust_bind(CLIENT);
        assert_eq!(
            u64::try_from(here.len()).unwrap(),
            effect(&widen).after.headroom
        );
    });
}

#[test]
fn more_buckets_let_sockets_stay_in_time_wait() {
    in_namespace(|| {
        let listener = small_host();
        set_sysctl("tcp_max_tw_buckets", "20");
        // The limit is not exact: the kernel checks it before it counts.
        close(&listener, 30);
        let advice = advise(&scrape());
        let near = finding(&advice, Id::BucketsNearLimit);
        let more = remedy(near, RemedyId::MoreBuckets);
        apply(&more);
        close(&listener, 25);
        let buckets = scrape().time_wait_buckets();
        assert!(buckets.unwrap() >= 40, "{buckets:?}");
    });
}

#[test]
fn time_wait_sysctls_do_not_help_where_connections_are_live() {
    in_namespace(|| {
        let listener = small_host();
        let kept = connections(&listener, 50);
        let advice = advise(&scrape());
        let exhausted = about_server(&advice);
        assert!(
            exhausted.sentence.contains("will not help"),
            "{}",
            exhausted.sentence
        );
        assert!(
            exhausted
                .remedies
                .iter()
                .all(|remedy| remedy.id != RemedyId::Reuse)
        );
        set_sysctl("tcp_tw_reuse", "1");
        set_sysctl("tcp_fin_timeout", "1");
        thread::sleep(Duration::from_millis(1_200));
        assert_eq!(count(&exhaust(client(), &listener, server())), 0);
        drop(kept);
    });
}

#[test]
fn a_lower_fin_timeout_does_not_shorten_time_wait() {
    in_namespace(|| {
        let listener = small_host();
        set_sysctl("tcp_fin_timeout", "1");
        close(&listener, 50);
        thread::sleep(Duration::from_secs(4));
        let advice = advise(&scrape());
        finding(&advice, Id::FinTimeout);
        finding(&advice, Id::DestinationExhausted);
        assert_eq!(count(&exhaust(client(), &listener, server())), 0);
    });
}
