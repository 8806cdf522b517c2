//! What a user may choose about the metrics of sockets, in the shape of its flags.

use std::str::FromStr;

use clap::ArgAction::SetFalse;

use super::address::Address;
use crate::config::number;

/// What is exported.
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "one switch each, as the flags have them"
)]
#[command(next_help_heading = "Collection")]
pub struct CensusOptions {
    /// Number of values exported individually per breakdown, the highest first; the rest is summed up as
    /// "other". 1 to 1000
    #[arg(long = "collector.top", value_name = "N", default_value = "20", value_parser = number(1, 1_000))]
    pub top: usize,

    /// TIME-WAIT sockets by local address
    #[arg(id = "no-collector.by-src-addr", long, action = SetFalse)]
    pub by_src_addr: bool,

    /// TIME-WAIT sockets by local port
    #[arg(id = "no-collector.by-src-port", long, action = SetFalse)]
    pub by_src_port: bool,

    /// TIME-WAIT sockets by remote address
    #[arg(id = "no-collector.by-dst-addr", long, action = SetFalse)]
    pub by_dst_addr: bool,

    /// TIME-WAIT sockets by remote port
    #[arg(id = "no-collector.by-dst-port", long, action = SetFalse)]
    pub by_dst_port: bool,

    /// TIME-WAIT sockets by age
    #[arg(id = "no-collector.by-age", long, action = SetFalse)]
    pub by_age: bool,

    /// Ports in use, headroom and exhaustion of each destination
    #[arg(id = "no-collector.by-destination", long, action = SetFalse)]
    pub by_destination: bool,

    /// Ports in use on each local address: those not available to bind(addr, 0)
    #[arg(id = "no-collector.by-source", long, action = SetFalse)]
    pub by_source: bool,

    /// Whether sockets outside the range are read even where leaving them out would save time: what a
    /// wider range would give is then known better.
    #[arg(skip)]
    pub whole_table: bool,

    /// Whether ports in use are probed for those that are closed to connect(): the collector `probe`.
    #[arg(skip = true)]
    pub probe: bool,

    /// Always export this port, local or remote, even at 0. Repeatable
    #[arg(long = "collector.pin-port", value_name = "PORT", value_parser = port)]
    pub pinned_ports: Vec<u16>,

    /// Always export this destination, even at 0: [SRC_ADDR,]DST_ADDR:DST_PORT, IPv6 in brackets, or
    /// SRC_ADDR,DST_ADDR,DST_PORT. Repeatable
    #[allow(
        rustdoc::broken_intra_doc_links,
        reason = "brackets of the help text are no links"
    )]
    #[arg(long = "collector.pin-destination", value_name = "DESTINATION")]
    pub pinned_destinations: Vec<PinnedDestination>,
}

impl CensusOptions {
    /// Leaves the sums alone.
    pub(crate) const fn without_breakdowns(&mut self) {
        self.by_src_addr = false;
        self.by_src_port = false;
        self.by_dst_addr = false;
        self.by_dst_port = false;
        self.by_age = false;
        self.by_destination = false;
        self.by_source = false;
    }
}

impl Default for CensusOptions {
    fn default() -> Self {
        Self {
            top: 20,
            by_src_addr: true,
            by_src_port: true,
            by_dst_addr: true,
            by_dst_port: true,
            by_age: true,
            by_destination: true,
            by_source: true,
            whole_table: false,
            probe: true,
            pinned_ports: Vec::new(),
            pinned_destinations: Vec::new(),
        }
    }
}

/// A destination that is always exported, even at 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PinnedDestination {
    /// The local address; `None` for whichever one is used.
    pub src_addr: Option<Address>,
    /// The remote address.
    pub dst_addr: Address,
    /// The remote port.
    pub dst_port: u16,
}

impl FromStr for PinnedDestination {
    type Err = String;

