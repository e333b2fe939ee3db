use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::PathBuf;

use proptest::prelude::*;

use super::*;
use crate::init::testing::{self, Items, file};
use crate::init::{state, unpack};
use crate::protocol::changes::{self, Change};

struct Cell {
    _dir: tempfile::TempDir,
    places: Places,
    workspace: PathBuf,
}

impl Cell {
    fn new(items: Items) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for name in ["workspace", "out"] {
            std::fs::create_dir(at(name)).unwrap();
        }
        let manifest = testing::deliver(dir.path(), items, ObjectFormat::Sha1, 300);
        let options = unpack::Options { agent_uid: 1, subdirectory: None, commit_subject: Some("x".into()), unix_seconds: 1, workers: 2 };
        let root = super::super::part::open_root(&at("workspace")).unwrap();
        let unpacked = unpack::unpack(&root, &manifest, &testing::frames(dir.path(), &manifest), &options).unwrap();
        state::write_table(File::create(at("table")).unwrap(), &unpacked.stamps).unwrap();
        let places = Places { workspace: at("workspace"), manifest: at("facts/manifest"), frames: at("frames"), table: at("table"), out: at("out") };
        Self { workspace: at("workspace"), _dir: dir, places }
    }

    fn at(&self, path: &str) -> PathBuf {
        self.workspace.join(path)
    }

    fn seal_with(&self, caps: &Caps) -> (Seal, Vec<Change>) {
        let seal = seal(&self.places, caps).unwrap();
        let document = std::fs::read(self.places.out.join("changes")).unwrap();
        assert_eq!(seal.changes_sha256, hex(&sha2::Sha256::digest(&document)));
        let changes = changes::read(document.as_slice(), ChangesCaps::default()).unwrap();
        assert_eq!(seal.changed, changes.len() as u64);
        (seal, changes)
    }

    /// One line a change: path, base, new.
    fn changes(&self) -> (Seal, Vec<String>) {
        let (seal, changes) = self.seal_with(&Caps::default());
        let side = |side: &Option<changes::Side>| {
            side.as_ref().map_or("-".to_owned(), |side| format!("{}:{}", side.mode.as_str(), side.bytes.escape_ascii()))
        };
        let lines = changes.iter().map(|c| format!("{} {} {}", c.path.as_bytes().escape_ascii(), side(&c.base), side(&c.new))).collect();
        (seal, lines)
    }
}

fn refusals(seal: &Seal) -> Vec<(String, String)> {
    use base64::Engine as _;
    let decode = |text: &str| String::from_utf8(base64::engine::general_purpose::STANDARD.decode(text).unwrap()).unwrap();
    seal.refused.iter().map(|r| (decode(&r.path_base64), r.why.clone())).collect()
}

fn sample() -> Items {
    let mut items: Items = (0..30).map(|i| file(&format!("d{}/f{i}", i % 3), format!("content {i}"))).collect();
    items.extend([
        file("a", "aa"),
        file("a.c", "dot"),
        file("dir/x", "x"),
        file("dir/y", "y"),
        file("dir.txt", "beside"),
        file("empty", ""),
        (b"link".to_vec(), Mode::Symlink, b"a".to_vec()),
        (b"run".to_vec(), Mode::Executable, b"#!".to_vec()),
        (b"sub".to_vec(), Mode::Submodule, Vec::new()),
        file("sub-other", "s"),
        file("sub.txt", "s"),
    ]);
    items
}

#[test]
fn nothing_changed_is_nothing() {
    let cell = Cell::new(sample());
    let (seal, changes) = cell.changes();
    assert_eq!(changes, Vec::<String>::new());
    assert_eq!((seal.complete, seal.refused_count, seal.files), (true, 0, 40));
    // Touched, rewritten with the same bytes, hard-linked and moved forth and back: still nothing.
    std::fs::write(cell.at("a"), "aa").unwrap();
    std::fs::rename(cell.at("dir/x"), cell.at("tmp")).unwrap();
    std::fs::rename(cell.at("tmp"), cell.at("dir/x")).unwrap();
    std::fs::remove_file(cell.at("dir/y")).unwrap();
    std::fs::write(cell.at("dir/y"), "y").unwrap();
    std::fs::create_dir_all(cell.at("new/empty/dirs")).unwrap();
    assert_eq!(cell.changes().1, Vec::<String>::new());
}

