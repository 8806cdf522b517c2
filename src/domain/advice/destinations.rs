//! Destinations with few ports left, with a rate that cannot be sustained, or with a slow connect().

use super::finding::{Finding, Id, Severity, Value};
use super::help;
use super::thresholds::{
    MIN_CLOSE_RATE, RATIO_CRITICAL, RATIO_WARNING, SEARCH_SHARE_RED, SECONDS_LEFT_WARNING,
    SLOW_SEARCH_PORTS,
};
use super::whatif::Load;
use super::wording::{count, counted, percent};
use super::{View, wording};
use crate::domain::snapshot::{DestinationUsage, PeerTimestamps, PortUsage, Probe};

/// This many destinations have a finding each.
const MAX_SINGLE: usize = 10;

/// Ports that connect() examines in a millisecond: 14,116 took 1.35 ms on Linux 6.18.
const EXAMINED_PER_MS: f64 = 10_000.0;

pub(super) fn severity_of(ratio: f64) -> Severity {
    if ratio >= RATIO_CRITICAL {
        Severity::Critical
    } else if ratio >= RATIO_WARNING {
        Severity::Warning
    } else {
        Severity::Ok
    }
}

/// No destination is critical by ports that may be reusable.
fn severity_between(least_ratio: f64, ratio: f64) -> Severity {
    severity_of(ratio).min(severity_of(least_ratio).max(Severity::Warning))
}

pub(super) fn find(view: &View<'_>) -> Vec<Finding> {
    // Without usable ports every destination is at its limit, and none of them is the reason.
    let Some(ports) = view.ports.filter(|ports| ports.usable > 0) else {
        return Vec::new();
    };
    let cases = view.destinations.iter();
    let cases = cases.map(|usage| Case::of(view, ports, usage));
    let cases: Vec<_> = cases
        .filter(|case| case.severity() > Severity::Ok)
        .collect();
    let mut findings: Vec<Finding> = cases.iter().take(MAX_SINGLE).map(Case::finding).collect();
    let rest = cases.get(MAX_SINGLE..).unwrap_or_default();
    if let Some(severity) = rest.iter().map(Case::severity).max() {
        // Where all exported ones have problems, those that are not exported may have some as well.
        let is_all = cases.len() < view.destinations.len()
            || u64::try_from(cases.len()) == Ok(ports.destinations);
        let number = u64::try_from(rest.len()).unwrap_or(u64::MAX);
        let sentence = format!(
            "{}{} the same problems.",
            if is_all { "" } else { "At least " },
            counted(
                number,
                "further destination has",
                "further destinations have"
            ),
        );
        let more = Finding::new(Id::MoreDestinations, severity, sentence);
        findings.push(more.count("destinations", number));
    }
    if view.destinations.is_empty() && severity_of(view.worst_ratio) > Severity::Ok {
        findings.push(unnamed(view, ports));
    }
    findings
}

/// The fullest destination, where none is exported.
fn unnamed(view: &View<'_>, ports: &PortUsage) -> Finding {
    let ratio = view.worst_ratio;
    let load = Load::of_ratio(ratio, ports);
    let sentence = format!(
        "A destination uses {} of the {} usable ports; which one is not known (--no-collector.by-destination).",
        percent(ratio),
        count(ports.usable),
    );
    let severity = severity_between(ports.least_worst_ratio(), ratio);
    Finding::new(Id::DestinationLow, severity, sentence)
        .ratio("exhaustion_ratio", ratio)
        .count("usable_ports", ports.usable)
        .remedies(help::more_ports(view, ports, load, RATIO_WARNING))
}

/// Everything that is wrong with one destination.
pub(super) struct Case<'a> {
    pub(super) view: &'a View<'a>,
    pub(super) ports: &'a PortUsage,
    pub(super) usage: &'a DestinationUsage,
    pub(super) states: States,
    /// How long the port of a closed connection stays in use.
    pub(super) port_seconds: f64,
    /// Where the TIME-WAIT rate cannot be sustained: until no port is left, at the earliest.
    seconds_left: Option<f64>,
    pub(super) is_slow: bool,
}

