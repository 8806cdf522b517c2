//! One remedy: what to do, what to type, and its effect.

use std::fmt;

use serde::Serialize;

use super::finding::ids;
use super::wording::{count, percent};

ids! {
    /// The kinds of remedies, in the order in which findings list them: first what needs fewer
    /// connections, then sysctls that give ports back sooner, then more ports, then more addresses.
    RemedyId {
        ReuseConnections = "reuse_connections", "Reuse connections";
        CloseSockets = "close_sockets", "Close sockets that the peer has closed";
        FindHolders = "find_holders", "Find the program that owns the sockets";
        SynRetries = "tcp_syn_retries", "Give up on a silent peer sooner";
        FinTimeout = "tcp_fin_timeout", "End FIN-WAIT-2 without a process sooner";
        Reuse = "tcp_tw_reuse", "Reuse TIME-WAIT sockets";
        Timestamps = "tcp_timestamps", "Turn timestamps on";
        RecycleOff = "recycle_off", "Turn tcp_tw_recycle off";
        MoreBuckets = "more_buckets", "Raise tcp_max_tw_buckets";
        BindNoPort = "bind_address_no_port", "Leave the port to connect()";
        WidenRange = "widen_range", "Widen the port range";
        EvenRange = "even_range", "Make the number of ports even";
        ReleaseReserved = "release_reserved", "Release reserved ports";
        ReserveListeners = "reserve_listeners", "Reserve the ports of services";
        MoveListeners = "move_listeners", "Move services out of the range";
        MoreServerPorts = "more_server_ports", "Use more ports or addresses of the server";
        MoreClientAddresses = "more_client_addresses", "Use more local addresses";
    }
}

/// How many more of something there can be, and the share in use.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Room {
    /// Further connections that are possible now.
    pub headroom: u64,
    /// Ratio in use, 0 to 1.
    #[cfg_attr(test, schemars(range(min = 0, max = 1)))]
    pub ratio: f64,
}

/// What a remedy changes at once, everything else being equal.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Effect {
    /// Without the remedy.
    pub before: Room,
    /// With the remedy.
    pub after: Room,
}

impl Effect {
    /// Whether it helps and makes nothing worse.
    #[must_use]
    pub(crate) fn is_gain(&self) -> bool {
        self.after.headroom > self.before.headroom && self.after.ratio <= self.before.ratio
    }
}

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { before, after } = self;
        write!(
            f,
            "{} left instead of {}, {} in use instead of {}",
            count(after.headroom),
            count(before.headroom),
            percent(after.ratio),
            percent(before.ratio)
        )
    }
}

/// One sysctl under `net.ipv4` with its new value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// Its name, without `net.ipv4.`.
    pub name: &'static str,
    /// As the kernel reads it.
    pub value: String,
}

/// A file that makes a sysctl survive a reboot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Persistent {
    /// A file in /etc/sysctl.d.
    pub path: String,
    /// Its only line.
    pub line: String,
}

/// The kernel reads this many bytes of a value in one write(), and sysctl(8) (procps 4.0) silently
/// drops the rest, on its command line and in a file.
const MAX_BYTES: usize = 4_095;

const CUT_IN_FILE: &str = "sysctl(8) silently cuts so long a line of the file at 4,095 bytes; systemd-sysctl reads \
                           all of it: `systemctl restart systemd-sysctl`.";

/// What to know about all files that keep sysctls.
pub(crate) const OF_FILES: &str = "Files in /etc/sysctl.d take effect at the next boot, in the order of their names, after \
                            /etc/sysctl.d/99-sysctl.conf. But `sysctl --system` reads /etc/sysctl.conf last: a \
                            sysctl that is set there must be changed there.";

impl Setting {
    /// What to type, as root, for the running kernel.
    #[must_use]
    pub fn command(&self) -> String {
        let Self { name, value } = self;
        if value.len() > MAX_BYTES {
            // dd continues where a write ended; echo of some shells writes pieces that cut numbers.
            return format!(
                "sh -c 'printf %s \"$0\" | dd bs=1M iflag=fullblock status=none \
                 of=/proc/sys/net/ipv4/{name}' '{value}'"
            );
        }
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b",-".contains(&byte);
        let is_plain = value.bytes().all(is_plain) && !value.is_empty();
        let quote = if is_plain { "" } else { "'" };
        format!("sysctl -w net.ipv4.{name}={quote}{value}{quote}")
    }