#[test]
fn every_kind_of_change() {
    let cell = Cell::new(sample());
    std::fs::write(cell.at("a"), "AA").unwrap();
    std::fs::remove_file(cell.at("a.c")).unwrap();
    std::fs::remove_dir_all(cell.at("dir")).unwrap();
    std::fs::write(cell.at("dir"), "now a file").unwrap();
    std::fs::remove_file(cell.at("dir.txt")).unwrap();
    std::fs::create_dir(cell.at("dir.txt")).unwrap();
    std::fs::write(cell.at("dir.txt/in"), "deep").unwrap();
    std::fs::set_permissions(cell.at("empty"), std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::remove_file(cell.at("link")).unwrap();
    symlink("../../etc", cell.at("link")).unwrap();
    std::fs::remove_file(cell.at("run")).unwrap();
    symlink("a", cell.at("run")).unwrap();
    std::fs::write(cell.workspace.join(std::ffi::OsStr::from_bytes(b"odd\n\xff")), "o").unwrap();
    std::fs::hard_link(cell.at("a"), cell.at("zhard")).unwrap();
    let (seal, changes) = cell.changes();
    let expected = [
        "a 100644:aa 100644:AA",
        "a.c 100644:dot -",
        "dir - 100644:now a file",
        "dir.txt 100644:beside -",
        "dir.txt/in - 100644:deep",
        "dir/x 100644:x -",
        "dir/y 100644:y -",
        "empty 100644: 100755:",
        "link 120000:a 120000:../../etc",
        "odd\\n\\xff - 100644:o",
        "run 100755:#! 120000:a",
        "zhard - 100644:AA",
    ];
    assert_eq!(changes, expected);
    assert!(seal.complete && seal.refused_count == 0);
}

#[test]
fn a_changed_file_with_restored_size_and_mtime_is_seen() {
    let cell = Cell::new(sample());
    let before = std::fs::metadata(cell.at("dir/x")).unwrap().modified().unwrap();
    let file = File::options().write(true).open(cell.at("dir/x")).unwrap();
    (&file).write_all(b"X").unwrap();
    file.set_modified(before).unwrap();
    drop(file);
    assert_eq!(cell.changes().1, ["dir/x 100644:x 100644:X"]);
}

#[test]
fn git_directories_are_ignored_at_the_top_and_refused_elsewhere() {
    let cell = Cell::new(sample());
    std::fs::remove_dir_all(cell.at(".git")).unwrap();
    std::fs::write(cell.at(".git"), "gitdir: /elsewhere").unwrap();
    assert_eq!(cell.changes().0.refused_count, 0);
    for path in ["x/.git/hooks", ".GIT", "y/git~1", "y\\.git", "x/.g\u{200c}it"] {
        std::fs::create_dir_all(cell.at(path)).unwrap();
        std::fs::write(cell.at(path).join("config"), "c").unwrap();
    }
    std::fs::write(cell.at("d0/.git"), "gitdir: x").unwrap();
    let (seal, changes) = cell.changes();
    assert_eq!(changes, Vec::<String>::new());
    let git = |path: &str| (path.to_owned(), "git_directory".to_owned());
    assert_eq!(refusals(&seal), [git(".GIT"), git("d0/.git"), git("x/.git"), git("x/.g\u{200c}it"), git("y/git~1"), git("y\\.git")]);
    assert!(seal.refused.iter().all(|r| r.kind.as_deref() == Some(if r.path_base64 == "ZDAvLmdpdA==" { "file" } else { "directory" })));
}

#[test]
fn special_files_and_submodule_contents_are_refused() {
    let cell = Cell::new(sample());
    std::fs::remove_file(cell.at("a")).unwrap();
    for path in ["a", "d1/fifo"] {
        rustix::fs::mkfifoat(rustix::fs::CWD, cell.at(path), FileMode::from_raw_mode(0o644)).unwrap();
    }
    let _socket = std::os::unix::net::UnixListener::bind(cell.at("sock")).unwrap();
    std::fs::create_dir(cell.at("sub/deep")).unwrap();
    std::fs::write(cell.at("sub/deep/file"), "x").unwrap();
    let (seal, changes) = cell.changes();
    assert_eq!(changes, Vec::<String>::new());
    let why = |path: &str, why: &str| (path.to_owned(), why.to_owned());
    let expected = [why("a", "special_file"), why("d1/fifo", "special_file"), why("sock", "special_file"), why("sub/deep/file", "inside_submodule")];
    assert_eq!(refusals(&seal), expected);
    assert!(seal.complete);
}

#[test]
fn what_a_patch_cannot_say_of_a_file_is_told() {
    let cell = Cell::new(sample());
    for (path, mode) in [("su", 0o4755), ("sg", 0o2755), ("st", 0o1644), ("all", 0o7700), ("plain", 0o600)] {
        std::fs::write(cell.at(path), "x").unwrap();
        std::fs::set_permissions(cell.at(path), std::fs::Permissions::from_mode(mode)).unwrap();
    }
    std::fs::hard_link(cell.at("plain"), cell.at("twin")).unwrap();
    let (seal, changes) = cell.changes();
    let told: Vec<_> = seal.altered.iter().map(|a| (a.path_base64.as_str(), a.kind.as_deref(), a.why.as_str())).collect();
    use base64::Engine as _;
    let coded = |path: &str| base64::engine::general_purpose::STANDARD.encode(path);
    let expected = [
        ("all", "setuid_bit"),
        ("all", "setgid_bit"),
        ("all", "sticky_bit"),
        ("plain", "hard_link"),
        ("sg", "setgid_bit"),
        ("st", "sticky_bit"),
        ("su", "setuid_bit"),
        ("twin", "hard_link"),
    ]
    .map(|(path, why)| (coded(path), why));
    assert_eq!(told, expected.iter().map(|(path, why)| (path.as_str(), Some("file"), *why)).collect::<Vec<_>>());
    assert_eq!((seal.altered_count, seal.refused_count, changes.len()), (8, 0, 6));
    assert!(changes.iter().all(|change| change.contains(" 100644:x") || change.contains(" 100755:x")), "{changes:?}");
}

#[test]
fn a_removed_submodule_is_reported() {
    let mut items = sample();
    items.extend([(b"deep/mod".to_vec(), Mode::Submodule, Vec::new()), (b"z".to_vec(), Mode::Submodule, Vec::new())]);
    let cell = Cell::new(items);
    assert_eq!(cell.changes().0.refused_count, 0);
    std::fs::remove_dir(cell.at("sub")).unwrap();
    std::fs::remove_dir_all(cell.at("deep")).unwrap();
    let (seal, changes) = cell.changes();
    assert!(changes.is_empty() && seal.complete);
    let removed = |path: &str| (path.to_owned(), "submodule_removed".to_owned());
    assert_eq!(refusals(&seal), [removed("deep/mod"), removed("sub")]);
    // One that became a file is reported once.
    std::fs::remove_dir(cell.at("z")).unwrap();
    std::fs::write(cell.at("z"), "file").unwrap();
    assert_eq!(refusals(&cell.changes().0)[0], ("z".to_owned(), "inside_submodule".to_owned()));
    assert_eq!(cell.changes().0.refused_count, 3);
}

#[test]
fn deep_trees_and_long_paths_end_in_a_report() {
    let cell = Cell::new(vec![file("a", "1")]);
    let mut dir = super::super::part::open_root(&cell.workspace).unwrap();
    let name = "n".repeat(200);
    for _ in 0..30 {
        rustix::fs::mkdirat(&dir, name.as_str(), FileMode::from_raw_mode(0o755)).unwrap();
        dir = openat(&dir, name.as_str(), OFlags::RDONLY | OFlags::DIRECTORY, FileMode::empty()).unwrap();
    }
    let (seal, changes) = cell.changes();
    assert_eq!(changes, Vec::<String>::new());
    assert_eq!(seal.refused[0].why, "path_too_long");
    assert_eq!(seal.refused_count, 1);
}

#[test]
fn caps_refuse_and_report() {
    let cell = Cell::new(vec![file("a", "1"), file("b", "2"), file("many/x", "3")]);
    std::fs::write(cell.at("a"), "a longer text").unwrap();
    std::fs::write(cell.at("c"), "another").unwrap();
    std::fs::write(cell.at("d"), "and one more").unwrap();
    let caps = |side_bytes, total_bytes, records| Caps {
        changes: ChangesCaps { records, side_bytes, total_bytes, ..ChangesCaps::default() },
        ..Caps::default()
    };
    let check = |caps: &Caps| {
        let (seal, changes) = cell.seal_with(caps);
        (changes.len(), refusals(&seal).into_iter().map(|(path, why)| format!("{path} {why}")).collect::<Vec<_>>(), seal.complete)
    };
    assert_eq!(check(&caps(10, 1000, 10)), (1, vec!["a file_too_large".into(), "d file_too_large".into()], true));
    assert_eq!(check(&caps(100, 15, 10)), (1, vec!["c total_too_large".into(), "d total_too_large".into()], true));
    assert_eq!(check(&caps(100, 1000, 2)), (2, vec!["d too_many".into()], true));
    // A directory that holds too many names: nothing is said about it, least of all that its files are gone.
    for i in 0..20 {
        std::fs::write(cell.at(&format!("many/{i}")), "").unwrap();
    }
    assert_eq!(check(&Caps { names: 15, ..Caps::default() }), (3, vec!["many too_many".into()], false));
    let (seal, changes) = cell.seal_with(&Caps { entries: 2, ..Caps::default() });
    assert!(!seal.complete && changes.iter().all(|change| change.new.is_some()));
}

#[test]
fn unreadable_modes_are_read_all_the_same() {
    // As root, which is what seals; otherwise only the report can be checked.
    let cell = Cell::new(vec![file("a", "1"), file("d/b", "2")]);
    std::fs::write(cell.at("a"), "22").unwrap();
    for path in ["a", "d"] {
        std::fs::set_permissions(cell.at(path), std::fs::Permissions::from_mode(0o000)).unwrap();
    }
    let (seal, changes) = cell.changes();
    std::fs::set_permissions(cell.at("d"), std::fs::Permissions::from_mode(0o755)).unwrap();
    if rustix::process::geteuid().is_root() {
        assert_eq!(changes, ["a 100644:1 100644:22"]);
        assert!(seal.complete);
    } else {
        assert!(changes.is_empty() && !seal.complete);
    }
}

fn ignored(seal: &Seal) -> Vec<String> {
    use base64::Engine as _;
    let decode = |text: &String| base64::engine::general_purpose::STANDARD.decode(text).unwrap().escape_ascii().to_string();
    seal.ignored.iter().map(decode).collect()
}

#[test]
fn what_the_base_ignores_is_left_out_and_reported() {
    let rules = "*.log\n__pycache__/\n!keep.log\ntarget/\n";
    let cell = Cell::new(vec![file(".gitignore", rules), file("src/a.py", "a"), file("src/tracked.log", "t"), file("target/kept", "k")]);
    for dir in ["src/__pycache__/deep", "target/debug/.git", "new"] {
        std::fs::create_dir_all(cell.at(dir)).unwrap();
    }
    for name in ["src/__pycache__/deep/a.pyc", "target/debug/bin", "target/beside", "x.log", "new/\u{fc}.log", "new/x"] {
        std::fs::write(cell.at(name), "new").unwrap();
    }
    std::fs::write(cell.at("keep.log"), "k").unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, cell.at("pipe.log"), FileMode::from_raw_mode(0o644)).unwrap();
    let (seal, changes) = cell.changes();
    assert_eq!(changes, ["keep.log - 100644:k", "new/x - 100644:new"]);
    let expected = ["new/\\xc3\\xbc.log", "pipe.log", "src/__pycache__/", "target/beside", "target/debug/", "x.log"];
    assert_eq!(ignored(&seal), expected);
    assert_eq!((seal.complete, seal.ignored_count, seal.refused_count, seal.files), (true, 6, 0, 6));
    // What was delivered counts, whatever the rules say of it.
    std::fs::write(cell.at("src/tracked.log"), "T").unwrap();
    std::fs::remove_file(cell.at("target/kept")).unwrap();
    std::fs::remove_file(cell.at("new/x")).unwrap();
    std::fs::remove_file(cell.at("keep.log")).unwrap();
    let (seal, changes) = cell.changes();
    assert_eq!(changes, ["src/tracked.log 100644:t 100644:T", "target/kept 100644:k -"]);
    assert_eq!(ignored(&seal), expected);
    // The list is bounded, the count is not.
    let (seal, _) = cell.seal_with(&Caps { ignored: 2, ..Caps::default() });
    assert_eq!((ignored(&seal).as_slice(), seal.ignored_count), (&expected.map(String::from)[..2], 6));
    // Rules over a bound hide nothing, and it is said.
    let caps = Caps { rules: rules::Caps { bytes: 3, ..rules::Caps::default() }, ..Caps::default() };
    let (seal, changes) = cell.seal_with(&caps);
    assert_eq!((seal.ignored_count, seal.rules_stopped.as_deref()), (0, Some("too_large")));
    assert!(changes.iter().any(|change| change.path.as_bytes() == b"src/__pycache__/deep/a.pyc"));
}

