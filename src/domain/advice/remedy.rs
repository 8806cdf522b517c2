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
    pub(crate) fn is_gain(&self) -> bool {
        self.after.headroom > self.before.headroom && self.after.ratio <= self.before.ratio
    }
}

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { before, after } = self;
        let [left, left_before] = [after, before].map(|room| count(room.headroom));
        let [in_use, in_use_before] = [after, before].map(|room| percent(room.ratio));
        write!(
            f,
            "{left} left instead of {left_before}, {in_use} in use instead of {in_use_before}"
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

const CUT_IN_FILE: &str = "sysctl(8) silently truncates this line of the file to 4,095 bytes; systemd-sysctl reads \
                           all of it: `systemctl restart systemd-sysctl`.";

/// What to know about all files that keep sysctls.
pub(crate) const OF_FILES: &str = "Files in /etc/sysctl.d take effect at the next boot, in the order of their names, after \
                            /etc/sysctl.d/99-sysctl.conf. But `sysctl --system` reads /etc/sysctl.conf last: a \
                            sysctl that is set there must be changed there.";

impl Setting {
    /// What to type, as root, for the running kernel.
    pub fn command(&self) -> String {
        let Self { name, value } = self;
        if value.len() > MAX_BYTES {
            // dd continues where a write ended; echo of some shells writes pieces that cut numbers.
            return format!(
                "sh -c 'printf %s \"$0\" | dd bs=1M iflag=fullblock status=none \
                 of=/proc/sys/net/ipv4/{name}' '{value}'"
            );
        }
        // A value is a number, two numbers, or a list of ports.
        let is_word = !value.is_empty() && !value.contains(' ');
        let quote = if is_word { "" } else { "'" };
        format!("sysctl -w net.ipv4.{name}={quote}{value}{quote}")
    }

    /// The file that keeps it. One for each sysctl, so that none overwrites another; its name sorts
    /// after `99-sysctl.conf`, under which many systems have /etc/sysctl.conf (sysctl.d(5)).
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
    pub(crate) fn command(&self) -> String {
        format!("echo '{}' | sudo tee {}", self.line, self.path)
    }
}

/// Something that helps.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Remedy {
    /// Which remedy it is; stable between versions.
    #[cfg_attr(test, schemars(with = "String"))]
    pub id: RemedyId,
    /// What to do, in one sentence.
    pub action: String,
    /// What to type as root, in this order.
    pub commands: Vec<String>,
    /// Files that make the change survive a reboot. sysctl --system reads /etc/sysctl.conf last: change
    /// the value there if that file sets it.
    pub(crate) persistent: Vec<Persistent>,
    /// What to consider first.
    pub(crate) caution: Option<String>,
    /// The immediate effect; null where it cannot be computed or is not immediate.
    pub effect: Option<Effect>,
    /// The sysctls to change, in this order.
    #[serde(skip)]
    pub settings: Vec<Setting>,
}

impl Remedy {
    pub(super) fn new(id: RemedyId, action: impl Into<String>) -> Self {
        Self {
            id,
            action: action.into(),
            commands: Vec::new(),
            persistent: Vec::new(),
            caution: None,
            effect: None,
            settings: Vec::new(),
        }
    }

    pub(super) fn settings(mut self, settings: impl IntoIterator<Item = Setting>) -> Self {
        for setting in settings {
            self.commands.push(setting.command());
            self.settings.push(setting);
        }
        self
    }

    pub(super) fn setting(self, name: &'static str, value: impl Into<String>) -> Self {
        let value = value.into();
        self.settings([Setting { name, value }])
    }

    pub(super) fn setting_if(self, is_needed: bool, name: &'static str, value: &str) -> Self {
        let value = value.to_owned();
        self.settings(is_needed.then_some(Setting { name, value }))
    }

    pub(super) fn command(mut self, command: impl Into<String>) -> Self {
        self.commands.push(command.into());
        self
    }

    pub(super) fn note(mut self, note: &str) -> Self {
        let before = self.caution.map_or_else(String::new, |before| before + " ");
        self.caution = Some(before + note);
        self
    }

    pub(super) fn note_if(self, is_so: bool, note: &str) -> Self {
        if is_so { self.note(note) } else { self }
    }

    pub(super) fn effect(self, effect: Effect) -> Self {
        let effect = Some(effect);
        Self { effect, ..self }
    }

    /// With this effect, if it is a gain.
    pub(super) fn gain(self, effect: Effect) -> Option<Self> {
        effect.is_gain().then(|| self.effect(effect))
    }

    /// For the network namespace in which a prefix runs a command: whatever creates it sets its sysctls. For
    /// the exporter's own there is no prefix, and files keep the sysctls.
    pub(super) fn inside(mut self, prefix: Option<&str>) -> Self {
        if let Some(prefix) = prefix {
            for command in &mut self.commands {
                *command = format!("{prefix} {command}");
            }
            return self;
        }
        self.persistent = self.settings.iter().map(Setting::persistent).collect();
        let mut settings = self.settings.iter();
        let is_cut = settings.any(|setting| setting.value.len() > MAX_BYTES);
        self.note_if(is_cut, CUT_IN_FILE)
    }
}
