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

/// A state with less than this share of the ports in use is not what fills a destination.
const NEGLIGIBLE: f64 = 0.1;

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

pub(super) fn load(usage: &DestinationUsage, ports: &PortUsage) -> Load {
    Load {
        taken: ports.usable.saturating_sub(usage.headroom),
        usable: ports.usable,
    }
}

pub(super) fn find(view: &View<'_>, findings: &mut Vec<Finding>) {
    let Some(ports) = view.ports else { return };
    // Then every destination is at its limit, and none of them is the reason.
    if ports.usable == 0 {
        return;
    }
    let exported = view.destinations();
    let cases = exported.iter().map(|usage| Case::of(view, ports, usage));
    let cases: Vec<_> = cases
        .filter(|case| case.severity() > Severity::Ok)
        .collect();
    findings.extend(cases.iter().take(MAX_SINGLE).map(Case::finding));
    if let Some(rest @ [first, ..]) = cases.get(MAX_SINGLE..) {
        // Where all exported ones have problems, those that are not exported may have some as well.
        let is_all =
            cases.len() < exported.len() || u64::try_from(exported.len()) == Ok(ports.destinations);
        let number = u64::try_from(rest.len()).unwrap_or(u64::MAX);
        let sentence = format!(
            "{}{} {} the same problems.",
            if is_all { "" } else { "At least " },
            counted(number, "further destination", "further destinations"),
            if number == 1 { "has" } else { "have" },
        );
        let severity = rest.iter().map(Case::severity).max();
        let severity = severity.unwrap_or(first.severity());
        findings.push(
            Finding::new(Id::MoreDestinations, severity, sentence).count("destinations", number),
        );
    }
    let ratio = view.worst_ratio();
    if exported.is_empty() && severity_of(ratio) > Severity::Ok {
        findings.push(unnamed(view, ports, ratio));
    }
}

/// The fullest destination, where none is exported.
fn unnamed(view: &View<'_>, ports: &PortUsage, ratio: f64) -> Finding {
    let load = load_of_ratio(ratio, ports);
    let sentence = format!(
        "A destination uses {} of the {} usable ports; which one is not known (--no-collector.by-destination).",
        percent(ratio),
        count(ports.usable.into()),
    );
    Finding::new(Id::DestinationLow, severity_of(ratio), sentence)
        .ratio("exhaustion_ratio", ratio)
        .count("usable_ports", ports.usable)
        .remedies(help::more_ports(view, ports, load, RATIO_WARNING))
}

/// The load that a ratio was computed from.
pub(super) fn load_of_ratio(ratio: f64, ports: &PortUsage) -> Load {
    let usable = ports.usable;
    let is_enough = |taken: &u32| f64::from(*taken) >= ratio * f64::from(usable) - 0.5;
    Load {
        taken: (0..usable).find(is_enough).unwrap_or(usable),
        usable,
    }
}

/// Everything that is wrong with one destination.
pub(super) struct Case<'a> {
    pub(super) view: &'a View<'a>,
    pub(super) ports: &'a PortUsage,
    pub(super) usage: &'a DestinationUsage,
    pub(super) states: States,
    /// Where the TIME-WAIT rate cannot be sustained: until no port is left, at the earliest.
    seconds_left: Option<f64>,
    pub(super) is_slow: bool,
}

impl<'a> Case<'a> {
    fn of(view: &'a View<'a>, ports: &'a PortUsage, usage: &'a DestinationUsage) -> Self {
        let has_room = usage.headroom > 0;
        let sustainable = f64::from(ports.usable) / help::port_seconds(view, usage);
        let is_too_high = usage.close_rate > sustainable.max(MIN_CLOSE_RATE);
        Self {
            view,
            ports,
            usage,
            states: States::of(usage),
            seconds_left: (has_room && is_too_high)
                .then(|| f64::from(usage.headroom) / usage.close_rate),
            is_slow: has_room && is_slow(view, ports, usage),
        }
    }

    fn severity(&self) -> Severity {
        let of_rate = match self.seconds_left {
            _ if self.is_slow => Severity::Warning,
            Some(seconds) if seconds <= SECONDS_LEFT_WARNING => Severity::Warning,
            Some(_) => Severity::Info,
            None => Severity::Ok,
        };
        severity_of(self.usage.exhaustion_ratio).max(of_rate)
    }

