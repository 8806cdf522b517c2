//! The job that looks into the host's other network namespaces, one after the other.
//!
//! First each is entered for a glance at `sockstat`, which costs some 20 us: where that shows no TCP
//! socket there is nothing to walk for, and a walk would pass over the sockets of all namespaces, which
//! share one table. Then the others are walked, those first whose turn is the longest ago, until all are done
//! or the deadline comes; what was not reached is told as late and is first the next time.
//!
//! Runs on one thread that enters one namespace after the other and goes home in the end. Nothing that
//! would keep a namespace alive is held between runs.

mod known;
mod place;
mod turn;
mod visit;

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tracing::{error, warn};

use super::complaint::Complaint;
use super::{CollectorConfig, NamespaceChoice};
use crate::domain::collectors::CollectorId;
use crate::domain::namespace::{NamespaceSnapshot, Namespaces, keep_worst, labels};
use crate::domain::snapshot::{Outcome, Reading};
use crate::kernel::namespaces::{Listing, NamespaceKey, NamespaceLister, missing_rights};
use crate::kernel::procfs::UDP_IN_USE;

use known::Known;
use place::{Place, barred};
pub(super) use visit::all_late;
use visit::{Progress, Visit};

/// Of the namespaces without any TCP socket, so many have their settings and counters read anew in each
/// run, those first that were read the longest ago: the files take 100 us a namespace, five times the
/// glance. Of the others, what was read last is told.
const QUIET_READ_ANEW: usize = 8;

/// What of the time until the deadline is left for the answer: one part of so many, but at least so much, as a
/// busy machine lets a thread wait, where that is not more than a quarter.
const RESERVE: u32 = 20;
const LEAST_RESERVE: Duration = Duration::from_millis(25);

/// How long a run may last, so that what it comes to is there by the deadline. What comes later is not told at
/// all, not even as late.
fn usable(allowed: Duration) -> Duration {
    allowed.saturating_sub((allowed / RESERVE).max(LEAST_RESERVE.min(allowed / 4)))
}

/// What is logged where the time did not suffice, without figures, so that it is said once.
const LATE: &str =
    "not all network namespaces were read by the deadline; those left out are the first next time";

/// How long it takes until a named namespace in which no process was found is looked for one again.
const RESIDENTS_AGAIN: Duration = Duration::from_secs(60);

/// Looks into other namespaces.
#[derive(Debug)]
pub(super) struct NamespacesJob {
    config: CollectorConfig,
    place: Option<Place>,
    known: HashMap<NamespaceKey, Known>,
    run: u64,
    /// How many walks there were, in all runs.
    walks: u64,
    residents_sought: Option<Instant>,
    complaint: Complaint,
    /// Whether rights are missing altogether, which was said at the start.
    lacks_rights: bool,
    /// The names of which it was said that they may not be looked at.
    barred: HashSet<PathBuf>,
    /// Whether it was said that there are processes that may not be looked at.
    told_of_hidden: bool,
    /// How many of the names asked for were not on the list, in this run.
    absent: u64,
}

impl NamespacesJob {
    pub(super) fn new(config: CollectorConfig) -> Self {
        Self {
            config,
            place: None,
            known: HashMap::new(),
            run: 0,
            walks: 0,
            residents_sought: None,
            complaint: Complaint::new("netns", None),
            lacks_rights: false,
            barred: HashSet::new(),
            told_of_hidden: false,
            absent: 0,
        }
    }

    pub(super) fn run(&mut self, deadline: Instant) -> Arc<Outcome<Namespaces>> {
        let begin = Instant::now();
        let allowed = deadline.saturating_duration_since(begin);
        let deadline = begin + usable(allowed);
        let (value, lacking) = match self.look_around(begin, deadline) {
            Ok((namespaces, lacking)) => (Some(namespaces), lacking),
            Err(error) => (None, Some(error)),
        };
        let success = lacking.is_none();
        self.complaint.note(lacking);
        Arc::new(Outcome {
            value,
            success,
            duration: begin.elapsed(),
        })
    }

    /// What was found, and why that is not all of it.
    fn look_around(
        &mut self,
        begin: Instant,
        deadline: Instant,
    ) -> Result<(Namespaces, Option<String>), String> {
        let mut place = match self.place.take() {
            Some(place) => place,
            None => self.settle()?,
        };
        let listing = self.list(&place.lister, begin);
        let result = listing.map(|listing| {
            let (told, is_whole) = self.look_into(&mut place, &listing, deadline);
            if let Err(error) = place.home.come_back() {
                warn!(err = %error, "The thread that looks into network namespaces cannot go back to its own");
            }
            let late = (!is_whole).then(|| LATE.to_owned());
            (told, listing.unlisted_names.or(late))
        });
        self.place = Some(place);
        result
    }

