//! Which format and which coding a client wants, by its `Accept` and `Accept-Encoding` headers.
//!
//! Weights and specificity are those of RFC 9110 (12.4.2, 12.5.1, 12.5.3). Beyond it:
//!
//! - Nothing acceptable, no header, or rubbish is answered with text 0.0.4, never with 406, as
//!   `client_golang` does: a scrape that can be read beats one that fails.
//! - An entry whose weight cannot be read is ignored.
//! - Among formats of the same weight one that the client named beats one that only a wildcard
//!   admits, then the one named first wins; a wildcard alone means text, then `OpenMetrics`.
//! - Parameters that do not choose among our formats are ignored. `escaping` is one: every name we
//!   export is valid in the oldest scheme, so all schemes of Prometheus 3 give the same bytes, and the
//!   answer needs no such parameter.
//! - `version` must be one that we write (`text/plain` 0.0.4, `OpenMetrics` 1.0.0) or absent.
//!   `application/openmetrics-text;version=0.0.1` alone gets text: `client_golang` calls its 1.0.0
//!   output 0.0.1 then, we claim no version that we do not write.
//! - Protobuf must be asked for with both `proto` and `encoding=delimited`, or by a wildcard.
//!
//! Does not touch HTTP types: header lines come in as bytes, in their order.

use std::cmp::Reverse;

/// A format that families can be written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// Prometheus' text format 0.0.4.
    Text,
    /// `OpenMetrics` 1.0.0.
    OpenMetrics,
    /// Length-delimited `io.prometheus.client.MetricFamily` messages.
    Protobuf,
}

/// How exactly an entry of `Accept` names a format: 0 `*/*`, 1 `type/*`, from 2 on the type itself, one
/// more for each parameter that matched.
type Precision = usize;

const NAMED: Precision = 2;

/// The parameters that distinguish formats. Any other one of a media range is ignored.
const PARAMETERS: [&str; 4] = ["version", "charset", "proto", "encoding"];

impl Format {
    /// All formats; of those that a client likes equally the first is sent.
    const BY_PREFERENCE: [Self; 3] = [Self::Text, Self::OpenMetrics, Self::Protobuf];

    /// The value of `Content-Type`, letter by letter as `client_golang` has it.
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Protobuf => {
                "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; \
                 encoding=delimited"
            }
        }
    }

    /// The format for a request with these lines of `Accept`, by the rules in this module's doc.
    /// Takes any bytes.
    pub fn negotiate<'a>(accept: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let ranges = entries(accept);
        Self::BY_PREFERENCE
            .into_iter()
            .filter_map(|format| Some((format.rank(&ranges)?, format)))
            .reduce(|best, next| if next.0 > best.0 { next } else { best })
            .map_or(Self::Text, |(_, format)| format)
    }

    /// How much the client wants this format, greatest being most; nothing if it does not.
    fn rank(self, ranges: &[Entry]) -> Option<(f64, Precision, Reverse<usize>)> {
        let (precision, weight, position) = ranges
            .iter()
            .enumerate()
            .filter_map(|(position, range)| {
                Some((self.precision(range)?, range.weight, Reverse(position)))
            })
            .reduce(|best, next| if next > best { next } else { best })?;
        (weight > 0.0).then_some((weight, precision.min(NAMED), position))
    }

    /// How exactly the range names this format; nothing if it does not mean it.
    fn precision(self, range: &Entry) -> Option<Precision> {
        let ours = Entry::parse(self.content_type())?;
        // Java's own HTTP client sends a bare "*" for "*/*".
        if ["*/*", "*"].contains(&range.item.as_str()) {
            return Some(0);
        }
        if let Some((kind, "*")) = range.item.split_once('/') {
            return (kind == ours.item.split_once('/')?.0).then_some(1);
        }
        let (asked, known) = (&range.parameters, &ours.parameters);
        let chooses = |one: &&(String, String)| PARAMETERS.contains(&one.0.as_str());
        let mut choosing = asked.iter().filter(chooses);
        let is_ours = range.item == ours.item && choosing.all(|one| known.contains(one));
        // Given twice, a parameter counts once: it makes the range no more specific.
        let matched = known.iter().filter(|one| asked.contains(one)).count();
        let is_whole = self != Self::Protobuf || matched == known.len();
        (is_ours && is_whole).then_some(NAMED + matched)
    }
}