    fn id(&self) -> Id {
        if self.usage.headroom == 0 {
            Id::DestinationExhausted
        } else if severity_of(self.usage.exhaustion_ratio) > Severity::Ok {
            Id::DestinationLow
        } else if self.seconds_left.is_some() {
            Id::RateTooHigh
        } else {
            Id::ConnectSlow
        }
    }

    fn finding(&self) -> Finding {
        let (usage, states) = (self.usage, &self.states);
        let id = self.id();
        let target = if id == Id::ConnectSlow {
            SEARCH_SHARE_RED
        } else {
            RATIO_WARNING
        };
        let mut finding = Finding::new(id, self.severity(), self.sentence(id))
            .remedies(self.remedies(target))
            .ratio("exhaustion_ratio", usage.exhaustion_ratio)
            .count("headroom_ports", usage.headroom)
            .count("usable_ports", self.ports.usable)
            .count("time_wait", usage.in_use.time_wait)
            .count("established", usage.in_use.established)
            .count("other_states", usage.in_use.other)
            .count("reusable", usage.reusable)
            .value("closes_per_second", Value::Number(usage.close_rate))
            .count("search_ports", usage.search_ports);
        finding.destination = Some(usage.destination);
        if let Some(seconds) = self.seconds_left {
            finding = finding.value("seconds_left", Value::Number(seconds));
        }
        let other = [
            ("close_wait", states.close_wait),
            ("syn_sent", states.syn_sent),
            ("fin_wait2_orphans", states.orphans),
        ];
        let other = other.into_iter().filter(|(_, number)| *number > 0);
        other.fold(finding, |finding, (name, number)| {
            finding.count(name, number)
        })
    }

    fn sentence(&self, id: Id) -> String {
        let usage = self.usage;
        let place = wording::destination(&usage.destination);
        let usable = counted(self.ports.usable.into(), "usable port", "usable ports");
        let left = counted(usage.headroom.into(), "port is", "ports are");
        let lead = match (id, self.seconds_left) {
            (Id::DestinationExhausted, _) => {
                format!(
                    "connect() to {place} fails with EADDRNOTAVAIL: no port is left of {usable}."
                )
            }
            (Id::DestinationLow, _) => {
                let ratio = percent(usage.exhaustion_ratio);
                format!("{left} left to {place}: {ratio} of {usable} are in use.")
            }
            (Id::RateTooHigh, Some(seconds)) => format!(
                "Connections to {place} close faster than ports become free, no port is left in about {} s: {}. {left} \
                 left of {usable}.",
                seconds.ceil(),
                self.rate()
            ),
            _ => format!("connect() to {place} is slow: {}.", self.search()),
        };
        let mut sentences = vec![lead, format!("Ports in use: {}.", self.states.listed())];
        if let Some(seconds) = self.seconds_left.filter(|_| id != Id::RateTooHigh) {
            let seconds = seconds.ceil();
            sentences.push(format!(
                "No port is left in about {seconds} s: {}.",
                self.rate()
            ));
        }
        if self.is_slow && id != Id::ConnectSlow {
            sentences.push(format!("connect() is slow: {}.", self.search()));
        }
        sentences.extend(self.states.hints());
        if usage.peer_timestamps == PeerTimestamps::Absent
            && self.states.matters(self.states.waiting)
        {
            let useless = "The peer has no TCP timestamps: tcp_tw_reuse will not help.";
            sentences.push(useless.to_owned());
        }
        sentences.extend(self.uncertainty());
        sentences.join(" ")
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
                count(least.into())
            )
        })
    }

    fn rate(&self) -> String {
        let seconds = help::port_seconds(self.view, self.usage);
        format!(
            "{:.0} per second are closed, {} can be sustained, since each port stays in use for {}",
            self.usage.close_rate,
            help::sustainable(self.ports, seconds),
            help::duration(seconds),
        )
    }

    /// What makes connect() slow, and by how much.
    fn search(&self) -> String {
        let examined = self.usage.search_ports;
        let cost = format!(
            "about {:.1} ms of CPU instead of 0.02 ms",
            f64::from(examined) / EXAMINED_PER_MS
        );
        let examined = count(examined.into());
        if !is_parity_in_use(self.ports, self.usage) {
            return format!("each call examines up to {examined} ports in use, {cost}");
        }
        let steps = if has_steps(self.view) {
            ", whatever ip_local_port_step_width is"
        } else {
            ""
        };
        format!(
            "all {examined} ports of one parity (even or odd) are in use, and each call examines them first{steps}, {cost}"
        )
    }
}