#[test]
fn rules_of_the_agent_count_for_nothing() {
    let cell = Cell::new(vec![file(".gitignore", "*.log\n"), file("d/x", "x")]);
    std::fs::write(cell.at(".gitignore"), "*\n!*.log\n").unwrap();
    std::fs::write(cell.at("d/.gitignore"), "*\n").unwrap();
    for name in ["d/hidden", "hidden", "x.log"] {
        std::fs::write(cell.at(name), "n").unwrap();
    }
    let (seal, changes) = cell.changes();
    let expected = [".gitignore 100644:*.log\\n 100644:*\\n!*.log\\n", "d/.gitignore - 100644:*\\n", "d/hidden - 100644:n", "hidden - 100644:n"];
    assert_eq!(changes, expected);
    assert_eq!(ignored(&seal), ["x.log"]);
    // Nor does it help to take the delivered one away.
    std::fs::remove_file(cell.at(".gitignore")).unwrap();
    assert_eq!(ignored(&cell.changes().0), ["x.log"]);
}

#[test]
fn a_submodule_stays_refused_whatever_the_rules_say() {
    let mut items = sample();
    items.push(file(".gitignore", "sub/\nfile\na\n"));
    let cell = Cell::new(items);
    std::fs::create_dir(cell.at("sub/deep")).unwrap();
    std::fs::write(cell.at("sub/deep/file"), "x").unwrap();
    let (seal, _) = cell.changes();
    assert_eq!((seal.refused_count, seal.ignored_count), (1, 0));
}

