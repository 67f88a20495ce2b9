//! Changes inputs: bytes, numbers, words, and the values of a JSON document.

use rand::Rng;
use rand::rngs::StdRng;
use serde_json::{Map, Value, json};

/// Longest input, in bytes. Larger ones take time and are refused by their size alone.
const INPUT_BYTES_MAX: usize = 32 * 1024;

/// Words that parsers stumble over: ends of ranges, escapes, look-alikes, marks of our formats and
/// the length marks of the wire codec.
const WORDS: [&[u8]; 40] = [
    b"null",
    b"true",
    b"[]",
    b"{}",
    b"\"\"",
    b"-1",
    b"-0",
    b"0",
    b"1e400",
    b"NaN",
    b"4294967295",
    b"4294967296",
    b"18446744073709551615",
    b"18446744073709551616",
    b"99999999",
    b"\\u0000",
    b"\\ud800",
    "\u{202e}".as_bytes(),
    "\u{422}".as_bytes(),
    "e\u{301}".as_bytes(),
    b"\xff",
    b"\xc3",
    b"\0",
    b"\n",
    b"\r\n",
    b"\x1b[31m",
    b"..",
    b"../",
    b"%2e",
    b"//",
    b"kb1-",
    b"KB",
    b"KE",
    b"x*",
    b"sk-canary-0123456789abcdef",
    b"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[",
    b"\xfb\xff\xff",
    b"\xfc\xff\xff\xff\xff",
    b"\xfd\xff\xff\xff\xff\xff\xff\xff\xff",
    b"\xfe",
];

/// What changes the inputs of one target: the words above, and the words of its own corpus.
pub struct Mutator {
    words: Vec<Vec<u8>>,
}

impl Mutator {
    /// Learns the words of a corpus.
    pub fn new(corpus: &[Vec<u8>]) -> Self {
        let mut words: Vec<Vec<u8>> = WORDS.iter().map(|word| word.to_vec()).collect();
        for input in corpus {
            let parts = input.split(|byte| !byte.is_ascii_alphanumeric() && *byte != b'-');
            words.extend(parts.filter(|part| (2..40).contains(&part.len())).map(<[u8]>::to_vec));
        }
        words.sort();
        words.dedup();
        Self { words }
    }

    /// A changed input; `other` is one that it may be crossed with.
    pub fn change(&self, random: &mut StdRng, input: &[u8], other: &[u8]) -> Vec<u8> {
        let mut bytes = input.to_vec();
        for _ in 0..random.random_range(1..=4) {
            if random.random_bool(0.4)
                && let Some(changed) = self.change_document(random, &bytes)
            {
                bytes = changed;
            } else {
                self.change_bytes(random, &mut bytes, other);
            }
        }
        bytes.truncate(INPUT_BYTES_MAX);
        bytes
    }

    fn change_bytes(&self, random: &mut StdRng, bytes: &mut Vec<u8>, other: &[u8]) {
        let length = bytes.len();
        let at = random.random_range(0..=length);
        let some = random.random_range(1..=16).min(length - at);
        match random.random_range(0..11) {
            0 if at < length && random.random_bool(0.5) => bytes[at] = random.random_range(0..16),
            0 if at < length => bytes[at] = random.random(),
            1 if at < length => bytes[at] ^= 1 << random.random_range(0..8),
            2 if at < length => bytes[at] = bytes[at].wrapping_add(random.random_range(0..3)),
            3 => drop(bytes.drain(at..at + some)),
            4 => {
                let part = bytes[at..at + some].to_vec();
                bytes.splice(at..at, part);
            }
            5 => bytes.truncate(at),
            6 => {
                let word = &self.words[random.random_range(0..self.words.len())];
                bytes.splice(at..at, word.iter().copied());
            }
            7 => {
                let word = &self.words[random.random_range(0..self.words.len())];
                let end = (at + word.len()).min(length);
                bytes.splice(at..end, word.iter().copied());
            }
            8 => {
                let from = random.random_range(0..=other.len());
                bytes.splice(at.., other[from..].iter().copied());
            }
            9 => {
                let times = random.random_range(1..300);
                let byte = bytes.get(at).copied().unwrap_or(b'a');
                bytes.splice(at..at, std::iter::repeat_n(byte, times));
            }
            _ => change_number(random, bytes, at),
        }
    }

    /// Changes one value of a JSON document, which may stand behind a line of its own.
    fn change_document(&self, random: &mut StdRng, bytes: &[u8]) -> Option<Vec<u8>> {
        let line = bytes.iter().position(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let from = [0, line]
            .into_iter()
            .find(|from| matches!(bytes.get(*from), Some(b'{' | b'[' | b'"')))?;
        let mut document: Value = serde_json::from_slice(&bytes[from..]).ok()?;
        self.change_value(random, &mut document);
        let mut changed = bytes[..from].to_vec();
        changed.extend(document.to_string().into_bytes());
        Some(changed)
    }

    fn change_value(&self, random: &mut StdRng, value: &mut Value) {
        match value {
            Value::Array(items) if !items.is_empty() && random.random_bool(0.7) => {
                let at = random.random_range(0..items.len());
                match random.random_range(0..5) {
                    0 => drop(items.remove(at)),
                    1 => items.push(items[at].clone()),
                    _ => self.change_value(random, &mut items[at]),
                }
            }
            Value::Object(fields) if !fields.is_empty() && random.random_bool(0.8) => {
                let at = random.random_range(0..fields.len());
                let name = fields.keys().nth(at).expect("counted").clone();
                match random.random_range(0..6) {
                    0 => drop(fields.remove(&name)),
                    1 => {
                        let field = fields[&name].clone();
                        fields.insert(self.word(random), field);
                    }
                    _ => self.change_value(random, &mut fields[&name]),
                }
            }
            Value::String(text) if random.random_bool(0.6) => {
                let mut bytes = std::mem::take(text).into_bytes();
                self.change_bytes(random, &mut bytes, b"");
                *text = String::from_utf8_lossy(&bytes).into_owned();
            }
            other => *other = self.any_value(random),
        }
    }

    fn any_value(&self, random: &mut StdRng) -> Value {
        match random.random_range(0..9) {
            0 => Value::Null,
            1 => json!(random.random::<bool>()),
            2 => json!(random.random::<u64>() >> random.random_range(0..64)),
            3 => json!(-1),
            4 => json!(u64::MAX),
            5 => json!(f64::MAX),
            6 => Value::Array(vec![json!(self.word(random))]),
            7 => Value::Object(Map::from_iter([(self.word(random), Value::Null)])),
            _ => json!(self.word(random)),
        }
    }

    fn word(&self, random: &mut StdRng) -> String {
        let word = &self.words[random.random_range(0..self.words.len())];
        String::from_utf8_lossy(word).into_owned()
    }
}

/// Puts another number where digits stand, at `at` or the next place behind it.
fn change_number(random: &mut StdRng, bytes: &mut Vec<u8>, at: usize) {
    let digits = |byte: &u8| byte.is_ascii_digit();
    let Some(from) = bytes[at..].iter().position(digits).map(|skipped| at + skipped) else {
        return;
    };
    let length = bytes[from..].iter().take_while(|byte| digits(byte)).count();
    let number = match random.random_range(0..3) {
        0 => random.random_range(0..300),
        1 => u64::MAX >> random.random_range(0..64),
        _ => random.random::<u64>() >> random.random_range(0..64),
    };
    bytes.splice(from..from + length, number.to_string().into_bytes());
}
