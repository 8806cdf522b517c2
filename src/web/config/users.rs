//! Users and the bcrypt hashes of their passwords.
//!
//! Computes a hash when it is asked to, which takes as long as its cost says: not on an async thread.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::alphabet::BCRYPT;
use base64::engine::{GeneralPurpose, GeneralPurposeConfig};
use subtle::ConstantTimeEq as _;

use super::error::{HashError, WebFileError};

/// What a digest is made from and what it comes to.
pub type Salt = [u8; 16];
/// See [`Salt`].
pub type Digest = [u8; 23];

/// The cost that is paid where no user has any.
const DEFAULT_COST: u32 = 10;

/// bcrypt looks at no more of a password.
const LONGEST_PASSWORD: usize = 72;

/// Go leaves the bits alone that fill up the last letter.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &BCRYPT,
    GeneralPurposeConfig::new()
        .with_encode_padding(false)
        .with_decode_padding_mode(base64::engine::DecodePaddingMode::RequireNone)
        .with_decode_allow_trailing_bits(true),
);

/// A password's hash as a user's entry has it.
#[derive(Clone, PartialEq, Eq)]
pub struct BcryptHash {
    text: String,
    cost: u32,
    salt: Salt,
    digest: Digest,
}

/// Hashes are secrets.
impl std::fmt::Debug for BcryptHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BcryptHash")
            .field("cost", &self.cost)
            .finish_non_exhaustive()
    }
}

impl BcryptHash {
    /// Reads a hash: `$2y$`, two digits of cost, `$`, 22 letters of salt, 31 of digest.
    pub fn parse(text: &str) -> Result<Self, HashError> {
        // In this order, as Go looks at it.
        if text.len() < 59 {
            return Err(HashError::TooShort);
        }
        let mut letters = text.chars();
        match letters.next() {
            Some('$') => {}
            first => {
                return Err(HashError::Prefix {
                    first: first.unwrap_or_default(),
                });
            }
        }
        match letters.next() {
            Some(version) if version > '2' => return Err(HashError::Version { version }),
            Some('2') => {}
            _ => return Err(HashError::Malformed),
        }
        let rest = letters.as_str();
        let rest = rest
            .strip_prefix('$')
            .or_else(|| rest.get(1..)?.strip_prefix('$'))
            .ok_or(HashError::Malformed)?;
        let (cost, rest) = rest.split_once('$').ok_or(HashError::Malformed)?;
        let digits = cost.len() == 2 && cost.bytes().all(|byte| byte.is_ascii_digit());
        let cost = match cost.parse() {
            Ok(cost) if digits => cost,
            _ => return Err(HashError::Malformed),
        };
        if !(4..=31).contains(&cost) {
            return Err(HashError::Cost { cost });
        }
        let part = |from: usize, to: usize| {
            let letters = rest.get(from..to).ok_or(HashError::Malformed)?;
            BASE64.decode(letters).map_err(|_| HashError::Malformed)
        };
        if rest.len() != 53 {
            return Err(HashError::Malformed);
        }
        let salt = part(0, 22)?.try_into().map_err(|_| HashError::Malformed)?;
        let digest = part(22, 53)?.try_into().map_err(|_| HashError::Malformed)?;
        Ok(Self {
            text: text.to_owned(),
            cost,
            salt,
            digest,
        })
    }

    /// As it stands in the file.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The computation takes 2 to the power of this many rounds.
    #[must_use]
    pub const fn cost(&self) -> u32 {
        self.cost
    }

    /// What the digest is made with.
    #[must_use]
    pub const fn salt(&self) -> Salt {
        self.salt
    }

    /// Whether this is the digest, in a time that tells nothing.
    #[must_use]
    pub fn is(&self, digest: &Digest) -> bool {
        self.digest.ct_eq(digest).into()
    }
}

/// Computes a password's digest. The cost is one that a hash may have.
#[must_use]
pub fn digest(cost: u32, salt: Salt, password: &[u8]) -> Digest {
    let mut key = Vec::with_capacity(LONGEST_PASSWORD + 1);
    key.extend(password.iter().take(LONGEST_PASSWORD));
    key.push(0);
    key.truncate(LONGEST_PASSWORD);
    let long = bcrypt::bcrypt(cost.clamp(4, 31), salt, &key);
    let mut digest = Digest::default();
    for (to, from) in digest.iter_mut().zip(long) {
        *to = from;
    }
    digest
}

/// Everyone who may ask, by name.
#[derive(Clone, Debug, Default)]
pub struct Users {
    /// A hash that is none lets nobody in; at start it is an error.
    by_name: BTreeMap<String, Result<BcryptHash, HashError>>,
    highest_cost: u32,
}

