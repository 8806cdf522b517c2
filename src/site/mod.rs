//! What is answered under which path. Handlers get a method, a path and headers, and know nothing of
//! connections, TLS or passwords: these are [`crate::web`].
//!
//! | path | answer |
//! |---|---|
//! | `/metrics` (or `--web.telemetry-path`) | the metrics, read for this request; 500 if they cannot be encoded, 503 above `--web.max-requests` |
//! | `/` | the status page, read for this request, with links to the other paths |
//! | `/api/v1/report` | the same for programs, as JSON (src/report/report.schema.json) |
//! | `/api/v1/report/schema` | that schema |
//! | `/-/healthy` | 200 while the program answers at all |
//! | `/-/ready` | 200 while the socket table can be read (see `readiness`), otherwise 503 |
//! | anything else | 404 |
//!
//! Other methods than GET and HEAD are answered with 405.
//!
//! Nothing here blocks an async thread: the kernel is read on the collector's threads, and answers are
//! encoded on the blocking pool. Knows no metric names and no text formats (see
//! [`crate::exposition`]).

mod answers;
mod deadline;
mod metrics;
mod readiness;
mod report;
mod slots;
mod status_page;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper::{HeaderMap, Method, StatusCode};

pub use metrics::{About, ReadProcess};

use crate::collector::Collector;
use crate::config::{TelemetryPath, WebConfig};
use crate::domain::namespace::HostSnapshot;
use crate::report::json::SCHEMA;
use crate::web::Handler;
use crate::web::answer::{self, Answer};
use metrics::Metrics;
use readiness::{Readiness, State};
use slots::Slots;

/// How long `/-/ready` reads before it says no. The kubelet waits a second for a probe.
const PROBE_TIME: Duration = Duration::from_millis(900);

/// Everything that is answered, on all connections of all listeners.
#[derive(Debug)]
pub struct Site {
    telemetry_path: TelemetryPath,
    metrics: Metrics,
    readiness: Arc<Readiness>,
}

impl Site {
    /// From the configuration and the collectors.
    #[must_use]
    pub fn new(web: &WebConfig, collector: Arc<Collector>, about: About) -> Self {
        let readiness = Arc::new(Readiness::default());
        let slots = Slots::new(web.max_requests);
        Self {
            telemetry_path: web.telemetry_path.clone(),
            metrics: Metrics::new(collector, Arc::clone(&readiness), about, slots),
            readiness,
        }
    }

    /// One reading that nobody asked for, to learn at start whether it works.
    pub(crate) async fn first_look(&self) -> HostSnapshot {
        self.metrics.read(deadline::DEFAULT).await
    }

    /// Says "not ready" from now on.
    pub fn shut_down(&self) {
        self.readiness.shut_down();
    }

    async fn report(&self, headers: &HeaderMap, form: report::Form) -> Answer {
        let time = deadline::time_allowed(headers);
        let snapshot = self.metrics.read_fresh(time).await;
        report::answer(snapshot, form).await
    }

    fn route(&self, path: &str) -> Route {
        match path {
            // First, for it may be "/".
            path if path == self.telemetry_path.as_str() => Route::Metrics,
            "/" => Route::Page,
            "/api/v1/report" => Route::Report,
            "/api/v1/report/schema" => Route::Schema,
            "/-/healthy" => Route::Healthy,
            "/-/ready" => Route::Ready,
            _ => Route::Nothing,
        }
    }

    async fn ready(&self) -> Answer {
        if self.readiness.state() == State::NotWorking {
            self.metrics.read(PROBE_TIME).await;
        }
        let (status, line) = match self.readiness.state() {
            State::Ready => (StatusCode::OK, "TIME-WAIT Exporter is Ready."),
            State::NotWorking => (
                StatusCode::SERVICE_UNAVAILABLE,
                "Not ready: sockets cannot be read.",
            ),
            State::ShuttingDown => (StatusCode::SERVICE_UNAVAILABLE, "Not ready: shutting down."),
        };
        answer::text(status, line)
    }
}

impl Handler for Site {
    async fn answer(&self, method: &Method, path: &str, headers: &HeaderMap) -> Answer {
        let route = self.route(path);
        if route == Route::Nothing {
            return answers::not_found();
        }
        if method != Method::GET && method != Method::HEAD {
            return answers::method_not_allowed();
        }
        match route {
            Route::Metrics => self.metrics.answer(headers).await,
            Route::Page => {
                let form = report::Form::Page(self.telemetry_path.clone());
                self.report(headers, form).await
            }
            Route::Report => self.report(headers, report::Form::Json).await,
            Route::Schema => answers::json(Bytes::from_static(SCHEMA.as_bytes())),
            Route::Healthy => answer::text(StatusCode::OK, "TIME-WAIT Exporter is Healthy."),
            Route::Ready => self.ready().await,
            Route::Nothing => answers::not_found(),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Route {
    Metrics,
    Page,
    Report,
    Schema,
    Healthy,
    Ready,
    Nothing,
}
