//! The file as YAML: which keys there are and of what type. Unknown and repeated keys are errors.
//!
//! What the names and values in it mean is [`super`]'s matter; only headers, which have no module of
//! their own, are checked here.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use hyper::HeaderMap;
use hyper::header::{
    CONTENT_SECURITY_POLICY, HeaderName, HeaderValue, STRICT_TRANSPORT_SECURITY,
    X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS, X_XSS_PROTECTION,
};
use serde::de::{Error, MapAccess, Unexpected, Visitor};
use serde::{Deserialize, Deserializer};
use serde_saphyr::{MessageFormatter, UserMessageFormatter};

use super::error::WebFileError;
use super::names::{Cipher, Curve, Version};
use super::tls::{Pem, Tls};
use super::{RateLimit, Users, WebFile, duration};

/// A key without a value is the same as none, as in Go, but for [`Bool`].
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Document {
    tls_server_config: Option<TlsServer>,
    http_server_config: Option<HttpServer>,
    basic_auth_users: Option<TextByName>,
    rate_limit: Option<Rate>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct TlsServer {
    cert: Option<String>,
    cert_file: Option<PathBuf>,
    key: Option<String>,
    key_file: Option<PathBuf>,
    client_ca: Option<String>,
    client_ca_file: Option<PathBuf>,
    client_auth_type: Option<String>,
    client_allowed_sans: Option<Vec<String>>,
    min_version: Option<String>,
    max_version: Option<String>,
    cipher_suites: Option<Vec<String>>,
    prefer_server_cipher_suites: Bool,
    curve_preferences: Option<Vec<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct HttpServer {
    http2: Bool,
    headers: Option<TextByName>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Rate {
    interval: Option<String>,
    burst: Whole,
}

/// True or false, or YAML 1.1's yes, no, on and off; but not in quotes, which Go takes for a text. As in
/// Go, a key that is not there is true (for both that there are), and one without a value is false.
#[derive(Clone, Copy, Debug)]
struct Bool(bool);

impl Default for Bool {
    fn default() -> Self {
        Self(true)
    }
}

impl<'de> Deserialize<'de> for Bool {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // What it looks like: asked for a boolean, the reader would take a text for one.
        deserializer.deserialize_any(BoolVisitor)
    }
}

struct BoolVisitor;

impl Visitor<'_> for BoolVisitor {
    type Value = Bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("true or false, without quotes")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Bool, E> {
        Ok(Bool(value))
    }

    fn visit_unit<E>(self) -> Result<Bool, E> {
        Ok(Bool(false))
    }
}

/// A number without a fraction; but not in quotes, which Go takes for a text. Nothing is 0.
#[derive(Clone, Copy, Debug, Default)]
struct Whole(i64);

impl<'de> Deserialize<'de> for Whole {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // As for `Bool`.
        deserializer.deserialize_any(WholeVisitor)
    }
}

struct WholeVisitor;

impl Visitor<'_> for WholeVisitor {
    type Value = Whole;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a whole number, without quotes")
    }

    fn visit_i64<E>(self, value: i64) -> Result<Whole, E> {
        Ok(Whole(value))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Whole, E> {
        let value = i64::try_from(value)
            .map_err(|_| E::invalid_value(Unexpected::Unsigned(value), &self))?;
        Ok(Whole(value))
    }

    fn visit_unit<E>(self) -> Result<Whole, E> {
        Ok(Whole::default())
    }
}

/// Names of the operator's choice, each with a text or nothing. The reader takes 7 and "7" for two keys,
/// but as names they are one, and the second would win in silence.
#[derive(Debug, Default)]
struct TextByName(BTreeMap<String, String>);

impl<'de> Deserialize<'de> for TextByName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(TextByNameVisitor)
    }
}

struct TextByNameVisitor;

impl<'de> Visitor<'de> for TextByNameVisitor {
    type Value = TextByName;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("names, each with a text")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<TextByName, A::Error> {
        let mut texts = BTreeMap::new();
        while let Some((name, text)) = map.next_entry::<String, Option<String>>()? {
            if texts.contains_key(&name) {
                // As Go says it.
                let told = format_args!("key {name:?} already set in map");
                return Err(A::Error::custom(told));
            }
            texts.insert(name, text.unwrap_or_default());
        }
        Ok(TextByName(texts))
    }
}

/// Reads the YAML.
pub(super) fn parse(text: &[u8]) -> Result<Document, WebFileError> {
    let text = str::from_utf8(text).map_err(|error| {
        let before = text.get(..error.valid_up_to()).unwrap_or_default();
        let line = before.split(|byte| *byte == b'\n').count();
        WebFileError::NotText { line }
    })?;
    if let Some((line, what)) = not_in_go(text) {
        return Err(WebFileError::NotInGo { line, what });
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
    let document: Option<Document> =
        serde_saphyr::from_str_with_options(text, options).map_err(|error| WebFileError::Yaml {
            message: error.render_with_formatter(&Words),
        })?;
    Ok(document.unwrap_or_default())
}

/// The reader's words for what is wrong, but for what is our rule and not YAML's.
struct Words;

impl MessageFormatter for Words {
    fn format_message<'a>(&self, error: &'a serde_saphyr::Error) -> Cow<'a, str> {
        match error {
            serde_saphyr::Error::MergeKeyNotAllowed { .. } => {
                Cow::Borrowed("merge keys (<<) cannot be used here: write the keys out")
            }
            _ => UserMessageFormatter.format_message(error),
        }
    }
}

