//! Booleans and numbers of the file, as Go's YAML reader accepts them.

use serde::{Deserialize, Deserializer};

/// A boolean (also YAML 1.1's yes, no, on and off) or a number; but not in quotes, which Go takes for a
/// text. Without a value it is false or 0; without the key, `None`.
pub(super) fn unquoted<'de, T: Default + Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    #[derive(Deserialize)]
    #[serde(
        untagged,
        expecting = "expected a whole number, without quotes, or true or false"
    )]
    enum Unquoted<T> {
        Value(Option<T>),
    }

    let Unquoted::Value(value) = Unquoted::deserialize(deserializer)?;
    Ok(Some(value.unwrap_or_default()))
}
