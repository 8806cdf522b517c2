//! The cost of a scrape, compared with that of the kernel's dump of the same sockets.
//!
//! ```text
//! cargo bench --bench scrape                          # everything, some fifteen minutes
//! cargo bench --bench scrape -- --markdown FILE       # and as a Markdown table
//! cargo bench --bench scrape -- --only idle,peers     # these rows
//! cargo bench --bench scrape -- --smoke               # small counts, a few seconds, no verdict
//! cargo bench --bench scrape -- --soak 600            # churn and scrapes, for so many seconds
//! ```
//!
//! It restarts itself in a new user and network namespace, creates the sockets there over loopback, runs the
//! exporter there, and leaves nothing behind. Needs unshare(1), ip(8) and permission to create user namespaces;
//! not root.
//!
//! The baseline is [`bare`]: a loop that requests the same dump and discards the bytes. Both alternate on the same
//! sockets (exporter, baseline, exporter, …); the result is the median of each and the ratio of the medians. CPU is
//! the time of the whole process as the scheduler accounts it, in nanoseconds, including the kernel's work for it;
//! wall time is from the first byte of the request to the last byte of the answer.
//!
//! The exporter runs as for an ordinary user, without the memory of slabs, unless the table says otherwise.
//!
//! On a busy machine a million sockets may expire before all are created. A higher weight for the session helps:
//! `echo -12 >/proc/self/autogroup` as root, in a separate session.
//!
//! Without `--bench`, which cargo bench passes, it runs the short form: `cargo test --all-targets`.

#![allow(
    unreachable_pub,
    clippy::as_conversions,
    clippy::cast_precision_loss,
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a benchmark fails at once where its expectation is not met"
)]

mod bare;
mod exporter;
mod namespace;
mod peers;
mod pods;
mod rows;
mod soak;
mod sockets;
mod table;

use std::path::PathBuf;
use std::time::Duration;

use rows::Scale;
use table::Table;

/// The command line.
struct Plan {
    is_full: bool,
    only: Option<Vec<String>>,
    markdown: Option<PathBuf>,
    soak: Option<Duration>,
}

const USAGE: &str = "usage: cargo bench --bench scrape -- [--smoke] [--only ROW,...] \
                     [--markdown FILE] [--soak SECONDS]";

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // The helper processes that keep connections open.
    if let [mode, rest @ ..] = arguments.as_slice()
        && mode == sockets::KEEP_OPEN
    {
        return sockets::keep_open(rest);
    }
    let plan = plan(&arguments);
    if namespace::is_inside() {
        inside(&plan);
    } else {
        outside(&plan);
    }
}

fn plan(arguments: &[String]) -> Plan {
    let mut plan = Plan {
        is_full: false,
        only: None,
        markdown: None,
        soak: None,
    };
    let mut is_smoke = false;
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        let mut value = || rest.next().expect(USAGE).clone();
        match argument.as_str() {
            "--bench" => plan.is_full = true,
            "--smoke" => is_smoke = true,
            "--only" => plan.only = Some(value().split(',').map(str::to_owned).collect()),
            "--markdown" => plan.markdown = Some(value().into()),
            "--soak" => {
                plan.soak = Some(Duration::from_secs(value().parse().expect(USAGE)));
            }
            other => panic!("{other}: {USAGE}"),
        }
    }
    plan.is_full &= !is_smoke;
    plan
}

/// Measures each situation in a separate process and namespaces, and prints the results.
fn outside(plan: &Plan) {
    namespace::raise_descriptor_limit();
    let mut table = Table::default();
    let scale = if plan.is_full { "--bench" } else { "--smoke" };
    let mut measure = |arguments: &[&str]| {
        let arguments: Vec<String> = [scale]
            .iter()
            .chain(arguments)
            .map(|one| (*one).to_owned())
            .collect();
        let is_counted = arguments.iter().any(|one| one == rows::COUNTED);
        table.read(&namespace::run(&arguments, is_counted));
    };
    let soak = plan.soak.unwrap_or(if plan.is_full {
        rows::FULL_SOAK
    } else {
        rows::SMOKE_SOAK
    });
    if plan.soak.is_none() {
        for (name, _) in rows::ALL {
            if plan
                .only
                .as_ref()
                .is_none_or(|only| only.iter().any(|one| one == name))
            {
                measure(&["--only", name]);
            }
        }
    }
    if plan.only.is_none() {
        measure(&["--soak", &soak.as_secs().to_string()]);
    }
    println!("{table}");
    if let Some(path) = &plan.markdown {
        std::fs::write(path, table.markdown()).expect("the Markdown file can be written");
    }
}

/// Measures one situation, and prints it for [`outside`].
fn inside(plan: &Plan) {
    namespace::prepare();
    let mut table = Table::default();
    if let Some(duration) = plan.soak {
        soak::run(duration, &mut table);
    }
    let scale = if plan.is_full {
        &Scale::FULL
    } else {
        &Scale::SMOKE
    };
    for (name, row) in rows::ALL {
        if plan.only.iter().flatten().any(|one| one == name) {
            eprintln!("{name}");
            row(scale, &mut table);
        }
    }
    print!("{}", table.written());
}
