//! Whether the exporter's own port can be taken from it, and what helps.
//!
//! Pure: is given the sysctls and does not change them.

use crate::domain::advice::Setting;
use crate::domain::ports::PortSet;
use crate::domain::settings::Settings;

/// What to say about own ports that outgoing connections can be given.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Advice {
    pub(super) ports: String,
    /// The ephemeral range.
    pub(super) range: String,
    /// The command that helps.
    pub(super) remedy: String,
}

/// Advice where at least one of these ports is inside the ephemeral range and not reserved. None
/// while either is unknown.
pub(super) fn advice(own: &[u16], settings: &Settings) -> Option<Advice> {
    let range = settings.port_range?;
    let reserved = settings.reserved_ports.as_ref()?;
    let is_in_question = |port: &u16| range.contains(*port) && !reserved.contains(*port);
    let ports: PortSet = own.iter().copied().filter(is_in_question).collect();
    if ports.is_empty() {
        return None;
    }
    // Writing the setting replaces all of it, so it names all ports.
    let mut to_reserve = reserved.clone();
    to_reserve.union_with(&ports);
    let setting = Setting {
        name: "ip_local_reserved_ports",
        value: to_reserve.to_string(),
    };
    Some(Advice {
        ports: ports.to_string(),
        range: format!("{}-{}", range.min(), range.max()),
        remedy: setting.command(),
    })
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::domain::ports::PortRange;

    fn settings(min: u16, max: u16, reserved: &[u16]) -> Settings {
        Settings {
            port_range: PortRange::new(min, max),
            reserved_ports: Some(reserved.iter().copied().collect()),
            ..Settings::default()
        }
    }

    #[test]
    fn only_an_unreserved_port_inside_the_range_is_warned_of() {
        let default = settings(32_768, 60_999, &[40_000]);
        assert_eq!(advice(&[10_072], &default), None);
        assert_eq!(advice(&[40_000], &default), None);
        assert_eq!(advice(&[], &default), None);
        assert!(advice(&[40_001], &default).is_some());
        assert!(advice(&[32_768], &default).is_some());
        assert!(advice(&[60_999], &default).is_some());
        assert_eq!(advice(&[61_000], &default), None);
    }

    #[test]
    fn what_is_unknown_is_not_warned_of() {
        let unknown_range = Settings {
            port_range: None,
            ..settings(1, 2, &[])
        };
        assert_eq!(advice(&[1], &unknown_range), None);
        let unknown_reserved = Settings {
            reserved_ports: None,
            ..settings(1, 2, &[])
        };
        assert_eq!(advice(&[1], &unknown_reserved), None);
    }

    #[test]
    fn the_remedy_keeps_reserved_ports_inside_and_outside_the_range() {
        let settings = settings(1024, 65_535, &[80, 9100, 9101, 9102, 10_071, 65_535]);
        let advice = advice(&[10_072, 9100, 20_000], &settings).unwrap();
        assert_eq!(advice.ports, "10072,20000");
        assert_eq!(advice.range, "1024-65535");
        assert_eq!(
            advice.remedy,
            "sysctl -w net.ipv4.ip_local_reserved_ports=80,9100-9102,10071-10072,20000,65535"
        );
    }

    #[test]
    fn a_list_that_sysctl_would_truncate_is_written_with_another_command() {
        let every_other: Vec<u16> = (20_000..22_000).step_by(2).collect();
        let settings = settings(1024, 65_535, &every_other);
        let remedy = advice(&[10_072], &settings).unwrap().remedy;
        assert!(remedy.starts_with("sh -c '"), "{remedy}");
        assert!(remedy.contains("10072,20000,20002,"), "{remedy}");
    }
}
