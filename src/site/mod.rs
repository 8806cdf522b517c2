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
//! encoded on the blocking pool. What comes in together shares one dump. Knows no metric names and no text
//! formats (see [`crate::exposition`] and [`crate::report`]).

mod deadline;
mod metrics;
mod readiness;
mod scrapes;
mod status_page;

use std::error::Error;
use std::fmt::Display;
use std::time::{Duration, Instant};

use bytes::Bytes;
use hyper::header::{ALLOW, CACHE_CONTROL};
use hyper::{HeaderMap, Method, StatusCode};
use tracing::error;

use crate::build_info::BUILD;
use crate::collector::Collector;
use crate::config::WebConfig;
use crate::domain::namespace::HostSnapshot;
use crate::kernel::process::{host_name, kernel_release};
use crate::report::{Report, json};
use crate::web::Handler;
use crate::web::answer::{self, Answer};
use readiness::{Readiness, State};
use scrapes::Scrapes;

/// How long `/-/ready` reads before it says no. The kubelet waits a second for a probe.
const PROBE_TIME: Duration = Duration::from_millis(900);

/// Everything that is answered, on all connections of all listeners.
#[derive(Debug)]
pub struct Site {
    telemetry_path: String,
    exporter_metrics: bool,
    collector: Collector,
    readiness: Readiness,
    scrapes: Scrapes,
}

impl Site {
    /// From the configuration and the collectors.
    pub fn new(web: &WebConfig, collector: Collector) -> Self {
        Self {
            telemetry_path: web.telemetry_path.clone(),
            exporter_metrics: !web.disable_exporter_metrics,
            collector,
            readiness: Readiness::default(),
            scrapes: Scrapes::new(web.max_requests),
        }
    }

    /// One reading at start, without a request, to learn whether it works.
    pub(crate) async fn first_read(&self) -> HostSnapshot {
        self.read(deadline::DEFAULT, false).await
    }

    /// Says "not ready" from now on.
    pub fn shut_down(&self) {
        self.readiness.shut_down();
    }

    /// Reads the kernel, and learns from it whether that works. A `fresh` reading uses no older dump of a
    /// namespace that was asked for by name.
    async fn read(&self, time_allowed: Duration, fresh: bool) -> HostSnapshot {
        let deadline = Instant::now() + time_allowed;
        let snapshot = if fresh {
            self.collector.scrape_fresh(deadline).await
        } else {
            self.collector.scrape(deadline).await
        };
        self.readiness.observe(&snapshot.own, deadline);
        snapshot
    }

    async fn metrics(&self, headers: &HeaderMap) -> Answer {
        let answer = match self.scrapes.admit() {
            Some(_slot) => {
                let snapshot = self.read(deadline::time_allowed(headers), false).await;
                let http = self.exporter_metrics.then(|| self.scrapes.metrics());
                let write = metrics::writer(snapshot, http, headers);
                written("An error has occurred while serving metrics:\n\n", write).await
            }
            None => self.scrapes.refusal(),
        };
        self.scrapes.count(answer.status());
        answer
    }

    async fn report(&self, headers: &HeaderMap, form: Form) -> Answer {
        let snapshot = self.read(deadline::time_allowed(headers), true).await;
        let telemetry_path = self.telemetry_path.clone();
        let write = move || {
            let report = Report::new(BUILD.version, host_name(), kernel_release(), snapshot);
            form(&report, &telemetry_path)
        };
        written("The report could not be written: ", write).await
    }

    async fn ready(&self) -> Answer {
        if self.readiness.state() == State::NotWorking {
            self.read(PROBE_TIME, false).await;
        }
        let reason = match self.readiness.state() {
            State::Ready => return answer::text(StatusCode::OK, "TIME-WAIT Exporter is Ready."),
            State::NotWorking => "Not ready: sockets cannot be read.",
            State::ShuttingDown => "Not ready: shutting down.",
        };
        answer::text(StatusCode::SERVICE_UNAVAILABLE, reason)
    }
}

impl Handler for Site {
    async fn answer(&self, method: &Method, path: &str, headers: &HeaderMap) -> Answer {
        // First, for it may be "/".
        let is_metrics = path == self.telemetry_path;
        let is_other = matches!(
            path,
            "/" | "/api/v1/report" | "/api/v1/report/schema" | "/-/healthy" | "/-/ready"
        );
        if !is_metrics && !is_other {
            return answer::text(StatusCode::NOT_FOUND, "404 page not found");
        }
        if method != Method::GET && method != Method::HEAD {
            let line = "Only GET and HEAD are allowed here.";
            let mut answer = answer::text(StatusCode::METHOD_NOT_ALLOWED, line);
            answer::set(&mut answer, ALLOW, "GET, HEAD");
            return answer;
        }
        match path {
            _ if is_metrics => self.metrics(headers).await,
            "/" => self.report(headers, status_page::answer).await,
            "/api/v1/report" => {
                let form: Form =
                    |report, _| Ok(json_answer(serde_json::to_vec(&json::document(report))?));
                self.report(headers, form).await
            }
            "/api/v1/report/schema" => json_answer(json::SCHEMA),
            "/-/healthy" => answer::text(StatusCode::OK, "TIME-WAIT Exporter is Healthy."),
            _ => self.ready().await,
        }
    }
}

/// Writes a report, with links to the metrics under this path.
type Form = fn(&Report, &str) -> Result<Answer, Box<dyn Error + Send + Sync>>;

fn json_answer(document: impl Into<Bytes>) -> Answer {
    let mut answer = answer::with_body(StatusCode::OK, "application/json", document);
    answer::set(&mut answer, CACHE_CONTROL, "no-store");
    answer
}

/// Has an answer written off the async threads. Failing is a defect, whose explanation begins with `failure`.
async fn written<E: Display + Send + 'static>(
    failure: &str,
    write: impl FnOnce() -> Result<Answer, E> + Send + 'static,
) -> Answer {
    let reason = match tokio::task::spawn_blocking(write).await {
        Ok(Ok(answer)) => return answer,
        Ok(Err(defect)) => defect.to_string(),
        Err(panic) => panic.to_string(),
    };
    error!(
        error = reason,
        "Cannot encode the response. This is a bug: please report it"
    );
    let text = format!("{failure}{reason}");
    answer::text(StatusCode::INTERNAL_SERVER_ERROR, text)
}

#[cfg(test)]
#[expect(clippy::panic, reason = "tests")]
mod tests {
    use super::*;
    use crate::exposition::EncodeError;

    #[tokio::test]
    async fn an_encoder_that_fails_is_reported_with_its_reason() {
        let broken = || Err(EncodeError::Io(std::io::Error::other("broken")));
        let answer = written("Failed: ", broken).await;
        assert_eq!(answer.status(), StatusCode::INTERNAL_SERVER_ERROR);
        assert!(answer.body().starts_with(b"Failed: "), "{answer:?}");
        assert!(answer.body().ends_with(b": broken\n"), "{answer:?}");
    }

    #[tokio::test]
    async fn an_encoder_that_panics_fails_its_own_answer_only() {
        let answer = written("Failed: ", || -> Result<_, EncodeError> {
            panic!("on purpose")
        })
        .await;
        assert_eq!(answer.status(), StatusCode::INTERNAL_SERVER_ERROR);
        let answer = written("Failed: ", || Ok::<_, EncodeError>(json_answer("{}"))).await;
        assert_eq!(answer.status(), StatusCode::OK);
    }
}
