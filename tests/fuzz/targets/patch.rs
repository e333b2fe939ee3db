//! The patch writer: whatever two trees hold, the patch between them, applied to the base by an applier of our own, gives the new one; it is the same
//! each time, and its parts cover it. Some inputs are also given to `git apply --check`.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;

use anchorhold::protocol::changes::{Change, Side};
use anchorhold::protocol::manifest::{Entry, Frame, Manifest, Mode, ObjectFormat};
use anchorhold::protocol::repo_path::RepoPath;
use anchorhold::workspace::{Collected, collect};

use super::Source;
use super::unpatch;

type Tree = BTreeMap<Vec<u8>, (Mode, Vec<u8>)>;

pub fn run(data: &[u8]) {
    let mut source = Source(data);
    let flags = source.byte();
    let format = if flags & 1 == 0 { ObjectFormat::Sha1 } else { ObjectFormat::Sha256 };
    let (base, new) = trees(&mut source);
    let (manifest, changes) = documents(format, &base, &new);
    let collected = collect(&manifest, &changes).unwrap_or_else(|e| panic!("no patch: {}", e.chain()));
    assert!(collected.left_out.is_empty());
    let Some(patch) = &collected.patch else {
        assert_eq!(base, new, "no patch, and something changed");
        return;
    };
    assert_ne!(base, new, "a patch, and nothing changed");
    judge(&base, &new, patch);
    judge_parts(&collected, patch);
    // Outside of a repository git knows SHA-1 only.
    if flags & 0x0f == 0 {
        let again = collect(&manifest, &changes).expect("as before").patch;
        assert_eq!(again.as_ref(), Some(patch), "made twice it differs");
        checked_by_git(&base, patch);
    }
}

/// Fails if the patch does not make the new tree of the base.
pub fn judge(base: &Tree, new: &Tree, patch: &[u8]) {
    let plain = |tree: &Tree| -> unpatch::Tree { tree.iter().map(|(path, (mode, bytes))| (path.clone(), (mode.as_str(), bytes.clone()))).collect() };
    let shown = || String::from_utf8_lossy(patch).into_owned();
    let made = unpatch::apply(&plain(base), patch).unwrap_or_else(|e| panic!("{e}:\n{}", shown()));
    assert_eq!(made, plain(new), "the patch makes something else:\n{}", shown());
}

fn judge_parts(collected: &Collected, patch: &[u8]) {
    let mut at = 0;
    for file in &collected.files {
        assert_eq!(file.patch_offset, at, "a part does not begin where the last one ended");
        at += file.patch_bytes;
    }
    assert_eq!(at, patch.len() as u64, "the parts do not cover the patch");
}

/// Plain `git apply` outside of a repository must take it too.
fn checked_by_git(base: &Tree, patch: &[u8]) {
    use std::os::unix::ffi::OsStrExt as _;
    let place = tempfile::tempdir().expect("a directory");
    for (path, (mode, bytes)) in base {
        let path = place.path().join(std::ffi::OsStr::from_bytes(path));
        std::fs::create_dir_all(path.parent().expect("above")).expect("a directory");
        if *mode == Mode::Symlink {
            std::os::unix::fs::symlink(std::ffi::OsStr::from_bytes(bytes), &path).expect("a link");
        } else {
            std::fs::write(&path, bytes).expect("a file");
            let bits = if *mode == Mode::Executable { 0o755 } else { 0o644 };
            std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(bits)).expect("a mode");
        }
    }
    let mut command = anchorhold::process::command("git", place.path());
    // No repository of anybody's is above.
    command.env("GIT_CEILING_DIRECTORIES", "/").env("GIT_DIR", place.path().join(".none"));
    command.args(["apply", "--check", "--whitespace=nowarn", "-p1", "-"]);
    let mut child = command.stdin(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().expect("git");
    child.stdin.take().expect("piped").write_all(patch).expect("git reads");
    let output = child.wait_with_output().expect("git ends");
    assert!(output.status.success(), "git apply --check: {}\n{}", String::from_utf8_lossy(&output.stderr), String::from_utf8_lossy(patch));
}

fn documents(format: ObjectFormat, base: &Tree, new: &Tree) -> (Manifest, Vec<Change>) {
    let path = |path: &[u8]| RepoPath::parse(path).expect("a name of the list");
    let mut plain = 0;
    let entries = base.iter().map(|(p, (mode, bytes))| {
        let offset = plain;
        plain += bytes.len() as u64;
        Entry { path: path(p), mode: *mode, id: format.hash("blob", bytes), size: bytes.len() as u64, frame: 0, offset }
    });
    let entries = entries.collect();
    let manifest = Manifest { format, frames: vec![Frame { compressed: 1, plain }], entries };
    let side = |tree: &Tree, p: &[u8]| tree.get(p).map(|(mode, bytes)| Side { mode: *mode, bytes: bytes.clone() });
    let paths: BTreeSet<&Vec<u8>> = base.keys().chain(new.keys()).collect();
    let all = paths.into_iter().map(|p| Change { path: path(p), base: side(base, p), new: side(new, p) });
    (manifest, all.filter(|c| c.base != c.new).collect())
}

