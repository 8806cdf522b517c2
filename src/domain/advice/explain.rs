//! The sysctls, and what their values mean together.

use serde::Serialize;

use super::wording::{count, counted};
use crate::domain::age::time_wait_ms;
use crate::domain::settings::{SYSCTLS, Settings};

/// One sysctl in words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Explained {
    /// The sysctl.
    pub name: &'static str,
    /// The value that the kernel reports.
    pub value: String,
    /// What the value means.
    pub meaning: String,
}

impl Explained {
    /// Its name without `net.ipv4.`.
    pub(crate) fn short_name(&self) -> &'static str {
        self.name.strip_prefix("net.ipv4.").unwrap_or(self.name)
    }
}

/// The sysctls that are known, in reading order.
pub(crate) fn explain(settings: &Settings) -> Vec<Explained> {
    let range = settings.port_range.map(|range| Explained {
        name: "net.ipv4.ip_local_port_range",
        value: format!("{} {}", range.min(), range.max()),
        meaning: counted(range.ports(), "port", "ports") + " per destination.",
    });
    let reserved = settings.reserved_ports.as_ref().map(|reserved| Explained {
        name: "net.ipv4.ip_local_reserved_ports",
        value: reserved.to_string(),
        meaning: match reserved.len() {
            0 => "No port is reserved.".to_owned(),
            _ => "connect() and bind() never choose these ports.".to_owned(),
        },
    });
    let integers = SYSCTLS.iter().filter_map(|sysctl| {
        let value = (sysctl.get)(settings)?;
        Some(Explained {
            name: sysctl.name,
            value: value.to_string(),
            meaning: meaning(sysctl.short_name(), value, settings),
        })
    });
    range.into_iter().chain(reserved).chain(integers).collect()
}

fn meaning(name: &str, value: i64, settings: &Settings) -> String {
    let by_value = |off: &str, on: &str| if value == 0 { off } else { on }.to_owned();
    match name {
        "tcp_tw_reuse" => reuse(value, settings),
        "tcp_tw_reuse_delay" => match obstacle(settings) {
            Some(obstacle) => format!("No effect, since {obstacle}."),
            None => {
                format!("tcp_tw_reuse acts on sockets that have been in TIME-WAIT for {value} ms.")
            }
        },
        "tcp_tw_timeout" => {
            format!("A socket stays in TIME-WAIT for {value} s, on other kernels for 60 s.")
        }
        "tcp_tw_recycle" => by_value(
            "Off, as it should be.",
            "On: drops SYNs of clients behind NAT. Turn it off.",
        ),
        "tcp_timestamps" if value == 0 => "Off: tcp_tw_reuse has no effect.".to_owned(),
        "tcp_timestamps" => match settings.tcp_tw_reuse {
            Some(0) => "On: tcp_tw_reuse would work.".to_owned(),
            _ => "On, as tcp_tw_reuse requires.".to_owned(),
        },
        "tcp_fin_timeout" => format!(
            "A closed socket waits {value} s for the peer's FIN. TIME-WAIT still lasts {} s.",
            time_wait_ms(settings) / 1_000
        ),
        "tcp_max_tw_buckets" => {
            let limit = count(u64::try_from(value).unwrap_or(0));
            format!("With {limit} sockets in TIME-WAIT, further ones are closed without it.")
        }
        "tcp_rfc1337" => by_value("A RST ends TIME-WAIT.", "A RST does not end TIME-WAIT."),
        "ip_local_port_step_width" => by_value(
            "connect() examines every second port, one after the other.",
            "connect() examines every second port, in random steps.",
        ),
        "ip_unprivileged_port_start" => format!("The port range cannot begin below {value}."),
        "ip_autobind_reuse" => by_value(
            "bind() without a port never shares a port.",
            "bind() without a port can share ports, with SO_REUSEADDR on all sockets.",
        ),
        "ipv6.bindv6only" => by_value(
            "A socket bound to :: owns its port in IPv4 too.",
            "A socket bound to :: owns its port in IPv6 only.",
        ),
        _ => String::new(),
    }
}

/// Why no TIME-WAIT socket is reused, if so.
fn obstacle(settings: &Settings) -> Option<&'static str> {
    match (settings.tcp_tw_reuse, settings.tcp_timestamps) {
        (Some(0), _) => Some("tcp_tw_reuse is 0"),
        (_, Some(0)) => Some("tcp_timestamps is 0"),
        _ => None,
    }
}

fn reuse(value: i64, settings: &Settings) -> String {
    let seconds = time_wait_ms(settings) / 1_000;
    let free = format!("port in TIME-WAIT is free after {seconds} s.");
    let delay = settings.tcp_tw_reuse_delay_ms.unwrap_or(1_000);
    match (value, obstacle(settings)) {
        (0, _) => format!("Off: a {free}"),
        (_, Some(obstacle)) => format!("No effect, since {obstacle}: a {free}"),
        (1, None) => format!(
            "connect() reuses ports that have been in TIME-WAIT for {delay} ms, if both ends send timestamps."
        ),
        (2, None) => format!("Loopback only: any other {free}"),
        _ => "Unknown value.".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meaning(settings: &Settings, name: &str) -> Option<String> {
        let mut explained = explain(settings).into_iter();
        explained
            .find(|one| one.short_name() == name)
            .map(|one| one.meaning)
    }

    #[test]
    fn every_sysctl_is_explained() {
        for sysctl in SYSCTLS {
            for value in 0..3 {
                let meaning = super::meaning(sysctl.short_name(), value, &Settings::default());
                assert!(!meaning.is_empty(), "{}", sysctl.name);
            }
        }
    }

    #[test]
    fn sysctls_that_the_kernel_lacks_are_not_listed() {
        assert_eq!(explain(&Settings::default()), []);
    }

    #[test]
    fn sysctls_are_explained_as_they_act_together() {
        for (reuse, timestamps, says) in [
            (0, 1, "No effect, since tcp_tw_reuse is 0."),
            (1, 0, "No effect, since tcp_timestamps is 0."),
            (
                1,
                1,
                "tcp_tw_reuse acts on sockets that have been in TIME-WAIT for 500 ms.",
            ),
        ] {
            let settings = Settings {
                tcp_tw_reuse: Some(reuse),
                tcp_timestamps: Some(timestamps),
                tcp_tw_reuse_delay_ms: Some(500),
                ..Settings::default()
            };
            assert_eq!(
                meaning(&settings, "tcp_tw_reuse_delay").as_deref(),
                Some(says)
            );
        }
        let settings = Settings {
            tcp_tw_reuse: Some(2),
            tcp_tw_timeout_seconds: Some(5),
            ..Settings::default()
        };
        let says = "Loopback only: any other port in TIME-WAIT is free after 5 s.";
        assert_eq!(meaning(&settings, "tcp_tw_reuse").as_deref(), Some(says));
    }
}