/// What this YAML reader takes and Go's, which is older, does not; and so `promtool` would not. Nobody
/// needs any of it.
fn not_in_go(text: &str) -> Option<(usize, &'static str)> {
    for (index, line) in text.lines().enumerate() {
        let indentation = line.split(|c| c != ' ' && c != '\t').next();
        let what = if line.starts_with('%') {
            "directives cannot be used here"
        } else if line.starts_with("...") {
            "the end of a document cannot be marked here"
        } else if indentation.is_some_and(|blank| blank.contains('\t')) {
            "a tab cannot be used for indentation"
        } else {
            continue;
        };
        return Some((index + 1, what));
    }
    None
}

impl Document {
    /// Everything by what its name stands for.
    pub(super) fn checked(self, directory: &Path) -> Result<WebFile, WebFileError> {
        let http = self.http_server_config.unwrap_or_default();
        Ok(WebFile {
            tls: tls(self.tls_server_config.unwrap_or_default(), directory)?,
            rate_limit: self.rate_limit.unwrap_or_default().checked()?,
            http2: http.http2.0,
            headers: headers(http.headers.unwrap_or_default())?,
            users: Users::from_texts(self.basic_auth_users.unwrap_or_default().0.into_iter()),
        })
    }
}

fn tls(typed: TlsServer, directory: &Path) -> Result<Tls, WebFileError> {
    let version =
        |name: Option<String>, default| name.map_or(Ok(default), |name| Version::named(&name));
    let ciphers = typed.cipher_suites.unwrap_or_default();
    let curves = typed.curve_preferences.unwrap_or_default();
    Ok(Tls {
        cert: pem(typed.cert_file, typed.cert, directory),
        key: pem(typed.key_file, typed.key, directory),
        client_ca: pem(typed.client_ca_file, typed.client_ca, directory),
        client_auth_type: typed.client_auth_type.unwrap_or_default(),
        client_allowed_sans: typed.client_allowed_sans,
        min_version: version(typed.min_version, Version::Tls12)?,
        max_version: version(typed.max_version, Version::Tls13)?,
        ciphers: all(&ciphers, Cipher::named)?,
        prefers_own_order: typed.prefer_server_cipher_suites.0,
        curves: all(&curves, Curve::named)?,
    })
}

fn all<T>(
    names: &[String],
    named: impl Fn(&str) -> Result<T, WebFileError>,
) -> Result<Vec<T>, WebFileError> {
    names.iter().map(|name| named(name)).collect()
}

/// Where both are given, the file counts, as in Go.
fn pem(file: Option<PathBuf>, inline: Option<String>, directory: &Path) -> Option<Pem> {
    let file = file.filter(|path| !path.as_os_str().is_empty());
    let inline = inline.filter(|text| !text.is_empty());
    file.map(|path| Pem::File(directory.join(path)))
        .or(inline.map(Pem::Inline))
}

impl Rate {
    fn checked(self) -> Result<Option<RateLimit>, WebFileError> {
        let interval = duration::parse(self.interval.as_deref().unwrap_or("0"))
            .map_err(|source| WebFileError::Interval { source })?;
        let burst = self.burst.0;
        let burst = u32::try_from(burst).map_err(|_| WebFileError::Burst { burst })?;
        // As in Go: a burst without an interval is no limit.
        Ok((!interval.is_zero()).then_some(RateLimit { interval, burst }))
    }
}

/// What each header may be, if that is a list.
const HEADERS: [(&str, HeaderName, &[&str], &str); 5] = [
    (
        "Strict-Transport-Security",
        STRICT_TRANSPORT_SECURITY,
        &[],
        "",
    ),
    (
        "X-Content-Type-Options",
        X_CONTENT_TYPE_OPTIONS,
        &["nosniff"],
        "[\"nosniff\"]",
    ),
    (
        "X-Frame-Options",
        X_FRAME_OPTIONS,
        &["deny", "sameorigin"],
        "[\"deny\" \"sameorigin\"]",
    ),
    ("X-XSS-Protection", X_XSS_PROTECTION, &[], ""),
    ("Content-Security-Policy", CONTENT_SECURITY_POLICY, &[], ""),
];

fn headers(typed: TextByName) -> Result<HeaderMap, WebFileError> {
    let mut checked = HeaderMap::new();
    for (name, value) in typed.0 {
        let known = HEADERS.into_iter().find(|(known, ..)| *known == name);
        let Some((name, header, possible, expected)) = known else {
            return Err(WebFileError::Header { name });
        };
        if !possible.is_empty() && !possible.contains(&value.as_str()) {
            return Err(WebFileError::HeaderValue {
                name,
                expected,
                value,
            });
        }
        match HeaderValue::from_str(&value) {
            // "Unset if blank", says the description of the file.
            Ok(value) if value.is_empty() => {}
            Ok(value) => {
                checked.insert(header, value);
            }
            Err(_) => return Err(WebFileError::HeaderText { name, value }),
        }
    }
    Ok(checked)
}
