//! Text made by a job, made safe to show: control, bidirectional, zero-width, tag and other unseen characters become visible escapes.
//!
//! The one escaper of the program. Patch bytes themselves are never changed; this is for everything a person or an assistant reads.

use std::fmt::Write as _;

use crate::weaken;

/// Longest line, in characters, that is shown to a person at once: what a screen scrolls past in one line hides what follows it.
pub const LONG_LINE: usize = 1_000;

/// Why a character is not shown as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// C0, C1, DEL: steers a terminal.
    Control,
    /// Changes the order in which its surroundings are shown.
    Bidirectional,
    /// Takes no room, or only room.
    Invisible,
    /// A tag: an unseen copy of ASCII.
    Tag,
    /// Chooses a glyph, and carries any byte when repeated.
    VariationSelector,
    /// Breaks a line where programs see none.
    Separator,
    /// Another format character, or no character at all.
    Format,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 7] =
        [Self::Control, Self::Bidirectional, Self::Invisible, Self::Tag, Self::VariationSelector, Self::Separator, Self::Format];

    /// In words.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Control => "control",
            Self::Bidirectional => "bidirectional",
            Self::Invisible => "invisible",
            Self::Tag => "tag",
            Self::VariationSelector => "variation selector",
            Self::Separator => "separator",
            Self::Format => "format",
        }
    }
}

/// What kind of character that could change how its surroundings are shown, or not be shown at all; `None`: an ordinary one.
///
/// Unicode's general category Cf, its default-ignorable code points, the noncharacters, and controls but tab and newline.
pub fn kind(c: char) -> Option<Kind> {
    Some(match c {
        '\t' | '\n' | ' '..='~' => return None,
        '\0'..='\u{1f}' | '\u{7f}'..='\u{9f}' => Kind::Control,
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => Kind::Bidirectional,
        '\u{ad}' | '\u{34f}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180e}' | '\u{200b}'..='\u{200d}' => Kind::Invisible,
        '\u{2060}'..='\u{2065}' | '\u{2800}' | '\u{3164}' | '\u{feff}' | '\u{ffa0}' => Kind::Invisible,
        '\u{e0000}'..='\u{e007f}' => Kind::Tag,
        '\u{180b}'..='\u{180d}' | '\u{180f}' | '\u{fe00}'..='\u{fe0f}' | '\u{e0100}'..='\u{e01ef}' => Kind::VariationSelector,
        '\u{2028}' | '\u{2029}' => Kind::Separator,
        '\u{600}'..='\u{605}' | '\u{6dd}' | '\u{70f}' | '\u{890}' | '\u{891}' | '\u{8e2}' | '\u{206a}'..='\u{206f}' => Kind::Format,
        '\u{fff0}'..='\u{fffb}' | '\u{110bd}' | '\u{110cd}' | '\u{13430}'..='\u{1343f}' | '\u{1bca0}'..='\u{1bca3}' => Kind::Format,
        '\u{1d173}'..='\u{1d17a}' | '\u{e0080}'..='\u{e0fff}' | '\u{fdd0}'..='\u{fdef}' => Kind::Format,
        // The last two of each plane are no characters.
        c if u32::from(c) & 0xfffe == 0xfffe => Kind::Format,
        _ => return None,
    })
}

/// Whether a character could change how its surroundings are shown, or not be shown at all.
pub fn is_deceptive(c: char) -> bool {
    kind(c).is_some()
}

/// Whether text of several lines is shown as it is: no invalid bytes, and no character with a [`kind`], except that a line may end with CR LF.
pub fn is_plain(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        if is_deceptive(c) && !(c == '\r' && rest.peek() == Some(&'\n')) {
            return false;
        }
    }
    true
}

/// Escapes job-made bytes for one line of display; a newline is escaped too.
pub fn line(bytes: &[u8]) -> String {
    escape(bytes, false, usize::MAX, usize::MAX)
}

/// Escapes job-made bytes for several lines of display; newlines and tabs stay.
pub fn text(bytes: &[u8]) -> String {
    escape(bytes, true, usize::MAX, usize::MAX)
}

