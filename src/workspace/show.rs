//! A change as a reviewer sees it: a unified diff of whole files, within bounds, and what of it is not shown.
//!
//! Made like a job's patch, from bytes in a throw-away store: nothing of the repository decides how it looks. Binary content is named and not shown.

use super::diff::{self, Part, Record};
use super::store::{Objects, Store, TreeFile};
use crate::error::{Code, Error, Result};
use crate::protocol::manifest::{Mode, ObjectFormat, ObjectId};
use crate::protocol::repo_path::RepoPath;
use crate::review::ChangedFile;

/// Renames with an edit are looked for among at most this many files a side; exact renames always are.
const RENAME_LIMIT: &str = "-l400";

/// One side of a changed path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Half {
    /// What.
    pub mode: Mode,
    /// Its blob; for a submodule its commit.
    pub id: ObjectId,
    /// Its content; nothing for a submodule.
    pub bytes: Vec<u8>,
}

/// A changed path with what is shown of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair {
    /// Where.
    pub path: RepoPath,
    /// Before.
    pub old: Option<Half>,
    /// After.
    pub new: Option<Half>,
}

/// A diff and what it shows.
#[derive(Debug, Default)]
pub struct Shown {
    /// Whole files, one after the other.
    pub diff: Vec<u8>,
    /// All that changed, in the diff's order, also what is not shown.
    pub files: Vec<ChangedFile>,
    /// Paths whose content is not shown, and why: `binary`, `over_limit`.
    pub omitted: Vec<(Vec<u8>, &'static str)>,
    /// Files of the diff that show something.
    pub shown: u64,
}

/// How much git may compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Renames,
    NoRenames,
    Binary,
}

/// Shows pairs in ascending order of their paths; files over `max` bytes of diff altogether are left out whole.
pub fn show(format: ObjectFormat, pairs: &[Pair], max: usize) -> Result<Shown> {
    if pairs.is_empty() {
        return Ok(Shown::default());
    }
    let mut objects = Objects::new(format);
    let (mut old_files, mut new_files) = (Vec::new(), Vec::new());
    for pair in pairs {
        for (half, files) in [(&pair.old, &mut old_files), (&pair.new, &mut new_files)] {
            if let Some(half) = half {
                if half.mode != Mode::Submodule {
                    objects.blob(half.id, &half.bytes);
                }
                files.push(TreeFile { path: &pair.path, mode: half.mode, id: half.id });
            }
        }
    }
    let (old, new) = (objects.tree(&old_files), objects.tree(&new_files));
    let store = Store::new(&objects)?;
    let mut failed = None;
    // Content may be made for git's comparison to take for ever; a plainer form does not compare.
    for form in [Form::Renames, Form::NoRenames, Form::Binary] {
        let output = match compare(&store, form, &old, &new) {
            Ok(output) => output,
            Err(e) => {
                failed = Some(e);
                continue;
            }
        };
        let (records, text) = diff::records(&output).ok_or_else(not_understood)?;
        if records.iter().any(is_below_its_old_path) {
            continue;
        }
        let Some(parts) = diff::parts(text, &records, &mut |_, _| {}) else { continue };
        return cut(text, &records, &parts, max);
    }
    Err(failed.unwrap_or_else(not_understood))
}

/// Whether a file is renamed to a place below itself, which `git apply` refuses of a link: it looks for the new path while the link is there.
fn is_below_its_old_path(record: &Record) -> bool {
    record.old_path.as_deref().and_then(|old| record.path.strip_prefix(old)).is_some_and(|rest| rest.starts_with(b"/"))
}

fn not_understood() -> Error {
    Error::internal("show the change: git's answer is not understood")
}

fn compare(store: &Store, form: Form, old: &ObjectId, new: &ObjectId) -> Result<Vec<u8>> {
    if form == Form::Binary {
        store.all_binary()?;
    }
    let mut command = store.git();
    command.args(["diff-tree", "-r", "-z", "--raw", "-p", "--no-abbrev", "--full-index", "--no-ext-diff", "--no-textconv", "--no-color"]);
    command.args(["--src-prefix=a/", "--dst-prefix=b/", "--submodule=short", "--no-indent-heuristic", "--diff-algorithm=histogram", "-U3"]);
    command.args(if form == Form::Renames { ["-M", RENAME_LIMIT].as_slice() } else { ["--no-renames"].as_slice() });
    command.args([old.to_hex(), new.to_hex()]);
    super::run::run_ok(command, None, "show the change", Code::Internal)
}

