//! The job that reads the host's other network namespaces, one after the other.
//!
//! First each is entered and checked: socket counts, opened connections, sysctls and counters cost some 250 us. Where there
//! is no TCP socket there is nothing to dump. A dump iterates over the sockets of all namespaces, which share one table,
//! so that it is only made where it can show something that matters ([`due`]): where a ratio may have become high, in
//! this very run; elsewhere in turn, so that no dump is older than `--collector.netns-max-age`. Meanwhile the last one
//! is exported again, with its age.
//!
//! Runs on one thread that enters one namespace after the other and returns in the end. Nothing that would keep a
//! namespace alive is kept between runs.

mod due;
mod known;
mod visitor;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tracing::{error, warn};

use super::complaint::Complaint;
use super::{CollectorConfig, NamespaceChoice};
use crate::domain::collectors::Enabled;
use crate::domain::namespace::{NamespaceSnapshot, Namespaces, keep_worst, labels};
use crate::domain::snapshot::Outcome;
use crate::kernel::namespaces::{FoundNamespace, Listing, NamespaceKey, NamespaceLister};

use due::{Need, Turns};
use known::{Known, Progress, unread};
use visitor::Visitor;

/// How long namespaces that were never dumped, and are far from their limit, may keep a scrape waiting. The others of
/// them come with the next one.
const FIRST_DUMPS: Duration = Duration::from_millis(800);

/// Time kept for answering: 1/20 of the budget, at least 25 ms, at most a quarter.
const RESERVE: u32 = 20;
const LEAST_RESERVE: Duration = Duration::from_millis(25);

/// How long a run may last, so that its result is there by the deadline.
fn usable(allowed: Duration) -> Duration {
    allowed.saturating_sub((allowed / RESERVE).max(LEAST_RESERVE.min(allowed / 4)))
}

/// What is logged where the time did not suffice: without numbers, so that it is logged once.
const LATE: &str =
    "not all network namespaces were read by the deadline; the others are the first next time";

/// How often a process is sought in named namespaces that have none.
const RESIDENTS_AGAIN: Duration = Duration::from_secs(60);

/// Reads other namespaces.
pub(super) struct NamespacesJob {
    config: CollectorConfig,
    visitor: Option<Visitor>,
    known: HashMap<NamespaceKey, Known>,
    /// Of all files, which take 200 us a namespace. They are also re-read where something has changed.
    file_turns: Turns,
    dump_turns: Turns,
    /// Whether the next run is not to export older dumps of namespaces that were asked for by name.
    fresh: Arc<AtomicBool>,
    residents_sought: Option<Instant>,
    complaint: Complaint,
    /// The names that were logged as unreadable, and why.
    barred: Vec<(String, String)>,
    /// Whether processes whose namespace cannot be determined were logged.
    has_logged_hidden: bool,
}

impl NamespacesJob {
    pub(super) fn new(config: CollectorConfig, fresh: Arc<AtomicBool>) -> Self {
        Self {
            config,
            visitor: None,
            known: HashMap::new(),
            file_turns: Turns::default(),
            dump_turns: Turns::default(),
            fresh,
            residents_sought: None,
            complaint: Complaint::new("netns", None),
            barred: Vec::new(),
            has_logged_hidden: false,
        }
    }

    pub(super) fn run(&mut self, deadline: Instant) -> Outcome<Namespaces> {
        let begin = Instant::now();
        let deadline = begin + usable(deadline.saturating_duration_since(begin));
        let (value, lacking) = match self.read_all(begin, deadline) {
            Ok((namespaces, lacking)) => (Some(namespaces), lacking),
            Err(error) => (None, Some(error)),
        };
        let success = lacking.is_none();
        self.complaint.note(lacking);
        Outcome {
            value,
            success,
            duration: begin.elapsed(),
        }
    }

    /// What was found, and why that is not all of it.
    fn read_all(
        &mut self,
        begin: Instant,
        deadline: Instant,
    ) -> Result<(Namespaces, Option<String>), String> {
        let visitor = self.visitor.take();
        let visitor = visitor.map_or_else(|| Visitor::new(&self.config), Ok);
        let mut visitor = visitor.map_err(|error| error.to_string())?;
        let listing = self.list(&visitor, begin);
        let result = listing.map(|listing| {
            let found = self.read(&mut visitor, listing, begin, deadline);
            if let Err(error) = visitor.home.come_back() {
                warn!(err = %error, "The thread that reads network namespaces cannot return to the exporter's namespace");
            }
            found
        });
        self.visitor = Some(visitor);
        result
    }