    /// `[SRC_ADDR,]DST_ADDR:DST_PORT`, or the labels' values in their order, separated by commas.
    fn from_str(text: &str) -> Result<Self, String> {
        const FORM: &str = "write [SRC_ADDR,]DST_ADDR:DST_PORT or SRC_ADDR,DST_ADDR,DST_PORT";
        let has_only_commas = text.matches(',').count() == 2;
        let separator = if has_only_commas { ',' } else { ':' };
        let (addresses, dst_port) = text.rsplit_once(separator).ok_or(FORM)?;
        let (src, dst) = match addresses.rsplit_once(',') {
            Some((src, dst)) => (Some(src), dst),
            None => (None, addresses),
        };
        // `2001:db8::1:443` is an address without a port.
        if !has_only_commas && dst.contains(':') && !dst.starts_with('[') {
            let form = "write an IPv6 address in brackets: [SRC_ADDR,][DST_ADDR]:DST_PORT";
            return Err(form.to_owned());
        }
        let any = ": leave it out to mean any";
        Ok(Self {
            src_addr: src.map(|src| address("SRC_ADDR", src, any)).transpose()?,
            dst_addr: address("DST_ADDR", dst, "")?,
            dst_port: port(dst_port).map_err(|error| format!("DST_PORT {dst_port:?}: {error}"))?,
        })
    }
}

fn address(part: &str, text: &str, remedy: &str) -> Result<Address, String> {
    let bare = text
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .filter(|inner| inner.contains(':'))
        .unwrap_or(text);
    match bare.parse::<Address>() {
        Err(_) => Err(format!(
            "{part} {text:?} is not an IP address (host names are not resolved)"
        )),
        Ok(address) if address.is_wildcard() => Err(format!(
            "{part} {text:?} is a wildcard, which no connection has{remedy}"
        )),
        Ok(address) => Ok(address),
    }
}

/// A port that sockets can have: not 0. `str::parse` alone would take "+80".
fn port(text: &str) -> Result<u16, &'static str> {
    let port = text.parse().ok();
    port.filter(|port| *port != 0 && !text.starts_with('+'))
        .ok_or("a port is a number from 1 to 65535")
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<PinnedDestination, String> {
        text.parse()
    }

    fn destination(src: Option<&str>, dst: &str, dst_port: u16) -> PinnedDestination {
        PinnedDestination {
            src_addr: src.map(|src| src.parse().unwrap()),
            dst_addr: dst.parse().unwrap(),
            dst_port,
        }
    }

    #[test]
    fn a_destination_has_two_spellings() {
        let v4 = destination(Some("10.0.0.1"), "192.0.2.1", 443);
        assert_eq!(parsed("10.0.0.1,192.0.2.1:443"), Ok(v4));
        assert_eq!(parsed("10.0.0.1,192.0.2.1,443"), Ok(v4));
        let any = destination(None, "192.0.2.1", 443);
        assert_eq!(parsed("192.0.2.1:443"), Ok(any));
        let v6 = destination(Some("2001:db8::2"), "2001:db8::1", 1);
        for text in [
            "[2001:db8::2],[2001:db8::1]:1",
            "2001:db8::2,[2001:db8::1]:1",
            "2001:db8::2,2001:db8::1,1",
        ] {
            assert_eq!(parsed(text), Ok(v6), "{text}");
        }
        let mapped = parsed("[::ffff:192.0.2.1]:443");
        assert_eq!(mapped, Ok(any));
    }

    #[test]
    fn other_destinations_are_refused_with_their_reason() {
        let refused = |text: &str, says: &str| {
            let error = parsed(text).unwrap_err();
            assert!(error.contains(says), "{text}: {error}");
        };
        for text in ["", "192.0.2.1", "a,b,c,d"] {
            refused(text, "write [SRC_ADDR,]DST_ADDR:DST_PORT or");
        }
        refused("2001:db8::1:443", "in brackets");
        for text in [
            "db.example:5432",
            ":80",
            "[192.0.2.1]:80",
            "[::1:80",
            ",1.2.3.4:5",
        ] {
            refused(text, "is not an IP address");
        }
        for text in ["0.0.0.0:80", "[::]:80", "0.0.0.0,192.0.2.1:80"] {
            refused(text, "is a wildcard");
        }
        for text in [
            "192.0.2.1:",
            "192.0.2.1:0",
            "192.0.2.1:65536",
            "192.0.2.1:+1",
        ] {
            refused(text, "DST_PORT");
        }
    }
}
