//! Destinations with few ports left, with a rate that cannot be sustained, or with a slow connect().

use super::help;
use super::thresholds::{
    MIN_CLOSE_RATE, RATIO_CRITICAL, RATIO_WARNING, SEARCH_SHARE_RED, SECONDS_LEFT_WARNING,
    SLOW_SEARCH_PORTS,
};
use super::whatif::Load;
use super::wording::{count, counted, percent, when};
use super::{Finding, Id, Severity, Value, View, wording};
use crate::domain::snapshot::{DestinationUsage, PeerTimestamps, PortUsage, Probe};

/// This many destinations have a finding each.
const MAX_SINGLE: usize = 10;

/// Ports that connect() examines in a millisecond: 14,116 took 1.35 ms on Linux 6.18.
const EXAMINED_PER_MS: f64 = 10_000.0;

pub(super) fn severity_of(ratio: f64) -> Severity {
    match ratio {
        RATIO_CRITICAL.. => Severity::Critical,
        RATIO_WARNING.. => Severity::Warning,
        _ => Severity::Ok,
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
    let mut cases: Vec<_> = cases.map(|usage| Case::of(view, ports, usage)).collect();
    cases.retain(|case| case.severity() > Severity::Ok);
    let mut findings: Vec<Finding> = cases.iter().take(MAX_SINGLE).map(Case::finding).collect();
    let rest = cases.get(MAX_SINGLE..).unwrap_or_default();
    if let Some(severity) = rest.iter().map(Case::severity).max() {
        // Where all exported ones have problems, those that are not exported may have some as well.
        let is_all = cases.len() < view.destinations.len()
            || u64::try_from(cases.len()) == Ok(ports.destinations);
        let number = u64::try_from(rest.len()).unwrap_or(u64::MAX);
        let at_least = when(!is_all, "At least ");
        let (one, many) = ("further destination has", "further destinations have");
        let subject = counted(number, one, many);
        let sentence = format!("{at_least}{subject} the same problems.");
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
        "A destination uses {} of the {} usable ports; which one is unknown (--no-collector.by-destination).",
        percent(ratio),
        count(ports.usable),
    );
    let severity = severity_between(ports.least_worst_ratio(), ratio);
    Finding::new(Id::DestinationLow, severity, sentence)
        .value("exhaustion_ratio", Value::Ratio(ratio))
        .count("usable_ports", ports.usable)
        .remedies(help::more_ports(view, load, RATIO_WARNING))
}

/// Everything that is wrong with one destination.
pub(super) struct Case<'a> {
    pub(super) view: &'a View<'a>,
    pub(super) ports: &'a PortUsage,
    pub(super) usage: &'a DestinationUsage,
    /// Sockets in TIME-WAIT that are not reusable.
    pub(super) waiting: u64,
    /// Those of other states that have no remedy of their own.
    pub(super) rest: u64,
    /// All but reusable ones.
    all: u64,
    /// How long the port of a closed connection stays in use.
    pub(super) port_seconds: f64,
    /// Where the TIME-WAIT rate cannot be sustained: until no port is left, at the earliest.
    seconds_left: Option<f64>,
    pub(super) is_slow: bool,
    /// Whether the search for a port goes through one parity in random steps.
    has_steps: bool,
    is_parity_in_use: bool,
}

