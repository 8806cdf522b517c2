//! The kernel as oracle: random situations, each in its own namespace, in which the reported values are
//! compared with what connect() and bind() then do.
//!
//! `TIMEWAIT_ORACLE_SITUATIONS` is their number, `TIMEWAIT_ORACLE_SEED` the first seed, by default a new one.
//! Situation n of a run has the first seed plus n, so that it is replayed alone by its own seed and a count of 1.
//! A situation that fails is simplified as long as it still fails.
//!
//! In reading order: [`situation`] describes what is set up, [`stage`] sets it up and scrapes; then the
//! oracles.

mod bind_oracle;
mod blind_spot;
mod churn;
mod connect_oracle;
mod orphans;
pub mod random;
mod reuse_delay;
mod search_cost;
mod simplify;
mod situation;
mod stage;
mod udp_oracle;

use std::env;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Instant, SystemTime};

use crate::support::namespace::set_sysctl_if_any;
use simplify::simplified;
use situation::Situation;

/// How often a situation is repeated that could not be decided.
const TRIES: usize = 4;

/// The result of a situation.
enum Verdict {
    /// The values were correct; so many calls were compared.
    Agrees { calls: u64 },
    /// Sockets that should be young became old, or vice versa; or sockets were lost.
    Undecided,
    /// A value was wrong.
    Differs(String),
}

/// Tries an oracle on random situations, several at a time, and fails with the simplest situation
/// found in which it differs.
fn prove(
    oracle: &str,
    default_count: u64,
    situation: fn(u64) -> Situation,
    judge: fn(&Situation) -> Verdict,
) {
    let first_seed = setting("TIMEWAIT_ORACLE_SEED").unwrap_or_else(|| {
        let since_epoch = SystemTime::UNIX_EPOCH.elapsed().expect("after 1970");
        u64::from(since_epoch.subsec_nanos()) * 1_000
    });
    let count = setting("TIMEWAIT_ORACLE_SITUATIONS").unwrap_or(default_count);
    // A connection table per namespace, small and without the sockets of others, makes dumps fast.
    set_sysctl_if_any("tcp_child_ehash_entries", "1024");
    println!("{oracle}: {count} situations from TIMEWAIT_ORACLE_SEED={first_seed}");
    let begin = Instant::now();
    let next = AtomicU64::new(0);
    let judged = AtomicU64::new(0);
    let calls = AtomicU64::new(0);
    let failure: Mutex<Option<(Situation, String)>> = Mutex::new(None);
    // They mostly wait.
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let workers = (2 * cores).min(usize::try_from(count).unwrap_or(usize::MAX));
    thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    let is_over = judged.load(Ordering::Relaxed) >= count;
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    // Further situations replace those that could not be decided.
                    if is_over || index >= 2 * count || failure.lock().unwrap().is_some() {
                        break;
                    }
                    let situation = situation(first_seed.wrapping_add(index));
                    match tried(&situation, judge) {
                        Verdict::Agrees { calls: more } => {
                            judged.fetch_add(1, Ordering::Relaxed);
                            calls.fetch_add(more, Ordering::Relaxed);
                        }
                        Verdict::Undecided => {}
                        Verdict::Differs(text) => {
                            *failure.lock().unwrap() = Some((situation, text));
                        }
                    }
                }
            });
        }
    });
    if let Some((situation, text)) = failure.into_inner().unwrap() {
        let seed = situation.seed;
        println!("{oracle}: differs from the kernel, simplifying: {text}");
        let still_fails = |simpler: &Situation| match tried(simpler, judge) {
            Verdict::Differs(text) => Some(text),
            Verdict::Agrees { .. } | Verdict::Undecided => None,
        };
        let (situation, text) = simplified(situation, text, still_fails);
        panic!(
            "{oracle}: {text}\nin {situation:#?}\nreplay the situation that this was made from with \
             TIMEWAIT_ORACLE_SEED={seed} TIMEWAIT_ORACLE_SITUATIONS=1"
        );
    }
    let (judged, calls) = (judged.into_inner(), calls.into_inner());
    let time = begin.elapsed();
    println!("{oracle}: {judged} situations judged, {calls} calls as reported, {time:.1?}");
    assert!(judged >= count, "{oracle}: the others could not be decided");
}

pub fn setting(name: &str) -> Option<u64> {
    let value = env::var(name).ok()?;
    Some(
        value
            .parse()
            .unwrap_or_else(|_| panic!("{name}={value} is no number")),
    )
}

/// The verdict on a situation, given time.
fn tried(situation: &Situation, judge: fn(&Situation) -> Verdict) -> Verdict {
    let mut situation = situation.clone();
    for _ in 0..TRIES {
        // A thread of its own, for the namespace is the thread's.
        let verdict = thread::scope(|scope| scope.spawn(|| judged(&situation, judge)).join());
        match verdict.expect("panics are caught") {
            Verdict::Undecided => situation = situation.slower(),
            verdict => return verdict,
        }
    }
    Verdict::Undecided
}

fn judged(situation: &Situation, judge: fn(&Situation) -> Verdict) -> Verdict {
    let verdict = catch_unwind(AssertUnwindSafe(|| judge(situation))).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string));
        Verdict::Differs(text.unwrap_or_default())
    });
    match verdict {
        Verdict::Differs(text) if has_lost_a_route() => {
            println!(
                "seed {}: a route was lost for a moment: {text}",
                situation.seed
            );
            Verdict::Undecided
        }
        verdict => verdict,
    }
}

/// Whether the calling thread's namespace has sent an ICMPv6 "no route" error to itself, which ends every
/// SYN-SENT socket that receives it. On Linux 6.18, while other namespaces come and go on a busy machine,
/// connect() sometimes fails with ENETUNREACH although every route exists; one situation in some 1,500 lost all
/// its SYN-SENT sockets at once, for which this is the likely cause.
fn has_lost_a_route() -> bool {
    let counters = fs::read_to_string("/proc/thread-self/net/snmp6").unwrap_or_default();
    let mut lines = counters.lines().map(str::split_whitespace);
    lines.any(|mut words| words.next() == Some("Icmp6OutDestUnreachs") && words.next() != Some("0"))
}
