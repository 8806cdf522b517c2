//! Says what is wrong once, and again when it changes, not on every scrape.

use tracing::{error, info};

/// What one collector last complained of.
#[derive(Debug)]
pub(super) struct Complaint {
    collector: &'static str,
    /// The label of the namespace; `None` is the own one.
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

    /// Notes how the collector fared. `None` is well.
    pub(super) fn note(&mut self, complaint: Option<String>) {
        if complaint == self.last {
            return;
        }
        if let Some(text) = &complaint {
            error!(
                collector = self.collector,
                netns = self.netns(),
                err = text.as_str(),
                "collector failed"
            );
        } else {
            info!(
                collector = self.collector,
                netns = self.netns(),
                "collector works again"
            );
        }
        self.last = complaint;
    }
}

/// Several errors as one text, nothing for none.
pub(super) fn join<E: ToString>(errors: &[E]) -> Option<String> {
    let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
    (!texts.is_empty()).then(|| texts.join("; "))
}
