//! What a finding is.

use serde::Serialize;

use super::remedy::Remedy;
use crate::domain::snapshot::Destination;

/// How severe a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Nothing to report.
    Ok,
    /// Worth knowing; nothing fails because of it.
    Info,
    /// Fails if it continues.
    Warning,
    /// Fails, or is about to fail.
    Critical,
}

impl Severity {
    /// The state that it leaves the host in: nothing fails for what is merely worth knowing.
    #[must_use]
    pub const fn state(self) -> Self {
        match self {
            Self::Info => Self::Ok,
            other => other,
        }
    }

    /// In one lowercase word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

macro_rules! ids {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $text:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize)]
        pub enum $name { $($(#[$variant_doc])* #[serde(rename = $text)] $variant,)+ }

        impl $name {
            /// Every one there is.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// As programs know it: stable between versions.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }
        }
    };
}
pub(super) use ids;

ids! {
    /// Which finding it is.
    Id {
        /// No destination is near its limit.
        Plentiful = "ports_plentiful",
        /// Something could not be read.
        Unread = "not_read",
        /// connect() to a destination fails.
        DestinationExhausted = "destination_exhausted",
        /// A destination is near its limit.
        DestinationLow = "destination_low",
        /// More destinations are low than are told one by one.
        MoreDestinations = "more_destinations_low",
        /// The range has no usable port.
        NoUsablePorts = "no_usable_ports",
        /// The range has few usable ports.
        NarrowRange = "narrow_range",
        /// First and last port have the same parity.
        RangeParity = "range_parity",
        /// Services listen inside the range.
        ListenersInRange = "listeners_in_range",
        /// Sockets are bound inside the range without a connection.
        BoundInRange = "bound_in_range",
        /// bind(addr, 0) is about to fail.
        BindPoolLow = "bind_pool_low",
        /// `tcp_max_tw_buckets` is near.
        BucketsNearLimit = "buckets_near_limit",
        /// Sockets were destroyed for `tcp_max_tw_buckets`.
        BucketOverflows = "bucket_overflows",
        /// TIME-WAIT is mostly on the server's side.
        ServerSide = "server_side_time_wait",
        /// `tcp_tw_reuse` without `tcp_timestamps`.
        ReuseWithoutTimestamps = "reuse_without_timestamps",
        /// `tcp_tw_reuse` is 2 where 1 would help.
        ReuseLoopbackOnly = "reuse_loopback_only",
        /// `tcp_tw_recycle` is on.
        Recycle = "recycle_on",
        /// `tcp_tw_recycle` and `tcp_tw_reuse` are both on.
        RecycleAndReuse = "recycle_and_reuse_on",
        /// `tcp_fin_timeout` was lowered.
        FinTimeout = "fin_timeout_lowered",
    }
}

/// A figure behind a finding.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum FigureValue {
    /// A number of things.
    Count(u64),
    /// 0 to 1.
    Ratio(f64),
    /// A second.
    Rate(f64),
    /// Memory.
    Bytes(u64),
    /// The number of a port.
    Port(u16),
    /// Anything else.
    Text(String),
}

/// Something that an operator should know.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    /// Which one.
    pub id: Id,
    /// How grave it is.
    pub severity: Severity,
    /// What it is, in one plain sentence.
    pub sentence: String,
    /// The destination that it is about, where it is about one.
    pub destination: Option<Destination>,
    /// The figures behind it, by name.
    pub figures: Vec<(&'static str, FigureValue)>,
    /// What helps, the best first.
    pub remedies: Vec<Remedy>,
}

impl Finding {
    pub(super) fn new(id: Id, severity: Severity, sentence: impl Into<String>) -> Self {
        Self {
            id,
            severity,
            sentence: sentence.into(),
            destination: None,
            figures: Vec::new(),
            remedies: Vec::new(),
        }
    }

    pub(super) fn count(mut self, name: &'static str, value: impl Into<u64>) -> Self {
        self.figures.push((name, FigureValue::Count(value.into())));
        self
    }

    pub(super) fn figure(mut self, name: &'static str, value: FigureValue) -> Self {
        self.figures.push((name, value));
        self
    }

    pub(super) fn remedy(mut self, remedy: Option<Remedy>) -> Self {
        self.remedies.extend(remedy);
        self
    }

    pub(super) fn remedies(mut self, remedies: impl IntoIterator<Item = Remedy>) -> Self {
        self.remedies.extend(remedies);
        self
    }
}
