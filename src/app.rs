//! The program as a whole: what starts, logs and ends in which order. Everything else is in its parts.

pub mod check;
mod healthcheck;
mod own_port;
mod process;
pub mod report;
pub mod signals;

use std::io;
use std::sync::{Arc, Barrier};
use std::time::Duration;

use rustix::process::{Resource, getrlimit};
use sd_notify::NotifyState;
use tokio::runtime::{Builder, Runtime};
use tracing::{info, warn};

use crate::build_info::BUILD;
use crate::collector::{Collector, NamespaceChoice};
use crate::config::{Config, WebConfig};
use crate::domain::collectors::CollectorId;
use crate::domain::settings::Settings;
use crate::domain::snapshot::Source;
use crate::kernel::namespaces::missing_rights;
use crate::kernel::process::{count_open_fds, kernel_release};
use crate::kernel::procfs::ProcRoot;
use crate::kernel::sock_diag::NetlinkConnect;
use crate::service_manager::notify;
use crate::site::{About, Site};
use crate::web::{
    Drained, Limits, ListenAddress, ListenError, Listener, Passed, Protection, ProtectionError,
};

use signals::Signals;

/// Threads for what may block: encoding, and the resolver at start. More would only compete with the
/// host's own work; with fewer one slow answer would delay all others.
const BLOCKING_THREADS: usize = 2;

/// Encoding goes a few calls deep, and a limit on memory (RLIMIT_DATA) counts all of it.
const STACK_BYTES: usize = 512 * 1024;

const FOREVER: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// Descriptors that connections leave to the collectors: a scrape has no more open at once.
const RESERVED_DESCRIPTORS: u64 = 8;