/// A small tree: path to (kind, content). Few names, so that files and directories meet.
fn tree() -> impl Strategy<Value = std::collections::BTreeMap<String, (u8, Vec<u8>)>> {
    let path = prop::collection::vec(prop::sample::select(vec!["a", "b", "a.", "a-", "ab", "0"]), 1..4).prop_map(|parts| parts.join("/"));
    let content = prop::collection::vec(any::<u8>(), 1..40).prop_map(|mut bytes| {
        bytes.iter_mut().for_each(|b| *b = (*b).max(1));
        bytes
    });
    prop::collection::btree_map(path, (0u8..3, content), 0..12).prop_map(|mut tree| {
        let paths: Vec<String> = tree.keys().cloned().collect();
        tree.retain(|path, _| !paths.iter().any(|other| other.strip_prefix(path.as_str()).is_some_and(|rest| rest.starts_with('/'))));
        tree
    })
}

fn mode_of(kind: u8) -> Mode {
    [Mode::File, Mode::Executable, Mode::Symlink][usize::from(kind)]
}

fn rules() -> impl Strategy<Value = String> {
    let parts = vec![
        "a",
        "b",
        "a",
        "b",
        "ab",
        ".",
        "-",
        "*",
        "*",
        "?",
        "/",
        "/",
        "/**/",
        "**/",
        "/**",
        "[a-b]",
        "[!a]",
        "[^b.]",
        "[[:alpha:]]",
        "[]a]",
        "[a",
        "\\",
        "\\a",
        "\\*",
        "{a,b}",
        " ",
        "0",
    ];
    let line = prop::collection::vec(prop::sample::select(parts), 1..5).prop_map(|parts| parts.concat());
    let line = (prop::sample::select(vec!["", "", "", "!", "/", "!/", "#", "\\!"]), line).prop_map(|(lead, line)| lead.to_owned() + &line);
    prop::collection::vec(line, 0..5).prop_map(|lines| lines.join("\n"))
}