/// [`text`] for a person: a line over [`LONG_LINE`] characters is cut, and says so.
pub fn page(bytes: &[u8]) -> String {
    escape(bytes, true, usize::MAX, LONG_LINE)
}

/// [`text`], at most `max` characters, with a mark where it was cut.
pub fn bounded(bytes: &[u8], max: usize) -> String {
    escape(bytes, true, max, usize::MAX)
}

/// [`line`], at most `max` characters, with a mark where it was cut.
pub fn clip(bytes: &[u8], max: usize) -> String {
    escape(bytes, false, max, usize::MAX)
}

/// A JSON document with every character that has a [`kind`] as a JSON escape. Nothing is lost by it: such characters can only stand inside strings.
pub fn json(document: &str) -> String {
    let mut out = String::with_capacity(document.len());
    for c in document.chars() {
        if is_deceptive(c) && !weaken::off("display.json") {
            for unit in c.encode_utf16(&mut [0; 2]) {
                let _ = write!(out, "\\u{unit:04x}");
            }
        } else {
            out.push(c);
        }
    }
    out
}

/// JSON lines (a job's, so perhaps none) as JSON lines of which every character is shown: what parses keeps its meaning, the rest is quoted.
pub fn json_lines(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for bytes in bytes.split(|b| *b == b'\n').filter(|line| !line.is_empty()) {
        match serde_json::from_slice::<serde_json::Value>(bytes) {
            Ok(value) => out.push_str(&json(&value.to_string())),
            Err(_) => out.push_str(&serde_json::json!({ "unreadable": line(bytes) }).to_string()),
        }
        out.push('\n');
    }
    out
}

/// What is written so far, and where it must end.
struct Writer {
    out: String,
    whole: usize,
    max: usize,
    in_line: usize,
    line_max: usize,
    dropped: usize,
}

impl Writer {
    /// Adds one character's picture, or counts it where there is no more room in the line; `false`: no more room at all.
    fn push(&mut self, picture: &str) -> bool {
        let len = picture.len().min(picture.chars().count());
        if self.whole + len > self.max {
            self.end_line();
            self.out.push_str(" …[cut]");
            return false;
        }
        if self.in_line + len > self.line_max {
            self.dropped += 1;
            return true;
        }
        self.whole += len;
        self.in_line += len;
        self.out.push_str(picture);
        true
    }

    fn end_line(&mut self) {
        if self.dropped > 0 {
            let _ = write!(self.out, " …[{} more characters in this line]", self.dropped);
        }
        (self.in_line, self.dropped) = (0, 0);
    }
}

