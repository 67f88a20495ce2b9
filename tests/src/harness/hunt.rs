//! The hunt for spilled keys: every form that a key could have been written in.
//!
//! **Invariant:** a find names the place and the form, never the key.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::path::Path;

/// A key is hunted in pieces of this many bytes, so that a cut-off one is found as well. Eight
/// random letters meet by chance once in 10^14 places.
const PIECE_BYTES: usize = 8;

const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Something that must not be where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Find {
    /// Where, in words.
    pub place: String,
    /// In which form.
    pub form: &'static str,
}

/// What is hunted.
#[derive(Default)]
pub struct Hunt {
    needles: Vec<(&'static str, Vec<u8>)>,
    by_head: HashMap<[u8; 2], Vec<usize>>,
}

impl Hunt {
    /// Hunts these secrets. What stands before the last dash of a secret is no secret.
    #[must_use]
    pub fn of<'a>(secrets: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut hunt = Self::default();
        for secret in secrets {
            let from = secret.iter().rposition(|byte| *byte == b'-');
            let random = &secret[from.map_or(0, |at| at + 1)..];
            assert!(random.len() >= 2 * PIECE_BYTES, "long enough to be no accident");
            for piece in random.chunks_exact(PIECE_BYTES) {
                hunt.add_forms(piece);
            }
        }
        hunt
    }

    /// Hunts one text as it stands.
    #[must_use]
    pub fn of_text(text: &str) -> Self {
        let mut hunt = Self::default();
        hunt.add("as it is", text.as_bytes().to_vec());
        hunt
    }

    fn add_forms(&mut self, piece: &[u8]) {
        self.add("as it is", piece.to_vec());
        self.add("backwards", piece.iter().rev().copied().collect());
        let hex = |upper: bool| {
            piece.iter().fold(String::new(), |mut text, byte| {
                // Writing to a String cannot fail.
                let _ = if upper { write!(text, "{byte:02X}") } else { write!(text, "{byte:02x}") };
                text
            })
        };
        self.add("hexadecimal", hex(false).into_bytes());
        self.add("hexadecimal", hex(true).into_bytes());
        for separator in [", ", ","] {
            let numbers: Vec<_> = piece.iter().map(ToString::to_string).collect();
            self.add("as a list of numbers", numbers.join(separator).into_bytes());
        }
        // Whatever stands before the piece, one of these three stands in the encoded text.
        for skipped in 0..3 {
            let whole = (piece.len() - skipped) / 3 * 3;
            let encoded = base64(&piece[skipped..skipped + whole]);
            let for_urls = encoded.iter().map(|c| match c {
                b'+' => b'-',
                b'/' => b'_',
                other => *other,
            });
            let for_urls: Vec<_> = for_urls.collect();
            if for_urls != encoded {
                self.add("base64 for URLs", for_urls);
            }
            self.add("base64", encoded);
        }
    }

    fn add(&mut self, form: &'static str, needle: Vec<u8>) {
        let head = [needle[0], needle[1]];
        self.by_head.entry(head).or_default().push(self.needles.len());
        self.needles.push((form, needle));
    }

    /// Searches some bytes.
    #[must_use]
    pub fn search(&self, place: &str, bytes: &[u8]) -> Vec<Find> {
        let mut finds = Vec::new();
        for at in 0..bytes.len().saturating_sub(1) {
            let Some(candidates) = self.by_head.get(&[bytes[at], bytes[at + 1]]) else {
                continue;
            };
            for (form, needle) in candidates.iter().map(|no| &self.needles[*no]) {
                if bytes[at..].starts_with(needle) {
                    finds.push(Find { place: format!("{place}, byte {at}"), form });
                }
            }
        }
        finds
    }

    /// Searches every file below a directory, their names included. `but` names files that may
    /// hold keys.
    #[must_use]
    pub fn search_dir(&self, dir: &Path, but: &[&str]) -> Vec<Find> {
        let mut finds = Vec::new();
        for entry in std::fs::read_dir(dir).expect("a directory") {
            let entry = entry.expect("an entry");
            let (path, kind) = (entry.path(), entry.file_type().expect("a kind"));
            let name = entry.file_name();
            finds.extend(self.search("a file's name", name.as_encoded_bytes()));
            if kind.is_dir() {
                finds.extend(self.search_dir(&path, but));
            } else if kind.is_file() && !but.iter().any(|but| name == *but) {
                let bytes = std::fs::read(&path).expect("a readable file");
                finds.extend(self.search(&path.display().to_string(), &bytes));
            }
        }
        finds
    }
}

fn base64(bytes: &[u8]) -> Vec<u8> {
    let mut text = Vec::new();
    for three in bytes.chunks_exact(3) {
        let word = (u32::from(three[0]) << 16) | (u32::from(three[1]) << 8) | u32::from(three[2]);
        for shift in [18, 12, 6, 0] {
            let index = usize::try_from((word >> shift) & 63).expect("below 64");
            text.push(BASE64[index]);
        }
    }
    text
}
