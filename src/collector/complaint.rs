//! Says what is wrong once, and again when it changes, not on every scrape.

use tracing::{error, info};

/// What one collector last complained of.
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

    /// Notes what is wrong in words that say more than what they are compared by, as the place where it was met,
    /// which may be another one each time.
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
