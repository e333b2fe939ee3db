//! What added text and names hold that a reviewer would not see. Counted here, never changed.

use std::collections::{BTreeMap, BTreeSet};

use super::secrets;
use crate::display;

/// A line over this many bytes hides what stands at its end.
const LONG_LINE: usize = 2_000;

/// What the added text of each record holds.
pub struct Scanner {
    found: Vec<Found>,
}

/// What one record's added text holds.
#[derive(Default)]
pub struct Found {
    /// Forms of credentials.
    pub secrets: BTreeSet<&'static str>,
    /// Characters that are not shown or change the display.
    pub unseen: Unseen,
    /// Lines that look like a line of a patch that is no content.
    pub imitations: u64,
    /// Bytes of the longest line over the bound; 0: there is none.
    pub longest: usize,
}

/// Counts of what is not seen.
#[derive(Default)]
pub struct Unseen {
    counts: BTreeMap<&'static str, u64>,
    first: Option<char>,
}

impl Unseen {
    /// Looks at text; `usual` are characters that are no deceit where they stand.
    fn look(&mut self, bytes: &[u8], usual: fn(char, usize, char) -> bool) {
        for chunk in bytes.utf8_chunks() {
            let (mut last, mut word) = ('\0', Word::default());
            for (at, c) in chunk.valid().char_indices() {
                if let Some(kind) = display::kind(c)
                    && !usual(c, at, last)
                {
                    self.add(kind.as_str(), c);
                }
                if word.mixes(c) {
                    self.add("mixed script", c);
                }
                last = c;
            }
        }
    }

    fn add(&mut self, what: &'static str, c: char) {
        *self.counts.entry(what).or_default() += 1;
        self.first.get_or_insert(c);
    }

    /// Adds these counts to others.
    pub fn add_to(&self, counts: &mut BTreeMap<String, u64>) {
        for (what, count) in &self.counts {
            *counts.entry((*what).replace(' ', "_")).or_default() += count;
        }
    }

    /// In words; `None`: there is nothing.
    pub fn sentence(&self) -> Option<String> {
        let first = u32::from(self.first?);
        let list: Vec<String> = self.counts.iter().map(|(what, count)| format!("{count} {what}")).collect();
        Some(format!("characters that are not shown, change the display or look like others: {}; first U+{first:04X}", list.join(", ")))
    }
}

/// A word in the making: does it mix Latin letters with those of a script that looks alike?
#[derive(Default)]
struct Word {
    latin: bool,
    alike: bool,
    told: bool,
}

impl Word {
    /// Takes the next character; true once in a word that mixes.
    fn mixes(&mut self, c: char) -> bool {
        if !c.is_alphanumeric() {
            *self = Self::default();
            return false;
        }
        self.latin |= c.is_ascii_alphabetic();
        // Greek, Cyrillic, Armenian, Cherokee, letter-like and mathematical letters, full width.
        self.alike |= matches!(c, '\u{370}'..='\u{58f}' | '\u{13a0}'..='\u{13fd}' | '\u{1d400}'..='\u{1d7ff}' | '\u{ff21}'..='\u{ff5a}') && c != 'µ';
        let mixes = self.latin && self.alike && !self.told;
        self.told |= mixes;
        mixes
    }
}

impl Scanner {
    /// For so many records.
    pub fn new(records: usize) -> Self {
        Self { found: (0..records).map(|_| Found::default()).collect() }
    }

    /// What was found, one entry a record.
    pub fn found(&self) -> &[Found] {
        &self.found
    }

    /// One added line of a record.
    pub fn line(&mut self, record: usize, line: &[u8]) {
        let Some(found) = self.found.get_mut(record) else { return };
        secrets::scan(line, &mut found.secrets);
        if line.len() > LONG_LINE {
            found.longest = found.longest.max(line.len());
        }
        found.imitations += u64::from(imitates(line));
        // A carriage return at the end is a line ending; other ASCII text without control characters deceives nobody.
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if !line.iter().all(|b| matches!(b, b'\t' | b' '..=b'~')) {
            // A byte order mark before the first letter, and the joiners inside of emoji, are no deceit.
            found.unseen.look(line, |c, at, last| c == '\u{feff}' && at == 0 || matches!(c, '\u{fe0f}' | '\u{200d}') && last >= '\u{2000}');
        }
    }
}