    /// What there is. Namespaces are listed with processes where these were sought.
    fn list(&mut self, visitor: &Visitor, now: Instant) -> Result<Listing, String> {
        let (lister, is_first) = (&visitor.lister, self.residents_sought.is_none());
        let with_processes = self.config.namespaces == NamespaceChoice::All;
        let only = match &self.config.namespaces {
            NamespaceChoice::Listed(names) => Some(names.as_slice()),
            _ => None,
        };
        let mut listing = lister.list(only, with_processes)?;
        if with_processes {
            self.residents_sought = Some(now);
        } else if self.wants_residents(lister, &listing, now) {
            lister.add_residents(&mut listing)?;
            self.residents_sought = Some(now);
        }
        // Logged at the first run alone: a namespace that comes and goes is nothing unusual.
        if is_first {
            let directory = self.config.namespace_names.display();
            if !listing.absent.is_empty() {
                let names = listing.absent.join(",");
                warn!(names, %directory, "No network namespaces with these names exist (yet)");
            }
            if self.config.namespaces == NamespaceChoice::Named && !lister.names.exists() {
                warn!(%directory, "The directory of named network namespaces does not exist (yet)");
            }
        }
        if !visitor.lacks_capabilities {
            self.complain_of_barred(&listing);
        }
        Ok(listing)
    }

    /// Logs each unreadable namespace once.
    fn complain_of_barred(&mut self, listing: &Listing) {
        for (name, reason) in &listing.barred {
            if !self.barred.iter().any(|(known, _)| known == name) {
                error!(
                    collector = "netns",
                    netns = name,
                    file = %self.config.namespace_names.join(name).display(),
                    err = reason,
                    "Cannot read a network namespace"
                );
            }
        }
        self.barred.clone_from(&listing.barred);
        if let Some(pid) = listing.hidden_process
            && !std::mem::replace(&mut self.has_logged_hidden, true)
        {
            // Only once: which processes these are changes from scrape to scrape.
            error!(
                collector = "netns",
                pid,
                "Cannot determine the network namespace of this process, and perhaps of others, despite CAP_SYS_PTRACE: \
                 a security module or another user namespace may deny it"
            );
        }
    }

    fn wants_residents(&self, lister: &NamespaceLister, listing: &Listing, now: Instant) -> bool {
        let is_recent = |sought| now.saturating_duration_since(sought) < RESIDENTS_AGAIN;
        let mut found = listing.namespaces.iter();
        !self.residents_sought.is_some_and(is_recent)
            || found.any(|found| {
                self.known.get(&found.key).is_none_or(|known| {
                    let resident = known.resident.as_ref();
                    resident.is_some_and(|resident| !lister.lives_in(resident.pid, found.key))
                })
            })
    }

    /// What is known of each namespace. What is not on the list is forgotten.
    fn recall(
        &mut self,
        lister: &NamespaceLister,
        listed: Vec<FoundNamespace>,
        now: Instant,
    ) -> HashMap<NamespaceKey, Known> {
        let names = listed.iter();
        let labels = labels(names.map(|found| (found.key.inode, found.names.as_slice())));
        let mut before = std::mem::take(&mut self.known);
        let recalled = listed.into_iter().zip(labels).map(|(found, label)| {
            let key = found.key;
            let known = before.remove(&key);
            // The kernel gives the inode of a namespace that has gone to the next one, which may be given its name, too.
            let known =
                known.filter(|known| known.label == label && known.found.made == found.made);
            let enabled = &self.config.enabled;
            let mut known = known.unwrap_or_else(|| Known::new(label, found.clone(), enabled));
            known.found = found;
            known.progress = Progress::NotSeen;
            if self.residents_sought == Some(now) {
                known.choose_resident(lister);
            }
            (key, known)
        });
        recalled.collect()
    }

