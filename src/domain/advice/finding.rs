//! One finding: what is wrong, where, and what helps. Every output renders this.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Serialize, Serializer};

use super::remedy::Remedy;
use super::wording;
use crate::domain::snapshot::Destination;

macro_rules! ids {
    ($(#[$doc:meta])* $name:ident { $($variant:ident = $text:literal, $meaning:literal;)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
        pub enum $name { $(#[doc = $meaning] #[serde(rename = $text)] $variant,)+ }

        impl $name {
            /// Every one there is, in their order.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// As programs spell it: stable between versions.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }

            /// In words.
            pub const fn title(self) -> &'static str {
                match self { $(Self::$variant => $meaning,)+ }
            }
        }
    };
}
pub(super) use ids;

ids! {
    /// How severe a finding is.
    #[cfg_attr(test, derive(schemars::JsonSchema))]
    Severity {
        Ok = "ok", "Nothing to do.";
        Info = "info", "Worth knowing; nothing fails because of it.";
        Warning = "warning", "Will fail if it continues.";
        Critical = "critical", "Fails, or is about to.";
    }
}

ids! {
    /// The kinds of findings, with their titles.
    Id {
        Plentiful = "ports_plentiful", "No problems found";
        Unread = "not_read", "Not everything could be read";
        DestinationExhausted = "destination_exhausted", "connect() fails: no port left";
        DestinationLow = "destination_low", "Few ports left";
        ConnectFailures = "connect_failures", "connect() calls failed";
        RateTooHigh = "rate_too_high", "Connections close faster than ports become free";
        ConnectSlow = "connect_slow", "connect() is slow";
        MoreDestinations = "more_destinations_low", "Further destinations with few ports left";
        NoUsablePorts = "no_usable_ports", "No usable port in the range";
        NarrowRange = "narrow_range", "The port range is narrow";
        RangeParity = "range_parity", "The port range has an odd number of ports";
        ListenersInRange = "listeners_in_range", "Services listen inside the port range";
        BoundInRange = "bound_in_range", "Bound, unconnected sockets inside the port range";
        BindOwned = "bind_owned_ports", "bind() chose ports that connect() cannot use";
        BindPoolLow = "bind_pool_low", "Few ports left for bind() without a port";
        UdpPortsLow = "udp_ports_low", "Few ports left for UDP";
        BucketsNearLimit = "buckets_near_limit", "TIME-WAIT sockets near tcp_max_tw_buckets";
        BucketOverflows = "bucket_overflows", "tcp_max_tw_buckets was reached";
        ServerSide = "server_side_time_wait", "Harmless TIME-WAIT sockets of servers";
        ReuseWithoutTimestamps = "reuse_without_timestamps", "tcp_tw_reuse has no effect";
        ReuseLoopbackOnly = "reuse_loopback_only", "tcp_tw_reuse is for loopback only";
        Recycle = "recycle_on", "tcp_tw_recycle drops connections";
        RecycleAndReuse = "recycle_and_reuse_on", "tcp_tw_recycle is not needed";
        FinTimeout = "fin_timeout_lowered", "tcp_fin_timeout does not shorten TIME-WAIT";
    }
}

/// A value behind a finding.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Value {
    /// A number of things.
    Count(u64),
    /// 0 to 1.
    Ratio(f64),
    /// Per second, or a number of seconds.
    Number(f64),
    /// Memory.
    Bytes(u64),
    /// A port's number.
    Port(u16),
    /// Anything else.
    Text(String),
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&match self {
            Self::Count(count) => wording::count(*count),
            Self::Ratio(ratio) => wording::percent(*ratio),
            Self::Number(number) => format!("{number:.1}"),
            Self::Bytes(bytes) => wording::bytes(*bytes),
            Self::Port(port) => port.to_string(),
            Self::Text(text) => text.clone(),
        })
    }
}

/// Something that an operator should know.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Finding {
    /// Which finding it is; stable between versions.
    #[cfg_attr(test, schemars(with = "String"))]
    pub id: Id,
    /// How severe it is.
    pub severity: Severity,
    /// What is wrong, in words.
    pub title: &'static str,
    /// What is wrong, where, and why.
    pub sentence: String,
    /// The destination that the finding is about.
    pub destination: Option<Destination>,
    /// The numbers behind the finding, by name.
    #[serde(rename = "figures", serialize_with = "by_name")]
    #[cfg_attr(test, schemars(schema_with = "numbers_or_texts"))]
    pub values: Vec<(&'static str, Value)>,
    /// The best first.
    pub remedies: Vec<Remedy>,
}

fn by_name<S: Serializer>(
    values: &[(&'static str, Value)],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let by_name: BTreeMap<_, _> = values.iter().cloned().collect();
    by_name.serialize(serializer)
}

#[cfg(test)]
fn numbers_or_texts(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({"type": "object", "additionalProperties": {"type": ["number", "string"]}})
}

impl Finding {
    pub(super) fn new(id: Id, severity: Severity, sentence: impl Into<String>) -> Self {
        Self {
            id,
            severity,
            title: id.title(),
            sentence: sentence.into(),
            destination: None,
            values: Vec::new(),
            remedies: Vec::new(),
        }
    }

    /// Its first words, up to where the details begin.
    pub fn summary(&self) -> String {
        if matches!(self.id, Id::Plentiful | Id::Unread) {
            return self.sentence.clone();
        }
        let first = self.sentence.split(": ").next().unwrap_or_default();
        let first = first.split(". ").next().unwrap_or_default();
        format!("{}.", first.trim_end_matches('.'))
    }

    /// With a value, if it is known.
    pub(super) fn value(mut self, name: &'static str, value: impl Into<Option<Value>>) -> Self {
        self.values.extend(value.into().map(|value| (name, value)));
        self
    }

    pub(super) fn count(self, name: &'static str, count: impl Into<u64>) -> Self {
        self.value(name, Value::Count(count.into()))
    }

    /// With the remedies that there are.
    pub(super) fn remedies<R: Into<Option<Remedy>>>(
        mut self,
        remedies: impl IntoIterator<Item = R>,
    ) -> Self {
        let remedies = remedies.into_iter().filter_map(Into::into);
        self.remedies.extend(remedies);
        self.remedies.sort_by_key(|remedy| remedy.id);
        self
    }
}
