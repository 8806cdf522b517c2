//! The one integration crate: each module is compiled into one program, which links once.
//!
//! Where a new test goes: what one module promises is tested beside it, in `src`. Here is what only
//! shows from outside:
//! - [`cli`]: the program itself, its exit status and its messages;
//! - [`http`]: what a client sees on real connections, with collectors that the test controls;
//! - [`listening`]: addresses, sockets in the file system and from systemd, the service manager;
//! - [`sandbox`]: that it needs no rights, and what a system call filter costs;
//! - [`faults`]: what clients, the system and the kernel can do wrong, and that nothing of it stays;
//! - [`limits`]: what a client may hold;
//! - [`sock_diag`]: what a kernel that follows a script can do to a dump;
//! - [`filter`]: what the kernel leaves out of a dump on our request;
//! - [`cgroup`]: which container a control group tells;
//! - [`connect_failures`]: that each failed connect() is counted, and nothing else;
//! - [`collector`]: what a scrape makes of a source or file that fails;
//! - [`conntrack`]: what NAT does without a port left;
//! - [`golden`]: all that the program tells of a fixture tree;
//! - [`documents`]: what the documents say, compared with the program;
//! - [`contract`]: that no metric changes without a word in the changelog;
//! - [`texts`]: what holds of every text of the program;
//! - [`thresholds`]: the same ones everywhere;
//! - [`report`]: report, check, the page and the API;
//! - [`remedies`]: that what is advised helps as foretold, in a namespace too;
//! - [`memory`]: what very many destinations cost;
//! - [`probe`]: the probe of ports, and that it does no harm;
//! - [`kinds`]: smaller kinds of sockets, each as connect() and bind() treat it;
//! - [`kernel`]: what a real kernel says, inside a [`namespace`] of its own;
//! - [`netns`]: what is told of other network namespaces;
//! - [`oracle`]: what a figure promises of connect() or bind();
//! - [`web_config`]: TLS, users, headers and rate;
//! - [`consistency`]: what holds of every scrape.
//!
//! A new area is a new module; helpers that two of them need are in [`support`].
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
    reason = "a test that finds things otherwise than it expects is to fail on the spot"
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