impl<'a> Case<'a> {
    fn of(view: &'a View<'a>, ports: &'a PortUsage, usage: &'a DestinationUsage) -> Self {
        let (in_use, other) = (usage.in_use, usage.other_states);
        let apart = [other.close_wait, other.syn_sent, other.fin_wait2_orphans].map(u64::from);
        let waiting = in_use.time_wait.saturating_sub(usage.reusable);
        let has_room = usage.headroom > 0;
        let port_seconds = help::port_seconds(view, Some(usage));
        let sustainable = f64::from(ports.usable) / port_seconds;
        let is_too_high = usage.close_rate > sustainable.max(MIN_CLOSE_RATE);
        let step_width = view.settings.ip_local_port_step_width;
        let has_steps = step_width.is_some_and(|width| width > 0);
        // Nearly: reserved and blocked ports may be more of one parity than of the other.
        let half = f64::from(ports.usable / 2);
        let is_parity_in_use = f64::from(usage.search_ports) >= 0.98 * half;
        // In random steps all ports in use may be examined, but hardly are while less than one parity's are in use.
        let can_be_slow = !has_steps || is_parity_in_use;
        Self {
            view,
            ports,
            usage,
            waiting,
            rest: in_use.other.saturating_sub(apart.iter().sum()),
            all: waiting + in_use.established + in_use.other,
            port_seconds,
            seconds_left: (has_room && is_too_high)
                .then(|| f64::from(usage.headroom) / usage.close_rate),
            is_slow: has_room && can_be_slow && usage.search_ports >= SLOW_SEARCH_PORTS,
            has_steps,
            is_parity_in_use,
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
        let (usage, other) = (self.usage, self.usage.other_states);
        let (id, sentence) = self.sentence();
        let target = match id {
            Id::ConnectSlow => SEARCH_SHARE_RED,
            _ => RATIO_WARNING,
        };
        let if_any = |number: u32| (number > 0).then(|| Value::Count(number.into()));
        let mut finding = Finding::new(id, self.severity(), sentence)
            .value("exhaustion_ratio", Value::Ratio(usage.exhaustion_ratio))
            .count("headroom_ports", usage.headroom)
            .count("usable_ports", self.ports.usable)
            .count("time_wait", usage.in_use.time_wait)
            .count("established", usage.in_use.established)
            .count("other_states", usage.in_use.other)
            .count("reusable", usage.reusable)
            .value("closes_per_second", Value::Number(usage.close_rate))
            .count("search_ports", usage.search_ports)
            .value("seconds_left", self.seconds_left.map(Value::Number))
            .value("close_wait", if_any(other.close_wait))
            .value("syn_sent", if_any(other.syn_sent))
            .value("fin_wait2_orphans", if_any(other.fin_wait2_orphans))
            .remedies(self.remedies(target));
        finding.destination = Some(usage.destination);
        finding
    }

    /// The most severe problem comes first.
    fn sentence(&self) -> (Id, String) {
        let usage = self.usage;
        let place = wording::destination(&usage.destination);
        let usable = counted(self.ports.usable, "usable port", "usable ports");
        let left = counted(usage.headroom, "port is", "ports are");
        let ratio = percent(usage.exhaustion_ratio);
        let mut rate = self.seconds_left.map(|seconds| self.rate(seconds));
        let mut search = self.is_slow.then(|| self.search());
        let (id, lead) = if usage.headroom == 0 && !self.is_in_doubt() {
            let fails = "fails with EADDRNOTAVAIL: no port is left of";
            let lead = format!("connect() to {place} {fails} {usable}.");
            (Id::DestinationExhausted, lead)
        } else if usage.exhaustion_ratio >= RATIO_WARNING {
            let lead = format!("{left} left to {place}: {ratio} of {usable} are in use.");
            (Id::DestinationLow, lead)
        } else if let Some(rate) = rate.take() {
            let lead = format!(
                "Connections to {place} close faster than ports become free; ports run out in {rate}. {left} left of {usable}."
            );
            (Id::RateTooHigh, lead)
        } else {
            let search = search.take().unwrap_or_default();
            let lead = format!("connect() to {place} is slow: {search}.");
            (Id::ConnectSlow, lead)
        };
        let mut sentences = vec![lead, format!("Ports in use: {}.", self.listed())];
        sentences.extend(rate.map(|rate| format!("Ports run out in {rate}.")));
        sentences.extend(search.map(|search| format!("connect() is slow: {search}.")));
        sentences.extend(self.hints().map(str::to_owned));
        sentences.extend(self.orphans_in_doubt());
        sentences.extend(self.uncertainty());
        (id, sentences.join(" "))
    }

    /// Whether this number of sockets is worth a remedy of its own: with less than a tenth it is not what
    /// fills the destination.
    pub(super) fn matters(&self, number: impl Into<u64>) -> bool {
        let number = number.into();
        number > 0 && number.saturating_mul(10) >= self.all
    }

    /// Whether this number is at least half of the sockets.
    pub(super) const fn is_half(&self, number: u64) -> bool {
        number.saturating_mul(2) >= self.all
    }

    fn listed(&self) -> String {
        let (usage, other) = (self.usage, self.usage.other_states);
        let named = [
            (self.waiting, "in TIME-WAIT"),
            (usage.in_use.established, "established"),
            (other.close_wait.into(), "in CLOSE-WAIT"),
            (other.syn_sent.into(), "in SYN-SENT"),
            (
                other.fin_wait2_orphans.into(),
                "in FIN-WAIT-2 without a process",
            ),
            (self.rest, "in other states"),
            (usage.reusable, "in TIME-WAIT and reusable"),
        ];
        let named = named.iter().filter(|(number, _)| *number > 0);
        let named = named.map(|(number, state)| format!("{} {state}", count(*number)));
        named.collect::<Vec<_>>().join(", ")
    }

    /// What the states say about the reason.
    fn hints(&self) -> impl Iterator<Item = &'static str> {
        let other = self.usage.other_states;
        let matters = self.matters(self.waiting);
        let has_no_timestamps = self.usage.peer_timestamps == PeerTimestamps::Absent;
        let close_wait = "CLOSE-WAIT: the peer has closed, the program on this host has not.";
        let syn_sent = "SYN-SENT: the peer does not answer.";
        let orphans = "FIN-WAIT-2 without a process: the program has closed, the peer has not; tcp_fin_timeout ends them.";
        let no_help = "TIME-WAIT sysctls will not help.";
        let some_help = "TIME-WAIT sysctls help only in part.";
        let no_timestamps = "The peer does not use TCP timestamps: tcp_tw_reuse will not help.";
        let hints = [
            (self.matters(other.close_wait), close_wait),
            (self.matters(other.syn_sent), syn_sent),
            (self.matters(other.fin_wait2_orphans), orphans),
            (!matters, no_help),
            (matters && !self.is_half(self.waiting), some_help),
            (matters && has_no_timestamps, no_timestamps),
        ];
        let hints = hints.into_iter().filter(|(is_so, _)| *is_so);
        hints.map(|(_, hint)| hint)
    }

