//! timewait_exporter tells, before connect() fails, that a Linux host is running out of ephemeral
//! ports: where, why, and what would help.

pub mod app;
pub mod build_info;
pub mod cli;
pub mod collector;
pub mod config;
pub mod domain;
pub mod exposition;
pub mod http;
pub mod kernel;
pub mod logging;
pub mod report;
