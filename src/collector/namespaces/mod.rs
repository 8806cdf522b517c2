//! The job that reads the host's other network namespaces, one after the other.
//!
//! First each is entered and checked: socket counts, opened connections and the port range cost some 70 us. Where there is no TCP
//! socket there is nothing to dump. A dump passes over the sockets of all namespaces, which share one table, so that
//! it is only made where it can show something that matters ([`due`]): where a ratio may have become high, in this very
//! run; elsewhere in turn, so that no dump is older than `--collector.netns-max-age`. Meanwhile the last one is
//! exported again, with its age.
//!
//! Runs on one thread that enters one namespace after the other and goes home in the end. Nothing that
//! would keep a namespace alive is held between runs.

mod due;
mod known;
mod place;
mod visit;

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tracing::{error, warn};

use super::complaint::Complaint;
use super::{CollectorConfig, NamespaceChoice};
use crate::domain::collectors::CollectorId;
use crate::domain::namespace::{NamespaceSnapshot, Namespaces, keep_worst, labels};
use crate::domain::snapshot::Outcome;
use crate::kernel::namespaces::{Listing, NamespaceKey, NamespaceLister, missing_rights};

use due::Turns;
use known::Known;
use place::{Place, tcp_sockets};
pub(super) use visit::all_late;
use visit::{Progress, Visit, only};

/// So many namespaces have all their files read anew in each run, those first that were read the longest ago: that
/// takes 200 us a namespace, and is done of the others where something happened.
const FILES_IN_TURN: usize = 8;

/// How long namespaces that were never dumped, and are far from their limit, may keep a scrape waiting. The others of
/// them come with the next one.
const FIRST_DUMPS: Duration = Duration::from_millis(1_500);

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
#[derive(Debug)]
pub(super) struct NamespacesJob {
    config: CollectorConfig,
    place: Option<Place>,
    known: HashMap<NamespaceKey, Known>,
    run: u64,
    /// How many dumps there were, in all runs.
    dumps: u64,
    dumps_in_run: u64,
    /// Whether older dumps may not be exported in this run.
    is_fresh_run: bool,
    turns: Turns,
    /// Whether the next run is not to export older dumps of namespaces that were asked for by name.
    fresh: Arc<AtomicBool>,
    residents_sought: Option<Instant>,
    complaint: Complaint,
    /// Whether capabilities are missing altogether, which was logged at the start.
    lacks_rights: bool,
    /// The names of which it was logged that they may not be read.
    barred: HashSet<PathBuf>,
    /// Whether it was logged that there are processes that may not be looked up.
    has_logged_hidden: bool,
    /// How many of the names asked for were not on the list, in this run.
    absent: u64,
}

impl NamespacesJob {
    pub(super) fn new(config: CollectorConfig, fresh: Arc<AtomicBool>) -> Self {
        Self {
            config,
            place: None,
            known: HashMap::new(),
            run: 0,
            dumps: 0,
            dumps_in_run: 0,
            is_fresh_run: false,
            turns: Turns::default(),
            fresh,
            residents_sought: None,
            complaint: Complaint::new("netns", None),
            lacks_rights: false,
            barred: HashSet::new(),
            has_logged_hidden: false,
            absent: 0,
        }
    }

    pub(super) fn run(&mut self, deadline: Instant) -> Arc<Outcome<Namespaces>> {
        let begin = Instant::now();
        let allowed = deadline.saturating_duration_since(begin);
        let deadline = begin + usable(allowed);
        let (value, lacking) = match self.read_all(begin, deadline) {
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
    fn read_all(
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
            let (exported, is_whole) = self.read(&mut place, &listing, deadline);
            if let Err(error) = place.home.come_back() {
                warn!(err = %error, "The thread that reads network namespaces cannot go back to its own");
            }
            let late = (!is_whole).then(|| LATE.to_owned());
            (exported, listing.unlisted_names.or(late))
        });
        self.place = Some(place);
        result
    }

    /// What can only be had on the thread that enters namespaces.
    fn settle(&mut self) -> Result<Place, String> {
        let of_processes = self.config.namespaces == NamespaceChoice::All;
        self.lacks_rights = !missing_rights(of_processes).is_empty();
        Place::new(&self.config, self.lacks_rights).map_err(|error| error.to_string())
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
        // The exporter's is exported in any case.
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
        // Logged at the first run alone: a namespace that comes and goes is nothing unusual.
        if !absent.is_empty() {
            warn!(
                names = absent.join(","),
                directory = %self.config.namespace_names.display(),
                "There are no network namespaces of these names (yet)"
            );
        }
    }

