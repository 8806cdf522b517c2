//! The handlers of the status page and of the report as JSON.
//!
//! Both read the kernel for their request, through the collector that scrapes use, so that what comes
//! in together shares one dump. How either is written is [`crate::report`]'s and
//! [`super::status_page`]'s matter.

use std::fmt;

use bytes::Bytes;
use hyper::StatusCode;
use tracing::error;

use super::{answers, status_page};
use crate::build_info::BUILD;
use crate::config::TelemetryPath;
use crate::domain::namespace::HostSnapshot;
use crate::kernel::process::{host_name, kernel_release};
use crate::report::{Report, json};
use crate::web::answer::{self, Answer};

/// What is asked for.
#[derive(Clone, Debug)]
pub(super) enum Form {
    /// HTML, with a link to the metrics under this path.
    Page(TelemetryPath),
    /// JSON.
    Json,
}

/// Why a report could not be written: a defect.
#[derive(Debug, thiserror::Error)]
enum WriteError {
    #[error("the template: {0}")]
    Template(#[from] askama::Error),
    #[error("JSON: {0}")]
    Json(#[from] serde_json::Error),
}

/// Writes what was read, off the async threads.
pub(super) async fn answer(snapshot: HostSnapshot, form: Form) -> Answer {
    let writing = tokio::task::spawn_blocking(move || write(snapshot, &form));
    match writing.await {
        Ok(Ok(answer)) => answer,
        Ok(Err(defect)) => failed(&defect),
        // The panic itself is in the log already.
        Err(panic) => failed(&panic),
    }
}

fn write(snapshot: HostSnapshot, form: &Form) -> Result<Answer, WriteError> {
    let report = Report::new(BUILD.version, host_name(), kernel_release(), snapshot);
    Ok(match form {
        Form::Page(telemetry_path) => {
            let page = status_page::page(&report, telemetry_path)?;
            answers::html(page, status_page::CONTENT_POLICY)
        }
        Form::Json => answers::json(Bytes::from(json::render(&report)?)),
    })
}

fn failed(reason: &dyn fmt::Display) -> Answer {
    error!(error = %reason, "Could not write the report, which is a defect: please report");
    answer::text(
        StatusCode::INTERNAL_SERVER_ERROR,
        format!("The report could not be written: {reason}"),
    )
}
