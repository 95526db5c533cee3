//! Words that occur nowhere else, one for each personal value of each region, and every way in
//! which they may hide.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use aho_corasick::AhoCorasick;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use ring::rand::{SecureRandom as _, SystemRandom};
use sha2::{Digest as _, Sha256};

use super::super::encode;

/// Where a canary may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// In its region's store, and it has to be found there.
    Stored,
    /// In its region's store, perhaps.
    AtHome,
    /// In its region's store as a digest, perhaps.
    AsDigest,
    /// In no file of anybody.
    Nowhere,
}

/// How a digest is found, in any of its forms.
const DIGEST: &str = "SHA-256";

/// A personal value, or a secret.
#[derive(Clone, Debug)]
pub struct Canary {
    /// What it stands for: `emails.value`.
    pub what: String,
    pub region: &'static str,
    pub keep: Keep,
    /// What occurs nowhere else.
    word: String,
    /// The value that it is a part of: whose digest would say as much as the value.
    whole: String,
}

/// The canaries of one region.
pub struct Book {
    region: &'static str,
    canaries: Mutex<BTreeMap<String, Canary>>,
}

impl Book {
    pub fn of(region: &'static str) -> Self {
        Self {
            region,
            canaries: Mutex::default(),
        }
    }

    /// The word for a value that the region has to store.
    pub fn stored(&self, what: &str) -> String {
        self.value(what, Keep::Stored, "")
    }

    /// The word for a value that nobody has to store, and nobody but the region may.
    pub fn passing(&self, what: &str) -> String {
        self.value(what, Keep::AtHome, "")
    }

    /// The word for a value that nobody may store.
    pub fn forgotten(&self, what: &str) -> String {
        self.value(what, Keep::Nowhere, "")
    }

    /// A value that is a word and something behind it: `…@example.com`.
    pub fn value(&self, what: &str, keep: Keep, behind: &str) -> String {
        let mut canaries = self.canaries.lock().unwrap();
        let canary = canaries.entry(what.to_owned()).or_insert_with(|| {
            let mut random = [0; 9];
            SystemRandom::new().fill(&mut random).unwrap();
            let word = format!("Kn{}Zq", hex::encode(random));
            Canary {
                what: what.to_owned(),
                region: self.region,
                keep,
                whole: format!("{word}{behind}"),
                word,
            }
        });
        assert_eq!(canary.keep, keep, "{what}");
        canary.whole.clone()
    }

    /// A value that was not ours to choose: an id, a token, of which `word` occurs nowhere else.
    pub fn note(&self, what: &str, keep: Keep, whole: &str, word: &str) {
        assert!(word.len() >= 10 && whole.contains(word), "{what}");
        let canary = Canary {
            what: what.to_owned(),
            region: self.region,
            keep,
            word: word.to_owned(),
            whole: whole.to_owned(),
        };
        let mut canaries = self.canaries.lock().unwrap();
        let before = canaries.insert(what.to_owned(), canary);
        assert!(before.is_none(), "{what} is there twice");
    }

    /// The id of a resource.
    pub fn id(&self, what: &str, id: &str, keep: Keep) {
        self.note(what, keep, id, id);
    }

    /// A token or a session: all but its prefix and its checksum.
    pub fn secret(&self, what: &str, secret: &str) {
        let start = secret.len() - 38;
        self.note(what, Keep::AsDigest, secret, &secret[start..start + 32]);
    }

    pub fn canaries(&self) -> Vec<Canary> {
        self.canaries.lock().unwrap().values().cloned().collect()
    }
}

impl Canary {
    /// Whether it may be with its region, written in this way.
    pub fn may_be_at_home(&self, way: &str) -> bool {
        match self.keep {
            Keep::Stored | Keep::AtHome => true,
            Keep::AsDigest => way == DIGEST,
            Keep::Nowhere => false,
        }
    }