/// Few components, so that files, directories and links meet at the same names.
const NAMES: [&[u8]; 16] =
    [b"a", b"b", b"c.txt", b"d-e", b".x", b"n\nl", b"\"q\"", b"\xff", b"\xc3\xa9", b" s ", b"-r", b"t\tt", b"\\", b"a.", b"\x01", b"b b/b"];

/// Lines that imitate a patch, and some that are ordinary.
const LINES: [&[u8]; 24] = [
    b"a",
    b"b",
    b"c",
    b"",
    b"a b",
    b"\t",
    b" ",
    b"diff --git a/a b/a",
    b"@@ -1 +1 @@",
    b"--- a/a",
    b"+++ b/a",
    b"-- ",
    b"\\ No newline at end of file",
    b"GIT binary patch",
    b"literal 3",
    b"\r",
    b"x\r",
    b"\xe9",
    b"\x1b[0m",
    b"rename from a",
    b"new mode 100755",
    b"\0",
    b"index 1..2",
    b"+",
];

fn path(source: &mut Source<'_>) -> Vec<u8> {
    let depth = source.byte() % 3 + 1;
    (0..depth).map(|_| source.pick(&NAMES)).collect::<Vec<_>>().join(&b'/')
}

fn text(source: &mut Source<'_>) -> Vec<u8> {
    let how = source.byte();
    if how & 0x80 != 0 {
        return source.bytes(usize::from(how & 0x7f)).to_vec();
    }
    // A long common part, so that a change is far from the next and renames with an edit are found.
    let mut lines: Vec<&[u8]> = if how & 0x40 != 0 { (0..how & 0x3f).map(|n| LINES[usize::from(n) % 7]).collect() } else { Vec::new() };
    lines.extend((0..how & 0x0f).map(|_| source.pick(&LINES)));
    let mut text = lines.join(&b'\n');
    if how & 0x10 != 0 {
        text.push(b'\n');
    }
    if how & 0x60 == 0x60 {
        text.extend([0, 1, 2].repeat(400));
    }
    text
}

fn entry(source: &mut Source<'_>) -> (Mode, Vec<u8>) {
    match source.byte() % 6 {
        0 => (Mode::Executable, text(source)),
        1 => (Mode::Symlink, source.pick(&[&b"target"[..], b"../../out", b"/etc/passwd", b"n\nl", b"to a"]).to_vec()),
        _ => (Mode::File, text(source)),
    }
}

/// Puts an entry into a tree; what is in its way goes.
fn put(tree: &mut Tree, path: &[u8], entry: (Mode, Vec<u8>)) {
    let prefix = [path, b"/"].concat();
    tree.retain(|other, _| !other.starts_with(&prefix) && !path.starts_with(&[other, b"/".as_slice()].concat()));
    tree.insert(path.to_vec(), entry);
}

fn trees(source: &mut Source<'_>) -> (Tree, Tree) {
    let mut base = Tree::new();
    for _ in 0..source.byte() % 9 {
        let path = path(source);
        let entry = entry(source);
        put(&mut base, &path, entry);
    }
    let mut new = base.clone();
    for _ in 0..12 {
        if source.is_empty() {
            break;
        }
        let (what, which) = (source.byte() % 8, source.byte());
        let chosen = (!new.is_empty()).then(|| new.keys().nth(usize::from(which) % new.len()).expect("counted").clone());
        let Some(chosen) = chosen.filter(|_| what != 0) else {
            let path = path(source);
            let entry = entry(source);
            put(&mut new, &path, entry);
            continue;
        };
        match what {
            1 => drop(new.remove(&chosen)),
            2 | 3 => {
                let entry = new.remove(&chosen).expect("chosen");
                let path = path(source);
                put(&mut new, &path, entry);
                if what == 3 && new[&path].0 != Mode::Symlink {
                    let more = text(source);
                    new.get_mut(&path).expect("put").1.extend(more);
                }
            }
            4 => {
                let mode = &mut new.get_mut(&chosen).expect("chosen").0;
                *mode = match *mode {
                    Mode::File => Mode::Executable,
                    Mode::Executable => Mode::File,
                    other => other,
                };
            }
            5 => drop(new.insert(chosen, entry(source))),
            _ => {
                let (mode, bytes) = new.get_mut(&chosen).expect("chosen");
                if *mode != Mode::Symlink {
                    let at = usize::from(source.byte()) * bytes.len() / 256;
                    let more = text(source);
                    let until = if what == 6 { at } else { (at + usize::from(source.byte() % 16)).min(bytes.len()) };
                    bytes.splice(at..until, more);
                }
            }
        }
    }
    (base, new)
}

pub fn seeds() -> Vec<Vec<u8>> {
    vec![
        vec![0, 1, 0, 0, 3, 0x13, 0, 1, 2, 6, 0, 128, 0x11, 1],
        vec![1, 2, 0, 0, 3, 0x7a, 1, 2, 1, 1, 3, 0x5f, 2, 0, 1, 6, 3, 0x11, 9],
        (0..120).map(|n: u8| n.wrapping_mul(37)).collect(),
        (0..200).map(|n: u8| n.wrapping_mul(91) ^ (n >> 3)).collect(),
    ]
}
