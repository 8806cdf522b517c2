//! timewait_exporter tells, before connect() fails, that a Linux host is running out of ephemeral
//! ports: where, why, and what would help.
//!
//! This page is the architecture. The package is a library and a thin program; the library is not an
//! API for others, its parts are public so that the tests can hold them one by one.
//!
//! # Bird's eye
//!
//! A scrape comes in over HTTP. It waits for two readings of the kernel that begin after it came in:
//! a walk over the connection table, which is streamed into an aggregator, and a look at a few small
//! files. Both become one immutable [`Snapshot`](domain::snapshot::Snapshot), the snapshot becomes
//! metric families, and these become text in the format that the scraper asked for. With
//! `--collector.netns` there is one such snapshot for each network namespace. Nothing is kept
//! between scrapes, rates are told from the ages of sockets, with two exceptions: on a host with more
//! than 100,000 sockets, which ports are merely bound is asked for at most every five minutes, for that
//! walk would take as long as the rest, unless a ratio is near its limit (`collector::bound`); and of many
//! namespaces without TCP sockets the settings and counters are read in turn (`collector::namespaces`).
//!
//! ```text
//! site ── deadline, format ──> collector ──> kernel::sock_diag ── one socket at a time ──> domain::census
//!  ^                              │    └───> kernel::procfs ───── small files ────────┐         │
//!  └── exposition <── Snapshot <──┴───────────────────────────────────────────────────┴─────────┘
//! ```
//!
//! # Code map, in reading order
//!
//! - [`domain`]: the pure core. [`address`](domain::address), [`socket`](domain::socket) and
//!   [`ports`](domain::ports) are the words; [`census`](domain::census) is the pass that adds sockets
//!   up; [`snapshot`](domain::snapshot) is what it comes to, and [`namespace`](domain::namespace) what
//!   several of them come to; [`container`](domain::container) reads the names of control groups. The model of what connect() and bind() do
//!   with a port is in the private modules `capacity`, `destinations`, `sources` and `search`; what the
//!   pass keeps meanwhile, small whatever comes, in `tallies`, `small_port_set` and `remotes`.
//!   [`advice`](domain::advice) says what a snapshot comes to, what would help, and what that would give.
//! - [`kernel`]: everything that asks the kernel. [`sock_diag`](kernel::sock_diag) for sockets,
//!   [`procfs`](kernel::procfs) for settings and counters and, where netlink is shut, sockets;
//!   [`namespaces`](kernel::namespaces) for the other network namespaces and the way into them;
//!   [`process`](kernel::process) for the exporter's own figures; [`holders`](kernel::holders) for the
//!   processes that `report` names.
//! - [`collector`]: the threads that may block, and the queue of scrapes that share their runs. One of
//!   them (`collector::namespaces`) goes from network namespace to network namespace.
//! - [`exposition`]: metric names, help texts, formats, and which format a client wants.
//! - [`report`]: a snapshot and its advice as text, as JSON and as the line of `check`.
//! - [`site`]: what is answered under which path: metrics, status page, report, readiness.
//! - [`web`]: a generic HTTP server: connections and their limits, TLS, passwords, and
//!   [`web::config`], the file of `--web.config.file`.
//! - [`cli`], [`config`]: what the user typed, and what the program needs. [`logging`], [`app`]: the
//!   log, and how all of it is put together, started and stopped; the service manager is told of both
//!   by `service_manager`.
//!
//! # Invariants
//!
//! - **Invariant:** the kernel is asked in [`kernel`] alone. [`domain`] and [`exposition`] do no I/O
//!   and read no clock, so that the same sockets give the same figures.
//! - **Invariant:** metric names are spelled in [`exposition`] alone, in one table.
//! - **Invariant:** no list of sockets exists anywhere. Memory grows with different destinations and
//!   remote addresses, not with sockets.
//! - **Invariant:** one pass over one dump feeds every breakdown of TIME-WAIT sockets, and each socket
//!   is counted in exactly one place from which all are made; their sums are equal by construction.
//! - **Invariant:** a ratio is between 0 and 1 by construction: what a destination has taken is a
//!   subset of the usable ports, whatever a dump that is not atomic tells twice.
//! - **Invariant:** a failed or late walk tells no sockets at all, and never takes other figures along.
//!   What could not be read is absent, not 0.
//! - **Invariant:** the threads of the runtime never enter another network namespace: one collector's
//!   thread does, and goes home after each run; `report` has threads that end inside. No descriptor or
//!   socket of another namespace is kept, for it would keep the namespace alive.
//! - **Invariant:** thresholds are written down in [`domain::advice::thresholds`] alone; tests hold the
//!   alert rules and the dashboards equal to them.
//! - **Invariant:** nothing blocks an async thread: collectors have threads of their own, encoding is
//!   done on blocking threads, log lines go through a bounded queue that drops rather than waits.
//! - **Invariant:** with a web configuration nothing is answered that it does not let in; what cannot be
//!   done as the file says is done less, never more, or refused at start.
//! - **Invariant:** what a client can hold is bounded: connections, time in each phase of a request,
//!   the size of its head, and scrapes under way.
//!
//! # Where the time goes
//!
//! Nearly all of a scrape is the kernel's own walk over its hash table, some 250 to 350 ns a
//! TIME-WAIT socket. Hence one walk for both families, a filter only where it pays, and no copy of a
//! record. `tests/bench` measures it against a bare dump.

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
