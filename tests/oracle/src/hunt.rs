//! S10, the hunt for spilled keys: every form that a key could have been written in.
//!
//! **Invariant:** a find names the place and the form, never the key.

use std::collections::HashMap;
use std::path::Path;

use data_encoding::{BASE64, BASE64URL, HEXLOWER, HEXUPPER};

/// A key is hunted in pieces of this many bytes, so that a cut-off one is found as well. Eight
/// random letters meet by chance once in 10^14 places.
const PIECE_BYTES: usize = 8;

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

    /// Hunts what every secret of a kind begins with.
    #[must_use]
    pub fn of_beginnings(beginnings: &[&str]) -> Self {
        let mut hunt = Self::default();
        for beginning in beginnings {
            if beginning.len() >= PIECE_BYTES {
                hunt.add_forms(beginning.as_bytes());
            } else {
                // Its encoded forms would be short enough to be an accident.
                hunt.add("as it is", beginning.as_bytes().to_vec());
            }
        }
        hunt
    }

    fn add_forms(&mut self, piece: &[u8]) {
        self.add("as it is", piece.to_vec());
        self.add("backwards", piece.iter().rev().copied().collect());
        self.add("hexadecimal", HEXLOWER.encode(piece).into_bytes());
        self.add("hexadecimal", HEXUPPER.encode(piece).into_bytes());
        let numbers: Vec<_> = piece.iter().map(ToString::to_string).collect();
        for separator in [", ", ","] {
            self.add("as a list of numbers", numbers.join(separator).into_bytes());
        }
        // Whatever stands before the piece, one of these three stands in the encoded text.
        for skipped in 0..3 {
            let whole = (piece.len() - skipped) / 3 * 3;
            let threes = &piece[skipped..skipped + whole];
            let (encoded, for_urls) = (BASE64.encode(threes), BASE64URL.encode(threes));
            if for_urls != encoded {
                self.add("base64", for_urls.into_bytes());
            }
            self.add("base64", encoded.into_bytes());
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
        self.search_below(dir, dir, but)
    }

    /// Names files as they are called below `root`.
    fn search_below(&self, root: &Path, dir: &Path, but: &[&str]) -> Vec<Find> {
        let mut finds = Vec::new();
        for entry in std::fs::read_dir(dir).expect("a directory") {
            let entry = entry.expect("an entry");
            let (path, kind) = (entry.path(), entry.file_type().expect("a kind"));
            let name = entry.file_name();
            finds.extend(self.search("a file's name", name.as_encoded_bytes()));
            if kind.is_dir() {
                finds.extend(self.search_below(root, &path, but));
            } else if kind.is_file() && !but.iter().any(|but| name == *but) {
                let bytes = std::fs::read(&path).expect("a readable file");
                finds.extend(self.search(
                    &path.strip_prefix(root).unwrap_or(&path).display().to_string(),
                    &bytes,
                ));
            }
        }
        finds
    }
}