impl Users {
    /// From the texts of the file.
    pub(super) fn from_texts(texts: impl Iterator<Item = (String, String)>) -> Self {
        let by_name: BTreeMap<_, _> = texts
            .map(|(user, hash)| (user, BcryptHash::parse(&hash)))
            .collect();
        let costs = by_name.values().flatten().map(BcryptHash::cost);
        Self {
            highest_cost: costs.max().unwrap_or(DEFAULT_COST),
            by_name,
        }
    }

    /// Whether nobody is listed, which means everybody.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    /// A user's hash, if there is such a user with a hash that is one.
    #[must_use]
    pub fn hash_of(&self, user: &[u8]) -> Option<&BcryptHash> {
        let user = str::from_utf8(user).ok()?;
        self.by_name.get(user)?.as_ref().ok()
    }

    /// The cost of the dearest hash: what each refusal is made to cost.
    #[must_use]
    pub const fn highest_cost(&self) -> u32 {
        self.highest_cost
    }

    /// Those who can never log in: what a client sends is split at the first colon.
    pub(super) fn with_colon(&self) -> impl Iterator<Item = &str> {
        let names = self.by_name.keys().map(String::as_str);
        names.filter(|name| name.contains(':'))
    }

    /// Every hash is one.
    pub fn check(&self) -> Result<(), WebFileError> {
        for (user, hash) in &self.by_name {
            if let Err(source) = hash {
                return Err(WebFileError::Hash {
                    user: user.clone(),
                    source: *source,
                });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// From exporter-toolkit's documentation.
    const HASH: &str = "$2y$10$X0h1gDsPszWURQaxFh.zoubFi6DXncSjhoQNJgRrnGs7EsimhC7zG";

    fn fits(hash: &str, password: &[u8]) -> bool {
        let hash = BcryptHash::parse(hash).unwrap();
        hash.is(&digest(hash.cost(), hash.salt(), password))
    }

    #[test]
    fn passwords_fit_their_hashes() {
        // jBCrypt's test vectors, each letter for the version that Go takes for the same.
        for version in ["2a", "2b", "2x", "2y", "2"] {
            let hash = |rest: &str| format!("${version}${rest}");
            let empty = hash("06$DCq7YPn5Rq63x1Lad4cll.TV4S6ytwfsfvkgY8jIucDrjc8deX1s.");
            let a = hash("06$m0CrhHm10qJ3lXRY.5zDGO3rS2KdeeWLuGmsfGlMfOxih58VYVfxe");
            assert!(fits(&empty, b""));
            assert!(!fits(&empty, b"a"));
            assert!(fits(&a, b"a"));
            assert!(!fits(&a, b"b"));
        }
    }

    #[test]
    fn only_72_bytes_of_a_password_count() {
        let salt = Salt::default();
        let long = [b'x'; 100];
        let digest_of = |length: usize| digest(4, salt, long.get(..length).unwrap());
        assert_eq!(digest_of(72), digest_of(73));
        assert_eq!(digest_of(72), digest_of(100));
        assert_ne!(digest_of(71), digest_of(72));
        // A zero ends nothing.
        assert_ne!(digest(4, salt, b"a\0b"), digest(4, salt, b"a"));
    }

    #[test]
    fn what_is_no_hash_is_told_in_gos_words() {
        let wrong = |text: &str| BcryptHash::parse(text).unwrap_err();
        let with = |from: &str, to: &str| wrong(&HASH.replacen(from, to, 1));
        assert_eq!(wrong(""), HashError::TooShort);
        assert_eq!(wrong("doe"), HashError::TooShort);
        assert_eq!(with("$2y", "#2y"), HashError::Prefix { first: '#' });
        assert_eq!(with("$2y", "$6y"), HashError::Version { version: '6' });
        assert_eq!(with("$10$", "$03$"), HashError::Cost { cost: 3 });
        assert_eq!(with("$10$", "$32$"), HashError::Cost { cost: 32 });
        for (from, to) in [
            ("$2y", "$1y"),
            ("$10$", "$1$0"),
            ("$10$", "$+9$"),
            ("$X0", "$!0"),
            ("zG", "z!"),
            ("zG", "zGz"),
            ("$2y$", "$2yy$"),
            ("$X0h", "$\u{e9}0"),
        ] {
            assert_eq!(with(from, to), HashError::Malformed, "{to}");
        }
    }

    proptest! {
        #[test]
        fn whatever_stands_there_nothing_panics(text in "\\PC{0,70}|\\$2[aby]\\$[0-9]{2}\\$[./A-Za-z0-9]{50,56}") {
            let _any = BcryptHash::parse(&text);
        }
    }
}
