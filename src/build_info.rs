//! Which build this is, as the build script found out.

use crate::exposition::BuildInfo;

/// This build.
pub const BUILD: BuildInfo = BuildInfo {
    version: env!("CARGO_PKG_VERSION"),
    revision: env!("TIMEWAIT_EXPORTER_BUILD_REVISION"),
    rustversion: env!("TIMEWAIT_EXPORTER_BUILD_RUSTC"),
    target: env!("TIMEWAIT_EXPORTER_BUILD_TARGET"),
};
