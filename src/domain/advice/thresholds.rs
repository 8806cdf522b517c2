//! Where "low" begins: the only place for these figures.
//!
//! The report, `check` and the status page take them from here; tests hold the alert rules and the
//! dashboards equal to them.

/// A destination's exhaustion ratio from which on it is a warning.
pub const RATIO_WARNING: f64 = 0.75;
/// A destination's exhaustion ratio from which on it is critical.
pub const RATIO_CRITICAL: f64 = 0.9;
/// The ratio of a pool of bind(addr, 0) from which on it is a warning. A program that leaves the choice
/// to connect() may not feel it: hence later than a destination's.
pub const POOL_WARNING: f64 = 0.9;
/// The share of `tcp_max_tw_buckets` from which on it is a warning.
pub const BUCKETS_WARNING: f64 = 0.8;
/// Fewer usable ports than this are a narrow range: 10,000 keep up 166 new connections a second to
/// one destination.
pub const NARROW_RANGE_PORTS: u32 = 10_000;
/// From so many TIME-WAIT sockets on the server's side on it is worth saying that they are harmless.
pub const MANY_SERVER_SIDE: u64 = 1_000;