    /// Logs what may not be read, each once.
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
                    "A network namespace may not be read"
                );
            }
        }
        let barred = listing.barred.iter();
        self.barred = barred.map(|barred| barred.file.clone()).collect();
        if let Some(pid) = listing.hidden_process
            && !std::mem::replace(&mut self.has_logged_hidden, true)
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

    /// What is exported, and whether all of that was read.
    fn read(
        &mut self,
        place: &mut Place,
        listing: &Listing,
        deadline: Instant,
    ) -> (Namespaces, bool) {
        self.run += 1;
        self.dumps_in_run = 0;
        let begin = Instant::now();
        let mut sockets = place.sockets();
        let mut visits = self.visits(place, listing);
        // Those first that were read the longest ago, so that a deadline that comes soon is no one's alone.
        visits.sort_by_key(|visit| visit.known.files_read);
        for (turn, visit) in visits.iter_mut().enumerate() {
            if Instant::now() >= deadline {
                break;
            }
            let in_turn = turn < FILES_IN_TURN;
            place.check(visit, self.run, in_turn, &self.config.enabled, deadline);
            match &visit.progress {
                Progress::Empty => place.finish_empty(visit, &self.config.enabled),
                Progress::Checked(check) => sockets += tcp_sockets(&check.sockets),
                _ => {}
            }
        }
        let for_new = deadline.min(begin + FIRST_DUMPS);
        for (visit, is_new) in self.choose(&mut visits, begin) {
            let end = if is_new { for_new } else { deadline };
            if Instant::now() < end {
                self.dump(place, visit, sockets, end);
            }
        }
        visits.sort_by(|a, b| a.known.label.cmp(&b.known.label));
        let result = self.exported(&mut visits, listing, begin);
        let visits = visits.into_iter();
        self.known = visits.map(|visit| (visit.found.key, visit.known)).collect();
        result
    }

    /// Those to be dumped in this run, in order: first where an older dump cannot be exported, as a ratio may have
    /// become high; then new ones, with true; then those whose turn it is. In each group the longest ago is first.
    fn choose<'a, 'b>(
        &mut self,
        visits: &'a mut [Visit<'b>],
        now: Instant,
    ) -> Vec<(&'a mut Visit<'b>, bool)> {
        let (mut urgent, mut new, mut others) = (Vec::new(), Vec::new(), Vec::new());
        self.is_fresh_run = self.is_fresh_wanted();
        let is_fresh = self.is_fresh_run;
        for visit in visits {
            let Progress::Checked(check) = &visit.progress else {
                continue;
            };
            let settings = visit.known.settings();
            let known = &mut visit.known;
            if known
                .last
                .as_ref()
                .is_some_and(|last| last.is_outdated(check, &settings))
            {
                known.last = None;
            }
            let highest = check.highest_ratio(&settings);
            match &known.last {
                Some(_) if !is_fresh => others.push(visit),
                None if !is_fresh && highest < due::ALWAYS_FRESH_FROM => new.push(visit),
                _ => urgent.push(visit),
            }
        }
        let turns = self.turns.take(now, others.len(), self.config.max_age);
        for group in [&mut urgent, &mut new, &mut others] {
            group.sort_by_key(|visit| visit.known.turn);
        }
        let is_old = |visit: &Visit<'_>| {
            let last = visit.known.last.as_ref();
            last.is_none_or(|last| last.age(now) >= self.config.max_age)
        };
        let mut turn = 0;
        others.retain(|visit| {
            turn += 1;
            turn <= turns || is_old(visit)
        });
        let new = new.into_iter().map(|visit| (visit, true));
        let (urgent, others) = (urgent.into_iter(), others.into_iter());
        let urgent = urgent.map(|visit| (visit, false)).chain(new);
        urgent.chain(others.map(|visit| (visit, false))).collect()
    }

    fn dump(&mut self, place: &mut Place, visit: &mut Visit<'_>, sockets: u64, deadline: Instant) {
        let Progress::Checked(check) = &visit.progress else {
            return;
        };
        let is_first = self.dumps_in_run == 0;
        self.dumps_in_run += 1;
        self.dumps += 1;
        place.dump(
            visit,
            check.clone(),
            sockets,
            &self.config.enabled,
            deadline,
        );
        if is_first || !matches!(visit.progress, Progress::Late) {
            visit.known.turn = self.dumps;
        }
    }

    /// Where an older dump serves, and was not made anew, it is exported again; never where fresh ones are wanted.
    fn reuse(&self, visit: &mut Visit<'_>, now: Instant) {
        if let Progress::Checked(_) | Progress::Late = &visit.progress {
            visit.progress = match &visit.known.last {
                Some(last) if !self.is_fresh_run => {
                    let mut snapshot = visit.known.files.clone();
                    snapshot.set(CollectorId::Sockets, Some(last.outcome.clone()));
                    let snapshot = only(snapshot, &self.config.enabled);
                    Progress::Done(Box::new(snapshot), last.age(now))
                }
                _ => Progress::Late,
            };
        }
    }

    /// Those that are exported, and whether all of them were read.
    fn exported(
        &self,
        visits: &mut [Visit<'_>],
        listing: &Listing,
        now: Instant,
    ) -> (Namespaces, bool) {
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
        let mut exported = Vec::with_capacity(kept.len() - left_out);
        for (visit, _) in there.into_iter().zip(kept).filter(|(_, kept)| *kept) {
            self.reuse(visit, now);
            is_whole &= matches!(visit.progress, Progress::Done(..));
            let (snapshot, age) = visit.result(&self.config.enabled);
            exported.push(NamespaceSnapshot {
                identity: visit.known.identity(visit.found, &self.config.procfs),
                snapshot,
                age,
            });
        }
        let namespaces = Namespaces {
            exported,
            // Processes that may not be looked up may be of one namespace or of many.
            unreadable: count(refused)
                + count(listing.barred.len())
                + u64::from(listing.hidden_process.is_some()),
            left_out: count(left_out),
            absent: self.absent + absent,
            has_unlisted_names: listing.unlisted_names.is_some(),
        };
        (namespaces, is_whole)
    }

    /// Whether no older dump is to be exported.
    fn is_fresh_wanted(&self) -> bool {
        let is_by_name = matches!(self.config.namespaces, NamespaceChoice::Listed(_));
        let is_asked = self.fresh.swap(false, Ordering::Relaxed);
        self.config.max_age.is_zero() || is_asked && is_by_name
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
