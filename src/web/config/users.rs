//! Users and the bcrypt hashes of their passwords.
//!
//! Computes a hash when it is asked to, which takes as long as its cost says: not on an async thread.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::alphabet::BCRYPT;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use subtle::ConstantTimeEq as _;

use super::error::ConfigError;

/// What a digest is made from and what it comes to.
pub(crate) type Salt = [u8; 16];
/// See [`Salt`].
pub(crate) type Digest = [u8; 23];

/// How much a refusal costs where no hash is one.
const DEFAULT_COST: u32 = 10;

/// bcrypt reads no more of a password.
const LONGEST_PASSWORD: usize = 72;

/// Go leaves the bits alone that fill up the last letter.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &BCRYPT,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::RequireNone)
        .with_decode_allow_trailing_bits(true),
);

/// A password's hash as a user's entry has it.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct BcryptHash {
    text: String,
    cost: u32,
    salt: Salt,
    digest: Digest,
}

/// Hashes are secrets.
impl std::fmt::Debug for BcryptHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("BcryptHash")
    }
}

impl BcryptHash {
    /// Reads a hash: `$2y$`, two digits of cost, `$`, 22 letters of salt, 31 of digest. Which letter
    /// follows the 2 makes no difference, as in Go; it may be missing.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let malformed = || "malformed hash: no password can fit it".to_owned();
        // In this order, as Go checks it.
        if text.len() < 59 {
            return Err("hashedSecret too short to be a bcrypted password".to_owned());
        }
        let mut letters = text.chars();
        let (first, version) = (letters.next(), letters.next());
        if let Some(first) = first.filter(|first| *first != '$') {
            return Err(format!(
                "bcrypt hashes must start with '$', but hashedSecret started with '{first}'"
            ));
        }
        if let Some(version) = version.filter(|version| *version > '2') {
            return Err(format!(
                "bcrypt algorithm version '{version}' requested is newer than current version '2'"
            ));
        }
        let mut parts = letters.as_str().split('$');
        let parts = (parts.next(), parts.next(), parts.next(), parts.next());
        let (Some('2'), (Some(minor), Some(cost), Some(rest), None)) = (version, parts) else {
            return Err(malformed());
        };
        let is_cost = cost.len() == 2 && cost.bytes().all(|byte| byte.is_ascii_digit());
        if !is_cost || minor.chars().count() > 1 || rest.len() != 53 {
            return Err(malformed());
        }
        let cost = cost.parse().unwrap_or_default();
        if !(4..=31).contains(&cost) {
            return Err(format!(
                "cost {cost} is outside allowed inclusive range 4..31"
            ));
        }
        let part = |letters: Option<&str>| BASE64.decode(letters?).ok();
        let salt = part(rest.get(..22)).and_then(|salt| salt.try_into().ok());
        let digest = part(rest.get(22..)).and_then(|digest| digest.try_into().ok());
        Ok(Self {
            text: text.to_owned(),
            cost,
            salt: salt.ok_or_else(malformed)?,
            digest: digest.ok_or_else(malformed)?,
        })
    }

    /// As it stands in the file.
    #[must_use]
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// The computation takes 2 to the power of this many rounds.
    #[must_use]
    pub(crate) const fn cost(&self) -> u32 {
        self.cost
    }

    /// What the digest is made with.
    #[must_use]
    pub(crate) const fn salt(&self) -> Salt {
        self.salt
    }

    /// Whether this is the digest, in constant time.
    #[must_use]
    pub(crate) fn is(&self, digest: &Digest) -> bool {
        self.digest.ct_eq(digest).into()
    }
}

/// Computes a password's digest. The cost is one that a hash may have.
#[must_use]
pub(crate) fn digest(cost: u32, salt: Salt, password: &[u8]) -> Digest {
    let mut key: Vec<u8> = password.iter().copied().take(LONGEST_PASSWORD).collect();
    key.push(0);
    key.truncate(LONGEST_PASSWORD);
    let [digest @ .., _] = bcrypt::bcrypt(cost.clamp(4, 31), salt, &key);
    digest
}

/// Everyone who may ask, by name. A hash that is none lets nobody in; at start it is an error.
#[derive(Clone, Debug, Default)]
pub struct Users(BTreeMap<String, Result<BcryptHash, String>>);

impl Users {
    pub(super) fn new(hashes: BTreeMap<String, String>) -> Self {
        let parsed = |(user, hash): (String, String)| (user, BcryptHash::parse(&hash));
        Self(hashes.into_iter().map(parsed).collect())
    }

    /// Whether nobody is listed, which means everybody.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A user's hash, if there is such a user with a hash that is one.
    #[must_use]
    pub(crate) fn hash_of(&self, user: &[u8]) -> Option<&BcryptHash> {
        self.0.get(str::from_utf8(user).ok()?)?.as_ref().ok()
    }

    /// The cost of the most expensive hash.
    #[must_use]
    pub(crate) fn highest_cost(&self) -> u32 {
        let costs = self.0.values().flatten().map(BcryptHash::cost);
        costs.max().unwrap_or(DEFAULT_COST)
    }

    /// Those who can never log in: what a client sends is split at the first colon.
    pub(super) fn with_colon(&self) -> impl Iterator<Item = &String> {
        self.0.keys().filter(|name| name.contains(':'))
    }

    /// Every hash is one.
    pub fn check(&self) -> Result<(), ConfigError> {
        let mut bad = self.0.iter().filter_map(|(user, hash)| {
            let (user, reason) = (user.clone(), hash.as_ref().err()?.clone());
            Some(ConfigError::Hash { user, reason })
        });
        bad.next().map_or(Ok(()), Err)
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
    fn what_is_no_hash_is_described_in_gos_words() {
        let says = |text: &str, words: &str| {
            let said = BcryptHash::parse(text).unwrap_err();
            assert!(said.contains(words), "{text}: {said}");
        };
        let with = |from: &str, to: &str| HASH.replacen(from, to, 1);
        says("", "too short");
        says("doe", "hashedSecret too short to be a bcrypted password");
        says(
            &with("$2y", "#2y"),
            "must start with '$', but hashedSecret started with '#'",
        );
        says(
            &with("$2y", "$6y"),
            "algorithm version '6' requested is newer than current version '2'",
        );
        says(
            &with("$10$", "$03$"),
            "cost 3 is outside allowed inclusive range 4..31",
        );
        says(&with("$10$", "$32$"), "cost 32 is outside");
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
            says(&with(from, to), "malformed");
        }
    }

    proptest! {
        #[test]
        fn whatever_stands_there_nothing_panics(text in "\\PC{0,70}|\\$2[aby]\\$[0-9]{2}\\$[./A-Za-z0-9]{50,56}") {
            let _any = BcryptHash::parse(&text);
        }
    }
}