/// Whether a line reads like one of a patch's own lines, with the sign that an added line gets or without it.
fn imitates(line: &[u8]) -> bool {
    const STARTS: [&[u8]; 14] = [
        b"diff --git ",
        b"@@ -",
        b"--- a/",
        b"--- \"a/",
        b"--- /dev/null",
        b"+++ b/",
        b"+++ \"b/",
        b"+++ /dev/null",
        b"++ b/",
        b"++ \"b/",
        b"++ /dev/null",
        b"GIT binary patch",
        b"rename from ",
        b"\\ No newline at end of file",
    ];
    STARTS.iter().any(|start| line.starts_with(start))
}

/// Why a name may be taken for another one, and what is not seen in it.
pub fn name(path: &[u8]) -> (Vec<String>, Unseen) {
    let mut notes = Vec::new();
    let mut unseen = Unseen::default();
    if std::str::from_utf8(path).is_err() {
        notes.push("the name is not UTF-8".to_owned());
    }
    if path.iter().any(|b| matches!(b, b'\n' | b'\t' | b'\r')) {
        notes.push("the name has line breaks or tabs".to_owned());
    }
    unseen.look(path, |c, _, _| matches!(c, '\r'));
    notes.extend(unseen.sentence().map(|sentence| format!("the name has {sentence}")));
    let odd = path.split(|b| *b == b'/').any(|part| {
        let stem = part.split(|b| *b == b'.').next().unwrap_or_default().to_ascii_lowercase();
        let numbered = |word: &[u8]| stem.strip_prefix(word).is_some_and(|n| matches!(n, [b'0'..=b'9']));
        let reserved = matches!(stem.as_slice(), b"con" | b"prn" | b"aux" | b"nul") || numbered(b"com") || numbered(b"lpt");
        reserved || part.ends_with(b".") || part.ends_with(b" ") || part.starts_with(b" ") || part.iter().any(|b| matches!(b, b'\\' | b':'))
    });
    if odd {
        notes.push("the name means something else on some systems".to_owned());
    }
    if path.split(|b| *b == b'/').any(|part| part.starts_with(b"-")) {
        notes.push("the name begins like an option".to_owned());
    }
    (notes, unseen)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(line: &str) -> BTreeMap<&'static str, u64> {
        let mut scanner = Scanner::new(1);
        scanner.line(0, line.as_bytes());
        scanner.found[0].unseen.counts.clone()
    }

    #[test]
    fn unseen_characters_are_counted_by_kind() {
        assert!(counts("\u{feff}plain ✔\u{fe0f} 👩\u{200d}💻\r").is_empty());
        assert!(counts("приклад Ελλάδα café naïve µs 漢字 and код").is_empty());
        let found = counts("if admin\u{202e} x\u{200b}\rover\x1b[2K \u{e0041}\u{e0042} a\u{fe0f} p\u{430}yp\u{430}l");
        let expected = [("bidirectional", 1), ("control", 2), ("invisible", 1), ("mixed script", 1), ("tag", 2), ("variation selector", 1)]
            .map(|(w, n)| (w, n as u64));
        assert_eq!(found, BTreeMap::from(expected));
    }

    #[test]
    fn lines_of_a_patch_in_content_are_counted_and_long_ones_measured() {
        let mut scanner = Scanner::new(1);
        for line in ["diff --git a/x b/x", "++ b/x", "@@ -1 +1 @@", "--- a comment", "-- sql", "x++ b/", "+++"] {
            scanner.line(0, line.as_bytes());
        }
        scanner.line(0, "y".repeat(LONG_LINE + 1).as_bytes());
        assert_eq!((scanner.found[0].imitations, scanner.found[0].longest), (3, LONG_LINE + 1));
    }

    #[test]
    fn names_that_deceive_are_told() {
        for path in
            ["pay\u{202e}load.txt", "p\u{430}ypal.py", "a\nb", "a\tb", "con", "sub/NUL.txt", "com1.log", "x ", "d./x", "a\\b", "a:b", "-rf", "d/-x"]
        {
            assert!(!name(path.as_bytes()).0.is_empty(), "{path:?}");
        }
        assert!(!name(b"caf\xe9").0.is_empty());
        for path in ["приклад.txt", "café.txt", "src/a-b.rs", "console.log", ".a", "com.x", "a b"] {
            assert_eq!(name(path.as_bytes()).0, Vec::<String>::new(), "{path:?}");
        }
    }
}
