//! The flags that switch collectors and breakdowns on and off.
//!
//! Made from one table, for clap's derive would want two fields for each of them. Holds what was
//! switched; what that means is [`Switches::apply`]'s matter alone.

use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command};

use super::values::boolean;
use crate::collector::Enabled;
use crate::domain::options::CensusOptions;

/// One switch: its flag is `--collector.NAME`, its negation `--no-collector.NAME`.
#[derive(Debug)]
struct Switch {
    id: Id,
    flag: &'static str,
    negation: &'static str,
    /// The metrics' own spelling, accepted but not shown.
    aliases: Option<[&'static str; 2]>,
    help: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Id {
    Sockets,
    Sysctl,
    Netstat,
    Sockstat,
    Slabinfo,
    BySrcAddr,
    BySrcPort,
    ByDstAddr,
    ByDstPort,
    ByAge,
    ByDestination,
    BySource,
}

const fn switch(
    id: Id,
    [flag, negation]: [&'static str; 2],
    aliases: Option<[&'static str; 2]>,
    help: &'static str,
) -> Switch {
    Switch {
        id,
        flag,
        negation,
        aliases,
        help,
    }
}

/// Flag and negation of a name.
macro_rules! both {
    ($name:literal) => {
        [
            concat!("collector.", $name),
            concat!("no-collector.", $name),
        ]
    };
}

const SWITCHES: [Switch; 12] = [
    switch(
        Id::Sockets,
        both!("sockets"),
        None,
        "Sockets and destinations, from the kernel's connection table",
    ),
    switch(
        Id::Sysctl,
        both!("sysctl"),
        None,
        "Kernel settings, from /proc/sys/net/ipv4",
    ),
    switch(
        Id::Netstat,
        both!("netstat"),
        None,
        "Kernel counters, from /proc/net/netstat",
    ),
    switch(
        Id::Sockstat,
        both!("sockstat"),
        None,
        "Time-wait buckets in use, from /proc/net/sockstat",
    ),
    switch(
        Id::Slabinfo,
        both!("slabinfo"),
        None,
        "Memory of TIME-WAIT sockets, from /sys/kernel/slab or slabinfo (needs root)",
    ),
    switch(
        Id::BySrcAddr,
        both!("by-src-addr"),
        Some(both!("by_src_addr")),
        "TIME-WAIT sockets by local address",
    ),
    switch(
        Id::BySrcPort,
        both!("by-src-port"),
        Some(both!("by_src_port")),
        "TIME-WAIT sockets by local port",
    ),
    switch(
        Id::ByDstAddr,
        both!("by-dst-addr"),
        Some(both!("by_dst_addr")),
        "TIME-WAIT sockets by remote address",
    ),
    switch(
        Id::ByDstPort,
        both!("by-dst-port"),
        Some(both!("by_dst_port")),
        "TIME-WAIT sockets by remote port",
    ),
    switch(
        Id::ByAge,
        both!("by-age"),
        Some(both!("by_age")),
        "TIME-WAIT sockets by age",
    ),
    switch(
        Id::ByDestination,
        both!("by-destination"),
        Some(both!("by_destination")),
        "Ports held, headroom and exhaustion of each destination",
    ),
    switch(
        Id::BySource,
        both!("by-source"),
        Some(both!("by_source")),
        "Ports held on each local address, the pool of bind(addr, 0)",
    ),
];

const HEADING: &str = "Collectors and breakdowns (all on; --no-collector.NAME switches NAME off)";

/// What was switched on or off, in [`SWITCHES`]' order; `None` for what was not mentioned.
#[derive(Clone, Debug)]
pub(super) struct Switches([Option<bool>; SWITCHES.len()]);

impl Switches {
    /// Changes what was mentioned, and leaves the defaults of the rest.
    pub(super) fn apply(&self, census: &mut CensusOptions) -> Enabled {
        let mut enabled = Enabled::default();
        for (switch, mentioned) in SWITCHES.iter().zip(self.0) {
            let target = match switch.id {
                Id::Sockets => &mut enabled.sockets,
                Id::Sysctl => &mut enabled.sysctl,
                Id::Netstat => &mut enabled.netstat,
                Id::Sockstat => &mut enabled.sockstat,
                Id::Slabinfo => &mut enabled.slabinfo,
                Id::BySrcAddr => &mut census.by_src_addr,
                Id::BySrcPort => &mut census.by_src_port,
                Id::ByDstAddr => &mut census.by_dst_addr,
                Id::ByDstPort => &mut census.by_dst_port,
                Id::ByAge => &mut census.by_age,
                Id::ByDestination => &mut census.by_destination,
                Id::BySource => &mut census.by_source,
            };
            *target = mentioned.unwrap_or(*target);
        }
        enabled
    }
}

impl clap::Args for Switches {
    fn augment_args(command: Command) -> Command {
        SWITCHES.iter().fold(command, |command, switch| {
            let on = Arg::new(switch.flag)
                .long(switch.flag)
                .help(switch.help)
                .help_heading(HEADING)
                .action(ArgAction::SetTrue)
                .value_parser(boolean)
                .aliases(switch.aliases.map(|[on, _]| on))
                .overrides_with_all([switch.flag, switch.negation]);
            let off = Arg::new(switch.negation)
                .long(switch.negation)
                .hide(true)
                .action(ArgAction::SetTrue)
                .aliases(switch.aliases.map(|[_, off]| off))
                .overrides_with_all([switch.flag, switch.negation]);
            command.arg(on).arg(off)
        })
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl clap::FromArgMatches for Switches {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        Ok(Self(SWITCHES.each_ref().map(|switch| {
            if matches.get_flag(switch.negation) {
                return Some(false);
            }
            let is_mentioned = matches.value_source(switch.flag) != Some(ValueSource::DefaultValue);
            is_mentioned.then(|| matches.get_flag(switch.flag))
        })))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}
