//! IP addresses as the kernel's connection table uses them, IPv6 link-local ones with their zone.
//!
//! Knows nothing of sockets or of text formats other than the usual display form.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use super::zone::Zone;

/// The low half of an IPv4 address in its IPv4-mapped IPv6 form (RFC 4291, 2.5.5.2), without the address.
const MAPPED_PREFIX: u64 = 0xffff_0000_0000;

/// fe80::/10 with bits 16 to 31 set, which no address in use has: a link-local address with a zone in
/// bits 32 to 63, where RFC 4291 has zeros.
const ZONED: u64 = 0xffff_0000_0000;

/// One IP address in canonical form.
///
/// An IPv4-mapped IPv6 address *is* the IPv4 address: a socket of either family with it uses the same
/// IPv4 tuples. Both are stored as the mapped form, so that one comparison suffices, and both display
/// as IPv4. The order is numeric, which puts the addresses of one family together.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Address {
    high: u64,
    low: u64,
}

/// The IP version whose tuples an address belongs to: IPv4-mapped IPv6 is IPv4.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[expect(missing_docs, reason = "their names say it")]
pub enum Family {
    Ipv4,
    Ipv6,
}

impl Family {
    /// Both families, in the order in which they are exported.
    pub const ALL: [Self; 2] = [Self::Ipv4, Self::Ipv6];
}

impl Address {
    /// The IPv4 wildcard, 0.0.0.0.
    pub const ANY_V4: Self = Self::from_v4_bytes([0; 4]);
    /// The IPv6 wildcard, ::.
    pub(crate) const ANY_V6: Self = Self { high: 0, low: 0 };

    /// From the 32 bits of an IPv4 address, most significant byte first.
    pub const fn from_v4_bytes(bytes: [u8; 4]) -> Self {
        let [a, b, c, d] = bytes;
        Self {
            high: 0,
            low: u64::from_be_bytes([0, 0, 0xff, 0xff, a, b, c, d]),
        }
    }

    /// From the 128 bits of an IPv6 address, most significant byte first. A mapped one becomes
    /// IPv4 by itself.
    pub(crate) fn from_v6_bytes(bytes: [u8; 16]) -> Self {
        let halves: [[u8; 8]; 2] = zerocopy::transmute!(bytes);
        let [high, low] = halves.map(u64::from_be_bytes);
        Self { high, low }
    }

    /// The same address on this link, if it is link-local: on another link it is another place.
    pub(crate) fn with_zone(self, zone: Zone) -> Self {
        let (_, plain) = self.zone().unwrap_or((zone, self));
        if plain.is_link_local() && plain.high << 16 == 0 {
            let high = plain.high | ZONED | u64::from(zone.number());
            return Self { high, ..plain };
        }
        self
    }

    /// fe80::/10.
    pub(crate) const fn is_link_local(self) -> bool {
        self.high >> 54 == 0xfe80 >> 6
    }

    /// The link of a link-local address, and the address without it.
    fn zone(self) -> Option<(Zone, Self)> {
        let is_zoned = self.is_link_local() && self.high & ZONED == ZONED;
        let number = u32::try_from(self.high & 0xffff_ffff).ok()?;
        let high = self.high >> 48 << 48;
        is_zoned.then_some((Zone::from_number(number)?, Self { high, ..self }))
    }

    /// The 32 bits of an IPv4 address; nothing for IPv6.
    pub(crate) fn to_v4_bits(self) -> Option<u32> {
        self.is_v4()
            .then(|| u32::try_from(self.low & 0xffff_ffff).unwrap_or_default())
    }

    const fn is_v4(self) -> bool {
        self.high == 0 && self.low >> 32 == 0xffff
    }

    /// Which family's tuples a socket with this address uses.
    pub const fn family(self) -> Family {
        if self.is_v4() {
            Family::Ipv4
        } else {
            Family::Ipv6
        }
    }

    /// 127.0.0.0/8 or ::1, the addresses for which `tcp_tw_reuse` = 2 allows reuse
    /// (`tcp_twsk_unique` in net/ipv4/tcp_ipv4.c).
    pub const fn is_loopback(self) -> bool {
        self.high == 0 && (self.low >> 24 == 0x00ff_ff7f || self.low == 1)
    }

    /// 0.0.0.0 or ::.
    pub const fn is_wildcard(self) -> bool {
        self.high == 0 && (self.low == MAPPED_PREFIX || self.low == 0)
    }