impl<'a> Case<'a> {
    fn of(view: &'a View<'a>, ports: &'a PortUsage, usage: &'a DestinationUsage) -> Self {
        let has_room = usage.headroom > 0;
        let port_seconds = help::port_seconds(view, Some(usage));
        let sustainable = f64::from(ports.usable) / port_seconds;
        let is_too_high = usage.close_rate > sustainable.max(MIN_CLOSE_RATE);
        // In random steps the longest run does not bound the search. Where all of one parity is in use, each
        // call examines it all the same.
        let can_be_slow = !has_steps(view) || is_parity_in_use(ports, usage);
        Self {
            view,
            ports,
            usage,
            states: States::of(usage),
            port_seconds,
            seconds_left: (has_room && is_too_high)
                .then(|| f64::from(usage.headroom) / usage.close_rate),
            is_slow: has_room && can_be_slow && usage.search_ports >= SLOW_SEARCH_PORTS,
        }
    }

    fn severity(&self) -> Severity {
        let of_rate = match self.seconds_left {
            _ if self.is_slow => Severity::Warning,
            Some(seconds) if seconds <= SECONDS_LEFT_WARNING => Severity::Warning,
            Some(_) => Severity::Info,
            None => Severity::Ok,
        };
        severity_between(self.usage.least_ratio, self.usage.exhaustion_ratio).max(of_rate)
    }

    fn finding(&self) -> Finding {
        let (usage, states) = (self.usage, &self.states);
        let (id, sentence) = self.sentence();
        let target = match id {
            Id::ConnectSlow => SEARCH_SHARE_RED,
            _ => RATIO_WARNING,
        };
        let seconds = self.seconds_left.map(Value::Number);
        let by_state = [
            ("close_wait", states.close_wait),
            ("syn_sent", states.syn_sent),
            ("fin_wait2_orphans", states.orphans),
        ];
        let by_state = by_state.into_iter().filter(|(_, number)| *number > 0);
        let finding = Finding::new(id, self.severity(), sentence)
            .ratio("exhaustion_ratio", usage.exhaustion_ratio)
            .count("headroom_ports", usage.headroom)
            .count("usable_ports", self.ports.usable)
            .count("time_wait", usage.in_use.time_wait)
            .count("established", usage.in_use.established)
            .count("other_states", usage.in_use.other)
            .count("reusable", usage.reusable)
            .value("closes_per_second", Value::Number(usage.close_rate))
            .count("search_ports", usage.search_ports)
            .values(seconds.map(|seconds| ("seconds_left", seconds)))
            .values(by_state.map(|(name, number)| (name, Value::Count(number))))
            .remedies(self.remedies(target));
        Finding {
            destination: Some(usage.destination),
            ..finding
        }
    }

