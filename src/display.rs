//! Text made by a job, made safe to show: control, bidirectional, zero-width and tag characters become visible escapes.
//!
//! Patch bytes themselves are never changed; this is for everything a person or an assistant reads.

/// Escapes job-made bytes for one line of display; a newline is escaped too.
pub fn line(bytes: &[u8]) -> String {
    escape(bytes, false)
}

/// Escapes job-made bytes for several lines of display; newlines and tabs stay.
pub fn text(bytes: &[u8]) -> String {
    escape(bytes, true)
}

/// [`text`], at most `max` characters, with a mark where it was cut.
pub fn bounded(bytes: &[u8], max: usize) -> String {
    let shown = text(bytes);
    match shown.char_indices().nth(max) {
        Some((at, _)) => format!("{} …[cut]", &shown[..at]),
        None => shown,
    }
}

/// Whether a character could change how its surroundings are shown, or not be shown at all.
pub fn is_deceptive(c: char) -> bool {
    matches!(c,
        '\0'..='\u{8}' | '\u{b}'..='\u{1f}' | '\u{7f}'..='\u{9f}' // C0 without tab and newline, DEL, C1
        | '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
        | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
        | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}'
        | '\u{e0000}'..='\u{e0fff}')
}

fn escape(bytes: &[u8], keep_lines: bool) -> String {
    use std::fmt::Write as _;
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            if keep_lines && matches!(c, '\n' | '\t') {
                out.push(c);
            } else if matches!(c, '\n' | '\t' | '\r') {
                out.extend(c.escape_default());
            } else if is_deceptive(c) {
                out.extend(c.escape_unicode());
            } else {
                out.push(c);
            }
        }
        for byte in chunk.invalid() {
            // Writing to a string cannot fail.
            let _ = write!(out, "\\x{byte:02x}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn controls_become_visible() {
        assert_eq!(line(b"a\x1b[31mb\rc\nd"), "a\\u{1b}[31mb\\rc\\nd");
        assert_eq!(text(b"a\n\tb\r\n"), "a\n\tb\\r\n");
        assert_eq!(line("x\u{202e}y\u{200b}z\u{e0041}".as_bytes()), "x\\u{202e}y\\u{200b}z\\u{e0041}");
        assert_eq!(line(b"caf\xe9 \xc3\xa9"), "caf\\xe9 é");
    }

    #[test]
    fn bounded_says_where_it_cut() {
        assert_eq!(bounded(b"abcdef", 3), "abc …[cut]");
        assert_eq!(bounded(b"abc", 3), "abc");
    }
}
