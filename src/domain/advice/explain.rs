//! What the kernel's settings are, and what their values mean here.

use super::wording;
use crate::domain::ports::PortRange;
use crate::domain::settings::{SYSCTLS, Settings};

/// One setting in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explained {
    /// Its name as sysctl(8) spells it.
    pub name: &'static str,
    /// As the kernel tells it.
    pub value: String,
    /// What that means.
    pub meaning: String,
}

impl Explained {
    /// Its name without `net.ipv4.`.
    #[must_use]
    pub fn short_name(&self) -> &'static str {
        self.name.strip_prefix("net.ipv4.").unwrap_or(self.name)
    }
}

/// The settings that are known, in reading order. One that this kernel does not have is left out.
#[must_use]
pub fn explain(settings: &Settings) -> Vec<Explained> {
    let ports = [
        settings.port_range.map(range),
        settings.reserved_ports.as_ref().map(|reserved| Explained {
            name: "net.ipv4.ip_local_reserved_ports",
            value: reserved.to_string(),
            meaning: if reserved.is_empty() {
                "No port is kept out of the range.".to_owned()
            } else {
                "connect() and bind() never choose these ports by themselves.".to_owned()
            },
        }),
    ];
    let integers = SYSCTLS.iter().map(|sysctl| {
        let value = (sysctl.get)(settings)?;
        Some(Explained {
            name: sysctl.name,
            value: value.to_string(),
            meaning: meaning(sysctl.name, value),
        })
    });
    ports.into_iter().chain(integers).flatten().collect()
}

fn meaning(name: &str, value: i64) -> String {
    match name {
        "net.ipv4.tcp_tw_reuse" => reuse(value),
        "net.ipv4.tcp_tw_reuse_delay" => reuse_delay(value),
        "net.ipv4.tcp_tw_recycle" => recycle(value),
        "net.ipv4.tcp_timestamps" => timestamps(value),
        "net.ipv4.tcp_fin_timeout" => fin_timeout(value),
        "net.ipv4.tcp_max_tw_buckets" => buckets(value),
        "net.ipv4.tcp_rfc1337" => rfc1337(value),
        "net.ipv4.ip_unprivileged_port_start" => unprivileged(value),
        _ => String::new(),
    }
}

fn range(range: PortRange) -> Explained {
    Explained {
        name: "net.ipv4.ip_local_port_range",
        value: format!("{} {}", range.min(), range.max()),
        meaning: format!(
            "{}, for each destination anew.",
            wording::counted(range.ports().into(), "port", "ports")
        ),
    }
}

fn reuse(value: i64) -> String {
    match value {
        0 => "A port in TIME-WAIT is free again after 60 s.".to_owned(),
        1 => "connect() takes over ports in TIME-WAIT, where both ends send timestamps.".to_owned(),
        2 => "connect() takes over ports in TIME-WAIT on loopback only; elsewhere they wait 60 s."
            .to_owned(),
        _ => "Unknown to this program.".to_owned(),
    }
}

fn reuse_delay(value: i64) -> String {
    format!("A TIME-WAIT socket can be taken over when it is older than {value} ms.")
}

fn recycle(value: i64) -> String {
    if value == 0 {
        "Off, as it should be.".to_owned()
    } else {
        "On: drops SYNs of clients behind NAT. Turn it off.".to_owned()
    }
}

fn timestamps(value: i64) -> String {
    if value == 0 {
        "Off: without timestamps tcp_tw_reuse does nothing.".to_owned()
    } else {
        "On, as tcp_tw_reuse needs it.".to_owned()
    }
}

fn fin_timeout(value: i64) -> String {
    format!(
        "Seconds that an orphaned socket waits for the other end's FIN: {value}. Not TIME-WAIT's 60 s."
    )
}

fn buckets(value: i64) -> String {
    let limit = u64::try_from(value).unwrap_or(0);
    format!(
        "Above {} sockets in TIME-WAIT the kernel closes further ones without it.",
        wording::count(limit)
    )
}

fn rfc1337(value: i64) -> String {
    if value == 0 {
        "A RST ends TIME-WAIT early.".to_owned()
    } else {
        "A RST does not end TIME-WAIT.".to_owned()
    }
}

fn unprivileged(value: i64) -> String {
    format!("The range cannot begin below {value}.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_kernel_lacks_is_left_out() {
        assert_eq!(explain(&Settings::default()), []);
        let settings = Settings {
            tcp_tw_reuse: Some(2),
            ..Settings::default()
        };
        let explained = explain(&settings);
        assert_eq!(explained.len(), 1);
        assert!(
            explained
                .iter()
                .all(|one| one.meaning.contains("loopback only"))
        );
    }
}
