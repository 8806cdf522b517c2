//! Which build this is, as far as it was told at build time.

use crate::exposition::BuildInfo;

/// This build.
pub const BUILD: BuildInfo = BuildInfo {
    version: env!("CARGO_PKG_VERSION"),
    revision: match option_env!("TIMEWAIT_EXPORTER_BUILD_REVISION") {
        Some(revision) if !revision.is_empty() => revision,
        _ => "unknown",
    },
    rustversion: env!("TIMEWAIT_EXPORTER_BUILD_RUSTC"),
    target: env!("TIMEWAIT_EXPORTER_BUILD_TARGET"),
};