/// Takes whole files in their order as long as there is room.
fn cut(text: &[u8], records: &[Record], parts: &[Part], max: usize) -> Result<Shown> {
    let mut shown = Shown::default();
    for (record, part) in records.iter().zip(parts) {
        let bytes = text.get(part.offset..part.offset.saturating_add(part.len)).ok_or_else(not_understood)?;
        let fits = shown.diff.len().saturating_add(bytes.len()) <= max;
        let mut file = ChangedFile {
            path: name(&record.path),
            old_path: record.old_path.as_deref().map(name),
            shown: Vec::new(),
            added: part.added,
            removed: part.removed,
        };
        if fits {
            file.shown = diff::shown(bytes).ok_or_else(not_understood)?;
            shown.diff.extend_from_slice(bytes);
            shown.shown += 1;
        }
        if !fits || part.binary {
            shown.omitted.push((record.path.clone(), if fits { "binary" } else { "over_limit" }));
        }
        shown.files.push(file);
    }
    Ok(shown)
}

/// A path in a review: as it is where it is text, else escaped.
pub fn name(path: &[u8]) -> String {
    std::str::from_utf8(path).map_or_else(|_| crate::display::line(path), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::review::LineRange;

    const FORMAT: ObjectFormat = ObjectFormat::Sha1;

    fn half(text: &[u8]) -> Option<Half> {
        Some(Half { mode: Mode::File, id: FORMAT.hash("blob", text), bytes: text.to_vec() })
    }

    fn pair(path: &str, old: Option<Half>, new: Option<Half>) -> Pair {
        Pair { path: RepoPath::parse(path.as_bytes()).unwrap(), old, new }
    }

    #[test]
    fn whole_files_are_left_out_where_there_is_no_room() {
        let large = b"line\n".repeat(400);
        let pairs = [pair("a", half(b"1\n"), half(b"2\n")), pair("b", None, half(&large)), pair("c", half(b"x\n"), None)];
        let all = show(FORMAT, &pairs, usize::MAX).unwrap();
        assert!(all.omitted.is_empty() && all.shown == 3);
        assert_eq!(all.files[1].shown, [LineRange { start: 1, end: 400 }]);
        let cut = show(FORMAT, &pairs, 1000).unwrap();
        assert_eq!((cut.omitted.clone(), cut.shown), (vec![(b"b".to_vec(), "over_limit")], 2));
        assert!(cut.diff.len() <= 1000 && cut.files[1].shown.is_empty() && cut.files[1].added == 400);
        let without = show(FORMAT, &[pairs[0].clone(), pairs[2].clone()], usize::MAX).unwrap();
        assert_eq!(cut.diff, without.diff, "the rest is as if the file were not there");
    }

    #[test]
    fn nothing_is_renamed_to_a_place_below_itself() {
        let link = || half(b"target").map(|half| Half { mode: Mode::Symlink, ..half });
        for (new, renames) in [("a/b", 0), ("ab", 1)] {
            let shown = show(FORMAT, &[pair("a", link(), None), pair(new, None, link())], usize::MAX).unwrap();
            let text = String::from_utf8(shown.diff).unwrap();
            assert_eq!(text.matches("\nrename to ").count(), renames, "{text}");
            assert_eq!(shown.files.len(), 2 - renames);
        }
    }

    #[test]
    fn submodules_and_binary_content_are_named() {
        let commit = |n: u8| Some(Half { mode: Mode::Submodule, id: FORMAT.hash("commit", &[n]), bytes: Vec::new() });
        let pairs = [pair("bin", half(b"\0a"), half(b"\0b")), pair("module", commit(1), commit(2)), pair("new", None, commit(3))];
        let shown = show(FORMAT, &pairs, usize::MAX).unwrap();
        let text = String::from_utf8(shown.diff).unwrap();
        assert!(text.contains("Binary files a/bin and b/bin differ\n") && text.contains("+Subproject commit "), "{text}");
        assert!(!text.contains("GIT binary patch"));
        assert_eq!(shown.omitted, [(b"bin".to_vec(), "binary")]);
    }
}
