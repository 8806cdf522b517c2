//! The flags that switch collectors and breakdowns on and off: `--collector.NAME` and `--no-collector.NAME`.
//!
//! Made from the table of collectors and one of breakdowns, for clap's derive would want two fields for each.

use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command};

use crate::config::boolean;
use crate::domain::collectors::{CollectorId, Enabled};
use crate::domain::options::CensusOptions;

/// A breakdown: its name, the help text of its flag, and what that changes.
type Breakdown = (
    &'static str,
    &'static str,
    fn(&mut CensusOptions) -> &mut bool,
);

const BREAKDOWNS: [Breakdown; 7] = [
    (
        "by-src-addr",
        "TIME-WAIT sockets by local address",
        |census| &mut census.by_src_addr,
    ),
    ("by-src-port", "TIME-WAIT sockets by local port", |census| {
        &mut census.by_src_port
    }),
    (
        "by-dst-addr",
        "TIME-WAIT sockets by remote address",
        |census| &mut census.by_dst_addr,
    ),
    (
        "by-dst-port",
        "TIME-WAIT sockets by remote port",
        |census| &mut census.by_dst_port,
    ),
    ("by-age", "TIME-WAIT sockets by age", |census| {
        &mut census.by_age
    }),
    (
        "by-destination",
        "Ports in use, headroom and exhaustion of each destination",
        |census| &mut census.by_destination,
    ),
    (
        "by-source",
        "Ports in use on each local address: those not available to bind(addr, 0)",
        |census| &mut census.by_source,
    ),
];

const HEADING: &str = "Collectors and breakdowns (all on; --no-collector.NAME switches NAME off)";

/// What was switched on or off; `None` for what was not mentioned.
#[derive(Clone, Debug)]
pub(super) struct Switches {
    collectors: Vec<(CollectorId, Option<bool>)>,
    /// In the order of [`BREAKDOWNS`].
    breakdowns: Vec<Option<bool>>,
}

impl Switches {
    /// Changes what was mentioned, and leaves the defaults of the rest.
    pub(super) fn apply(&self, census: &mut CensusOptions) -> Enabled {
        let mut enabled = Enabled::default();
        for (id, mentioned) in &self.collectors {
            enabled.set(*id, mentioned.unwrap_or(enabled.has(*id)));
        }
        census.probe = enabled.has(CollectorId::Probe);
        for ((_, _, option), mentioned) in BREAKDOWNS.iter().zip(&self.breakdowns) {
            let option = option(census);
            *option = mentioned.unwrap_or(*option);
        }
        enabled
    }
}

fn names() -> impl Iterator<Item = (&'static str, &'static str)> {
    let collectors = CollectorId::ALL.iter().map(|id| (id.name(), id.help()));
    collectors.chain(BREAKDOWNS.iter().map(|(name, help, _)| (*name, *help)))
}

impl clap::Args for Switches {
    fn augment_args(command: Command) -> Command {
        names().fold(command, |command, (name, help)| {
            let flags = ["collector", "no-collector"].map(|prefix| format!("{prefix}.{name}"));
            let [on, off] = flags.each_ref().map(|flag| {
                // The metrics' own spelling is accepted and not shown.
                let alias = flag.replace('-', "_").replace("no_", "no-");
                Arg::new(flag)
                    .long(flag)
                    .action(ArgAction::SetTrue)
                    .alias(alias)
                    .overrides_with_all(&flags)
            });
            let on = on.help(help).help_heading(HEADING).value_parser(boolean);
            command.arg(on).arg(off.hide(true))
        })
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl clap::FromArgMatches for Switches {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mentioned = |name: &str| {
            let flag = format!("collector.{name}");
            if matches.get_flag(&format!("no-{flag}")) {
                return Some(false);
            }
            let is_mentioned = matches.value_source(&flag) != Some(ValueSource::DefaultValue);
            is_mentioned.then(|| matches.get_flag(&flag))
        };
        let collectors = CollectorId::ALL.iter();
        let breakdowns = BREAKDOWNS.iter();
        Ok(Self {
            collectors: collectors.map(|id| (*id, mentioned(id.name()))).collect(),
            breakdowns: breakdowns.map(|(name, _, _)| mentioned(name)).collect(),
        })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}
