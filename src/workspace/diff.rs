//! What `git diff-tree --raw -z -p` says, taken apart: records, and where each file's part of the patch lies.
//!
//! Content may imitate every line of a patch. So no line of content is ever looked at for what it says: a hunk is as many lines as its header
//! announces, a binary block ends at its empty line, and only what stands between them is read as a header.

use crate::protocol::manifest::{Mode, ObjectId};
use crate::review::LineRange;

/// One changed path as `--raw` gives it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Before; `None`: did not exist.
    pub old_mode: Option<Mode>,
    /// After; `None`: deleted.
    pub new_mode: Option<Mode>,
    /// Both sides have the same content.
    pub same_content: bool,
    /// `A`, `D`, `M`, `R`, `T`.
    pub status: u8,
    /// The old path of a rename.
    pub old_path: Option<Vec<u8>>,
    /// The (new) path.
    pub path: Vec<u8>,
}

/// One file's part of a patch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Part {
    /// From the start of the patch.
    pub offset: usize,
    /// Bytes.
    pub len: usize,
    /// Lines added.
    pub added: u64,
    /// Lines removed.
    pub removed: u64,
    /// Holds a binary block.
    pub binary: bool,
}

/// Splits the output into records and the patch.
pub fn records(output: &[u8]) -> Option<(Vec<Record>, &[u8])> {
    let mut records = Vec::new();
    let mut rest = output;
    while let Some(b':') = rest.first() {
        let facts = field(&mut rest)?;
        let mut words = facts.get(1..)?.split(|b| *b == b' ');
        let (old_mode, new_mode) = (words.next()?, words.next()?);
        let (old_id, new_id) = (ObjectId::parse(words.next()?)?, ObjectId::parse(words.next()?)?);
        let status = *words.next()?.first()?;
        let first = field(&mut rest)?.to_vec();
        let (old_path, path) = if status == b'R' { (Some(first), field(&mut rest)?.to_vec()) } else { (None, first) };
        records.push(Record {
            old_mode: Mode::parse(old_mode),
            new_mode: Mode::parse(new_mode),
            same_content: old_id == new_id,
            status,
            old_path,
            path,
        });
    }
    match rest {
        [] => Some((records, rest)),
        [0, patch @ ..] => Some((records, patch)),
        _ => None,
    }
}

fn field<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let end = rest.iter().position(|b| *b == 0)?;
    let (field, after) = (rest.get(..end)?, rest.get(end + 1..)?);
    *rest = after;
    Some(field)
}

/// Lines of a patch, each with its newline.
struct Lines<'a> {
    patch: &'a [u8],
    at: usize,
}

impl<'a> Lines<'a> {
    fn peek(&self) -> Option<&'a [u8]> {
        let rest = self.patch.get(self.at..).filter(|rest| !rest.is_empty())?;
        let end = rest.iter().position(|b| *b == b'\n').map_or(rest.len(), |at| at + 1);
        rest.get(..end)
    }

    fn next(&mut self) -> Option<&'a [u8]> {
        let line = self.peek()?;
        self.at += line.len();
        Some(line)
    }
}

/// What is met on the way through a part.
enum Met<'a> {
    /// A hunk begins here on the new side, and has so many lines of it.
    Hunk(u64, u64),
    /// An added line, without its sign and newline.
    Added(&'a [u8]),
}

/// Lines of the new side that one file's part of a patch shows, context too. `None`: it is not what git writes.
pub fn shown(part: &[u8]) -> Option<Vec<LineRange>> {
    let mut lines = Lines { patch: part, at: 0 };
    let mut ranges: Vec<LineRange> = Vec::new();
    let number = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
    while lines.peek().is_some() {
        section(&mut lines, &mut Part::default(), &mut |met| {
            if let Met::Hunk(start, length @ 1..) = met {
                let (start, end) = (number(start), number(start.saturating_add(length) - 1));
                match ranges.last_mut() {
                    Some(last) if last.end.saturating_add(1) >= start => last.end = last.end.max(end),
                    _ => ranges.push(LineRange { start, end }),
                }
            }
        })?;
    }
    Some(ranges)
}

/// Finds the part of each record, in order; `added` is given the index of the record and each added line, without its sign and newline.
/// `None`: the patch is not what git writes.
pub fn parts(patch: &[u8], records: &[Record], added: &mut dyn FnMut(usize, &[u8])) -> Option<Vec<Part>> {
    let mut lines = Lines { patch, at: 0 };
    let mut parts = Vec::with_capacity(records.len());
    for (at, record) in records.iter().enumerate() {
        let mut part = Part { offset: lines.at, ..Part::default() };
        let mut met = |met: Met<'_>| {
            if let Met::Added(line) = met {
                added(at, line);
            }
        };
        section(&mut lines, &mut part, &mut met)?;
        // A file that became a link, or the other way round, is a deletion and a creation.
        if record.status == b'T' {
            section(&mut lines, &mut part, &mut met)?;
        }
        part.len = lines.at - part.offset;
        parts.push(part);
    }
    lines.peek().is_none().then_some(parts)
}

const START: &[u8] = b"diff --git ";

fn section(lines: &mut Lines<'_>, part: &mut Part, met: &mut dyn FnMut(Met<'_>)) -> Option<()> {
    if !lines.next()?.starts_with(START) {
        return None;
    }
    // Extended headers: written by git, names in them are quoted, so a line is a line.
    while let Some(line) = lines.peek() {
        if line.starts_with(START) {
            return Some(());
        }
        lines.next();
        if line == b"GIT binary patch\n" {
            part.binary = true;
            return binary_blocks(lines);
        }
        // Without the content: the section ends here.
        if line.starts_with(b"Binary files ") {
            part.binary = true;
            return Some(());
        }
        if line.starts_with(b"--- ") {
            if !lines.next()?.starts_with(b"+++ ") {
                return None;
            }
            return hunks(lines, part, met);
        }
    }
    Some(())
}

