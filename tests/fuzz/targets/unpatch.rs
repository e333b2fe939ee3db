//! Applies a patch as git writes it, written from the format's description and with nothing of the product or of git: a second opinion on what a
//! patch means. It takes exact positions and exact context only.

use std::collections::BTreeMap;
use std::io::Read as _;

/// Mode and content.
type Entry = (&'static str, Vec<u8>);
/// By path.
pub type Tree = BTreeMap<Vec<u8>, Entry>;

const BASE85: &[u8; 85] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz!#$%&()*+-;<=>?@^_`{|}~";

/// The tree that a patch makes of `base`; `Err` says what does not fit.
pub fn apply(base: &Tree, patch: &[u8]) -> Result<Tree, String> {
    let mut lines = Lines(patch);
    let mut result = base.clone();
    let mut made: Tree = Tree::new();
    while let Some(head) = lines.next() {
        let names = strip(head, b"diff --git ").ok_or_else(|| format!("no file begins: {:?}", head.escape_ascii().to_string()))?;
        let file = file(names, &mut lines, base)?;
        if let Some(old) = file.removed {
            result.remove(&old).ok_or("removes what is not there")?;
        }
        if let Some((path, entry)) = file.made
            && made.insert(path, entry).is_some()
        {
            return Err("makes one path twice".to_owned());
        }
    }
    result.extend(made);
    Ok(result)
}

#[derive(Default)]
struct File {
    removed: Option<Vec<u8>>,
    made: Option<(Vec<u8>, Entry)>,
}

fn file(names: &[u8], lines: &mut Lines<'_>, base: &Tree) -> Result<File, String> {
    let (mut old, mut new) = both_names(names);
    let (mut new_mode, mut deleted, mut created, mut renamed) = (None, false, false, false);
    let mut content = None;
    while let Some(line) = lines.peek() {
        if line.starts_with(b"diff --git ") {
            break;
        }
        lines.next();
        if let Some(mode) = strip(line, b"new mode ") {
            new_mode = Some(known(mode)?);
        } else if let Some(mode) = strip(line, b"new file mode ") {
            (created, new_mode) = (true, Some(known(mode)?));
        } else if line.starts_with(b"deleted file mode ") {
            deleted = true;
        } else if let Some(name) = strip(line, b"rename from ") {
            (renamed, old) = (true, Some(unquoted(name)));
        } else if let Some(name) = strip(line, b"rename to ") {
            new = Some(unquoted(name));
        } else if line == b"GIT binary patch" || line.starts_with(b"@@ ") {
            let before = match (&old, created) {
                (Some(old), false) => &base.get(old).ok_or("changes what is not there")?.1[..],
                _ => b"",
            };
            content = Some(if line == b"GIT binary patch" { binary(lines, before)? } else { text(line, lines, before)? });
        } else if !["old mode ", "index ", "similarity index ", "dissimilarity index ", "--- ", "+++ "].iter().any(|k| line.starts_with(k.as_bytes()))
        {
            return Err(format!("an unknown line: {:?}", line.escape_ascii().to_string()));
        }
    }
    let (old, new) = (old.ok_or("no old name")?, new.ok_or("no new name")?);
    if deleted {
        let (_, bytes) = base.get(&old).ok_or("deletes what is not there")?;
        // A deletion shows all that goes, so that it can be turned round.
        if !bytes.is_empty() && content.is_none_or(|rest| !rest.is_empty()) {
            return Err("deletes a part".to_owned());
        }
        return Ok(File { removed: Some(old), made: None });
    }
    if created {
        let mode = new_mode.ok_or("no mode")?;
        return Ok(File { removed: None, made: Some((new, (mode, content.unwrap_or_default()))) });
    }
    let (mode, bytes) = base.get(&old).ok_or("changes what is not there")?;
    let entry = (new_mode.unwrap_or(mode), content.unwrap_or_else(|| bytes.clone()));
    Ok(File { removed: renamed.then_some(old), made: Some((new, entry)) })
}

fn known(mode: &[u8]) -> Result<&'static str, String> {
    ["100644", "100755", "120000"].into_iter().find(|m| m.as_bytes() == mode).ok_or_else(|| "an unknown mode".to_owned())
}

