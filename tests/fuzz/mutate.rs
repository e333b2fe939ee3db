//! A small mutator for the smoke run, where no compiler counts coverage: it starts from inputs that reach deep and changes little.

/// Pseudo-random numbers that are the same everywhere (SplitMix64).
pub struct Random(pub u64);

impl Random {
    /// From a text, so that each target has its own.
    pub fn of(text: &str, seed: u64) -> Self {
        Self(text.bytes().fold(seed ^ 0x9e37_79b9_7f4a_7c15, |n, b| (n ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3)))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `n`.
    pub fn below(&mut self, n: usize) -> usize {
        if n == 0 { 0 } else { (self.next() % n as u64) as usize }
    }
}

/// Longest input that is made.
const LONGEST: usize = 8192;
const BYTES: [u8; 16] = [0, 1, 9, 10, 13, 27, b' ', b'"', b'/', b'.', b'-', b'0', b'\\', 0x7f, 0x80, 0xff];

/// An input made from those in the corpus and the words of the dictionary.
pub fn mutate(corpus: &[Vec<u8>], words: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let mut input = corpus[random.below(corpus.len())].clone();
    for _ in 0..1 + random.below(5) {
        let at = random.below(input.len() + 1);
        let end = (at + random.below(16)).min(input.len());
        match random.below(11) {
            0 | 1 if at < input.len() => input[at] ^= 1 << random.below(8),
            2 if at < input.len() => input[at] = BYTES[random.below(BYTES.len())],
            3 => input.insert(at, BYTES[random.below(BYTES.len())]),
            4 => drop(input.drain(at..end)),
            5 => input.truncate(at),
            6 => {
                let piece = input[at..end].to_vec();
                input.splice(at..at, piece);
            }
            7 => {
                let other = &corpus[random.below(corpus.len())];
                let from = random.below(other.len() + 1);
                let piece = other[from..(from + random.below(64)).min(other.len())].to_vec();
                input.splice(at..end, piece);
            }
            8 if at < input.len() && input[at].is_ascii_digit() => input[at] = b'0' + random.below(10) as u8,
            _ if !words.is_empty() => {
                let word = words[random.below(words.len())].clone();
                let end = if random.below(2) == 0 { at } else { end };
                input.splice(at..end, word);
            }
            _ => input.push(random.below(256) as u8),
        }
        input.truncate(LONGEST);
    }
    input
}

/// The words of a dictionary file in libFuzzer's form: `"text\x00"` or `name="text"`, one a line.
pub fn dictionary(text: &str) -> Vec<Vec<u8>> {
    let quoted = |line: &str| {
        let line = line.trim();
        if line.starts_with('#') {
            return None;
        }
        let inner = line.get(line.find('"')? + 1..line.rfind('"')?)?.as_bytes();
        let mut word = Vec::new();
        let mut at = 0;
        while at < inner.len() {
            match (inner[at], inner.get(at + 1)) {
                (b'\\', Some(b'x')) => {
                    word.push(u8::from_str_radix(std::str::from_utf8(inner.get(at + 2..at + 4)?).ok()?, 16).ok()?);
                    at += 4;
                }
                (b'\\', Some(c)) => {
                    word.push(*c);
                    at += 2;
                }
                (c, _) => {
                    word.push(c);
                    at += 1;
                }
            }
        }
        Some(word)
    };
    text.lines().filter_map(quoted).collect()
}