    /// The file that keeps it. One for each sysctl, so that none overwrites another; its name sorts
    /// after `99-sysctl.conf`, under which many systems have /etc/sysctl.conf (sysctl.d(5)).
    #[must_use]
    pub(crate) fn persistent(&self) -> Persistent {
        let Self { name, value } = self;
        let line = format!("net.ipv4.{name} = {value}");
        Persistent {
            path: format!("/etc/sysctl.d/99-timewait-{name}.conf"),
            line: line.trim_end().to_owned(),
        }
    }
}

impl Persistent {
    /// What to type.
    #[must_use]
    pub(crate) fn command(&self) -> String {
        format!("echo '{}' | sudo tee {}", self.line, self.path)
    }
}

/// Something that helps.
#[derive(Clone, Debug, PartialEq)]
pub struct Remedy {
    /// Which kind.
    pub id: RemedyId,
    /// What to do.
    pub action: String,
    /// The sysctls to change, in this order.
    pub settings: Vec<Setting>,
    /// A command that shows or changes something else.
    pub command: Option<String>,
    /// What to know before, except about files.
    pub(super) notes: Vec<String>,
    /// What it changes at once. `None` if that cannot be computed, or if it does not act at once.
    pub effect: Option<Effect>,
    /// Runs a command in the network namespace in question; `None` for the exporter's own.
    pub inside: Option<String>,
}

impl Remedy {
    pub(super) fn new(id: RemedyId, action: impl Into<String>) -> Self {
        Self {
            id,
            action: action.into(),
            settings: Vec::new(),
            command: None,
            notes: Vec::new(),
            effect: None,
            inside: None,
        }
    }

    pub(super) fn setting(mut self, name: &'static str, value: impl Into<String>) -> Self {
        let value = value.into();
        self.settings.push(Setting { name, value });
        self
    }

    pub(super) fn settings(self, settings: Vec<Setting>) -> Self {
        Self { settings, ..self }
    }

    pub(super) fn setting_if(self, is_needed: bool, name: &'static str, value: &str) -> Self {
        if is_needed {
            self.setting(name, value)
        } else {
            self
        }
    }

    pub(super) fn command(mut self, command: impl Into<String>) -> Self {
        self.command = Some(command.into());
        self
    }

    pub(super) fn note(mut self, note: impl Into<String>) -> Self {
        self.notes.push(note.into());
        self
    }

    pub(super) fn note_if(self, is_so: bool, note: &str) -> Self {
        if is_so { self.note(note) } else { self }
    }

    pub(super) const fn effect(mut self, effect: Effect) -> Self {
        self.effect = Some(effect);
        self
    }

    /// With this effect, if it is a gain.
    pub(super) fn gain(self, effect: Effect) -> Option<Self> {
        effect.is_gain().then(|| self.effect(effect))
    }

    /// What to type, as root, for the running kernel.
    #[must_use]
    pub fn commands(&self) -> Vec<String> {
        let settings = self.settings.iter().map(Setting::command);
        let prefix = self.inside.iter().map(|inside| format!("{inside} "));
        let prefix: String = prefix.collect();
        let commands = settings.chain(self.command.clone());
        commands
            .map(|command| format!("{prefix}{command}"))
            .collect()
    }

    /// What to know before.
    #[must_use]
    pub(crate) fn caution(&self) -> Option<String> {
        let is_cut = |setting: &Setting| setting.value.len() > MAX_BYTES;
        let is_cut = self.inside.is_none() && self.settings.iter().any(is_cut);
        let notes = self.notes.iter().map(String::as_str);
        let notes: Vec<&str> = notes.chain(is_cut.then_some(CUT_IN_FILE)).collect();
        (!notes.is_empty()).then(|| notes.join(" "))
    }

    /// The files that keep the sysctls. None for another network namespace: whatever creates it sets
    /// its sysctls.
    #[must_use]
    pub(crate) fn persistent(&self) -> Vec<Persistent> {
        let settings = self.settings.iter().filter(|_| self.inside.is_none());
        settings.map(Setting::persistent).collect()
    }
}
