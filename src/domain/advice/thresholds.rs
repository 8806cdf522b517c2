//! The thresholds, in one place.
//!
//! The report, `check` and the status page use them; tests compare the alert rules and the dashboards
//! with them.

/// Exhaustion ratio of a destination: warning.
pub const RATIO_WARNING: f64 = 0.75;
/// Exhaustion ratio of a destination: critical.
pub const RATIO_CRITICAL: f64 = 0.9;
/// Exhaustion ratio of the ports available to bind(addr, 0): warning. Programs that leave the choice to
/// connect() may not notice, hence later than for a destination.
pub const POOL_WARNING: f64 = 0.9;
/// Ports that one connect() may examine (`search_ports`): warning. An absolute number, which small
/// ranges never reach: examining 5,000 ports takes about 0.5 ms, an empty range about 0.02 ms.
pub(crate) const SLOW_SEARCH_PORTS: u32 = 5_000;
/// `search_ports` as a share of the port range: red on dashboards. At one half, one parity is used up, and
/// each connect() first examines all of it.
pub(crate) const SEARCH_SHARE_RED: f64 = 0.5;
/// Seconds until no port is left at the present TIME-WAIT rate: warning.
pub(crate) const SECONDS_LEFT_WARNING: f64 = 30.0;
/// A lower TIME-WAIT rate is not judged: fewer than 50 sockets in the 10 s of the window are a burst.
pub(crate) const MIN_CLOSE_RATE: f64 = 5.0;
/// `tcp_max_tw_buckets`, share in use: warning.
pub const BUCKETS_WARNING: f64 = 0.8;
/// Fewer usable ports than this are a narrow range: 10,000 sustain 166 new connections per second to
/// one destination.
pub const NARROW_RANGE_PORTS: u32 = 10_000;
/// From this number of TIME-WAIT sockets on the server's side on, a finding says that they are harmless.
pub(crate) const MANY_SERVER_SIDE: u64 = 1_000;