/// An escape is never cut in two.
fn escape(bytes: &[u8], keep_lines: bool, max: usize, line_max: usize) -> String {
    let capacity = bytes.len().min(max.saturating_mul(4));
    let mut to = Writer { out: String::with_capacity(capacity), whole: 0, max, in_line: 0, line_max, dropped: 0 };
    let raw = weaken::off("display.escape");
    let mut buffer = [0; 4];
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            let kept = match c {
                '\n' if keep_lines => {
                    to.end_line();
                    let kept = to.push("\n");
                    to.in_line = 0;
                    kept
                }
                '\t' if keep_lines => to.push("\t"),
                '\n' if !raw => to.push("\\n"),
                '\t' if !raw => to.push("\\t"),
                '\r' if !raw => to.push("\\r"),
                c if is_deceptive(c) && !raw => to.push(&c.escape_unicode().to_string()),
                c => to.push(c.encode_utf8(&mut buffer)),
            };
            if !kept {
                return to.out;
            }
        }
        for byte in chunk.invalid() {
            if !to.push(&format!("\\x{byte:02x}")) {
                return to.out;
            }
        }
    }
    to.end_line();
    to.out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn controls_become_visible() {
        assert_eq!(line(b"a\x1b[31mb\rc\nd"), "a\\u{1b}[31mb\\rc\\nd");
        assert_eq!(text(b"a\n\tb\r\n"), "a\n\tb\\r\n");
        assert_eq!(line("x\u{202e}y\u{200b}z\u{e0041}".as_bytes()), "x\\u{202e}y\\u{200b}z\\u{e0041}");
        assert_eq!(line(b"caf\xe9 \xc3\xa9"), "caf\\xe9 é");
        assert_eq!(line("\u{2028}\u{fe0f}\u{9b}\u{e0101}\u{fffe}\u{600}".as_bytes()), "\\u{2028}\\u{fe0f}\\u{9b}\\u{e0101}\\u{fffe}\\u{600}");
    }

    #[test]
    fn cuts_say_so_and_split_no_escape() {
        assert_eq!(bounded(b"abcdef", 3), "abc …[cut]");
        assert_eq!(bounded(b"abc", 3), "abc");
        assert_eq!(clip("ab\u{202e}c".as_bytes(), 5), "ab …[cut]");
        assert_eq!(bounded("é".repeat(9).as_bytes(), 4), "éééé …[cut]");
        let long = [b"short\n".as_slice(), &b"x".repeat(LONG_LINE + 7), b"\nend"].concat();
        assert_eq!(page(&long), format!("short\n{} …[7 more characters in this line]\nend", "x".repeat(LONG_LINE)));
        assert_eq!(text(&long).len(), long.len());
    }

    #[test]
    fn kinds_are_told_apart() {
        for (c, expected) in [
            ('a', None),
            ('\n', None),
            ('é', None),
            ('漢', None),
            ('\u{a0}', None),
            ('\u{1b}', Some(Kind::Control)),
            ('\u{85}', Some(Kind::Control)),
            ('\u{202e}', Some(Kind::Bidirectional)),
            ('\u{2066}', Some(Kind::Bidirectional)),
            ('\u{200b}', Some(Kind::Invisible)),
            ('\u{2063}', Some(Kind::Invisible)),
            ('\u{e0061}', Some(Kind::Tag)),
            ('\u{fe0e}', Some(Kind::VariationSelector)),
            ('\u{2029}', Some(Kind::Separator)),
            ('\u{1d173}', Some(Kind::Format)),
            ('\u{10ffff}', Some(Kind::Format)),
        ] {
            assert_eq!(kind(c), expected, "U+{:04X}", u32::from(c));
        }
    }

    #[test]
    fn plain_text_is_what_it_looks_like() {
        assert!(is_plain("a\tb\r\ncafé 漢\n".as_bytes()));
        for text in ["a\rb".as_bytes(), "\u{feff}a".as_bytes(), b"\xff", "\u{200d}".as_bytes(), b"\x1b[2K", b"end\r"] {
            assert!(!is_plain(text), "{text:?}");
        }
    }

    #[test]
    fn json_keeps_its_meaning() {
        let value = serde_json::json!({"a\u{202e}": ["\u{1b}]0;\u{7}", "\u{e0041}é", "\u{7f}"]});
        let shown = json(&value.to_string());
        assert!(shown.chars().all(|c| !is_deceptive(c)));
        assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).unwrap(), value);
        let lines = json_lines("{\"a\":\"\u{202e}\"}\n\n\u{9b}31m{\n\u{feff}[1]\n".as_bytes());
        assert_eq!(lines, "{\"a\":\"\\u202e\"}\n{\"unreadable\":\"\\\\u{9b}31m{\"}\n{\"unreadable\":\"\\\\u{feff}[1]\"}\n");
    }

    proptest! {
        #[test]
        fn nothing_that_deceives_comes_out(bytes in proptest::collection::vec(any::<u8>(), 0..200), wild in "\\PC{0,40}|[\u{0}-\u{10ffff}]{0,40}", max in 0usize..80) {
            for bytes in [&bytes[..], wild.as_bytes()] {
                for shown in [line(bytes), text(bytes), page(bytes), bounded(bytes, max), clip(bytes, max), json_lines(bytes)] {
                    prop_assert!(shown.chars().all(|c| !is_deceptive(c)), "{shown:?}");
                }
                prop_assert!(!line(bytes).contains(['\n', '\t']) && !clip(bytes, max).contains('\n'));
                prop_assert!(bounded(bytes, max).chars().count() <= max + 7);
            }
        }
    }
}
