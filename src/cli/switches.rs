//! The flags that switch collectors and breakdowns on and off: `--collector.NAME` and `--no-collector.NAME`.
//!
//! What can be switched off has only the flag that does so, named in full as its identifier; this gives each
//! of those its counterpart.

use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches};

use crate::domain::collectors::{CollectorId, Enabled};

const HEADING: &str = "Collectors and breakdowns (all on; --no-collector.NAME switches NAME off)";

fn off_flag(id: CollectorId) -> String {
    format!("no-collector.{}", id.name())
}

impl Args for Enabled {
    fn augment_args(command: Command) -> Command {
        let ids = CollectorId::ALL.iter();
        command.args(ids.map(|id| {
            let flag = Arg::new(off_flag(*id)).long(off_flag(*id));
            flag.action(ArgAction::SetFalse).help(id.help())
        }))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for Enabled {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut enabled = Self::default();
        for id in CollectorId::ALL {
            enabled.set(*id, matches.get_flag(&off_flag(*id)));
        }
        Ok(enabled)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

/// The flags `--collector.NAME`, one for each `--no-collector.NAME` before it. The last one typed wins.
#[derive(Clone, Debug)]
pub(crate) struct Switches;

impl Args for Switches {
    fn augment_args(command: Command) -> Command {
        let mut switches = Vec::new();
        let command = command.mut_args(|off| {
            let Some(name) = off.get_long().and_then(|long| long.strip_prefix("no-")) else {
                return off;
            };
            let on = Arg::new(name.to_owned()).long(name.to_owned());
            let on = on.action(ArgAction::SetTrue).help_heading(HEADING);
            // The metrics' own spelling is accepted and not shown.
            let [on_alias, off_alias] =
                ["", "no-"].map(|no| format!("{no}{}", name.replace('-', "_")));
            let both = [on.get_id(), off.get_id()].map(Clone::clone);
            let help = off.get_help().cloned().unwrap_or_default();
            switches.push(on.help(help).alias(on_alias).overrides_with_all(&both));
            off.alias(off_alias).overrides_with_all(both).hide(true)
        });
        command.args(switches)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for Switches {
    fn from_arg_matches(_: &ArgMatches) -> Result<Self, clap::Error> {
        Ok(Self)
    }

    fn update_from_arg_matches(&mut self, _: &ArgMatches) -> Result<(), clap::Error> {
        Ok(())
    }
}
