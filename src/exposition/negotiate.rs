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

use std::borrow::Cow;
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

/// A weight in thousandths, 0 to 1000.
type Weight = u16;

/// The weight where none is given.
const FULL_WEIGHT: Weight = 1_000;

/// How exactly a media range names a format: 0 `*/*`, 1 `type/*`, from 2 on the type itself, one
/// more for each parameter that matched.
type Precision = usize;

const ANY: Precision = 0;
const ANY_SUBTYPE: Precision = 1;
const NAMED: Precision = 2;

/// The parameters that distinguish formats. Any other one of a media range is ignored.
const PARAMETERS: [&[u8]; 4] = [b"version", b"charset", b"proto", b"encoding"];

impl Format {
    /// All formats; of those that a client likes equally the first is sent.
    const BY_PREFERENCE: [Self; 3] = [Self::Text, Self::OpenMetrics, Self::Protobuf];

    /// The value of `Content-Type`, letter by letter as `client_golang` has it.
    #[must_use]
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
    #[must_use]
    pub fn negotiate<'a>(accept: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let ranges: Vec<MediaRange<'a>> = accept
            .into_iter()
            .flat_map(|line| split_unquoted(line, b','))
            .filter_map(MediaRange::parse)
            .collect();
        Self::BY_PREFERENCE
            .into_iter()
            .filter_map(|format| Some((format.rank(&ranges)?, format)))
            .min_by_key(|(rank, _)| *rank)
            .map_or(Self::Text, |(_, format)| format)
    }

    /// How much the client wants this format, least being most; nothing if it does not.
    fn rank(self, ranges: &[MediaRange<'_>]) -> Option<impl Ord + Copy + use<>> {
        let (precision, weight, Reverse(position)) = ranges
            .iter()
            .enumerate()
            .filter_map(|(position, range)| {
                Some((range.precision_for(self)?, range.weight, Reverse(position)))
            })
            .max()?;
        (weight > 0).then_some((Reverse(weight), Reverse(precision.min(NAMED)), position))
    }

    const fn media_type(self) -> (&'static [u8], &'static [u8]) {
        match self {
            Self::Text => (b"text", b"plain"),
            Self::OpenMetrics => (b"application", b"openmetrics-text"),
            Self::Protobuf => (b"application", b"vnd.google.protobuf"),
        }
    }

    const fn parameters(self) -> &'static [(&'static [u8], &'static [u8])] {
        match self {
            Self::Text => &[(b"version", b"0.0.4"), (b"charset", b"utf-8")],
            Self::OpenMetrics => &[(b"version", b"1.0.0"), (b"charset", b"utf-8")],
            Self::Protobuf => &[
                (b"proto", b"io.prometheus.client.MetricFamily"),
                (b"encoding", b"delimited"),
            ],
        }
    }

    /// How many parameters a client must name for its range to mean this format.
    const fn required_parameters(self) -> usize {
        match self {
            Self::Text | Self::OpenMetrics => 0,
            Self::Protobuf => self.parameters().len(),
        }
    }
}

/// One entry of `Accept`.
struct MediaRange<'a> {
    kind: &'a [u8],
    subtype: &'a [u8],
    parameters: Vec<Parameter<'a>>,
    weight: Weight,
}

impl<'a> MediaRange<'a> {
    /// Nothing where it is no media range or its weight is unreadable.
    fn parse(entry: &'a [u8]) -> Option<Self> {
        let WeightedItem {
            item,
            parameters,
            weight,
        } = WeightedItem::parse(entry)?;
        // Java's own HTTP client sends a bare "*" for "*/*".
        let (kind, subtype) = split_once(item, b'/').unwrap_or((item, b"*"));
        let is_range = if kind == b"*" {
            subtype == b"*"
        } else {
            item.contains(&b'/') && !kind.is_empty() && !subtype.is_empty()
        };
        is_range.then_some(Self {
            kind,
            subtype,
            parameters,
            weight,
        })
    }

    /// How exactly the range names a format; nothing if it does not mean it.
    fn precision_for(&self, format: Format) -> Option<Precision> {
        if self.kind == b"*" {
            return Some(ANY);
        }
        let (kind, subtype) = format.media_type();
        if !self.kind.eq_ignore_ascii_case(kind) {
            return None;
        }
        if self.subtype == b"*" {
            return Some(ANY_SUBTYPE);
        }
        if !self.subtype.eq_ignore_ascii_case(subtype) {
            return None;
        }
        let matched = self.matching_parameters(format)?;
        (matched >= format.required_parameters()).then_some(NAMED + matched)
    }

    /// How many of the format's parameters the range names; nothing if it names another value.
    fn matching_parameters(&self, format: Format) -> Option<usize> {
        let mut matched: Vec<&[u8]> = Vec::new();
        for (name, value) in &self.parameters {
            let is_called = |other: &[u8]| name.eq_ignore_ascii_case(other);
            if !PARAMETERS.into_iter().any(is_called) {
                continue;
            }
            let mut ours = format.parameters().iter();
            let (our_name, our_value) = ours.find(|(our_name, _)| is_called(our_name))?;
            if !value.eq_ignore_ascii_case(our_value) {
                return None;
            }
            // Given twice, it counts once: it makes the range no more specific.
            if !matched.contains(our_name) {
                matched.push(our_name);
            }
        }
        Some(matched.len())
    }
}