fn strip<'a>(line: &'a [u8], prefix: &[u8]) -> Option<&'a [u8]> {
    line.strip_prefix(prefix)
}

/// `a/x b/x`: quoted, or the same twice.
fn both_names(names: &[u8]) -> (Option<Vec<u8>>, Option<Vec<u8>>) {
    let named = |bytes: &[u8]| bytes.get(2..).map(<[u8]>::to_vec);
    if names.starts_with(b"\"") {
        let end = (1..names.len()).find(|at| names[*at] == b'"' && names[1..*at].iter().rev().take_while(|b| **b == b'\\').count() % 2 == 0);
        let Some(end) = end else { return (None, None) };
        let rest = names.get(end + 2..).unwrap_or_default();
        return (named(&unquoted(&names[..=end])), named(&unquoted(rest)));
    }
    let half = names.len() / 2;
    match (names.get(..half), names.get(half + 1..)) {
        (Some(a), Some(b)) if a.get(2..) == b.get(2..) => (named(a), named(b)),
        _ => (None, None),
    }
}

fn unquoted(name: &[u8]) -> Vec<u8> {
    let Some(inner) = name.strip_prefix(b"\"").and_then(|n| n.strip_suffix(b"\"")) else { return name.to_vec() };
    let mut out = Vec::new();
    let mut at = 0;
    while at < inner.len() {
        if inner[at] != b'\\' {
            out.push(inner[at]);
            at += 1;
            continue;
        }
        let octal = inner.get(at + 1..at + 4).filter(|d| d.iter().all(|b| matches!(b, b'0'..=b'7')));
        if let Some(digits) = octal {
            out.push(digits.iter().fold(0u8, |n, d| n.wrapping_mul(8).wrapping_add(d - b'0')));
            at += 4;
        } else {
            let c = inner.get(at + 1).copied().unwrap_or_default();
            out.push(match c {
                b'n' => b'\n',
                b't' => b'\t',
                b'r' => b'\r',
                b'a' => 7,
                b'b' => 8,
                b'v' => 11,
                b'f' => 12,
                other => other,
            });
            at += 2;
        }
    }
    out
}

/// The hunks from the first one's head on.
fn text(first: &[u8], lines: &mut Lines<'_>, before: &[u8]) -> Result<Vec<u8>, String> {
    let old: Vec<&[u8]> = before.split_inclusive(|b| *b == b'\n').collect();
    let (mut out, mut at) = (Vec::new(), 0usize);
    let mut head = first.to_vec();
    loop {
        let shown = String::from_utf8_lossy(&head).into_owned();
        let range = |sign: char| -> Option<(usize, usize)> {
            let word = shown.split(' ').find(|w| w.starts_with(sign))?;
            let (from, count) = word[1..].split_once(',').unwrap_or((&word[1..], "1"));
            Some((from.parse().ok()?, count.parse().ok()?))
        };
        let ((from, mut removes), (_, mut adds)) = (range('-').ok_or("hunk")?, range('+').ok_or("hunk")?);
        let begin = if removes == 0 { from } else { from - 1 };
        out.extend(old.get(at..begin).ok_or("hunks overlap")?.concat());
        at = begin;
        while removes > 0 || adds > 0 {
            let line = lines.next().ok_or("a hunk is cut")?;
            let (sign, body) = line.split_first().ok_or("an empty line in a hunk")?;
            // Without a newline at its end, which the next line says.
            let ended = !lines.peek().is_some_and(|next| next.starts_with(b"\\ "));
            if !ended {
                lines.next();
            }
            let body = if ended { [body, b"\n"].concat() } else { body.to_vec() };
            if matches!(sign, b' ' | b'-') {
                if old.get(at) != Some(&&body[..]) {
                    return Err("the context differs".to_owned());
                }
                at += 1;
                removes = removes.checked_sub(1).ok_or("a hunk is too long")?;
            }
            match sign {
                b' ' | b'+' => {
                    out.extend(&body);
                    adds = adds.checked_sub(1).ok_or("a hunk is too long")?;
                }
                b'-' => {}
                _ => return Err("an unknown sign".to_owned()),
            }
        }
        match lines.peek() {
            Some(next) if next.starts_with(b"@@ ") => head = lines.next().unwrap_or_default().to_vec(),
            _ => break,
        }
    }
    out.extend(old.get(at..).unwrap_or_default().concat());
    Ok(out)
}