    /// What can only be had on the thread that enters namespaces.
    fn settle(&mut self) -> Result<Place, String> {
        let of_processes = self.config.namespaces == NamespaceChoice::All;
        self.lacks_rights = !missing_rights(of_processes).is_empty();
        Place::new(&self.config).map_err(|error| error.to_string())
    }

    fn list(&mut self, lister: &NamespaceLister, now: Instant) -> Result<Listing, String> {
        let (only, with_processes) = match &self.config.namespaces {
            NamespaceChoice::All => (None, true),
            NamespaceChoice::Named => (None, false),
            NamespaceChoice::Listed(names) => (Some(names.as_slice()), false),
            NamespaceChoice::OwnOnly => (Some(&[][..]), false),
        };
        let listed = lister.list(only, with_processes);
        let mut listing = listed.map_err(|error| error.to_string())?;
        if !with_processes && self.wants_residents(lister, &listing, now) {
            let sought = lister.add_residents(&mut listing);
            sought.map_err(|error| error.to_string())?;
            self.residents_sought = Some(now);
        }
        let mut absent = only_absent(&self.config.namespaces, &listing);
        // The own one is told in any case.
        absent.retain(|name| !lister.is_own(name));
        self.absent = count(absent.len());
        if self.run == 0 {
            self.complain_of_absent(&absent);
            if self.config.namespaces == NamespaceChoice::Named && !lister.has_names() {
                warn!(
                    directory = %self.config.namespace_names.display(),
                    "There is no directory of network namespaces with names (yet)"
                );
            }
        }
        self.complain_of_barred(&listing);
        Ok(listing)
    }

    fn complain_of_absent(&self, absent: &[&str]) {
        // Said at the first look alone: a namespace that comes and goes is nothing unusual.
        if !absent.is_empty() {
            warn!(
                names = absent.join(","),
                directory = %self.config.namespace_names.display(),
                "There are no network namespaces of these names (yet)"
            );
        }
    }

    /// Says what may not be looked at, each once.
    fn complain_of_barred(&mut self, listing: &Listing) {
        if self.lacks_rights {
            return;
        }
        for barred in &listing.barred {
            if !self.barred.contains(&barred.file) {
                error!(
                    collector = "netns",
                    netns = barred.name,
                    file = %barred.file.display(),
                    err = barred.reason,
                    "A network namespace may not be looked at"
                );
            }
        }
        let barred = listing.barred.iter();
        self.barred = barred.map(|barred| barred.file.clone()).collect();
        if let Some(pid) = listing.hidden_process
            && !std::mem::replace(&mut self.told_of_hidden, true)
        {
            // Once and for all: which processes these are changes from scrape to scrape.
            error!(
                collector = "netns",
                pid,
                "The network namespaces of some processes may not be looked at, this one's among them: in spite of \
                 CAP_SYS_PTRACE, as a security module or another user namespace may have it"
            );
        }
    }

    fn wants_residents(&self, lister: &NamespaceLister, listing: &Listing, now: Instant) -> bool {
        let is_long_ago = self
            .residents_sought
            .is_none_or(|sought| now.saturating_duration_since(sought) >= RESIDENTS_AGAIN);
        is_long_ago
            || listing.namespaces.iter().any(|found| {
                let known = self.known.get(&found.key);
                known.is_none_or(|known| {
                    known
                        .pid
                        .is_some_and(|pid| !lister.lives_in(pid, found.key))
                })
            })
    }