/// With `ip_local_port_step_width` the search goes through one parity in random steps, so that the longest
/// run does not bound it. Where all of one parity is in use, each call examines it all the same.
fn is_slow(view: &View<'_>, ports: &PortUsage, usage: &DestinationUsage) -> bool {
    usage.search_ports >= SLOW_SEARCH_PORTS && (!has_steps(view) || is_parity_in_use(ports, usage))
}

fn has_steps(view: &View<'_>) -> bool {
    let width = view.sysctl(|settings| settings.ip_local_port_step_width);
    width.is_some_and(|width| width > 0)
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
}

impl States {
    fn of(usage: &DestinationUsage) -> Self {
        let (in_use, other) = (usage.in_use, usage.other_states);
        let apart = [other.close_wait, other.syn_sent, other.fin_wait2_orphans].map(u64::from);
        let [close_wait, syn_sent, orphans] = apart;
        Self {
            waiting: in_use.time_wait.saturating_sub(usage.reusable),
            established: in_use.established,
            close_wait,
            syn_sent,
            orphans,
            rest: in_use.other.saturating_sub(apart.iter().sum()),
            reusable: usage.reusable,
        }
    }

    fn all(&self) -> u64 {
        self.waiting + self.established + self.close_wait + self.syn_sent + self.orphans + self.rest
    }

    /// Whether this number of sockets is worth a remedy of its own.
    pub(super) fn matters(&self, number: u64) -> bool {
        number > 0 && to_f64(number) >= NEGLIGIBLE * to_f64(self.all())
    }

    /// Whether most sockets have been closed here.
    pub(super) fn are_mostly_closed(&self) -> bool {
        (self.waiting + self.orphans).saturating_mul(2) >= self.all()
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
        let named: Vec<_> = named
            .map(|(number, state)| format!("{} {state}", count(*number)))
            .collect();
        named.join(", ")
    }

    /// What the states say about the reason.
    fn hints(&self) -> Vec<String> {
        let mut hints = Vec::new();
        if self.matters(self.close_wait) {
            hints.push(
                "CLOSE-WAIT: the peer has closed, the program on this host has not.".to_owned(),
            );
        }
        if self.matters(self.syn_sent) {
            hints.push("SYN-SENT: the peer does not answer.".to_owned());
        }
        if self.matters(self.orphans) {
            let orphans = "FIN-WAIT-2 without a process: the program has closed, the peer has not; tcp_fin_timeout ends them.";
            hints.push(orphans.to_owned());
        }
        if !self.matters(self.waiting) {
            hints.push("Settings for TIME-WAIT will not help.".to_owned());
        } else if self.waiting.saturating_mul(2) < self.all() {
            hints.push("Settings for TIME-WAIT help only in part.".to_owned());
        }
        hints
    }
}

fn to_f64(number: u64) -> f64 {
    f64::from(u32::try_from(number).unwrap_or(u32::MAX))
}

/// That there is no problem, and how full the fullest destination is.
pub(super) fn plentiful(view: &View<'_>) -> Finding {
    let mut destinations = view.destinations().iter();
    let fullest = destinations.find(|usage| usage.in_use.total() > 0);
    let ratio = view.worst_ratio();
    let detail = match (fullest, view.ports) {
        (Some(usage), Some(ports)) => format!(
            "The fullest destination, {}, uses {} of {} ports.",
            wording::destination(&usage.destination),
            percent(usage.exhaustion_ratio),
            count(ports.usable.into()),
        ),
        _ if ratio > 0.0 => format!(
            "The fullest destination uses {} of its ports.",
            percent(ratio)
        ),
        _ => "No outgoing connection uses a port of the range.".to_owned(),
    };
    Finding::new(
        Id::Plentiful,
        Severity::Ok,
        format!("No problems found. {detail}"),
    )
    .ratio("exhaustion_ratio", ratio)
}