/// The forward block; the reverse one is passed over.
fn binary(lines: &mut Lines<'_>, before: &[u8]) -> Result<Vec<u8>, String> {
    let mut blocks = Vec::new();
    for _ in 0..2 {
        let head = String::from_utf8_lossy(lines.next().ok_or("no block")?).into_owned();
        let (kind, size) = head.split_once(' ').ok_or("no block")?;
        let mut packed = Vec::new();
        while let Some(line) = lines.next().filter(|l| !l.is_empty()) {
            let (count, digits) = line.split_first().ok_or("no digits")?;
            let count = match count {
                b'A'..=b'Z' => count - b'A' + 1,
                b'a'..=b'z' => count - b'a' + 27,
                _ => return Err("a line's length".to_owned()),
            };
            let mut bytes = Vec::new();
            for group in digits.chunks(5) {
                let value = group.iter().try_fold(0u32, |n, d| Some(n.wrapping_mul(85).wrapping_add(BASE85.iter().position(|b| b == d)? as u32)));
                bytes.extend(value.ok_or("a digit")?.to_be_bytes());
            }
            packed.extend(bytes.get(..usize::from(count)).ok_or("too few digits")?);
        }
        let mut plain = Vec::new();
        flate2::read::ZlibDecoder::new(packed.as_slice()).read_to_end(&mut plain).map_err(|e| e.to_string())?;
        if plain.len().to_string() != size {
            return Err("a block's size".to_owned());
        }
        blocks.push((kind == "delta", plain));
    }
    let (is_delta, block) = blocks.swap_remove(0);
    if is_delta { delta(&block, before) } else { Ok(block) }
}

fn delta(delta: &[u8], before: &[u8]) -> Result<Vec<u8>, String> {
    let mut at = 0;
    let mut next = || {
        let byte = delta.get(at).copied();
        at += 1;
        byte
    };
    let mut sizes = [0usize; 2];
    for size in &mut sizes {
        let mut shift = 0;
        while let Some(byte) = next() {
            *size |= usize::from(byte & 0x7f) << shift;
            shift += 7;
            if byte & 0x80 == 0 {
                break;
            }
        }
    }
    if sizes[0] != before.len() {
        return Err("a delta of something else".to_owned());
    }
    let mut out = Vec::new();
    while let Some(op) = next() {
        if op & 0x80 != 0 {
            let mut field = |bits: std::ops::Range<u8>| {
                let low = bits.start;
                bits.fold(0usize, |n, bit| if op & (1 << bit) != 0 { n | usize::from(next().unwrap_or(0)) << (8 * (bit - low)) } else { n })
            };
            let (from, count) = (field(0..4), field(4..7));
            let count = if count == 0 { 0x10000 } else { count };
            out.extend(before.get(from..from + count).ok_or("a delta outside its base")?);
        } else {
            for _ in 0..op {
                out.push(next().ok_or("a delta is cut")?);
            }
        }
    }
    if out.len() == sizes[1] { Ok(out) } else { Err("a delta's size".to_owned()) }
}

struct Lines<'a>(&'a [u8]);

impl<'a> Lines<'a> {
    fn peek(&self) -> Option<&'a [u8]> {
        (!self.0.is_empty()).then(|| self.0.split(|b| *b == b'\n').next().unwrap_or_default())
    }

    fn next(&mut self) -> Option<&'a [u8]> {
        let line = self.peek()?;
        self.0 = self.0.get(line.len() + 1..).unwrap_or_default();
        Some(line)
    }
}
