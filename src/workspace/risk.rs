//! What a reviewer must look at, from facts alone: names, modes, and the added text. Nothing here changes the patch.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::diff::Record;
use super::names::Name;
use super::scan::{self, Found, Scanner};
use super::snapshot::ancestors;
use super::{ChangeStatus, FileChange, Risk, RiskItem, ShownPath};
use crate::protocol::changes::Side;
use crate::protocol::manifest::{Manifest, Mode};
use crate::weaken;

/// A file over this is large.
const LARGE: u64 = 1 << 20;

/// The whole block.
pub fn assess(records: &[Record], files: &[FileChange], scanner: &Scanner, new_sides: &HashMap<&[u8], &Side>, manifest: &Manifest) -> Risk {
    let mut risk = Risk::default();
    for ((record, file), found) in records.iter().zip(files).zip(scanner.found()) {
        let side = new_sides.get(record.path.as_slice()).copied();
        if !weaken::off("risk.modes") {
            modes(&mut risk, record, side);
        }
        if !weaken::off("risk.names") {
            names(&mut risk, record, file, side.is_some());
        }
        if !weaken::off("risk.text") {
            text(&mut risk, record, found);
        }
        let item = |note: String| RiskItem { path: ShownPath::new(&record.path), note };
        if file.binary {
            risk.binaries.push(item(match file.new_bytes {
                Some(bytes) => format!("binary content, {bytes} bytes"),
                None => "binary content, deleted".to_owned(),
            }));
        }
        if let Some(bytes) = file.new_bytes.filter(|bytes| *bytes > LARGE) {
            risk.large.push(item(format!("{bytes} bytes")));
        }
    }
    if !weaken::off("risk.collisions") {
        collisions(&mut risk, records, manifest);
    }
    risk
}

/// Links, and what can be run.
fn modes(risk: &mut Risk, record: &Record, side: Option<&Side>) {
    let item = |note: String| RiskItem { path: ShownPath::new(&record.path), note };
    if let Some(side) = side.filter(|side| side.mode == Mode::Symlink) {
        risk.symlinks.push(item(link_note(&record.path, &side.bytes)));
    }
    if record.new_mode == Some(Mode::Executable) && record.old_mode != Some(Mode::Executable) {
        risk.executables.push(item(if record.old_mode.is_none() { "a new executable file" } else { "became executable" }.to_owned()));
    }
}

/// What the names mean to tools and to the eye. A rename can carry a file into such a place, or out of it.
fn names(risk: &mut Risk, record: &Record, file: &FileChange, is_there: bool) {
    let verb = match file.status {
        ChangeStatus::Added => "new",
        ChangeStatus::Deleted => "deleted",
        ChangeStatus::Renamed => "moved here",
        _ => "changed",
    };
    for (path, verb) in std::iter::once((&record.path, verb)).chain(record.old_path.as_ref().map(|path| (path, "moved away"))) {
        let item = |note: String| RiskItem { path: ShownPath::new(path), note };
        let name = Name::new(path);
        if let Some(what) = name.runs_code() {
            risk.runs_code.push(item(format!("{what}: {verb}")));
        }
        if name.agent_instructions() {
            risk.agent_instructions.push(item(format!("instructions or tools of a coding agent: {verb}")));
        }
        if name.git_file() {
            let modules = path.to_ascii_lowercase().ends_with(b".gitmodules");
            risk.git_files.push(item(format!("{}: {verb}", if modules { "names submodules and where they come from" } else { "steers git" })));
        }
        if name.dependencies() {
            risk.dependencies.push(item(format!("says which dependencies are fetched: {verb}")));
        }
        if matches!(verb, "deleted" | "moved away") && name.test() {
            risk.deleted_tests.push(item(format!("a test: {verb}")));
        }
    }
    if !is_there {
        return;
    }
    let item = |note: String| RiskItem { path: ShownPath::new(&record.path), note };
    if Name::new(&record.path).secret() {
        risk.secrets.push(item("a file of this name usually holds a secret".to_owned()));
    }
    let (notes, unseen) = scan::name(&record.path);
    unseen.add_to(&mut risk.suspicious_characters);
    risk.confusing_paths.extend(notes.into_iter().map(item));
}

/// What the added text holds.
fn text(risk: &mut Risk, record: &Record, found: &Found) {
    let item = |note: String| RiskItem { path: ShownPath::new(&record.path), note };
    if !found.secrets.is_empty() {
        let kinds: Vec<&str> = found.secrets.iter().copied().collect();
        risk.secrets.push(item(format!("added text looks like it holds: {}", kinds.join(", "))));
    }
    if let Some(sentence) = found.unseen.sentence() {
        found.unseen.add_to(&mut risk.suspicious_characters);
        risk.deceptive_text.push(item(format!("added text has {sentence}")));
    }
    if found.imitations > 0 {
        risk.deceptive_text.push(item(format!("{} added lines read like the headers of a patch; they are content", found.imitations)));
    }
    if found.longest > 0 {
        risk.long_lines.push(item(format!("an added line has {} bytes", found.longest)));
    }
}