    /// One visit for each namespace, with what is remembered of it. What is not on the list is forgotten.
    fn visits<'a>(&mut self, place: &Place, listing: &'a Listing) -> Vec<Visit<'a>> {
        let found = listing.namespaces.iter();
        let named = found.map(|found| (found.key.inode, found.names.as_slice()));
        let mut before = std::mem::take(&mut self.known);
        let labelled = listing.namespaces.iter().zip(labels(named));
        labelled
            .map(|(found, label)| {
                let known = before.remove(&found.key);
                let known = known.filter(|known| known.is_of(&label, found));
                let mut known = known.unwrap_or_else(|| Known::new(label, found, &self.config));
                known.choose_resident(&place.lister, found);
                Visit {
                    found,
                    known,
                    progress: Progress::NotSeen,
                }
            })
            .collect()
    }

    /// What is told, and whether all of that was read.
    fn look_into(
        &mut self,
        place: &mut Place,
        listing: &Listing,
        deadline: Instant,
    ) -> (Namespaces, bool) {
        self.run += 1;
        let mut visits = self.visits(place, listing);
        for visit in &mut visits {
            if Instant::now() >= deadline {
                break;
            }
            visit.progress = match place.glance(&mut visit.known, visit.found) {
                Ok(progress) => progress,
                Err(error) => barred(&mut visit.known, &error, self.lacks_rights),
            };
            if matches!(visit.progress, Progress::Quiet(_)) {
                // Also of one that there will be no room for, and whatever it was before.
                visit.known.rank = Some(visit.known.rank_if_quiet());
            }
        }
        self.read_quiet(place, &mut visits, deadline);
        self.walk_busy(place, &mut visits, deadline);
        self.rank_quiet(place, &mut visits, deadline);
        let result = self.told(&mut visits, listing);
        let visits = visits.into_iter();
        self.known = visits.map(|visit| (visit.found.key, visit.known)).collect();
        result
    }

    /// Finishes those without sockets, as far as there may be room for them to be told.
    fn read_quiet(&self, place: &mut Place, visits: &mut [Visit<'_>], deadline: Instant) {
        let is_quiet = |visit: &&mut Visit<'_>| matches!(visit.progress, Progress::Quiet(_));
        let mut quiet: Vec<&mut Visit<'_>> = visits.iter_mut().filter(is_quiet).collect();
        // Of equals, most of them with ratio 0, those are told whose labels come first. Those with sockets may
        // come to ratio 0, too, and then stand behind them.
        quiet.sort_unstable_by(|a, b| {
            let (a_rank, b_rank) = (a.known.rank_if_quiet(), b.known.rank_if_quiet());
            let worst_first = b_rank.total_cmp(&a_rank);
            worst_first.then(a.known.label.cmp(&b.known.label))
        });
        quiet.truncate(self.config.most_namespaces);
        quiet.sort_by_key(|visit| visit.known.files_read);
        for (turn, visit) in quiet.into_iter().enumerate() {
            if Instant::now() >= deadline {
                return;
            }
            let is_due = turn < QUIET_READ_ANEW || visit.known.readings.is_none();
            self.finish_quiet(place, visit, is_due, deadline);
        }
    }

    fn finish_quiet(
        &self,
        place: &mut Place,
        visit: &mut Visit<'_>,
        is_due: bool,
        deadline: Instant,
    ) {
        let Progress::Quiet(statistics) = &visit.progress else {
            return;
        };
        let statistics = statistics.clone();
        let known = &mut visit.known;
        // The dump of UDP sockets is made inside.
        let is_due = is_due || has_udp_sockets(&statistics);
        if is_due && let Err(error) = place.enter_and_read(known, visit.found, self.run) {
            visit.progress = barred(known, &error, self.lacks_rights);
            return;
        }
        let snapshot = place.quiet_snapshot(known, statistics, &self.config.enabled, deadline);
        known.note_rank(&snapshot);
        visit.progress = Progress::Done(Box::new(snapshot));
    }

    /// Looks whether those without sockets that there was no room for have a usable port, for the rest of the time:
    /// each once, and then some in each run. What was read of those that have is forgotten.
    fn rank_quiet(&self, place: &mut Place, visits: &mut [Visit<'_>], deadline: Instant) {
        let is_quiet = |visit: &&mut Visit<'_>| matches!(visit.progress, Progress::Quiet(_));
        let mut quiet: Vec<&mut Visit<'_>> = visits.iter_mut().filter(is_quiet).collect();
        quiet.sort_by_key(|visit| visit.known.files_read);
        for (turn, visit) in quiet.into_iter().enumerate() {
            let is_due = turn < QUIET_READ_ANEW || visit.known.files_read == 0;
            if !is_due || Instant::now() >= deadline {
                return;
            }
            self.finish_quiet(place, visit, true, deadline);
            visit.known.readings = None;
        }
    }

    /// Walks those with sockets, the one first whose turn it is.
    fn walk_busy(&mut self, place: &mut Place, visits: &mut [Visit<'_>], deadline: Instant) {
        let is_busy = |visit: &&mut Visit<'_>| matches!(visit.progress, Progress::Busy(_));
        let mut busy: Vec<&mut Visit<'_>> = visits.iter_mut().filter(is_busy).collect();
        busy.sort_unstable_by(|a, b| {
            let turn = a.known.turn.cmp(&b.known.turn);
            turn.then(a.known.label.cmp(&b.known.label))
        });
        for (place_in_run, visit) in busy.into_iter().enumerate() {
            if Instant::now() >= deadline {
                return;
            }
            let Progress::Busy(statistics) = &visit.progress else {
                continue;
            };
            let statistics = statistics.clone();
            let known = &mut visit.known;
            if let Err(error) = place.enter_and_read(known, visit.found, self.run) {
                visit.progress = barred(known, &error, self.lacks_rights);
                continue;
            }
            let enabled = &self.config.enabled;
            let snapshot = place.busy_snapshot(known, statistics, enabled, deadline);
            known.note_rank(&snapshot);
            let sockets = snapshot.outcome(CollectorId::Sockets);
            let is_read = sockets.is_none_or(|outcome| outcome.value.is_some());
            let is_cut_off = !is_read && Instant::now() >= deadline;
            self.walks += 1;
            known.turn = known
                .turn
                .after_walk(self.walks, place_in_run == 0, is_cut_off);
            // One that failed is told so; one that was not done is told as late.
            visit.progress = if is_cut_off {
                Progress::Late(Box::new(snapshot))
            } else {
                Progress::Done(Box::new(snapshot))
            };
        }
    }

    /// Those that are told, and whether all of them were read.
    fn told(&self, visits: &mut [Visit<'_>], listing: &Listing) -> (Namespaces, bool) {
        let is_refused = |visit: &&Visit<'_>| matches!(visit.progress, Progress::Refused);
        let refused = visits.iter().filter(is_refused).count();
        let absent = match self.config.namespaces {
            NamespaceChoice::Listed(_) => count(names_of_gone(visits)),
            _ => 0,
        };
        let mut there: Vec<&mut Visit<'_>> = visits.iter_mut().collect();
        there.retain(|visit| !matches!(visit.progress, Progress::Gone | Progress::Refused));
        let ranked = there.iter();
        let ranked: Vec<(Option<f64>, &str)> = ranked
            .map(|visit| (visit.known.rank, &*visit.known.label))
            .collect();
        let kept = keep_worst(&ranked, self.config.most_namespaces);
        let left_out = kept.iter().filter(|is_kept| !**is_kept).count();
        let mut is_whole = true;
        let mut told = Vec::with_capacity(kept.len() - left_out);
        for (visit, _) in there.into_iter().zip(kept).filter(|(_, kept)| *kept) {
            is_whole &= matches!(visit.progress, Progress::Done(_));
            told.push(NamespaceSnapshot {
                identity: visit.known.identity(visit.found, &self.config.procfs),
                snapshot: visit.snapshot(&self.config.enabled),
            });
        }
        told.sort_by(|a, b| a.identity.label.cmp(&b.identity.label));
        let namespaces = Namespaces {
            told,
            // Processes that may not be looked at may be of one namespace or of many.
            unreadable: count(refused)
                + count(listing.barred.len())
                + u64::from(listing.hidden_process.is_some()),
            left_out: count(left_out),
            absent: self.absent + absent,
            has_unlisted_names: listing.unlisted_names.is_some(),
        };
        (namespaces, is_whole)
    }
}

fn has_udp_sockets(statistics: &Outcome) -> bool {
    match &statistics.value {
        Some(Reading::Counts(counts)) => counts.get(UDP_IN_USE) != Some(0),
        _ => true,
    }
}

/// How many names there are that lead to no network namespace: to one of another kind, or to one that has just gone.
fn names_of_gone(visits: &[Visit<'_>]) -> usize {
    let gone = visits.iter();
    let gone = gone.filter(|visit| matches!(visit.progress, Progress::Gone));
    gone.map(|visit| visit.found.names.len()).sum()
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

/// The names on the list that nothing was found for.
fn only_absent<'a>(choice: &'a NamespaceChoice, listing: &Listing) -> Vec<&'a str> {
    let NamespaceChoice::Listed(names) = choice else {
        return Vec::new();
    };
    let is_found = |name: &String| {
        let mut namespaces = listing.namespaces.iter();
        let mut barred = listing.barred.iter();
        namespaces.any(|found| found.names.contains(name)) || barred.any(|one| one.name == *name)
    };
    let absent = names.iter().filter(|name| !is_found(name));
    absent.map(String::as_str).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_time_left_for_the_answer_however_little_there_is() {
        let milliseconds = Duration::from_millis;
        for (allowed, left) in [(0, 0), (40, 10), (100, 25), (500, 25), (9_500, 475)] {
            assert_eq!(usable(milliseconds(allowed)), milliseconds(allowed - left));
        }
    }
}
