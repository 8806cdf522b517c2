//! The sysctls, and what their values mean together.

use super::wording::{count, counted};
use crate::domain::settings::{SYSCTLS, Settings};

/// One sysctl in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Explained {
    /// Its name as sysctl(8) spells it.
    pub name: &'static str,
    /// As the kernel writes it.
    pub value: String,
    /// What that means on this host.
    pub meaning: String,
}

impl Explained {
    /// Its name without `net.ipv4.`.
    #[must_use]
    pub(crate) fn short_name(&self) -> &'static str {
        self.name.strip_prefix("net.ipv4.").unwrap_or(self.name)
    }
}

/// The sysctls that are known, in reading order.
#[must_use]
pub(crate) fn explain(settings: &Settings) -> Vec<Explained> {
    let range = settings.port_range.map(|range| Explained {
        name: "net.ipv4.ip_local_port_range",
        value: format!("{} {}", range.min(), range.max()),
        meaning: format!(
            "{} per destination.",
            counted(range.ports().into(), "port", "ports")
        ),
    });
    let reserved = settings.reserved_ports.as_ref().map(|reserved| Explained {
        name: "net.ipv4.ip_local_reserved_ports",
        value: reserved.to_string(),
        meaning: if reserved.is_empty() {
            "No port is reserved.".to_owned()
        } else {
            "connect() and bind() never choose these ports.".to_owned()
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
        "tcp_tw_recycle" if value == 0 => "Off, as it should be.".to_owned(),
        "tcp_tw_recycle" => "On: drops SYNs of clients behind NAT. Turn it off.".to_owned(),
        "tcp_timestamps" if value == 0 => "Off: tcp_tw_reuse has no effect.".to_owned(),
        "tcp_timestamps" if settings.tcp_tw_reuse == Some(0) => {
            "On: tcp_tw_reuse would work.".to_owned()
        }
        "tcp_timestamps" => "On, as tcp_tw_reuse requires.".to_owned(),
        "tcp_fin_timeout" => format!(
            "A closed socket waits {value} s for the peer's FIN. TIME-WAIT still lasts {} s.",
            time_wait_seconds(settings)
        ),
        "tcp_max_tw_buckets" => {
            let limit = count(u64::try_from(value).unwrap_or(0));
            format!("With {limit} sockets in TIME-WAIT, further ones are closed without it.")
        }
        "tcp_rfc1337" if value == 0 => "A RST ends TIME-WAIT.".to_owned(),
        "tcp_rfc1337" => "A RST does not end TIME-WAIT.".to_owned(),
        "ip_local_port_step_width" if value == 0 => {
            "connect() examines every second port, one after the other.".to_owned()
        }
        "ip_local_port_step_width" => {
            "connect() examines every second port, in random steps.".to_owned()
        }
        "ip_unprivileged_port_start" => format!("The port range cannot begin below {value}."),
        "ip_autobind_reuse" if value == 0 => {
            "bind() without a port never shares a port.".to_owned()
        }
        "ip_autobind_reuse" => {
            "bind() without a port can share ports, with SO_REUSEADDR on all sockets.".to_owned()
        }
        "ipv6.bindv6only" if value == 0 => {
            "A socket bound to :: owns its port in IPv4 too.".to_owned()
        }
        "ipv6.bindv6only" => "A socket bound to :: owns its port in IPv6 only.".to_owned(),
        _ => String::new(),
    }
}

fn time_wait_seconds(settings: &Settings) -> i64 {
    settings.tcp_tw_timeout_seconds.unwrap_or(60)
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
    let seconds = time_wait_seconds(settings);
    let delay = settings.tcp_tw_reuse_delay_ms.unwrap_or(1_000);
    match (value, obstacle(settings)) {
        (0, _) => format!("Off: a port in TIME-WAIT is free after {seconds} s."),
        (_, Some(obstacle)) => {
            format!("No effect, since {obstacle}: a port in TIME-WAIT is free after {seconds} s.")
        }
        (1, None) => {
            format!(
                "connect() reuses ports that have been in TIME-WAIT for {delay} ms, if both ends send timestamps."
            )
        }
        (2, None) => {
            format!("Loopback only: any other port in TIME-WAIT is free after {seconds} s.")
        }
        _ => "Unknown to this program.".to_owned(),
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
