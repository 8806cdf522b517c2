//! Users and the bcrypt hashes of their passwords.
//!
//! Computes a hash when it is asked to, which takes as long as its cost says: not on an async thread.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::alphabet::BCRYPT;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use subtle::ConstantTimeEq as _;

/// How much a refusal costs where no hash is one.
const DEFAULT_COST: u32 = 10;

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
    /// The computation takes 2 to the power of this many rounds.
    pub(crate) cost: u32,
    salt: [u8; 16],
    digest: [u8; 23],
}

impl BcryptHash {
    /// bcrypt reads no more of a password.
    pub(crate) const LONGEST_PASSWORD: usize = 72;

    /// Reads a hash: `$2y$`, two digits of cost, `$`, 22 letters of salt, 31 of digest. Which letter
    /// follows the 2 makes no difference, as in Go; it may be missing.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        // In this order, as Go checks it.
        let rest = match text.as_bytes() {
            bytes if bytes.len() < 59 => {
                return Err("hashedSecret too short to be a bcrypted password".to_owned());
            }
            [b'$', b'2', b'$', rest @ ..] | [b'$', b'2', _, b'$', rest @ ..] => rest,
            [b'$', version, ..] if *version > b'2' => {
                return Err(format!(
                    "bcrypt algorithm version '{}' requested is newer than current version '2'",
                    char::from(*version)
                ));
            }
            [first, ..] if *first != b'$' => {
                return Err(format!(
                    "bcrypt hashes must start with '$', but hashedSecret started with '{}'",
                    char::from(*first)
                ));
            }
            _ => &[],
        };
        let malformed = || "malformed hash: no password can fit it".to_owned();
        let [tens @ b'0'..=b'9', ones @ b'0'..=b'9', b'$', encoded @ ..] = rest else {
            return Err(malformed());
        };
        let cost = u32::from(tens - b'0') * 10 + u32::from(ones - b'0');
        if !(4..=31).contains(&cost) {
            return Err(format!(
                "cost {cost} is outside allowed inclusive range 4..31"
            ));
        }
        let (salt, digest) = encoded.split_at_checked(22).ok_or_else(malformed)?;
        let decode = |letters: &[u8]| BASE64.decode(letters).map_err(|_| malformed());
        Ok(Self {
            cost,
            salt: decode(salt)?.try_into().map_err(|_| malformed())?,
            digest: decode(digest)?.try_into().map_err(|_| malformed())?,
        })
    }

    /// Whether this is the password. Takes long.
    pub(crate) fn fits(&self, password: &[u8]) -> bool {
        let mut key = [password, &[0]].concat();
        key.truncate(Self::LONGEST_PASSWORD);
        let [digest @ .., _] = bcrypt::bcrypt(self.cost, self.salt, &key);
        self.digest.ct_eq(&digest).into()
    }
}

/// Everyone who may ask, by name. A hash that is none lets nobody in; at start it is an error.
#[derive(Default)]
pub struct Users(BTreeMap<String, Result<BcryptHash, String>>);

impl Users {
    pub(super) fn new(hashes: BTreeMap<String, String>) -> Self {
        let parsed = |(user, hash): (String, String)| (user, BcryptHash::parse(&hash));
        Self(hashes.into_iter().map(parsed).collect())
    }

    /// Whether nobody is listed, which means everybody.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &String> {
        self.0.keys()
    }

    /// A user's hash, if there is such a user with a hash that is one.
    pub(crate) fn hash_of(&self, user: &[u8]) -> Option<&BcryptHash> {
        self.0.get(str::from_utf8(user).ok()?)?.as_ref().ok()
    }

    /// The cost of the most expensive hash.
    pub(crate) fn highest_cost(&self) -> u32 {
        let costs = self.0.values().flatten().map(|hash| hash.cost);
        costs.max().unwrap_or(DEFAULT_COST)
    }

    /// Every hash is one.
    pub fn check(&self) -> Result<(), String> {
        for (user, hash) in &self.0 {
            hash.as_ref()
                .map_err(|reason| format!("basic_auth_users: {user}: crypto/bcrypt: {reason}"))?;
        }
        Ok(())
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// From exporter-toolkit's documentation.
    const HASH: &str = "$2y$10$X0h1gDsPszWURQaxFh.zoubFi6DXncSjhoQNJgRrnGs7EsimhC7zG";

    fn fits(hash: &str, password: &[u8]) -> bool {
        BcryptHash::parse(hash).unwrap().fits(password)
    }

    #[test]
    fn passwords_fit_their_hashes() {
        // jBCrypt's test vectors, with every version letter that Go accepts.
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
        let long = [b'x'; 100];
        let of = |password: &[u8]| {
            let [digest @ .., _] = bcrypt::bcrypt(4, [0; 16], password);
            BcryptHash {
                cost: 4,
                salt: [0; 16],
                digest,
            }
        };
        let hash = of(&long[..72]);
        assert!(
            [72, 73, 100]
                .iter()
                .all(|length| hash.fits(&long[..*length]))
        );
        assert!(!hash.fits(&long[..71]));
        // A zero byte does not end a password.
        assert!(!of(b"a\0").fits(b"a\0b") && of(b"a\0b\0").fits(b"a\0b"));
    }

    #[test]
    fn an_invalid_hash_is_described_with_gos_error() {
        let says = |text: &str, words: &str| {
            let said = BcryptHash::parse(text).err().unwrap();
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
        fn no_text_makes_it_panic(text in "\\PC{0,70}|\\$2[aby]\\$[0-9]{2}\\$[./A-Za-z0-9]{50,56}") {
            let _any = BcryptHash::parse(&text);
        }
    }
}