    /// The gravest of what is wrong comes first.
    fn sentence(&self) -> (Id, String) {
        let usage = self.usage;
        let place = wording::destination(&usage.destination);
        let usable = counted(self.ports.usable, "usable port", "usable ports");
        let left = counted(usage.headroom, "port is", "ports are");
        let ratio = percent(usage.exhaustion_ratio);
        let is_low = usage.exhaustion_ratio >= RATIO_WARNING;
        let rate = self.seconds_left.map(|seconds| self.rate(seconds));
        let search = self.is_slow.then(|| self.search());
        let (id, lead) = match &rate {
            _ if usage.headroom == 0 && !self.is_in_doubt() => {
                let lead = format!(
                    "connect() to {place} fails with EADDRNOTAVAIL: no port is left of {usable}."
                );
                (Id::DestinationExhausted, lead)
            }
            _ if is_low => {
                let lead = format!("{left} left to {place}: {ratio} of {usable} are in use.");
                (Id::DestinationLow, lead)
            }
            Some(rate) => {
                let lead = format!(
                    "Connections to {place} close faster than ports become free, no port is left in {rate}. {left} left of {usable}."
                );
                (Id::RateTooHigh, lead)
            }
            None => {
                let search = self.search();
                (
                    Id::ConnectSlow,
                    format!("connect() to {place} is slow: {search}."),
                )
            }
        };
        let rate = rate.filter(|_| id != Id::RateTooHigh);
        let search = search.filter(|_| id != Id::ConnectSlow);
        let no_timestamps = usage.peer_timestamps == PeerTimestamps::Absent
            && self.states.matters(self.states.waiting);
        let no_timestamps =
            no_timestamps.then_some("The peer has no TCP timestamps: tcp_tw_reuse will not help.");
        let sentences = [lead, format!("Ports in use: {}.", self.states.listed())].into_iter();
        let sentences: Vec<String> = sentences
            .chain(rate.map(|rate| format!("No port is left in {rate}.")))
            .chain(search.map(|search| format!("connect() is slow: {search}.")))
            .chain(self.states.hints().chain(no_timestamps).map(str::to_owned))
            .chain(self.orphans_in_doubt())
            .chain(self.uncertainty())
            .collect();
        (id, sentences.join(" "))
    }

    fn is_in_doubt(&self) -> bool {
        self.usage.least_ratio < self.usage.exhaustion_ratio
    }

    fn orphans_in_doubt(&self) -> Option<String> {
        self.is_in_doubt().then(|| {
            format!(
                "Kernels without a fix of 2024 reuse ports in FIN-WAIT-2 too, and whether this one has it is not \
                 known: of the usable ports {} to {} are in use.",
                percent(self.usage.least_ratio),
                percent(self.usage.exhaustion_ratio),
            )
        })
    }

    /// Ports that bind() chose are lost to connect(), but in the table they look like the others.
    fn uncertainty(&self) -> Option<String> {
        let reason = match &self.ports.probe {
            Probe::Unavailable { reason } | Probe::Failed { reason, .. } => reason,
            Probe::Off => "not probed",
            Probe::NotNeeded | Probe::Done { .. } => return None,
        };
        let least = self.ports.free;
        (least < self.usage.headroom).then(|| {
            format!(
                "This is the maximum: which ports bind() chose is not known ({reason}). The minimum is {}.",
                count(least)
            )
        })
    }

    fn rate(&self, seconds_left: f64) -> String {
        format!(
            "about {} s: {:.0} per second are closed, {} can be sustained, since each port stays in use for {} s",
            seconds_left.ceil(),
            self.usage.close_rate,
            help::sustainable(self.ports, self.port_seconds),
            self.port_seconds,
        )
    }

    /// What makes connect() slow, and by how much.
    fn search(&self) -> String {
        let examined = self.usage.search_ports;
        let ms = f64::from(examined) / EXAMINED_PER_MS;
        let examined = count(examined);
        let steps = if has_steps(self.view) {
            ", whatever ip_local_port_step_width is"
        } else {
            ""
        };
        let what = if is_parity_in_use(self.ports, self.usage) {
            format!(
                "all {examined} ports of one parity (even or odd) are in use, and each call examines them first{steps}"
            )
        } else {
            format!("each call examines up to {examined} ports in use")
        };
        format!("{what}, about {ms:.1} ms of CPU instead of 0.02 ms")
    }
}

/// Whether the search for a port goes through one parity in random steps.
fn has_steps(view: &View<'_>) -> bool {
    view.settings
        .ip_local_port_step_width
        .is_some_and(|width| width > 0)
}

/// Nearly: reserved and blocked ports may be more of one parity than of the other.
fn is_parity_in_use(ports: &PortUsage, usage: &DestinationUsage) -> bool {
    f64::from(usage.search_ports) >= 0.98 * f64::from(ports.usable / 2)
}