/// Whether a response may be compressed with gzip for a request with these lines of
/// `Accept-Encoding`: gzip (or `x-gzip`, or `*` where neither is named) has a weight above 0, and
/// the client does not like the plain response better. No header means no. Takes any bytes.
pub fn accepts_gzip<'a>(accept_encoding: impl IntoIterator<Item = &'a [u8]>) -> bool {
    let codings = entries(accept_encoding);
    let weight_of = |names: &[&str]| {
        let named = codings
            .iter()
            .filter(|one| names.contains(&one.item.as_str()));
        named.map(|one| one.weight).reduce(f64::max)
    };
    let any = weight_of(&["*"]);
    let gzip = weight_of(&["gzip", "x-gzip"]).or(any).unwrap_or(0.0);
    // Plain is always allowed, so it only counts against gzip where the client ranks it.
    gzip > 0.0 && gzip >= weight_of(&["identity"]).or(any).unwrap_or(0.0)
}

/// One entry of a list header, in lower case.
struct Entry {
    item: String,
    /// Names, and values without quotes.
    parameters: Vec<(String, String)>,
    /// 0 to 1.
    weight: f64,
}

/// All entries that can be read.
fn entries<'a>(lines: impl IntoIterator<Item = &'a [u8]>) -> Vec<Entry> {
    let mut entries = Vec::new();
    for line in lines {
        let line = String::from_utf8_lossy(line);
        entries.extend(split_unquoted(&line, ',').filter_map(Entry::parse));
    }
    entries
}

impl Entry {
    fn parse(entry: &str) -> Option<Self> {
        let entry = entry.to_ascii_lowercase();
        let mut parts = split_unquoted(&entry, ';');
        let item = parts.next().filter(|item| !item.is_empty())?.to_owned();
        let (mut parameters, mut weight) = (Vec::new(), 1.0);
        // A part without "=" says nothing: left over from a stray semicolon, or an extension.
        for (name, value) in parts.filter_map(|part| part.split_once('=')) {
            let (name, value) = (name.trim_ascii(), unquote(value.trim_ascii()));
            if name == "q" {
                // More lenient than the RFC: as many digits as it likes, and the leading 0 may be
                // missing, as Java's own HTTP client sends it.
                weight = value.parse().ok().filter(|q| (0.0..=1.0).contains(q))?;
            } else {
                parameters.push((name.to_owned(), value));
            }
        }
        Some(Self {
            item,
            parameters,
            weight,
        })
    }
}

/// The pieces of a header between separators that stand outside quoted strings, without the blanks
/// around them. A string that is never closed takes the rest of the line with it.
fn split_unquoted(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let (mut quoted, mut escaped) = (false, false);
    text.split(move |character| {
        let was_escaped = std::mem::take(&mut escaped);
        match character {
            '\\' if quoted => escaped = !was_escaped,
            '"' if !was_escaped => quoted = !quoted,
            _ => {}
        }
        !quoted && character == separator
    })
    .map(str::trim_ascii)
}

/// What a quoted string stands for; anything else as it is.
fn unquote(text: &str) -> String {
    let inner = text
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'));
    let Some(inner) = inner else {
        return text.to_owned();
    };
    let mut escaped = false;
    let is_plain = |character: &char| {
        escaped = *character == '\\' && !escaped;
        !escaped
    };
    inner.chars().filter(is_plain).collect()
}

#[cfg(test)]
mod tests;
