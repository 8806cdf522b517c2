//! The program as a whole: what starts, logs and ends in which order. Everything else is in its parts.

pub mod check;
pub mod healthcheck;
mod own_port;
pub mod report;
pub mod signals;

use std::error::Error;
use std::fmt::Display;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Resource, getrlimit};
use sd_notify::NotifyState;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;
use tracing::{info, warn};

use crate::build_info::BUILD;
use crate::collector::{Collector, NamespaceChoice};
use crate::config::{Config, WebConfig};
use crate::domain::collectors::CollectorId;
use crate::domain::snapshot::Source;
use crate::kernel::namespaces::missing_capabilities;
use crate::kernel::process::{count_open_fds, kernel_release};
use crate::kernel::procfs::ProcRoot;
use crate::kernel::sock_diag::NetlinkConnect;
use crate::service_manager::notify;
use crate::site::Site;
use crate::web::{Limits, ListenAddress, Listener, Passed, Protection};

/// Threads for what may block: encoding, and the resolver at start. More would only compete with the
/// host's own work; with fewer one slow answer would delay all others.
const BLOCKING_THREADS: usize = 2;

/// Encoding goes a few calls deep, and a limit on memory (RLIMIT_DATA) counts all of it.
const STACK_BYTES: usize = 512 * 1024;

const FOREVER: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// Descriptors that connections leave to the collectors: a scrape has no more open at once.
const RESERVED_DESCRIPTORS: u64 = 8;

/// Why the program cannot go on, in words for its user.
pub type Failure = Box<dyn Error>;

/// Says what the system does not let the program do.
fn cannot<E: Display>(what: &str) -> impl FnOnce(E) -> Failure {
    move |error| format!("cannot {what}: {error}").into()
}

/// Serves until SIGTERM or SIGINT, and then until what is under way is done or a second one comes. They
/// must be blocked: see [`signals::block`].
pub fn run(config: Config) -> Result<(), Failure> {
    let Config { web, collector, .. } = config;
    // Before there are threads of ours: see there.
    let passed = web.systemd_socket.then(Passed::take_all).transpose()?;
    let procfs = ProcRoot::new(collector.procfs.clone());
    let namespaces = collector.namespaces.clone();
    let collector = Collector::open(collector, Box::new(NetlinkConnect))
        .map_err(cannot("start the collector's threads"))?;
    let runtime = runtime().map_err(cannot("start the runtime"))?;
    // First: once the port is open, a signal must end the program in good order.
    let signals = signals::receive().map_err(cannot("start the thread that receives signals"))?;
    log_start();
    warn_of_missing_capabilities(&namespaces);
    let site = Arc::new(Site::new(&web, collector));
    let result = runtime.block_on(serve(web, passed, procfs, site, signals));
    // Otherwise an encoder at work would keep the program from ending.
    runtime.shutdown_background();
    result
}

/// One thread is enough: all that takes time has threads of its own, and each thread more is memory.
fn runtime() -> io::Result<Runtime> {
    let runtime = Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(BLOCKING_THREADS)
        .thread_keep_alive(FOREVER)
        .thread_name("encode")
        .thread_stack_size(STACK_BYTES)
        .build()?;
    // A runtime that finds no first thread for a job panics: where memory or processes are limited, every
    // scrape would be answered with nothing, and the program call itself ready. So the system is asked, and
    // what this thread leaves serves the runtime's.
    let thread = std::thread::Builder::new().stack_size(STACK_BYTES);
    let _ended = thread.spawn(|| ())?.join();
    drop(runtime.spawn_blocking(|| ()));
    Ok(runtime)
}