/// Paths that git itself takes for untracked and not ignored.
fn gits_view(cell: &Cell) -> Vec<String> {
    let mut git = crate::process::git(&cell.at(".git"), &cell.workspace);
    let out = git.arg("--work-tree=.").args(["ls-files", "-z", "--others", "--exclude-per-directory=.gitignore"]).output().unwrap();
    assert!(out.status.success(), "{}", out.stderr.escape_ascii());
    let mut paths: Vec<String> = out.stdout.split(|b| *b == 0).filter(|p| !p.is_empty()).map(|p| p.escape_ascii().to_string()).collect();
    paths.sort();
    paths
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    /// What is new and not ignored is just what git says.
    #[test]
    fn git_ignores_the_same(base in tree(), new in tree(), top in rules(), below in rules()) {
        let mut items: Items = base.iter().map(|(path, (_, bytes))| (path.clone().into_bytes(), Mode::File, bytes.clone())).collect();
        items.push(file(".gitignore", &top));
        if !base.contains_key("a") {
            items.push(file("a/.gitignore", &below));
        }
        let cell = Cell::new(items);
        for path in new.keys() {
            let at = cell.at(path);
            // What is in another's way is left out.
            if std::fs::create_dir_all(at.parent().unwrap()).is_ok() && !at.exists() {
                std::fs::write(&at, "n").unwrap();
            }
        }
        let (seal, changes) = cell.seal_with(&Caps::default());
        let mut found: Vec<String> = changes.iter().map(|change| change.path.as_bytes().escape_ascii().to_string()).collect();
        found.sort();
        prop_assert_eq!((seal.complete, seal.refused_count, seal.rules_stopped), (true, 0, None));
        prop_assert_eq!(found, gits_view(&cell));
    }

    /// For any two trees, the changes lead from one to the other exactly.
    #[test]
    fn changes_lead_from_base_to_new(base in tree(), new in tree()) {
        let items = base.iter().map(|(path, (kind, bytes))| (path.clone().into_bytes(), mode_of(*kind), bytes.clone())).collect();
        let cell = Cell::new(items);
        for entry in std::fs::read_dir(&cell.workspace).unwrap() {
            let path = entry.unwrap().path();
            if path.ends_with(".git") { continue; }
            if path.is_dir() && !path.is_symlink() { std::fs::remove_dir_all(path).unwrap() } else { std::fs::remove_file(path).unwrap() }
        }
        for (path, (kind, bytes)) in &new {
            let at = cell.at(path);
            std::fs::create_dir_all(at.parent().unwrap()).unwrap();
            if *kind == 2 {
                symlink(std::ffi::OsStr::from_bytes(bytes), &at).unwrap();
            } else {
                std::fs::write(&at, bytes).unwrap();
                std::fs::set_permissions(&at, std::fs::Permissions::from_mode(if *kind == 1 { 0o755 } else { 0o644 })).unwrap();
            }
        }
        let (seal, changes) = cell.seal_with(&Caps::default());
        prop_assert!(seal.complete);
        let mut reached: std::collections::BTreeMap<Vec<u8>, (Mode, Vec<u8>)> =
            base.iter().map(|(path, (kind, bytes))| (path.clone().into_bytes(), (mode_of(*kind), bytes.clone()))).collect();
        for change in changes {
            let before = reached.remove(change.path.as_bytes());
            prop_assert_eq!(before, change.base.map(|side| (side.mode, side.bytes)));
            if let Some(side) = change.new {
                reached.insert(change.path.as_bytes().to_vec(), (side.mode, side.bytes));
            }
        }
        let wanted: std::collections::BTreeMap<Vec<u8>, (Mode, Vec<u8>)> =
            new.iter().map(|(path, (kind, bytes))| (path.clone().into_bytes(), (mode_of(*kind), bytes.clone()))).collect();
        prop_assert_eq!(reached, wanted);
    }
}
