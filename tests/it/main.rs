//! The only integration crate: all modules are compiled into one program, which is linked once.
//!
//! Where a new test goes: the behaviour of a single module is tested beside it, in `src`. Here is what is only
//! visible from outside:
//! - [`cli`]: the program itself, its exit status and its messages;
//! - [`http`]: what a client sees on real connections, with collectors that the test controls;
//! - [`listening`]: addresses, sockets in the file system and from systemd, the service manager;
//! - [`sandbox`]: that it needs no privileges, and its behaviour under a system call filter;
//! - [`faults`]: faults of clients, the system and the kernel, and that they leave no traces;
//! - [`limits`]: limits and timeouts for clients;
//! - [`sock_diag`]: dumps from a fake kernel that follows a script;
//! - [`filter`]: the filter that the kernel applies to a dump;
//! - [`cgroup`]: which container a control group belongs to;
//! - [`connect_failures`]: that each failed connect() is counted, and nothing else;
//! - [`collector`]: what a scrape does when a source or file fails;
//! - [`conntrack`]: connection tracking where NAT runs out of ports;
//! - [`golden`]: the complete output for a fixture tree;
//! - [`documents`]: the documents, compared with the program;
//! - [`contract`]: that no metric changes without an entry in the changelog;
//! - [`texts`]: rules for every text of the program;
//! - [`thresholds`]: that thresholds are the same everywhere;
//! - [`report`]: report, check, the page and the API;
//! - [`remedies`]: that suggested fixes have the predicted effect;
//! - [`memory`]: the memory of very many destinations;
//! - [`probe`]: the port probe, and that it does no harm;
//! - [`kinds`]: less common kinds of sockets, each counted as connect() and bind() treat it;
//! - [`kernel`]: values for real sockets, in a network [`namespace`];
//! - [`netns`]: metrics of other network namespaces;
//! - [`oracle`]: metrics compared with connect() and bind();
//! - [`web_config`]: TLS, users, headers and rate;
//! - [`consistency`]: invariants of every scrape.
//!
//! A new area is a new module; helpers that two modules need are in [`support`].
//!
//! No test may depend on how fast the machine is: wait for something to happen, with
//! [`support::PATIENCE`] as the only limit.

#![allow(
    unreachable_pub,
    clippy::as_conversions,
    clippy::cast_precision_loss,
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::float_cmp,
    clippy::indexing_slicing,
    clippy::large_stack_arrays,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::struct_field_names,
    clippy::unwrap_used,
    reason = "a test fails at once where its expectation is not met"
)]

mod cgroup;
mod cli;
mod collector;
mod connect_failures;
mod conntrack;
mod consistency;
mod contract;
mod documents;
mod faults;
mod filter;
mod golden;
mod healthcheck;
mod http;
mod kernel;
mod kinds;
mod limits;
mod listening;
mod memory;
mod netns;
mod oracle;
mod probe;
mod remedies;
mod report;
mod sandbox;
mod sock_diag;
mod support;
mod texts;
mod thresholds;
mod web_config;
