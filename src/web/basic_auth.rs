//! Name and password out of a request's header, as Go's `Request.BasicAuth` reads them.

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{GeneralPurpose, GeneralPurposeConfig};
use hyper::HeaderMap;
use hyper::header::AUTHORIZATION;

/// Go leaves the bits alone that fill up the last letter.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true),
);

/// Name and password of the first such header; `None` where there is none or it is of another kind.
pub(super) fn credentials(headers: &HeaderMap) -> Option<(Vec<u8>, Vec<u8>)> {
    let value = headers.get(AUTHORIZATION)?.as_bytes();
    let (scheme, encoded) = value.split_at_checked(6)?;
    if !scheme.eq_ignore_ascii_case(b"Basic ") {
        return None;
    }
    let mut user = BASE64.decode(encoded).ok()?;
    let colon = user.iter().position(|byte| *byte == b':')?;
    let password = user.split_off(colon + 1);
    user.truncate(colon);
    // No control character may be in either (RFC 7617); with this one, two passwords fit the same hash.
    (!password.contains(&0)).then_some((user, password))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use hyper::header::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn parsed(value: &[u8]) -> Option<(String, String)> {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, HeaderValue::from_bytes(value).ok()?);
        let (user, password) = credentials(&headers)?;
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Some((text(user), text(password)))
    }

    #[test]
    fn name_and_password_are_split_at_the_first_colon() {
        let pair = |user: &str, password: &str| Some((user.to_owned(), password.to_owned()));
        assert_eq!(parsed(b"Basic YWxpY2U6c2VjcmV0"), pair("alice", "secret"));
        assert_eq!(parsed(b"bAsIc YTpiOmM="), pair("a", "b:c"));
        assert_eq!(parsed(b"Basic Og=="), pair("", ""));
    }

    #[test]
    fn anything_else_is_not_a_login() {
        for value in [
            &b""[..],
            b"Basic",
            b"Basic ",
            b"Basic YWxpY2U=",
            b"Basic YWxpY2U6c2VjcmV",
            b"Basic !",
            b"Basic  Og==",
            // "a:b\0b", which is "a:b" to bcrypt.
            b"Basic YTpiAGI=",
            b"Bearer YWxpY2U6c2VjcmV0",
            b"\xff\xff\xff\xff\xff\xff\xff",
        ] {
            assert_eq!(parsed(value), None, "{value:?}");
        }
        assert!(credentials(&HeaderMap::new()).is_none());
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(value in proptest::collection::vec(32_u8.., 0..40)) {
            let mut headers = HeaderMap::new();
            if let Ok(value) = HeaderValue::from_bytes(&value) {
                headers.insert(AUTHORIZATION, value);
            }
            let _any = credentials(&headers);
        }
    }
}
