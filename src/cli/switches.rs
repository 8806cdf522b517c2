//! The flags that switch collectors and breakdowns on and off: `--collector.NAME` and `--no-collector.NAME`.
//!
//! What can be switched off has only the flag that does so, with its whole name as its identifier; this makes
//! those of the collectors, and gives each one its counterpart.

use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches};

use crate::domain::collectors::{CollectorId, Enabled};

const HEADING: &str = "Collectors and breakdowns (all on; --no-collector.NAME switches NAME off)";

fn off_flag(id: CollectorId) -> String {
    format!("no-collector.{}", id.name())
}

/// Of a flag that switches something off: hides it and adds the one that switches it on. The last one typed
/// wins.
fn with_counterpart(off: Arg, counterparts: &mut Vec<Arg>) -> Arg {
    let Some(name) = off.get_long().and_then(|long| long.strip_prefix("no-")) else {
        return off;
    };
    let name = name.to_owned();
    // The metrics' own spelling is accepted and not shown.
    let alias = name.replace('-', "_");
    let both = [name.clone(), format!("no-{name}")];
    let on = Arg::new(name.clone()).long(name).alias(alias.clone());
    let on = on.action(ArgAction::SetTrue).overrides_with_all(&both);
    let help = off.get_help().cloned().unwrap_or_default();
    counterparts.push(on.help(help).help_heading(HEADING));
    off.alias(format!("no-{alias}"))
        .overrides_with_all(both)
        .hide(true)
}

impl Args for Enabled {
    /// The command has the flags of the breakdowns already.
    fn augment_args(command: Command) -> Command {
        let mut on = Vec::new();
        let off = CollectorId::ALL.iter().map(|id| {
            let off = Arg::new(off_flag(*id)).long(off_flag(*id)).help(id.help());
            with_counterpart(off.action(ArgAction::SetFalse), &mut on)
        });
        let off: Vec<Arg> = off.collect();
        let command = command.mut_args(|off| with_counterpart(off, &mut on));
        command.args(off).args(on)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for Enabled {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let is_off = |id: &CollectorId| !matches.get_flag(&off_flag(*id));
        let off: Vec<_> = CollectorId::ALL.iter().copied().filter(is_off).collect();
        Ok(Self::default().without(&off))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}