async fn serve(
    web: WebConfig,
    passed: Option<Vec<Passed>>,
    procfs: ProcRoot,
    site: Arc<Site>,
    [signal, second_signal]: [oneshot::Receiver<&'static str>; 2],
) -> Result<(), Failure> {
    let protection = web.config_file.map(Protection::open).transpose()?;
    let listeners = match passed {
        None => Listener::bind_all(&web.listen_addresses)?,
        Some(passed) => {
            info!("Listening on systemd activated listeners instead of port listeners.");
            let listeners = passed.into_iter().map(Listener::take_over);
            listeners.collect::<Result<_, _>>()?
        }
    };
    let has_tls = matches!(&protection, Some(protection) if protection.has_tls);
    // In the words of the Go exporters.
    let tls = if has_tls { "enabled" } else { "disabled" };
    for Listener { address, .. } in &listeners {
        info!(address, "Listening on");
        info!(address, http2 = false, "TLS is {tls}.");
    }
    // Not one that the kernel chose for port 0: it is in the ephemeral range by design, and another the next
    // time.
    let ports = if web.systemd_socket {
        let addresses = listeners.iter().filter_map(|listener| listener.tcp);
        addresses.map(|address| address.port()).collect()
    } else {
        let port = |address: &ListenAddress| match address {
            ListenAddress::Tcp(tcp) => Some(tcp.port),
            ListenAddress::Unix(_) => None,
        };
        web.listen_addresses.iter().filter_map(port).collect()
    };
    tokio::spawn(first_read(Arc::clone(&site), procfs, ports));
    let shutdown = async {
        notify(NotifyState::Ready).await;
        let signal = signal.await.unwrap_or_default();
        info!(signal, "Shutting down");
        site.shut_down();
        notify(NotifyState::Stopping).await;
    };
    let server = crate::web::serve(listeners, Arc::clone(&site), protection, limits(), shutdown);
    tokio::select! {
        cut_off = server => match cut_off {
            0 => info!("Stopped"),
            connections => warn!(connections, "Stopped before these connections had their response"),
        },
        Ok(_) = second_signal => warn!("Exiting immediately: second signal"),
    }
    Ok(())
}

/// The usual ones, but fewer connections where there are few descriptors.
fn limits() -> Limits {
    let mut limits = Limits::default();
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let in_use = count_open_fds().unwrap_or_default();
    let left = limit.saturating_sub(in_use.saturating_add(RESERVED_DESCRIPTORS));
    let left = usize::try_from(left).unwrap_or(usize::MAX);
    limits.connections = limits.connections.min(left).max(1);
    limits
}

fn log_start() {
    info!(
        version = BUILD.version,
        revision = BUILD.revision,
        kernel = kernel_release(),
        "Starting timewait_exporter"
    );
    if rustix::process::geteuid().is_root() {
        warn!(
            "timewait_exporter is running as root user. This exporter is designed to run as \
             unprivileged user, root is not required."
        );
    }
}

/// Names the capabilities that other network namespaces need; the exporter's own needs none.
fn warn_of_missing_capabilities(namespaces: &NamespaceChoice) {
    let missing = missing_capabilities(*namespaces == NamespaceChoice::All);
    if *namespaces == NamespaceChoice::OwnOnly || missing.is_empty() {
        return;
    }
    let unreadable = match missing[..] {
        ["CAP_SYS_PTRACE"] => "Network namespaces of other users' processes",
        _ => "Other network namespaces",
    };
    warn!(
        missing = missing.join(", "),
        remedy = "run it as root or give it the capabilities (systemd: AmbientCapabilities=, \
             CapabilityBoundingSet=; Kubernetes: runAsUser 0 with capabilities.add)",
        "{unreadable} cannot be read: capabilities are missing. Everything else is exported"
    );
}

/// Reads everything once, so that the log shows from the start what works.
async fn first_read(site: Arc<Site>, procfs: ProcRoot, ports: Vec<u16>) {
    let snapshot = site.first_read().await.own;
    if let Some(sockets) = snapshot.sockets()
        && let Some(outcome) = snapshot.outcome(CollectorId::Sockets)
    {
        info!(
            collector_source = sockets.source.map(Source::as_str),
            messages = sockets.messages,
            // As Go writes a short duration.
            duration = format!("{:.6}s", outcome.duration.as_secs_f64()),
            "Read the connection table"
        );
    }
    // The sysctl collector may be off, but that is about metrics.
    let settings = tokio::task::spawn_blocking(move || procfs.read_settings());
    if let Ok((settings, _)) = settings.await
        && let Some(advice) = own_port::advice(&ports, &settings)
    {
        warn!(
            ports = advice.ports,
            range = advice.range,
            remedy = advice.remedy,
            "The exporter's port is inside the ephemeral port range. If an outgoing connection uses it, the \
             exporter cannot start. Reserve it, or choose another port"
        );
    }
}