    fn is_in_doubt(&self) -> bool {
        self.usage.least_ratio < self.usage.exhaustion_ratio
    }

    fn orphans_in_doubt(&self) -> Option<String> {
        let most = percent(self.usage.exhaustion_ratio);
        let least = percent(self.usage.least_ratio);
        let sentence = format!(
            "Kernels without a fix of 2024 also reuse ports in FIN-WAIT-2. It is unknown whether this kernel has the fix: \
             {least} to {most} of the usable ports are in use."
        );
        self.is_in_doubt().then_some(sentence)
    }

    /// connect() cannot use ports that bind() chose, but the table shows them like the others.
    fn uncertainty(&self) -> Option<String> {
        let reason = match &self.ports.probe {
            Probe::Unavailable { reason } | Probe::Failed { reason, .. } => reason,
            Probe::Off => "not probed",
            Probe::NotNeeded | Probe::Done { .. } => return None,
        };
        let least = count(self.ports.free);
        let sentence = format!(
            "The number of ports left is an upper bound: ports that bind() chose are unknown ({reason}). The lower bound \
             is {least}."
        );
        (self.ports.free < self.usage.headroom).then_some(sentence)
    }

    fn rate(&self, seconds_left: f64) -> String {
        format!(
            "about {} s: {:.0} connections per second close, {} are sustainable, since each port stays in use for {} s",
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
        let what = if self.has_steps {
            format!(
                "each call examines all ports of one parity first, in random steps too, up to {examined} ports in use"
            )
        } else if self.is_parity_in_use {
            format!(
                "all {examined} ports of one parity (even or odd) are in use, and each call examines them first"
            )
        } else {
            format!("each call examines up to {examined} ports in use")
        };
        format!("{what}, about {ms:.1} ms of CPU instead of 0.02 ms")
    }
}

/// That there is no problem, and how full the fullest destination is.
pub(super) fn plentiful(view: &View<'_>) -> Option<Finding> {
    let ports = view.ports?;
    let mut destinations = view.destinations.iter();
    let ratio = view.worst_ratio;
    let highest = percent(ratio);
    let detail = match destinations.find(|usage| usage.in_use.total() > 0) {
        Some(usage) => {
            let place = wording::destination(&usage.destination);
            let usable = count(ports.usable);
            format!("The fullest destination, {place}, uses {highest} of {usable} ports.")
        }
        None if ratio > 0.0 => format!("The fullest destination uses {highest} of its ports."),
        None => "No outgoing connection uses a port of the range.".to_owned(),
    };
    let sentence = format!("No problems found. {detail}");
    let finding = Finding::new(Id::Plentiful, Severity::Ok, sentence);
    Some(finding.value("exhaustion_ratio", Value::Ratio(ratio)))
}
