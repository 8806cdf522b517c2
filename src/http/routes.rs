//! Which handler answers which request.
//!
//! The table stands in [the module above](super). Handlers get a method, a path and headers; nothing
//! here knows of connections.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper::{HeaderMap, Method, StatusCode};

use super::answer::{self, Answer};
use super::metrics::{About, Metrics};
use super::readiness::{Readiness, State};
use super::slots::Slots;
use super::{deadline, landing};
use crate::collector::Collector;
use crate::config::{TelemetryPath, WebConfig};
use crate::domain::snapshot::Snapshot;

/// How long `/-/ready` looks before it says no. The kubelet waits a second for a probe.
const PROBE_TIME: Duration = Duration::from_millis(900);

/// Everything that is answered, on all connections of all listeners.
#[derive(Debug)]
pub struct Site {
    telemetry_path: TelemetryPath,
    metrics: Metrics,
    readiness: Arc<Readiness>,
    landing: Bytes,
}

impl Site {
    /// From the configuration and the collector that reads the figures.
    #[must_use]
    pub fn new(web: &WebConfig, collector: Arc<Collector>, about: About) -> Self {
        let readiness = Arc::new(Readiness::default());
        let landing = landing::page(about.build.version, &web.telemetry_path);
        let slots = Slots::new(web.max_requests);
        Self {
            telemetry_path: web.telemetry_path.clone(),
            metrics: Metrics::new(collector, Arc::clone(&readiness), about, slots),
            readiness,
            landing,
        }
    }

    /// One reading that nobody asked for, to learn at start whether it works.
    pub async fn first_look(&self) -> Snapshot {
        self.metrics.read(deadline::DEFAULT).await
    }

    /// Says "not ready" from now on.
    pub(super) fn shut_down(&self) {
        self.readiness.shut_down();
    }

    /// Answers one request.
    pub(super) async fn answer(&self, method: &Method, path: &str, headers: &HeaderMap) -> Answer {
        let route = self.route(path);
        if route == Route::Nothing {
            return answer::not_found();
        }
        if method != Method::GET && method != Method::HEAD {
            return answer::method_not_allowed();
        }
        match route {
            Route::Metrics => self.metrics.answer(headers).await,
            Route::Landing => answer::html(self.landing.clone()),
            Route::Healthy => answer::text(StatusCode::OK, "TIME-WAIT Exporter is Healthy."),
            Route::Ready => self.ready().await,
            Route::Nothing => answer::not_found(),
        }
    }

    fn route(&self, path: &str) -> Route {
        match path {
            // First, for it may be "/".
            path if path == self.telemetry_path.as_str() => Route::Metrics,
            "/" => Route::Landing,
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

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Route {
    Metrics,
    Landing,
    Healthy,
    Ready,
    Nothing,
}
