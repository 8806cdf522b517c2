//! What a remedy is: what to do, what to type, and what it gives.

use serde::Serialize;

use super::finding::ids;

ids! {
    /// Which remedy it is.
    RemedyId {
        /// `tcp_tw_reuse` = 1.
        Reuse = "tcp_tw_reuse",
        /// `tcp_timestamps` = 1.
        Timestamps = "tcp_timestamps",
        /// A wider `ip_local_port_range`.
        WidenRange = "widen_range",
        /// Both parities in equal numbers.
        EvenRange = "even_range",
        /// Fewer `ip_local_reserved_ports`.
        ReleaseReserved = "release_reserved",
        /// Listeners outside the range.
        MoveListeners = "move_listeners",
        /// Listeners' ports in `ip_local_reserved_ports`.
        ReserveListeners = "reserve_listeners",
        /// More ports or addresses of the server.
        MoreServerPorts = "more_server_ports",
        /// More addresses of the client.
        MoreClientAddresses = "more_client_addresses",
        /// Fewer connections.
        ReuseConnections = "reuse_connections",
        /// A look at who holds the connections.
        FindHolders = "find_holders",
        /// `IP_BIND_ADDRESS_NO_PORT`.
        BindNoPort = "bind_address_no_port",
        /// A higher `tcp_max_tw_buckets`.
        MoreBuckets = "more_buckets",
        /// `tcp_tw_recycle` = 0.
        RecycleOff = "recycle_off",
    }
}

/// What is left of something, and how much of it is spent.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Room {
    /// Further connections that are possible now.
    pub headroom: u64,
    /// Ratio in use, 0 to 1.
    #[cfg_attr(test, schemars(range(min = 0, max = 1)))]
    pub ratio: f64,
}

/// What a remedy gives at once, with everything else as it is.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Effect {
    /// Without the remedy.
    pub before: Room,
    /// With the remedy.
    pub after: Room,
}

impl Effect {
    /// Whether it helps, and makes nothing worse.
    #[must_use]
    pub fn is_gain(&self) -> bool {
        self.after.headroom > self.before.headroom && self.after.ratio <= self.before.ratio
    }
}

/// One setting under `net.ipv4` with its new value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// Its name, without `net.ipv4.`.
    pub name: &'static str,
    /// As the kernel takes it.
    pub value: String,
}

/// A file that makes a sysctl survive a reboot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Persistent {
    /// A file in /etc/sysctl.d.
    pub path: String,
    /// Its only line.
    pub line: String,
}

/// So many bytes of a value does the kernel take in one write(), and sysctl(8) (procps 4.0) drops the
/// rest without a word, be it on its command line or in a file.
const MOST_BYTES: usize = 4_095;

const ONLY_SYSTEMD_READS: &str = "sysctl(8) cuts so long a line of the file at 4,095 bytes without a word; \
     systemd-sysctl takes all of it: `systemctl restart systemd-sysctl`.";

/// What to mind of all files that settings are kept in.
pub const OF_FILES: &str = "Files in /etc/sysctl.d are for the next start, and come after \
     /etc/sysctl.d/99-sysctl.conf in their order. But `sysctl --system` reads /etc/sysctl.conf \
     last: where that sets the same, change it there.";

impl Setting {
    /// What to type, as root, for the running kernel.
    #[must_use]
    pub fn command(&self) -> String {
        let Self { name, value } = self;
        if value.len() > MOST_BYTES {
            // dd goes on where a write ended; echo of some shells writes pieces that cut numbers.
            format!(
                "sh -c 'printf %s \"$0\" | dd bs=1M iflag=fullblock status=none \
                 of=/proc/sys/net/ipv4/{name}' '{value}'"
            )
        } else if value
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b",-".contains(&byte))
            && !value.is_empty()
        {
            format!("sysctl -w net.ipv4.{name}={value}")
        } else {
            format!("sysctl -w net.ipv4.{name}='{value}'")
        }
    }

    /// What to write so that it stays. One file for each setting, so that none overwrites another; its name stands
    /// behind `99-sysctl.conf`, as which many systems have /etc/sysctl.conf (sysctl.d(5)).
    #[must_use]
    pub fn persistent(&self) -> Persistent {
        let Self { name, value } = self;
        let line = format!("net.ipv4.{name} = {value}");
        Persistent {
            path: format!("/etc/sysctl.d/99-timewait-{name}.conf"),
            line: line.trim_end().to_owned(),
        }
    }
}

impl Persistent {
    /// What to type, as root.
    #[must_use]
    pub fn command(&self) -> String {
        format!("echo '{}' > {}", self.line, self.path)
    }
}

/// Something that helps.
#[derive(Clone, Debug, PartialEq)]
pub struct Remedy {
    /// Which one.
    pub id: RemedyId,
    /// What to do, in one sentence.
    pub action: String,
    /// The settings to change, in this order.
    pub settings: Vec<Setting>,
    /// A command that shows or changes something else.
    pub command: Option<String>,
    /// What to mind, but for the files.
    cautions: Vec<String>,
    /// What it gives at once. `None` where that cannot be computed, or does not come at once.
    pub effect: Option<Effect>,
    /// What runs a command in the network namespace that it is for; `None` is the exporter's own.
    pub inside: Option<String>,
}

impl Remedy {
    pub(super) fn new(id: RemedyId, action: impl Into<String>) -> Self {
        Self {
            id,
            action: action.into(),
            settings: Vec::new(),
            command: None,
            cautions: Vec::new(),
            effect: None,
            inside: None,
        }
    }

    pub(super) fn setting(mut self, name: &'static str, value: impl Into<String>) -> Self {
        let value = value.into();
        self.settings.push(Setting { name, value });
        self
    }

    pub(super) fn mind(mut self, caution: impl Into<String>) -> Self {
        self.cautions.push(caution.into());
        self
    }

    pub(super) const fn effect(mut self, effect: Effect) -> Self {
        self.effect = Some(effect);
        self
    }

    /// What to type, as root, for the running kernel.
    #[must_use]
    pub fn commands(&self) -> Vec<String> {
        let settings = self.settings.iter().map(Setting::command);
        let commands = settings.chain(self.command.clone());
        let inside = |command: String| match &self.inside {
            None => command,
            Some(prefix) => format!("{prefix} {command}"),
        };
        commands.map(inside).collect()
    }

    /// What to mind.
    #[must_use]
    pub fn caution(&self) -> Option<String> {
        let is_long = |setting: &Setting| setting.value.len() > MOST_BYTES;
        let is_cut = self.inside.is_none() && self.settings.iter().any(is_long);
        let of_file = is_cut.then_some(ONLY_SYSTEMD_READS);
        let all: Vec<&str> = self
            .cautions
            .iter()
            .map(String::as_str)
            .chain(of_file)
            .collect();
        (!all.is_empty()).then(|| all.join(" "))
    }

    /// What to write so that it stays. Nothing for another network namespace, whose settings are made
    /// anew by whatever makes it.
    #[must_use]
    pub fn persistent(&self) -> Vec<Persistent> {
        let settings = self.settings.iter().filter(|_| self.inside.is_none());
        settings.map(Setting::persistent).collect()
    }
}
