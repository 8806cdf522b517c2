//! The file: which keys there are and of what type. Unknown and repeated keys are errors; what this YAML
//! reader takes and Go's does not, and so `promtool` would not, is refused.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use hyper::HeaderMap;
use hyper::header::{HeaderName, HeaderValue};
use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_saphyr::{MessageFormatter, UserMessageFormatter};

use super::duration;
use super::scalar::unquoted;
use super::tls::Tls;
use super::users::Users;

/// What a file says, every name in it known and every header sendable.
pub struct WebFile {
    /// Certificates, keys and what is asked of clients.
    pub tls: Tls,
    /// Headers of every answer, but for those of a broken file or above the rate.
    pub headers: HeaderMap,
    /// Who may ask; nobody listed is everybody.
    pub users: Users,
    /// Whether `basic_auth_users` has a value, be it `{}`.
    names_users: bool,
    /// How often may be asked.
    pub rate_limit: Option<RateLimit>,
}

/// How often may be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimit {
    /// From one request to the next, in the long run.
    pub interval: Duration,
    /// How many may come at once. 0 refuses everything.
    pub burst: u32,
}

impl WebFile {
    /// Reads a file's text.
    pub fn parse(text: &[u8]) -> Result<Self, String> {
        let document = read(text)?;
        let http = document.http_server_config.unwrap_or_default();
        let tls = document.tls_server_config.unwrap_or_default();
        tls.check()?;
        Ok(Self {
            tls,
            headers: headers(http.headers.unwrap_or_default())?,
            names_users: document.basic_auth_users.is_some(),
            users: Users::new(document.basic_auth_users.unwrap_or_default().0),
            rate_limit: document.rate_limit.unwrap_or_default().checked()?,
        })
    }

    /// Which key that was asked for before is gone, and what would say that this is meant. It is the same
    /// as if a file were cut off somewhere, which any `cp` does for a moment.
    pub(super) fn lost_since(&self, before: &Self) -> Option<(&'static str, &'static str)> {
        if !before.users.is_empty() && !self.names_users {
            return Some(("basic_auth_users", "`basic_auth_users: {}`"));
        }
        self.tls.lost_since(&before.tls)
    }
}

/// A key without a value is the same as none, as in Go, but for booleans.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Document {
    tls_server_config: Option<Tls>,
    http_server_config: Option<HttpServer>,
    basic_auth_users: Option<TextByName>,
    rate_limit: Option<Rate>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct HttpServer {
    #[serde(rename = "http2", deserialize_with = "unquoted")]
    _http2: Option<bool>,
    headers: Option<TextByName>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Rate {
    interval: Option<String>,
    #[serde(deserialize_with = "unquoted")]
    burst: Option<i64>,
}

/// Names of the operator's choice, each with a text or nothing. The reader takes 7 and "7" for two keys,
/// but as names they are one, and the second would win in silence.
#[derive(Default)]
struct TextByName(BTreeMap<String, String>);

impl<'de> Deserialize<'de> for TextByName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Names;

        impl<'de> Visitor<'de> for Names {
            type Value = TextByName;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("names, each with a text")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<TextByName, A::Error> {
                let mut texts = BTreeMap::new();
                while let Some((name, text)) = map.next_entry::<String, Option<String>>()? {
                    if texts.contains_key(&name) {
                        // As Go says it.
                        let words = format_args!("key {name:?} already set in map");
                        return Err(A::Error::custom(words));
                    }
                    texts.insert(name, text.unwrap_or_default());
                }
                Ok(TextByName(texts))
            }
        }

        deserializer.deserialize_map(Names)
    }
}

fn read(text: &[u8]) -> Result<Document, String> {
    let text = str::from_utf8(text).map_err(|error| {
        let before = text.get(..error.valid_up_to()).unwrap_or_default();
        let line = before.split(|byte| *byte == b'\n').count();
        format!("yaml: line {line}: not UTF-8")
    })?;
    for (index, line) in text.lines().enumerate() {
        let rest = line.trim_start_matches(' ');
        let what = match rest.chars().next() {
            Some('\t') => "a tab cannot be used for indentation",
            Some('%') if rest == line => "directives cannot be used here",
            _ => continue,
        };
        return Err(format!("yaml: line {}: {what}", index + 1));
    }
    let options = serde_saphyr::options! {
        // It would put keys and hashes into the log.
        with_snippet: false,
        // As in Go.
        legacy_octal_numbers: true,
        // In Go they mean something else where a key is there twice.
        merge_keys: serde_saphyr::MergeKeyPolicy::Error,
        reject_unsupported_tags: true,
        reject_tagged_field_names: true,
        budget: serde_saphyr::budget! {
            // Four levels are in use; what reads them goes down with them.
            max_depth: 16,
        },
    };
    let document: Option<Document> = serde_saphyr::from_str_with_options(text, options)
        .map_err(|error| format!("yaml: {}", error.render_with_formatter(&Words)))?;
    Ok(document.unwrap_or_default())
}

/// The reader's words for what is wrong, but for what is our rule and not YAML's.
struct Words;

impl MessageFormatter for Words {
    fn format_message<'a>(&self, error: &'a serde_saphyr::Error) -> Cow<'a, str> {
        if matches!(error, serde_saphyr::Error::MergeKeyNotAllowed { .. }) {
            return "merge keys (<<) cannot be used here: write the keys out".into();
        }
        UserMessageFormatter.format_message(error)
    }
}

impl Rate {
    fn checked(&self) -> Result<Option<RateLimit>, String> {
        let interval = duration::parse(self.interval.as_deref().unwrap_or("0"))
            .map_err(|reason| format!("yaml: rate_limit: interval: {reason}"))?;
        let burst = self.burst.unwrap_or_default();
        let burst = u32::try_from(burst).map_err(|_| {
            format!("yaml: rate_limit: burst: {burst} is not between 0 and 4294967295")
        })?;
        // As in Go: a burst without an interval is no limit.
        Ok((!interval.is_zero()).then_some(RateLimit { interval, burst }))
    }
}

/// What each header may be, if that is a list.
const HEADERS: [(&str, &[&str]); 5] = [
    ("Strict-Transport-Security", &[]),
    ("X-Content-Type-Options", &["nosniff"]),
    ("X-Frame-Options", &["deny", "sameorigin"]),
    ("X-XSS-Protection", &[]),
    ("Content-Security-Policy", &[]),
];

fn headers(texts: TextByName) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    for (name, text) in texts.0 {
        let Some((_, possible)) = HEADERS.into_iter().find(|(known, _)| *known == name) else {
            return Err(format!("yaml: HTTP header {name:?} can not be configured"));
        };
        if !possible.is_empty() && !possible.contains(&text.as_str()) {
            // As Go writes a list.
            let possible = format!("{possible:?}").replace(", ", " ");
            return Err(format!(
                "yaml: invalid value for {name}. Expected one of: {possible}, but got: {text:?}"
            ));
        }
        let (Ok(key), Ok(value)) = (name.parse::<HeaderName>(), text.parse::<HeaderValue>()) else {
            return Err(format!(
                "yaml: invalid value for {name}: {text:?} has a character that no header may have"
            ));
        };
        // "Unset if blank", says the description of the file.
        if !value.is_empty() {
            headers.insert(key, value);
        }
    }
    Ok(headers)
}
