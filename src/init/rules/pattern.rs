//! One line of a `.gitignore` as a regular expression over path bytes.
//!
//! The dialect is git's, byte for byte: `dir.c` for the line (`#`, `!`, trailing spaces, anchors, the slash at the end), `wildmatch.c` for the pattern.
//! That is also why no glob library stands here: those at hand take text only, and read `{a,b}` as alternatives and `[[:digit:]]` as something else, so that
//! they would hide what git shows.

/// A rule of a `.gitignore`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// `!`: takes back what rules before it exclude.
    pub negative: bool,
    /// Matches directories only.
    pub directories_only: bool,
    /// Over the path relative to the file's directory; for `regex::bytes` without Unicode.
    pub regex: String,
}

/// The lines of a file as git cuts them.
pub fn lines(content: &[u8]) -> impl Iterator<Item = &[u8]> {
    let content = content.strip_prefix(b"\xef\xbb\xbf").unwrap_or(content);
    content.split(|b| *b == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line))
}

impl Rule {
    /// Parses a line; `None` for one that matches nothing: empty, a comment, or malformed.
    pub fn parse(line: &[u8]) -> Option<Self> {
        if line.starts_with(b"#") {
            return None;
        }
        // To git a line is a C string.
        let mut text = trim_spaces(line.split(|b| *b == 0).next().unwrap_or_default());
        let negative = text.starts_with(b"!");
        if negative {
            text = text.get(1..)?;
        }
        let directories_only = text.ends_with(b"/");
        if directories_only {
            text = text.get(..text.len().checked_sub(1)?)?;
        }
        let anchored = text.contains(&b'/');
        text = text.strip_prefix(b"/").unwrap_or(text);
        if text.is_empty() {
            return None;
        }
        let mut regex = String::with_capacity(text.len() * 2 + 24);
        // Without a slash it is matched against the last component alone.
        regex.push_str(if anchored { r"\A" } else { r"\A(?:.*/)?" });
        translate(text, anchored, &mut regex)?;
        regex.push_str(r"\z");
        Some(Self { negative, directories_only, regex })
    }
}

/// Spaces at the end do not count, unless a backslash precedes them.
fn trim_spaces(line: &[u8]) -> &[u8] {
    let mut end = 0;
    let mut at = 0;
    while let Some(byte) = line.get(at) {
        match byte {
            b' ' => at += 1,
            b'\\' => {
                at += 2;
                end = at;
            }
            _ => {
                at += 1;
                end = at;
            }
        }
    }
    line.get(..end.min(line.len())).unwrap_or_default()
}

fn literal(byte: u8, out: &mut String) {
    if byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'_') {
        out.push(char::from(byte));
    } else {
        out.push_str(&format!("\\x{byte:02x}"));
    }
}

/// Appends what `wildmatch` with `WM_PATHNAME` matches; `None` where that is nothing. Only in an `anchored` pattern does anything match a slash.
fn translate(pattern: &[u8], anchored: bool, out: &mut String) -> Option<()> {
    // git compares what stands before the first special character by itself, so that `**` right after it counts as if at the start.
    let plain = pattern.iter().position(|b| matches!(b, b'*' | b'?' | b'[' | b'\\')).unwrap_or(pattern.len());
    let mut at = 0;
    while let Some(byte) = pattern.get(at) {
        let begin = at;
        at += 1;
        match byte {
            b'?' => out.push_str("[^/]"),
            b'*' => {
                while pattern.get(at) == Some(&b'*') {
                    at += 1;
                }
                let whole = anchored && at - begin > 1 && (begin == plain || pattern.get(begin - 1) == Some(&b'/'));
                match pattern.get(at..).unwrap_or_default() {
                    [b'/', ..] if whole => {
                        at += 1;
                        // One after the other says nothing more.
                        if !out.ends_with("(?:.*/)?") {
                            out.push_str("(?:.*/)?");
                        }
                    }
                    [] | [b'\\', b'/', ..] if whole => out.push_str(".*"),
                    _ => out.push_str("[^/]*"),
                }
            }
            b'\\' => {
                literal(*pattern.get(at)?, out);
                at += 1;
            }
            b'[' => at = class(pattern, at, out)?,
            other => literal(*other, out),
        }
    }
    Some(())
}

/// Appends a bracket expression that begins after `[`, and returns where it ends.
fn class(pattern: &[u8], mut at: usize, out: &mut String) -> Option<usize> {
    let mut set = [false; 256];
    let mut add = |from: u8, to: u8| (from..=to).for_each(|byte| set[usize::from(byte)] = true);
    let negated = matches!(pattern.get(at)?, b'!' | b'^');
    if negated {
        at += 1;
    }
    let mut previous = None;
    let mut byte = *pattern.get(at)?;
    loop {
        match (byte, previous) {
            (b'\\', _) => {
                at += 1;
                byte = *pattern.get(at)?;
                add(byte, byte);
                previous = Some(byte);
            }
            (b'-', Some(from)) if pattern.get(at + 1).is_some_and(|next| *next != b']') => {
                at += 1;
                byte = *pattern.get(at)?;
                if byte == b'\\' {
                    at += 1;
                    byte = *pattern.get(at)?;
                }
                add(from, byte);
                previous = None;
            }
            (b'[', _) if pattern.get(at + 1) == Some(&b':') => {
                let rest = pattern.get(at + 2..)?;
                let end = rest.iter().position(|b| *b == b']')?;
                match rest.get(..end)?.strip_suffix(b":") {
                    Some(name) => {
                        let member = named(name)?;
                        (0..=u8::MAX).filter(member).for_each(|byte| add(byte, byte));
                        at += 2 + end;
                        previous = None;
                    }
                    None => {
                        add(byte, byte);
                        previous = Some(byte);
                    }
                }
            }
            _ => {
                add(byte, byte);
                previous = Some(byte);
            }
        }
        at += 1;
        byte = *pattern.get(at)?;
        if byte == b']' {
            break;
        }
    }
    set.iter_mut().for_each(|member| *member ^= negated);
    set[usize::from(b'/')] = false;
    set[0] = false;
    let members: Vec<u8> = (0..=u8::MAX).filter(|byte| set[usize::from(*byte)]).collect();
    if members.is_empty() {
        return None;
    }
    out.push('[');
    for run in members.chunk_by(|a, b| a.checked_add(1) == Some(*b)) {
        if let [first, .., last] = run {
            out.push_str(&format!("\\x{first:02x}-\\x{last:02x}"));
        } else {
            run.iter().for_each(|byte| out.push_str(&format!("\\x{byte:02x}")));
        }
    }
    out.push(']');
    Some(at + 1)
}

fn named(name: &[u8]) -> Option<fn(&u8) -> bool> {
    Some(match name {
        b"alnum" => u8::is_ascii_alphanumeric,
        b"alpha" => u8::is_ascii_alphabetic,
        b"blank" => |b| matches!(b, b' ' | b'\t'),
        b"cntrl" => u8::is_ascii_control,
        b"digit" => u8::is_ascii_digit,
        b"graph" => u8::is_ascii_graphic,
        b"lower" => u8::is_ascii_lowercase,
        b"print" => |b| matches!(b, b' '..=b'~'),
        b"punct" => u8::is_ascii_punctuation,
        b"space" => |b| matches!(b, b' ' | b'\t' | b'\n' | b'\r'),
        b"upper" => u8::is_ascii_uppercase,
        b"xdigit" => u8::is_ascii_hexdigit,
        _ => return None,
    })
}