/// A destination's sockets by state, reusable ones left out.
pub(super) struct States {
    pub(super) waiting: u64,
    pub(super) established: u64,
    pub(super) close_wait: u64,
    pub(super) syn_sent: u64,
    pub(super) orphans: u64,
    pub(super) rest: u64,
    reusable: u64,
    all: u64,
}

impl States {
    fn of(usage: &DestinationUsage) -> Self {
        let (in_use, other) = (usage.in_use, usage.other_states);
        let apart = [other.close_wait, other.syn_sent, other.fin_wait2_orphans].map(u64::from);
        let [close_wait, syn_sent, orphans] = apart;
        let waiting = in_use.time_wait.saturating_sub(usage.reusable);
        Self {
            waiting,
            established: in_use.established,
            close_wait,
            syn_sent,
            orphans,
            rest: in_use.other.saturating_sub(apart.iter().sum()),
            reusable: usage.reusable,
            all: waiting + in_use.established + in_use.other,
        }
    }

    /// Whether this number of sockets is worth a remedy of its own: with less than a tenth it is not what
    /// fills the destination.
    pub(super) fn matters(&self, number: u64) -> bool {
        number > 0 && number.saturating_mul(10) >= self.all
    }

    /// Whether most sockets have been closed here.
    pub(super) fn are_mostly_closed(&self) -> bool {
        (self.waiting + self.orphans).saturating_mul(2) >= self.all
    }

    fn listed(&self) -> String {
        let named = [
            (self.waiting, "in TIME-WAIT"),
            (self.established, "established"),
            (self.close_wait, "in CLOSE-WAIT"),
            (self.syn_sent, "in SYN-SENT"),
            (self.orphans, "in FIN-WAIT-2 without a process"),
            (self.rest, "in other states"),
            (self.reusable, "in TIME-WAIT and reusable"),
        ];
        let named = named.iter().filter(|(number, _)| *number > 0);
        let named = named.map(|(number, state)| format!("{} {state}", count(*number)));
        named.collect::<Vec<_>>().join(", ")
    }

    /// What the states say about the reason.
    fn hints(&self) -> impl Iterator<Item = &'static str> {
        let matters = self.matters(self.waiting);
        let is_less_than_half = self.waiting.saturating_mul(2) < self.all;
        let hints = [
            (
                self.matters(self.close_wait),
                "CLOSE-WAIT: the peer has closed, the program on this host has not.",
            ),
            (
                self.matters(self.syn_sent),
                "SYN-SENT: the peer does not answer.",
            ),
            (
                self.matters(self.orphans),
                "FIN-WAIT-2 without a process: the program has closed, the peer has not; tcp_fin_timeout ends them.",
            ),
            (!matters, "Settings for TIME-WAIT will not help."),
            (
                matters && is_less_than_half,
                "Settings for TIME-WAIT help only in part.",
            ),
        ];
        let hints = hints.into_iter().filter(|(is_so, _)| *is_so);
        hints.map(|(_, hint)| hint)
    }
}

/// That there is no problem, and how full the fullest destination is.
pub(super) fn plentiful(view: &View<'_>) -> Option<Finding> {
    let ports = view.ports?;
    let mut destinations = view.destinations.iter();
    let ratio = view.worst_ratio;
    let detail = match destinations.find(|usage| usage.in_use.total() > 0) {
        Some(usage) => format!(
            "The fullest destination, {}, uses {} of {} ports.",
            wording::destination(&usage.destination),
            percent(usage.exhaustion_ratio),
            count(ports.usable),
        ),
        None if ratio > 0.0 => format!(
            "The fullest destination uses {} of its ports.",
            percent(ratio)
        ),
        None => "No outgoing connection uses a port of the range.".to_owned(),
    };
    let sentence = format!("No problems found. {detail}");
    Some(Finding::new(Id::Plentiful, Severity::Ok, sentence).ratio("exhaustion_ratio", ratio))
}