/// New names that a file system which ignores case takes for one that is there, or for each other; directories count as well.
fn collisions(risk: &mut Risk, records: &[Record], manifest: &Manifest) {
    let added: Vec<&[u8]> =
        records.iter().filter(|r| r.new_mode.is_some() && (r.old_mode.is_none() || r.old_path.is_some())).map(|r| &*r.path).collect();
    if added.is_empty() {
        return;
    }
    let gone: HashSet<&[u8]> = records.iter().flat_map(|r| r.old_path.as_deref().or((r.new_mode.is_none()).then_some(&*r.path))).collect();
    // Each new name and each directory above it, folded; the form in which it stands, and the new path that it belongs to.
    let mut forms: HashMap<String, (&[u8], &[u8])> = HashMap::new();
    let mut hits: BTreeMap<&[u8], &[u8]> = BTreeMap::new();
    for path in added {
        for part in ancestors(path).chain([path]) {
            let (form, _) = *forms.entry(fold(part)).or_insert((part, path));
            if form != part {
                hits.insert(path, form);
            }
        }
    }
    let mut before: &[u8] = b"";
    for path in manifest.entries.iter().map(|entry| entry.path.as_bytes()).filter(|path| !gone.contains(path)) {
        let common = before.iter().zip(path).take_while(|(a, b)| a == b).count();
        for part in ancestors(path).filter(|part| part.len() >= common).chain([path]) {
            if let Some((_, new)) = forms.get(&fold(part)).filter(|(form, _)| *form != part) {
                hits.insert(new, part);
            }
        }
        before = path;
    }
    for (path, other) in hits {
        let other: String = crate::display::clip(other, 300);
        risk.confusing_paths.push(RiskItem { path: ShownPath::new(path), note: format!("differs from {other} only in letter case") });
    }
}

/// A path for comparisons without letter case.
fn fold(path: &[u8]) -> String {
    String::from_utf8_lossy(path).to_lowercase()
}

/// Where a link points, by its text alone.
fn link_note(path: &[u8], target: &[u8]) -> String {
    let shown = crate::display::clip(target, 300);
    let mut depth = path.iter().filter(|b| **b == b'/').count();
    let (mut outside, mut git) = (target.first() == Some(&b'/'), false);
    for part in target.split(|b| *b == b'/') {
        match part {
            b"" | b"." => {}
            b".." => match depth.checked_sub(1) {
                Some(less) => depth = less,
                None => outside = true,
            },
            part => {
                depth += 1;
                git |= crate::protocol::repo_path::is_dot_git(part);
            }
        }
    }
    let where_to = match (outside, git) {
        (true, _) => ", outside of the repository",
        (false, true) => ", into a git directory",
        (false, false) => "",
    };
    format!("points to {shown}{where_to}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_say_where_they_point() {
        assert_eq!(link_note(b"a/b", b"../c"), "points to ../c");
        assert_eq!(link_note(b"a/b", b"../../c"), "points to ../../c, outside of the repository");
        assert_eq!(link_note(b"b", b"/etc/passwd"), "points to /etc/passwd, outside of the repository");
        assert_eq!(link_note(b"b", b"x/../../y"), "points to x/../../y, outside of the repository");
        assert_eq!(link_note(b"b", b".git/hooks"), "points to .git/hooks, into a git directory");
        assert_eq!(link_note(b"b", b"\x1b]0;"), "points to \\u{1b}]0;");
    }

    #[test]
    fn names_that_differ_in_case_alone_collide_with_what_is_there_and_with_each_other() {
        use crate::protocol::manifest::{Entry, ObjectFormat};
        use crate::protocol::repo_path::RepoPath;
        let id = ObjectFormat::Sha1.hash("blob", b"");
        let entry = |path: &str| Entry { path: RepoPath::parse(path.as_bytes()).unwrap(), mode: Mode::File, id, size: 0, frame: 0, offset: 0 };
        let entries = ["Docs/a", "README", "gone", "src/lib.rs"].map(entry).to_vec();
        let manifest = Manifest { format: ObjectFormat::Sha1, frames: Vec::new(), entries };
        let record = |path: &str, there: bool| Record {
            old_mode: (!there).then_some(Mode::File),
            new_mode: there.then_some(Mode::File),
            same_content: false,
            status: if there { b'A' } else { b'D' },
            old_path: None,
            path: path.as_bytes().to_vec(),
        };
        let records = [
            record("GONE", true),
            record("Src/new.rs", true),
            record("docs2/x", true),
            record("gone", false),
            record("readme", true),
            record("x/a", true),
            record("x/A", true),
        ];
        let mut risk = Risk::default();
        collisions(&mut risk, &records, &manifest);
        let found: Vec<_> = risk.confusing_paths.iter().map(|item| (item.path.path.as_str(), item.note.as_str())).collect();
        assert_eq!(
            found,
            [
                ("Src/new.rs", "differs from src only in letter case"),
                ("readme", "differs from README only in letter case"),
                ("x/A", "differs from x/a only in letter case")
            ]
        );
    }
}