/// Whether a response may be compressed with gzip for a request with these lines of
/// `Accept-Encoding`: gzip (or `x-gzip`, or `*` where neither is named) has a weight above 0, and
/// the client does not like the plain response better. No header means no. Takes any bytes.
#[must_use]
pub fn accepts_gzip<'a>(accept_encoding: impl IntoIterator<Item = &'a [u8]>) -> bool {
    let (mut gzip, mut identity, mut any) = (None, None, None);
    let entries = accept_encoding
        .into_iter()
        .flat_map(|line| split_unquoted(line, b','))
        .filter_map(WeightedItem::parse);
    for WeightedItem { item, weight, .. } in entries {
        let coding = if item.eq_ignore_ascii_case(b"gzip") || item.eq_ignore_ascii_case(b"x-gzip") {
            &mut gzip
        } else if item.eq_ignore_ascii_case(b"identity") {
            &mut identity
        } else if item == b"*" {
            &mut any
        } else {
            continue;
        };
        *coding = (*coding).max(Some(weight));
    }
    let gzip = gzip.or(any).unwrap_or(0);
    // Plain is always allowed, so it only counts against gzip where the client ranks it.
    gzip > 0 && gzip >= identity.or(any).unwrap_or(0)
}

/// A parameter's name and its value without quotes.
type Parameter<'a> = (&'a [u8], Cow<'a, [u8]>);

/// One entry of a list header: an item, its parameters, and its weight.
struct WeightedItem<'a> {
    item: &'a [u8],
    parameters: Vec<Parameter<'a>>,
    weight: Weight,
}

impl<'a> WeightedItem<'a> {
    fn parse(entry: &'a [u8]) -> Option<Self> {
        let mut parts = split_unquoted(entry, b';');
        let item = parts.next()?;
        if item.is_empty() {
            return None;
        }
        let mut parameters = Vec::new();
        let mut weight = FULL_WEIGHT;
        for part in parts {
            // A part without "=" says nothing: left over from a stray semicolon, or an extension.
            let Some((name, value)) = split_once(part, b'=') else {
                continue;
            };
            let (name, value) = (name.trim_ascii(), unquote(value.trim_ascii()));
            if name.eq_ignore_ascii_case(b"q") {
                weight = parse_weight(&value)?;
            } else {
                parameters.push((name, value));
            }
        }
        Some(Self {
            item,
            parameters,
            weight,
        })
    }
}

/// A weight of 0 to 1. More lenient than the RFC in two ways: digits after the third are cut off,
/// and the leading 0 may be missing, as Java's own HTTP client sends it.
fn parse_weight(text: &[u8]) -> Option<Weight> {
    let (whole, fraction) = split_once(text, b'.').unwrap_or((text, b""));
    if !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let digits = fraction.iter().copied().chain(std::iter::repeat(b'0'));
    let thousandths = digits
        .take(3)
        .fold(0, |sum, digit| sum * 10 + Weight::from(digit - b'0'));
    match whole {
        b"1" if fraction.iter().all(|digit| *digit == b'0') => Some(FULL_WEIGHT),
        b"0" => Some(thousandths),
        b"" if !fraction.is_empty() => Some(thousandths),
        _ => None,
    }
}

/// The pieces of a header between separators that stand outside quoted strings, without the blanks
/// around them. A string that is never closed takes the rest of the line with it.
fn split_unquoted(text: &[u8], separator: u8) -> impl Iterator<Item = &[u8]> {
    let (mut quoted, mut escaped) = (false, false);
    text.split(move |byte| {
        let was_escaped = std::mem::take(&mut escaped);
        match *byte {
            b'\\' if quoted => escaped = !was_escaped,
            b'"' if !was_escaped => quoted = !quoted,
            _ => {}
        }
        !quoted && *byte == separator
    })
    .map(<[u8]>::trim_ascii)
}

fn split_once(text: &[u8], separator: u8) -> Option<(&[u8], &[u8])> {
    let at = text.iter().position(|byte| *byte == separator)?;
    Some((text.get(..at)?, text.get(at + 1..)?))
}

/// What a quoted string stands for; anything else as it is.
fn unquote(text: &[u8]) -> Cow<'_, [u8]> {
    let Some(inner) = text
        .strip_prefix(b"\"")
        .and_then(|rest| rest.strip_suffix(b"\""))
    else {
        return Cow::Borrowed(text);
    };
    let mut escaped = false;
    let plain = inner.iter().copied().filter(|byte| {
        escaped = *byte == b'\\' && !escaped;
        !escaped
    });
    Cow::Owned(plain.collect())
}

#[cfg(test)]
mod tests;
