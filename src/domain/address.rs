//! IP addresses as the kernel's connection table spends them.
//!
//! Knows nothing of sockets or of text formats other than the usual display form.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// The 96 bits in front of an IPv4 address in its IPv4-mapped IPv6 form (RFC 4291, 2.5.5.2).
const MAPPED_PREFIX: u128 = 0xffff_0000_0000;

/// One IP address in canonical form.
///
/// An IPv4-mapped IPv6 address *is* the IPv4 address: a socket of either family with it spends
/// the same IPv4 tuples. Both are held as the mapped form, so that one comparison suffices, and
/// both display as IPv4. The order is numeric, which puts the addresses of one family together.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Address(u128);

/// The IP version whose tuples an address belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Family {
    /// IPv4, IPv4-mapped IPv6 included.
    Ipv4,
    /// IPv6 proper.
    Ipv6,
}

impl Family {
    /// Both families, in the order in which they are told.
    pub const ALL: [Self; 2] = [Self::Ipv4, Self::Ipv6];
}

impl Address {
    /// The IPv4 wildcard, 0.0.0.0.
    pub const ANY_V4: Self = Self(MAPPED_PREFIX);
    /// The IPv6 wildcard, ::.
    pub const ANY_V6: Self = Self(0);

    /// From the 32 bits of an IPv4 address, most significant byte first.
    #[inline]
    #[must_use]
    pub const fn from_v4_bytes(bytes: [u8; 4]) -> Self {
        #[expect(
            clippy::as_conversions,
            reason = "`From` is not const; widening loses nothing"
        )]
        let bits = u32::from_be_bytes(bytes) as u128;
        Self(MAPPED_PREFIX | bits)
    }

    /// From the 128 bits of an IPv6 address, most significant byte first. A mapped one becomes
    /// IPv4 by itself.
    #[inline]
    #[must_use]
    pub const fn from_v6_bytes(bytes: [u8; 16]) -> Self {
        Self(u128::from_be_bytes(bytes))
    }

    /// The 128 bits of the address, IPv4 in its mapped form.
    #[inline]
    #[must_use]
    pub const fn to_bits(self) -> u128 {
        self.0
    }

    /// The 32 bits of an IPv4 address; nothing for IPv6.
    #[inline]
    #[must_use]
    pub fn to_v4_bits(self) -> Option<u32> {
        self.is_v4()
            .then(|| u32::try_from(self.0 & 0xffff_ffff).unwrap_or_default())
    }

    #[inline]
    const fn is_v4(self) -> bool {
        self.0 >> 32 == 0xffff
    }

    /// Which family's tuples a socket with this address spends.
    #[inline]
    #[must_use]
    pub const fn family(self) -> Family {
        if self.is_v4() {
            Family::Ipv4
        } else {
            Family::Ipv6
        }
    }

    /// 127.0.0.0/8 or ::1, the addresses for which `tcp_tw_reuse` = 2 allows reuse
    /// (`tcp_twsk_unique` in net/ipv4/tcp_ipv4.c).
    #[inline]
    #[must_use]
    pub const fn is_loopback(self) -> bool {
        self.0 >> 24 == 0x00ff_ff7f || self.0 == 1
    }

    /// 0.0.0.0 or ::.
    #[inline]
    #[must_use]
    pub const fn is_wildcard(self) -> bool {
        self.0 == Self::ANY_V4.0 || self.0 == Self::ANY_V6.0
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

impl From<Address> for IpAddr {
    fn from(address: Address) -> Self {
        match address.to_v4_bits() {
            Some(bits) => Self::V4(Ipv4Addr::from_bits(bits)),
            None => Self::V6(Ipv6Addr::from_bits(address.0)),
        }
    }
}

impl FromStr for Address {
    type Err = std::net::AddrParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse::<IpAddr>().map(Self::from)
    }
}

impl serde::Serialize for Address {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        IpAddr::from(*self).fmt(f)
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

    proptest::proptest! {
        #[test]
        fn display_and_parse_are_inverse(bits: u128) {
            let original = Address::from_v6_bytes(bits.to_be_bytes());
            proptest::prop_assert_eq!(address(&original.to_string()), original);
        }
    }
}