    /// Both halves of the 128 bits, IPv4 in its mapped form.
    pub(super) const fn halves(self) -> [u64; 2] {
        [self.high, self.low]
    }
}

impl From<Address> for u128 {
    fn from(address: Address) -> Self {
        Self::from(address.high) << 64 | Self::from(address.low)
    }
}

impl From<IpAddr> for Address {
    fn from(ip: IpAddr) -> Self {
        match ip {
            IpAddr::V4(v4) => Self::from_v4_bytes(v4.octets()),
            IpAddr::V6(v6) => Self::from_v6_bytes(v6.octets()),
        }
    }
}

/// Without its zone.
impl From<Address> for IpAddr {
    fn from(address: Address) -> Self {
        let (_, plain) = address.zone().unwrap_or((Zone::default(), address));
        match plain.to_v4_bits() {
            Some(bits) => Self::V4(Ipv4Addr::from_bits(bits)),
            None => Self::V6(Ipv6Addr::from_bits(plain.into())),
        }
    }
}

impl FromStr for Address {
    type Err = std::net::AddrParseError;

    /// A link-local address may have a zone behind it: `fe80::1%eth0`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parse = |text: &str| text.parse::<IpAddr>().map(Self::from);
        match text.split_once('%') {
            Some((address, zone)) if parse(address).is_ok_and(Self::is_link_local) => {
                Ok(parse(address)?.with_zone(Zone::named(zone)))
            }
            _ => parse(text),
        }
    }
}

impl serde::Serialize for Address {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ip = IpAddr::from(*self);
        match self.zone() {
            Some((zone, _)) => f.pad(&format!("{ip}%{zone}")),
            None => ip.fmt(f),
        }
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn address(text: &str) -> Address {
        text.parse().unwrap()
    }

    #[test]
    fn a_mapped_address_is_the_ipv4_address() {
        assert_eq!(address("::ffff:192.0.2.7"), address("192.0.2.7"));
        assert_eq!(address("::ffff:192.0.2.7").to_string(), "192.0.2.7");
        assert_eq!(address("::ffff:192.0.2.7").family(), Family::Ipv4);
        assert_eq!(address("::192.0.2.7").family(), Family::Ipv6);
    }

    #[test]
    fn loopback_is_all_of_127_and_one_ipv6_address() {
        for inside in ["127.0.0.1", "127.255.255.255", "::1", "::ffff:127.1.2.3"] {
            assert!(address(inside).is_loopback(), "{inside}");
        }
        for outside in ["126.255.255.255", "128.0.0.0", "::2", "::", "::7f00:1"] {
            assert!(!address(outside).is_loopback(), "{outside}");
        }
    }

    #[test]
    fn each_family_has_its_own_wildcard() {
        assert!(address("0.0.0.0").is_wildcard() && address("::").is_wildcard());
        assert_ne!(address("0.0.0.0"), address("::"));
        assert_eq!(address("0.0.0.0"), Address::ANY_V4);
        assert_eq!(address("::"), Address::ANY_V6);
    }

    #[test]
    fn a_link_local_address_on_two_links_is_two_places() {
        let [one, other] = ["fe80::1%eth0", "fe80::1%br-lan"].map(address);
        assert_ne!(one, other);
        assert_ne!(one, address("fe80::1"));
        assert_eq!(one, address("fe80::1").with_zone(Zone::named("eth0")));
        assert_eq!(one.with_zone(Zone::named("br-lan")), other);
        assert_eq!(
            [one.to_string(), other.to_string()],
            ["fe80::1%eth0", "fe80::1%br-lan"]
        );
        assert_eq!(IpAddr::from(one), IpAddr::from(address("fe80::1")));
        assert_eq!(format!("{one:>14}|"), "  fe80::1%eth0|");
        for no_zone in ["2001:db8::1%eth0", "127.0.0.1%lo", "fe80::%"] {
            let parsed = no_zone.parse::<Address>();
            assert!(parsed.is_err() || no_zone == "fe80::%", "{no_zone}");
        }
        let global = address("2001:db8::1");
        assert_eq!(global.with_zone(Zone::named("eth0")), global);
    }

    proptest::proptest! {
        #[test]
        fn display_and_parse_are_inverse(bits: u128) {
            let original = Address::from_v6_bytes(bits.to_be_bytes());
            proptest::prop_assert_eq!(address(&original.to_string()), original);
        }
    }
}