    /// What is exported, and why that is not all.
    fn read(
        &mut self,
        visitor: &mut Visitor,
        listing: Listing,
        begin: Instant,
        deadline: Instant,
    ) -> (Namespaces, Option<String>) {
        let is_listed = matches!(self.config.namespaces, NamespaceChoice::Listed(_));
        let is_asked = self.fresh.swap(false, Ordering::Relaxed);
        let wants_older = !(self.config.max_age.is_zero() || is_asked && is_listed);
        let mut sockets = visitor.connections();
        let mut known = self.recall(&visitor.lister, listing.namespaces, begin);
        let mut all: Vec<&mut Known> = known.values_mut().collect();
        // Those first that were read the longest ago, so that a deadline that comes soon is no one's alone.
        all.sort_by_key(|known| known.files_read);
        let max_age = self.config.max_age;
        let turns = self.file_turns.take(begin, all.len(), max_age);
        for (index, known) in all.iter_mut().enumerate() {
            if Instant::now() >= deadline {
                break;
            }
            sockets += visitor.check(known, begin, index < turns, deadline);
        }
        // From here on: on a busy host the checks of hundreds may take as long, and none would ever be dumped.
        let first_until = deadline.min(Instant::now() + FIRST_DUMPS);
        let mut is_first = true;
        for (known, need) in self.choose(&mut all, begin, wants_older) {
            let is_first_dump = need == Need::First;
            let end = if is_first_dump { first_until } else { deadline };
            let now = Instant::now();
            if now >= end {
                continue;
            }
            if visitor.dump(known, sockets, end) || is_first {
                known.turn = Some(now);
            }
            is_first = false;
        }
        all.sort_by(|a, b| a.label.cmp(&b.label));
        // Processes whose namespace cannot be determined may be of one namespace or of many.
        let mut unreadable = listing.barred.len() + usize::from(listing.hidden_process.is_some());
        let mut absent = listing.absent.len();
        let mut there = Vec::new();
        for known in all {
            match known.progress {
                Progress::Refused => unreadable += 1,
                // Its names lead to a namespace of another kind, or to one that has just gone.
                Progress::Gone if is_listed => absent += known.found.names.len(),
                Progress::Gone => {}
                _ => there.push(&*known),
            }
        }
        let exported = self.exported(&there, begin, wants_older);
        let is_late = exported.iter().any(|one| one.age.is_none());
        let found = Namespaces {
            left_out: count(there.len() - exported.len()),
            exported,
            unreadable: count(unreadable),
            absent: count(absent),
            has_unlisted_names: listing.unlisted_names.is_some(),
        };
        self.known = known;
        let late = is_late.then(|| LATE.to_owned());
        (found, listing.unlisted_names.or(late))
    }

    /// Those to be dumped in this run, in order: the most urgent first, and of these those first that were dumped the
    /// longest ago.
    fn choose<'a>(
        &mut self,
        all: &'a mut [&mut Known],
        begin: Instant,
        wants_older: bool,
    ) -> Vec<(&'a mut Known, Need)> {
        let checked = all.iter_mut().filter_map(|known| {
            let has_sockets = matches!(known.progress, Progress::Checked);
            let check = known.checked.as_ref().filter(|_| has_sockets)?;
            let need = check.need(known.last.as_ref(), &known.settings());
            if need != Need::InTurn {
                known.last = None;
            }
            Some((&mut **known, if wants_older { need } else { Need::AtOnce }))
        });
        let mut chosen: Vec<_> = checked.collect();
        chosen.sort_by_key(|(known, need)| (*need, known.turn));
        let serving = chosen.iter().filter(|(_, need)| *need == Need::InTurn);
        let max_age = self.config.max_age;
        let mut turns = self.dump_turns.take(begin, serving.count(), max_age);
        chosen.retain(|(known, need)| {
            let is_old = |last: &due::LastDump| last.age(begin) >= max_age;
            let has_turn = *need == Need::InTurn && turns > 0;
            turns -= usize::from(has_turn);
            has_turn || *need != Need::InTurn || known.last.as_ref().is_none_or(is_old)
        });
        chosen
    }

    /// Those that are exported of those that can be read.
    fn exported(
        &self,
        there: &[&Known],
        begin: Instant,
        wants_older: bool,
    ) -> Vec<NamespaceSnapshot> {
        let ranks = there.iter().map(|known| (known.rank, &*known.label));
        let kept = keep_worst(&ranks.collect::<Vec<_>>(), self.config.most_namespaces);
        let kept = there.iter().zip(kept).filter(|(_, is_kept)| *is_kept);
        kept.map(|(known, _)| known.exported(begin, wants_older, &self.config))
            .collect()
    }
}

/// The same namespaces, each as late: for scrapes that cannot wait for the next run to end.
pub(super) fn all_late(found: &Namespaces, enabled: &Enabled) -> Namespaces {
    let exported = found.exported.iter().map(|one| NamespaceSnapshot {
        identity: one.identity.clone(),
        snapshot: unread(enabled),
        age: None,
    });
    Namespaces {
        exported: exported.collect(),
        ..*found
    }
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn even_a_short_timeout_leaves_time_for_the_answer() {
        let milliseconds = Duration::from_millis;
        for (allowed, left) in [(0, 0), (40, 10), (100, 25), (500, 25), (9_500, 475)] {
            assert_eq!(usable(milliseconds(allowed)), milliseconds(allowed - left));
        }
    }
}