    /// Every way in which it may hide, with the way's name. Letters are compared without case.
    fn forms(&self) -> Vec<(&'static str, Vec<u8>)> {
        let word = self.word.as_str();
        let each = |form: &dyn Fn(u8) -> String| -> Vec<u8> {
            word.bytes().map(form).collect::<String>().into_bytes()
        };
        let mut forms = vec![
            ("plain", word.as_bytes().to_vec()),
            ("reversed", word.bytes().rev().collect()),
            ("percent", each(&|byte| format!("%{byte:02x}"))),
            ("percent", encode(word).into_bytes()),
            ("percent, twice", each(&|byte| format!("%25{byte:02x}"))),
            ("percent, twice", encode(&encode(word)).into_bytes()),
            ("hexadecimal", hex::encode(word).into_bytes()),
            ("JSON escapes", each(&|byte| format!("\\u{byte:04x}"))),
            ("byte escapes", each(&|byte| format!("\\x{byte:02x}"))),
            ("HTML numbers", each(&|byte| format!("&#{byte};"))),
            ("HTML numbers", each(&|byte| format!("&#x{byte:x};"))),
        ];
        // The bytes as Rust's `Debug` shows them, and as JSON without spaces.
        for between in [", ", ","] {
            let numbers: Vec<String> = word.bytes().map(|byte| byte.to_string()).collect();
            forms.push(("numbers", numbers.join(between).into_bytes()));
        }
        // Both orders of bytes have this in common.
        let wide: Vec<u8> = word.bytes().flat_map(|byte| [byte, 0]).collect();
        forms.push(("UTF-16", wide[..wide.len() - 1].to_vec()));
        // At each of the three places at which a word can begin; the ends depend on their
        // neighbours and are left out.
        for offset in 0..3 {
            let shifted = format!("{}{word}", "-".repeat(offset));
            for text in [
                STANDARD_NO_PAD.encode(&shifted),
                URL_SAFE_NO_PAD.encode(&shifted),
            ] {
                forms.push(("base64", text[offset + 1..text.len() - 3].into()));
            }
        }
        // An id that is sixteen bytes.
        let digits = word.replace('-', "");
        if word.len() == 36
            && let Ok(bytes) = hex::decode(&digits)
        {
            forms.push(("without hyphens", digits.into_bytes()));
            forms.push(("bytes of an id", bytes));
        }
        let lower = self.whole.to_lowercase();
        for text in [word, self.whole.as_str(), &lower] {
            let digest = Sha256::digest(text);
            forms.push((DIGEST, digest.to_vec()));
            forms.push((DIGEST, hex::encode(digest).into_bytes()));
            let text = STANDARD_NO_PAD.encode(digest);
            forms.push((DIGEST, text[..text.len() - 1].into()));
            let text = URL_SAFE_NO_PAD.encode(digest);
            forms.push((DIGEST, text[..text.len() - 1].into()));
        }
        forms
    }
}

/// Looks for canaries in all their forms.
pub struct Search {
    canaries: Vec<Canary>,
    automaton: AhoCorasick,
    /// Whose form each of the automaton's patterns is, and which.
    patterns: Vec<(usize, &'static str)>,
    /// All forms, one after the other.
    all: Vec<u8>,
}

impl Search {
    pub fn of(canaries: Vec<Canary>) -> Self {
        let (mut patterns, mut texts) = (Vec::new(), BTreeSet::new());
        let mut in_order = Vec::new();
        for (number, canary) in canaries.iter().enumerate() {
            for (way, text) in canary.forms() {
                if texts.insert((number, text.to_ascii_lowercase())) {
                    patterns.push((number, way));
                    in_order.push(text);
                }
            }
        }
        let automaton = AhoCorasick::builder()
            .ascii_case_insensitive(true)
            .build(&in_order)
            .unwrap();
        Self {
            canaries,
            automaton,
            patterns,
            all: in_order.join(&b"\n"[..]),
        }
    }

    pub fn canaries(&self) -> &[Canary] {
        &self.canaries
    }

    pub fn forms(&self) -> usize {
        self.patterns.len()
    }

    /// The canaries that are somewhere, and how they are written there.
    pub fn find(&self, bytes: &[u8]) -> BTreeSet<(usize, &'static str)> {
        let found = self.automaton.find_overlapping_iter(bytes);
        found
            .map(|found| self.patterns[found.pattern().as_usize()])
            .collect()
    }

    /// How many canaries are found in some bytes into which every one has been put, in every form;
    /// and how many there are.
    pub fn finds_what_is_put_into(&self, bytes: &[u8]) -> (usize, usize) {
        let (before, after) = bytes.split_at(bytes.len() / 2);
        let found = self.find(&[before, &self.all, after].concat());
        let wanted: BTreeSet<_> = self.patterns.iter().copied().collect();
        (found.intersection(&wanted).count(), wanted.len())
    }
}