/// The forward and the reverse block, each ended by an empty line.
fn binary_blocks(lines: &mut Lines<'_>) -> Option<()> {
    for _ in 0..2 {
        let head = lines.next()?;
        if !head.starts_with(b"literal ") && !head.starts_with(b"delta ") {
            return None;
        }
        while lines.next()? != b"\n" {}
    }
    Some(())
}

fn hunks(lines: &mut Lines<'_>, part: &mut Part, met: &mut dyn FnMut(Met<'_>)) -> Option<()> {
    while let Some(head) = lines.peek().filter(|line| line.starts_with(b"@@ -")) {
        lines.next();
        let (mut old, start, mut new) = hunk_numbers(head)?;
        met(Met::Hunk(start, new));
        while old > 0 || new > 0 {
            let line = lines.next()?;
            match line.first()? {
                b' ' => (old, new) = (old.checked_sub(1)?, new.checked_sub(1)?),
                b'-' => {
                    old = old.checked_sub(1)?;
                    part.removed += 1;
                }
                b'+' => {
                    new = new.checked_sub(1)?;
                    part.added += 1;
                    let content = line.get(1..)?;
                    met(Met::Added(content.strip_suffix(b"\n").unwrap_or(content)));
                }
                b'\\' => {}
                _ => return None,
            }
        }
        while lines.peek().is_some_and(|line| line.starts_with(b"\\ ")) {
            lines.next();
        }
    }
    Some(())
}

/// `@@ -1,2 +3,4 @@ …`: lines of the old side, first line and lines of the new one; a missing length is 1.
fn hunk_numbers(head: &[u8]) -> Option<(u64, u64, u64)> {
    let mut words = head.split(|b| *b == b' ').skip(1);
    let mut range = |sign: &str| -> Option<(u64, u64)> {
        let range = std::str::from_utf8(words.next()?).ok()?.strip_prefix(sign)?;
        match range.split_once(',') {
            Some((start, length)) => Some((start.parse().ok()?, length.parse().ok()?)),
            None => Some((range.trim_end().parse().ok()?, 1)),
        }
    };
    let (_, old) = range("-")?;
    let (start, new) = range("+")?;
    Some((old, start, new))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(status: u8) -> Record {
        Record { old_mode: Some(Mode::File), new_mode: Some(Mode::File), same_content: false, status, old_path: None, path: b"a".to_vec() }
    }

    #[test]
    fn content_that_imitates_headers_moves_nothing() {
        let first = b"diff --git a/a b/a\nindex 1..2 100644\n--- a/a\n+++ b/a\n@@ -1,2 +1,3 @@\n diff --git a/x b/x\n-@@ -1 +1 @@\n+diff --git a/y b/y\n+GIT binary patch\n\\ No newline at end of file\n";
        let second = b"diff --git a/b b/b\nnew file mode 100644\nindex 0..2\nGIT binary patch\nliteral 3\nzcmV\n\nliteral 0\nHcmV\n\n";
        let patch = [&first[..], &second[..]].concat();
        let mut lines = Vec::new();
        let parts = parts(&patch, &[record(b'M'), record(b'A')], &mut |at, line| lines.push((at, line.to_vec()))).unwrap();
        assert_eq!(parts[0], Part { offset: 0, len: first.len(), added: 2, removed: 1, binary: false });
        assert_eq!(parts[1], Part { offset: first.len(), len: second.len(), added: 0, removed: 0, binary: true });
        assert_eq!(lines, [(0, b"diff --git a/y b/y".to_vec()), (0, b"GIT binary patch".to_vec())]);
    }

    #[test]
    fn lines_that_a_part_shows() {
        let range = |start, end| LineRange { start, end };
        let part = b"diff --git a/a b/a\n--- a/a\n+++ b/a\n@@ -1,2 +1,3 @@\n a\n+@@ -9 +9 @@\n b\n@@ -4 +4,0 @@ fn x\n-c\n@@ -10,2 +10 @@\n-d\n e\n";
        assert_eq!(shown(part), Some(vec![range(1, 3), range(10, 10)]));
        assert_eq!(shown(b"diff --git a/b b/b\nnew file mode 100644\nindex 0..1\nBinary files /dev/null and b/b differ\n"), Some(vec![]));
        let typed = b"diff --git a/l b/l\ndeleted file mode 100644\n--- a/l\n+++ /dev/null\n@@ -1 +0,0 @@\n-x\ndiff --git a/l b/l\nnew file mode 120000\n--- /dev/null\n+++ b/l\n@@ -0,0 +1 @@\n+y\n\\ No newline at end of file\n";
        assert_eq!(shown(typed), Some(vec![range(1, 1)]));
        assert_eq!(shown(b"x"), None);
    }

    #[test]
    fn what_git_does_not_write_is_refused() {
        for patch in [
            &b"x\n"[..],
            b"diff --git a b\n--- a\n",
            b"diff --git a b\n--- a\n+++ b\n@@ -1 +1 @@\n-x\n",
            b"diff --git a b\nGIT binary patch\nliteral 1\n",
        ] {
            assert_eq!(parts(patch, &[record(b'M')], &mut |_, _| {}), None);
        }
        assert_eq!(parts(b"diff --git a b\ndiff --git a b\n", &[record(b'M')], &mut |_, _| {}), None);
        assert_eq!(records(b":100644"), None);
        assert_eq!(records(b"x"), None);
    }
}