/// Why the program cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// The system provides no thread or descriptor, or does not take the output.
    #[error("{0}: {1}")]
    System(&'static str, io::Error),
    /// The file of `--web.config.file` would not work.
    #[error(transparent)]
    Protection(#[from] ProtectionError),
    /// An address cannot be listened on, or the sockets that systemd was to pass are not there.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// `healthcheck` finds that the server is not alive.
    #[error("{0}")]
    Unhealthy(String),
}

impl AppError {
    fn system(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |error| Self::System(what, error)
    }

    /// Whether it is a wrong setting, which no restart would help.
    pub const fn is_of_settings(&self) -> bool {
        matches!(self, Self::Protection(ProtectionError::File { .. }))
    }
}

/// Asks the server with these settings whether it is alive.
pub fn healthcheck(config: &Config) -> Result<(), AppError> {
    healthcheck::run(&config.web).map_err(AppError::Unhealthy)
}

/// Serves until SIGTERM or SIGINT, and then until what is under way is done or a second one comes. They
/// must be blocked: see [`signals::block`].
pub fn run(config: Config) -> Result<(), AppError> {
    let Config { web, collector, .. } = config;
    // Before there are threads of ours: see there.
    let passed = web.systemd_socket.then(Passed::take_all).transpose()?;
    let procfs = ProcRoot::new(collector.procfs.clone());
    let namespaces = collector.namespaces.clone();
    let collector = Collector::open(collector, Box::new(NetlinkConnect))
        .map_err(AppError::system("cannot start the collector's threads"))?;
    let about = About {
        build: BUILD,
        process: web.exporter_metrics.then(process::reader),
    };
    let runtime = runtime().map_err(AppError::system("cannot start the runtime"))?;
    let result = runtime.block_on(serve(&web, passed, &namespaces, procfs, collector, about));
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
    start_blocking_threads(&runtime)?;
    Ok(runtime)
}

/// Starts them now, for a runtime that finds no thread for a job panics: where memory or processes are
/// limited, every scrape would be answered with nothing, and the program call itself ready.
fn start_blocking_threads(runtime: &Runtime) -> io::Result<()> {
    let barrier = Arc::new(Barrier::new(BLOCKING_THREADS + 1));
    let wait = || {
        let barrier = Arc::clone(&barrier);
        move || barrier.wait().is_leader()
    };
    // The system says no to these; what they leave serves the runtime's.
    let try_one = |_| {
        let thread = std::thread::Builder::new().stack_size(STACK_BYTES);
        thread.spawn(wait())
    };
    let tried: Vec<_> = (0..BLOCKING_THREADS)
        .map(try_one)
        .collect::<Result<_, _>>()?;
    barrier.wait();
    for thread in tried {
        let _ended = thread.join();
    }
    for _ in 0..BLOCKING_THREADS {
        runtime.spawn_blocking(wait());
    }
    barrier.wait();
    Ok(())
}

async fn serve(
    web: &WebConfig,
    passed: Option<Vec<Passed>>,
    namespaces: &NamespaceChoice,
    procfs: ProcRoot,
    collector: Collector,
    about: About,
) -> Result<(), AppError> {
    // First: once the port is open, a signal must end the program in good order.
    let mut signals = Signals::receive().map_err(AppError::system(
        "cannot start the thread that receives signals",
    ))?;
    log_start();
    warn_of_missing_rights(namespaces);
    let file = web.config_file.clone();
    let protection = file.map(Protection::open).transpose()?;
    let listeners = listen(&web.listen_addresses, passed)?;
    let ports = chosen_ports(web, &listeners);
    log_listeners(
        &listeners,
        protection.as_ref().is_some_and(Protection::has_tls),
    );
    let site = Arc::new(Site::new(web, Arc::new(collector), about));
    let first_look = tokio::spawn(first_look(Arc::clone(&site), procfs, ports));
    let (first, rest) = tokio::sync::oneshot::channel();
    let shutdown = async {
        notify(NotifyState::Ready).await;
        let name = signals.next().await;
        info!(signal = name, "Shutting down");
        site.shut_down();
        notify(NotifyState::Stopping).await;
        let _always_received = first.send(signals);
    };
    let server = crate::web::serve(listeners, Arc::clone(&site), protection, limits(), shutdown);
    tokio::select! {
        drained = server => log_end(drained),
        () = second_signal(rest) => warn!("Ending at once, on a second signal"),
    }
    first_look.abort();
    Ok(())
}

/// The usual ones, but fewer connections where there are few descriptors.
fn limits() -> Limits {
    let usual = Limits::default();
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let in_use = count_open_fds().unwrap_or_default();
    let left = limit.saturating_sub(in_use.saturating_add(RESERVED_DESCRIPTORS));
    Limits {
        connections: u32::try_from(left)
            .map_or(usual.connections, |left| left.clamp(1, usual.connections)),
        ..usual
    }
}

async fn second_signal(signals: tokio::sync::oneshot::Receiver<Signals>) {
    match signals.await {
        Ok(mut signals) => {
            signals.next().await;
        }
        Err(_) => std::future::pending().await,
    }
}

fn listen(
    addresses: &[ListenAddress],
    passed: Option<Vec<Passed>>,
) -> Result<Vec<Listener>, ListenError> {
    let Some(passed) = passed else {
        return Listener::bind_all(addresses);
    };
    info!("Listening on systemd activated listeners instead of port listeners.");
    passed.into_iter().map(Listener::take_over).collect()
}

/// The ports that the configuration names, or a unit. One that the kernel chose is in the ephemeral
/// range by design, and another the next time.
fn chosen_ports(web: &WebConfig, listeners: &[Listener]) -> Vec<u16> {
    let is_chosen = |index: usize| match web.listen_addresses.get(index) {
        _ if web.systemd_socket => true,
        Some(ListenAddress::Tcp(address)) => address.port != 0,
        _ => false,
    };
    let mut ports: Vec<u16> = listeners
        .iter()
        .enumerate()
        .filter(|(index, _)| is_chosen(*index))
        .filter_map(|(_, listener)| listener.tcp_address())
        .map(|address| address.port())
        .collect();
    ports.sort_unstable();
    ports.dedup();
    ports
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

const CAPABILITIES_REMEDY: &str = "run it as root or give it the capabilities (systemd: AmbientCapabilities=, \
     CapabilityBoundingSet=; Kubernetes: runAsUser 0 with capabilities.add)";

/// Names the capabilities that other network namespaces need; the exporter's own needs none.
pub(crate) fn warn_of_missing_rights(namespaces: &NamespaceChoice) {
    let (choice, of_processes) = match namespaces {
        NamespaceChoice::OwnOnly => return,
        NamespaceChoice::Named => ("named", false),
        NamespaceChoice::Listed(_) => ("NAME,...", false),
        NamespaceChoice::All => ("all", true),
    };
    let missing = missing_rights(of_processes);
    if missing.is_empty() {
        return;
    }
    let unreadable = if missing == ["CAP_SYS_PTRACE"] {
        "Network namespaces of other users' processes"
    } else {
        "Other network namespaces"
    };
    warn!(
        flag = format!("--collector.netns={choice}"),
        missing = missing.join(", "),
        remedy = CAPABILITIES_REMEDY,
        "{unreadable} cannot be read: capabilities are missing. All others are exported"
    );
}

/// In the words of the Go exporters.
fn log_listeners(listeners: &[Listener], has_tls: bool) {
    let tls = if has_tls {
        "TLS is enabled."
    } else {
        "TLS is disabled."
    };
    for address in listeners.iter().map(Listener::address) {
        info!(address, "Listening on");
        info!(address, http2 = false, "{tls}");
    }
}

fn log_end(drained: Drained) {
    match drained {
        Drained::All => info!("Stopped"),
        Drained::Cut { connections } => {
            warn!(
                connections,
                "Stopped before these connections had their answer"
            );
        }
    }
}

/// Reads everything once, so that the log shows from the start what works.
async fn first_look(site: Arc<Site>, procfs: ProcRoot, ports: Vec<u16>) {
    let snapshot = site.first_look().await.own;
    if let Some(sockets) = snapshot.sockets()
        && let Some(outcome) = snapshot.outcome(CollectorId::Sockets)
    {
        info!(
            collector_source = sockets.source.map(Source::as_str),
            messages = sockets.messages,
            duration = %Seconds(outcome.duration),
            "Read the connection table"
        );
    }
    if let Some(settings) = snapshot.settings() {
        warn_of_own_ports(&ports, settings);
    } else if snapshot.outcome(CollectorId::Sysctl).is_none()
        // The collector is off, but that is about metrics.
        && let Ok((settings, _)) = tokio::task::spawn_blocking(move || procfs.read_settings()).await
    {
        warn_of_own_ports(&ports, &settings);
    }
}

fn warn_of_own_ports(ports: &[u16], settings: &Settings) {
    let Some(advice) = own_port::advice(ports, settings) else {
        return;
    };
    warn!(
        ports = %advice.ports(),
        range = %advice.range(),
        remedy = %advice.remedy(),
        "The exporter's own port lies inside the ephemeral range: an outgoing connection can use it \
         when the exporter starts, which then fails. Reserve it, or choose another"
    );
}

/// As Go writes a short duration.
struct Seconds(Duration);

impl std::fmt::Display for Seconds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.6}s", self.0.as_secs_f64())
    }
}
