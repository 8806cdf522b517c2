//! The handler of `/metrics`.
//!
//! Takes a slot, has the collector read the kernel until the scraper's deadline, and has the result
//! encoded off the async threads. Names and formats are [`crate::exposition`]'s
//! matter.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use hyper::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_ENCODING, HeaderName, HeaderValue, VARY};
use hyper::{HeaderMap, StatusCode};
use tracing::error;

use super::deadline;
use super::readiness::Readiness;
use super::slots::{Slot, Slots};
use crate::collector::Collector;
use crate::domain::namespace::HostSnapshot;
use crate::domain::process::ProcessUsage;
use crate::exposition::{
    BuildInfo, EncodeError, Encoded, ExporterFigures, Format, SelfFigures, accepts_gzip, encode,
    families,
};
use crate::web::answer::{self, Answer};

/// How the process is doing; `None` where that cannot be read. It may block.
pub type ReadProcess = dyn Fn() -> Option<ProcessUsage> + Send + Sync;

/// What the exporter exposes about itself.
pub struct About {
    /// Which build it is.
    pub build: BuildInfo,
    /// How its process is doing; `None` with `--web.disable-exporter-metrics`.
    pub process: Option<Box<ReadProcess>>,
}

impl fmt::Debug for About {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("About")
            .field("build", &self.build)
            .finish_non_exhaustive()
    }
}

/// Writes a snapshot in the form that a scraper asked for.
type Render = fn(&HostSnapshot, &ExporterFigures, Wanted) -> Result<Encoded, EncodeError>;

/// The form that a scraper asked for.
#[derive(Clone, Copy, Debug)]
struct Wanted {
    format: Format,
    gzip: bool,
}

/// Answers scrapes.
#[derive(Debug)]
pub(super) struct Metrics {
    collector: Arc<Collector>,
    readiness: Arc<Readiness>,
    about: Arc<About>,
    slots: Arc<Slots>,
    render: Render,
}

impl Metrics {
    pub(super) fn new(
        collector: Arc<Collector>,
        readiness: Arc<Readiness>,
        about: About,
        slots: Arc<Slots>,
    ) -> Self {
        Self {
            collector,
            readiness,
            about: Arc::new(about),
            slots,
            render,
        }
    }

    /// One scrape.
    pub(super) async fn answer(&self, headers: &HeaderMap) -> Answer {
        let slot = self.slots.enter();
        if slot.is_above_limit() {
            let answer = refused(self.slots.limit());
            slot.answered(answer.status());
            return answer;
        }
        let snapshot = self.read(deadline::time_allowed(headers)).await;
        let wanted = Wanted {
            format: Format::negotiate(lines(headers, ACCEPT)),
            gzip: accepts_gzip(lines(headers, ACCEPT_ENCODING)),
        };
        let answer = self.written(snapshot, wanted, &slot).await;
        slot.answered(answer.status());
        answer
    }

    /// Reads the kernel, and learns from it whether that works.
    pub(super) async fn read(&self, time_allowed: Duration) -> HostSnapshot {
        let deadline = Instant::now() + time_allowed;
        let snapshot = self.collector.scrape(deadline).await;
        self.readiness.observe(&snapshot.own, deadline);
        snapshot
    }

    /// The same for a person, who gets no older dump of a namespace that was asked for by name.
    pub(super) async fn read_fresh(&self, time_allowed: Duration) -> HostSnapshot {
        let deadline = Instant::now() + time_allowed;
        let snapshot = self.collector.scrape_fresh(deadline).await;
        self.readiness.observe(&snapshot.own, deadline);
        snapshot
    }

    async fn written(&self, snapshot: HostSnapshot, wanted: Wanted, slot: &Slot) -> Answer {
        let (about, slots, render) = (
            Arc::clone(&self.about),
            Arc::clone(&self.slots),
            self.render,
        );
        let job = move || render(&snapshot, &about.figures(&slots), wanted);
        match tokio::task::spawn_blocking(job).await {
            Ok(Ok(encoded)) => ok_response(encoded),
            Ok(Err(defect)) => {
                error!(error = %Chain(&defect), "Could not write the metrics, which is a defect: please report");
                failed(slot, &Chain(&defect))
            }
            // The panic itself is in the log already.
            Err(panic) => failed(slot, &panic),
        }
    }
}

impl About {
    fn figures(&self, slots: &Slots) -> ExporterFigures {
        ExporterFigures {
            build: self.build,
            self_figures: self.process.as_ref().map(|process| SelfFigures {
                process: process(),
                http: slots.figures(),
            }),
        }
    }
}

fn render(
    snapshot: &HostSnapshot,
    exporter: &ExporterFigures,
    wanted: Wanted,
) -> Result<Encoded, EncodeError> {
    encode(&families(snapshot, exporter), wanted.format, wanted.gzip)
}

fn lines(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &[u8]> {
    headers.get_all(name).into_iter().map(HeaderValue::as_bytes)
}

fn ok_response(encoded: Encoded) -> Answer {
    let body = Bytes::from(encoded.body);
    let mut answer = answer::with_body(StatusCode::OK, encoded.content_type, body);
    answer::set(&mut answer, VARY, "Accept, Accept-Encoding");
    if encoded.gzip {
        answer::set(&mut answer, CONTENT_ENCODING, "gzip");
    }
    answer
}

/// In the words of the Go client library, which people search for.
fn refused(limit: usize) -> Answer {
    answer::text(
        StatusCode::SERVICE_UNAVAILABLE,
        format!("Limit of concurrent requests reached ({limit}), try again later."),
    )
}

/// In the words of the Go client library, too.
fn failed(slot: &Slot, reason: &dyn fmt::Display) -> Answer {
    slot.count_encoding_error();
    answer::text(
        StatusCode::INTERNAL_SERVER_ERROR,
        format!("An error has occurred while serving metrics:\n\n{reason}"),
    )
}

/// An error with its causes.
struct Chain<'a>(&'a dyn std::error::Error);

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::panic, reason = "tests")]
mod tests {
    use super::*;

    fn metrics(render: Render) -> Metrics {
        let collector = Collector::start([]).unwrap();
        let about = About {
            build: crate::build_info::BUILD,
            process: None,
        };
        Metrics {
            render,
            ..Metrics::new(Arc::new(collector), Arc::default(), about, Slots::new(None))
        }
    }

    #[tokio::test]
    async fn an_encoder_that_fails_is_told_and_counted() {
        let metrics = metrics(|_, _, _| Err(EncodeError::Gzip(std::io::Error::other("broken"))));
        let answer = metrics.answer(&HeaderMap::new()).await;
        assert_eq!(answer.status(), StatusCode::INTERNAL_SERVER_ERROR);
        assert!(answer.body().ends_with(b": broken\n"), "{answer:?}");
        let figures = metrics.slots.figures();
        assert_eq!(figures.errors.encoding, 1);
        assert_eq!(figures.requests_by_code, [(200, 0), (500, 1), (503, 0)]);
    }

    #[tokio::test]
    async fn an_encoder_that_panics_fails_its_scrape_alone() {
        let metrics = metrics(|_, _, _| panic!("on purpose"));
        let answer = metrics.answer(&HeaderMap::new()).await;
        assert_eq!(answer.status(), StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(metrics.slots.figures().in_flight, 0);
        assert_eq!(metrics.slots.figures().errors.encoding, 1);
    }
}
