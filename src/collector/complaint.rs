//! Logs an error once, and again when it changes, not on every scrape.

use tracing::{error, info};

/// What one collector last complained of.
pub(super) struct Complaint {
    collector: &'static str,
    /// The label of the namespace; `None` is the exporter's.
    netns: Option<String>,
    last: Option<String>,
}

impl Complaint {
    pub(super) const fn new(collector: &'static str, netns: Option<String>) -> Self {
        Self {
            collector,
            netns,
            last: None,
        }
    }

    pub(super) fn netns(&self) -> Option<&str> {
        self.netns.as_deref()
    }

    /// Logs an error, or that there is none any more.
    pub(super) fn note(&mut self, complaint: Option<String>) {
        if let Some(text) = complaint {
            self.note_in_words(text.clone(), &text);
        } else if self.last.take().is_some() {
            info!(
                collector = self.collector,
                netns = self.netns(),
                "collector works again"
            );
        }
    }

    /// Logs an error in words that contain more than `complaint`, by which errors are compared: for example a path that
    /// differs each time.
    pub(super) fn note_in_words(&mut self, complaint: String, words: &str) {
        if self.last.as_deref() != Some(&*complaint) {
            error!(
                collector = self.collector,
                netns = self.netns(),
                err = words,
                "collector failed"
            );
            self.last = Some(complaint);
        }
    }
}

/// Several errors as one text, nothing for none.
pub(super) fn join<E: ToString>(errors: &[E]) -> Option<String> {
    let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
    (!texts.is_empty()).then(|| texts.join("; "))
}
