//! Prometheus exporter for TIME-WAIT sockets and ephemeral port exhaustion.
//!
//! This page is the architecture. The package is a library and a thin program; the library is not an API
//! for others. Its public parts are those that tests, benchmarks and fuzz targets use.
//!
//! # Overview
//!
//! A scrape arrives over HTTP. Each collector then reads the kernel on a thread of its own, beginning after
//! the scrape arrived: one dumps the socket table into an aggregator, the others read small files. Together
//! they are one immutable [`Snapshot`](domain::snapshot::Snapshot), which becomes metric families, and
//! those become text in the format that the scraper accepts. With `--collector.netns` each network namespace
//! has a snapshot.
//!
//! Nothing is kept between scrapes, rates are computed from the ages of sockets, with these exceptions: on a
//! host with more than 100,000 sockets the bound, unconnected ones are read every five minutes, unless a
//! ratio is near its limit (`collector::bound`); which ports bind() took is probed again only where it can
//! have changed what matters (`collector::probe`); other namespaces are dumped only where that can show
//! something that matters, and where there are no TCP sockets, sysctls and counters are read in turn
//! (`collector::namespaces`); and perf events count by themselves (`collector::failures`).
//!
//! ```text
//! site ── deadline, format ──> collector ──> kernel::sock_diag ── one socket at a time ──> domain::census
//!  ^                              │    └───> kernel::procfs ───── small files ────────┐         │
//!  └── exposition <── Snapshot <──┴───────────────────────────────────────────────────┴─────────┘
//! ```
//!
//! # Modules, in reading order
//!
//! - [`domain`]: the pure core. `address`, `socket` and `ports` are the vocabulary; `census` adds sockets
//!   up; `snapshot` is the result, `namespace` that of several namespaces. The model of what connect() and
//!   bind() do with a port is in `capacity`, `destinations`, `sources` and `search`, that of UDP in `udp`.
//!   `advice` turns a snapshot into findings, remedies and their effects.
//! - [`kernel`]: every system call for metrics. `sock_diag` for sockets, `procfs` for sysctls and counters
//!   and, where netlink cannot be used, sockets; `namespaces` for other network namespaces; `holders` for
//!   the processes that `report` names; `connect_failures` for perf events; `port_probe` for the ports that
//!   bind() took, with the socket options of the crate `probe_options` in a folder of its own.
//! - [`collector`]: the threads that may block, and the queue of scrapes that share their readings.
//! - [`exposition`]: metric names, help texts, formats, and content negotiation.
//! - [`report`]: a snapshot and its advice as text, as JSON and as the line of `check`.
//! - [`site`]: what is answered under which path: metrics, status page, report, readiness.
//! - [`web`]: a generic HTTP server: connections and their limits, TLS, passwords, and
//!   [`web::config`], the file of `--web.config.file`.
//! - [`cli`], [`config`]: the command line and the configuration. [`logging`] and [`app`]: the log, and how the
//!   program starts and stops; `service_manager` notifies systemd of both.
//!
//! # Invariants
//!
//! - **Invariant:** only [`kernel`] asks the kernel. [`domain`] and [`exposition`] do no I/O and read no
//!   clock: the same sockets give the same metrics.
//! - **Invariant:** metric names are spelled in [`exposition`] alone, in one table.
//! - **Invariant:** no list of sockets exists anywhere. Memory grows with distinct destinations and remote
//!   addresses, not with sockets.
//! - **Invariant:** one dump feeds every breakdown of TIME-WAIT sockets, and each socket is counted in
//!   exactly one place from which all are computed; their sums are equal by construction.
//! - **Invariant:** a ratio is between 0 and 1 by construction: the ports in use of a destination are a
//!   subset of the usable ports, even where a dump, which is not atomic, contains a socket twice.
//! - **Invariant:** a failed or late dump exports no sockets at all, and never affects other metrics. What
//!   could not be read is absent, not 0.
//! - **Invariant:** the threads of the runtime never enter another network namespace: one collector's
//!   thread does, and returns after each run; `report` has threads that end inside. No descriptor or socket
//!   of another namespace is kept, because it would keep the namespace alive.
//! - **Invariant:** thresholds are defined in `domain::advice::thresholds` alone; tests compare the alert
//!   rules and the dashboards with them.
//! - **Invariant:** nothing blocks an async thread: collectors have threads of their own, encoding runs on
//!   blocking threads, log lines go through a bounded queue that drops instead of waiting.
//! - **Invariant:** with a web configuration nothing is answered that it does not permit; what cannot be
//!   done as the file says is done less, never more, or refused at start.
//! - **Invariant:** everything that a client can occupy is bounded: connections, time in each phase of a
//!   request, the size of its head, and parallel scrapes.
//!
//! # Performance
//!
//! Nearly all of a scrape is the kernel's own iteration over its hash table, 250 to 350 ns per TIME-WAIT
//! socket. Hence one dump for both families, a filter only where it pays, and no copy of a record.
//! `tests/bench` compares it with a bare dump.

pub mod app;
pub mod build_info;
pub mod cli;
pub mod collector;
pub mod config;
pub mod domain;
pub mod exposition;
pub mod kernel;
pub mod logging;
pub mod report;
mod service_manager;
pub mod site;
pub mod web;
