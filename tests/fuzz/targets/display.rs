//! What is shown of a job's words: nothing in it moves the cursor, turns the direction, hides or is hidden.

use anchorhold::display;

pub fn run(data: &[u8]) {
    // An invalid byte becomes four characters, the longest code point ten.
    let line = super::within(data.len(), 1024, 24, || display::line(data));
    judge(&line, false);
    assert!(line.len() <= data.len() * 6 + 16, "{} bytes from {}", line.len(), data.len());
    assert_eq!(display::line(line.as_bytes()), line, "what is escaped is plain");
    let text = display::text(data);
    judge(&text, true);
    assert_eq!(display::text(text.as_bytes()), text, "what is escaped is plain");
    for most in [0, 1, 7, 60] {
        let cut = display::bounded(data, most);
        judge(&cut, true);
        assert!(cut.chars().count() <= most + 16);
    }
    for shown in [display::page(data), display::json_lines(data), display::json(&String::from_utf8_lossy(data))] {
        judge(&shown, true);
    }
    for line in display::json_lines(data).lines() {
        assert!(serde_json::from_str::<serde_json::Value>(line).is_ok(), "no JSON: {line:?}");
    }
    if let Ok(value) = serde_json::from_slice::<serde_json::Value>(data) {
        let document = value.to_string();
        assert_eq!(
            serde_json::from_str::<serde_json::Value>(&display::json(&document)).ok(),
            serde_json::from_str(&document).ok(),
            "another meaning"
        );
    }
    judge(&display::clip(data, 7), false);
    if data.iter().all(|b| matches!(b, b' '..=b'~')) {
        assert_eq!(line.as_bytes(), data, "plain text stays as it is");
    }
}

/// The list is of this file's own, by category, so that a hole in the product's is seen.
pub fn judge(shown: &str, lines: bool) {
    for c in shown.chars() {
        let plain = match u32::from(c) {
            0x0a | 0x09 => lines,
            0x20..=0x7e => true,
            // Controls; soft hyphen, joiners, fillers, directions, variation selectors, annotations, tags.
            0..=0x1f | 0x7f..=0x9f | 0xad | 0x34f | 0x61c | 0x115f..=0x1160 | 0x17b4..=0x17b5 | 0x180b..=0x180f => false,
            0x200b..=0x200f | 0x2028..=0x202e | 0x2060..=0x206f | 0x3164 | 0xfe00..=0xfe0f | 0xfeff | 0xffa0 | 0xfff0..=0xfffb => false,
            0xe0000..=0xe0fff | 0x2800 | 0xfdd0..=0xfdef | 0x600..=0x605 | 0x6dd | 0x70f | 0x1d173..=0x1d17a => false,
            _ => true,
        };
        assert!(plain, "{c:?} is shown as it is");
    }
}

pub fn seeds() -> Vec<Vec<u8>> {
    let texts = [
        "a\x1b[31mb\r\n\tc",
        "\u{202e}gnp.\u{2066}x\u{200b}\u{e0041}",
        "\\u{1b} \\x9b \u{9b}31m",
        "\u{fe0f}\u{ad}\u{34f}é漢\u{10ffff}",
        "\x1b]52;c;aGk=\x07\x7f",
    ];
    texts.map(|text| text.as_bytes().to_vec()).into_iter().chain([b"caf\xe9\xf0\x9f\xed\xa0\x80\x80".to_vec()]).collect()
}
