//! Each case of "the patch must be right".

use super::*;
use crate::error::Code;
use crate::workspace::{ChangeStatus, FileChange};

fn facts(file: &FileChange) -> (&str, Option<&str>, ChangeStatus, Option<u64>, Option<u64>) {
    (&file.path.path, file.old_path.as_ref().map(|p| p.path.as_str()), file.status, file.additions, file.deletions)
}

const BINARY: &[u8] = b"\x00\x01\xff\xfe\n\x00PNG";

#[test]
fn nothing_changed_is_no_patch() {
    let base = tree([(b"a", file("x"))]);
    let collected = check(&base, &base);
    assert!(collected.patch.is_none() && collected.risk.is_empty());
}

#[test]
fn text_of_every_kind() {
    use ChangeStatus::{Added, Modified};
    let base = tree([
        (b"crlf", file("a\r\nb\r\nc\r\n")),
        (b"invalid", file(b"\xff\xfe x\n\xc3\x28\n")),
        (b"latin1", file(b"caf\xe9\nna\xefve\n")),
        (b"no-eol", file("a\nb")),
        (b"to-eol", file("a\nb")),
        (b"was-empty", file("")),
    ]);
    let new = tree([
        (b"crlf", file("a\r\nB\r\nc\n")),
        (b"empty", file("")),
        (b"invalid", file(b"\xff\xfe y\n\xc3\x28\n\xf8")),
        (b"latin1", file(b"caf\xe9s\nna\xefve\n\xe4")),
        (b"no-eol", file("a\nc")),
        (b"to-eol", file("a\nb\n")),
        (b"was-empty", file("\n")),
    ]);
    let collected = check(&base, &new);
    assert_eq!(
        collected.files.iter().map(facts).collect::<Vec<_>>(),
        [
            ("crlf", None, Modified, Some(2), Some(2)),
            ("empty", None, Added, Some(0), Some(0)),
            ("invalid", None, Modified, Some(2), Some(1)),
            ("latin1", None, Modified, Some(2), Some(1)),
            ("no-eol", None, Modified, Some(1), Some(1)),
            ("to-eol", None, Modified, Some(1), Some(1)),
            ("was-empty", None, Modified, Some(1), Some(0)),
        ]
    );
    assert!(collected.files.iter().all(|f| !f.binary));
}

#[test]
fn binary_new_changed_and_deleted() {
    let base = tree([(b"changed", file(BINARY)), (b"gone", file(BINARY.repeat(9)))]);
    let new = tree([(b"changed", file([BINARY, b"more"].concat())), (b"new", file(BINARY.repeat(5000)))]);
    let collected = check(&base, &new);
    assert!(collected.files.iter().all(|f| f.binary && f.additions.is_none()));
    assert_eq!(collected.risk.binaries.len(), 3);
    assert_eq!(collected.files[2].new_bytes, Some(45_000));
}

#[test]
fn renames_with_and_without_edit() {
    let text: String = (0..40).map(|n| format!("line {n}\n")).collect();
    let base = tree([(b"old/one", file(&text)), (b"old/two", file(text.replace("line", "row")))]);
    let new = tree([(b"new/one", file(&text)), (b"new/two", exec(text.replace("line", "row").replace("row 7\n", "row seven\n")))]);
    let collected = check(&base, &new);
    assert_eq!(
        collected.files.iter().map(facts).collect::<Vec<_>>(),
        [
            ("new/one", Some("old/one"), ChangeStatus::Renamed, Some(0), Some(0)),
            ("new/two", Some("old/two"), ChangeStatus::Renamed, Some(1), Some(1))
        ]
    );
    assert_eq!(collected.risk.executables.len(), 1);
}

#[test]
fn mode_only() {
    let collected = check(&tree([(b"a", file("x\n")), (b"b", exec("y\n"))]), &tree([(b"a", exec("x\n")), (b"b", file("y\n"))]));
    let shown: Vec<_> = collected.files.iter().map(|f| (f.status, f.old_mode.as_deref(), f.new_mode.as_deref())).collect();
    assert_eq!(shown, [(ChangeStatus::ModeChanged, Some("100644"), Some("100755")), (ChangeStatus::ModeChanged, Some("100755"), Some("100644"))]);
    assert_eq!(collected.risk.executables.len(), 1);
}

#[test]
fn symlinks() {
    let base = tree([(b"changed", link("old")), (b"gone", link("x")), (b"dir/f", file("f\n"))]);
    let new = tree([(b"changed", link("dir")), (b"dir/f", file("f\n")), (b"dir/up", link("../../etc/passwd")), (b"abs", link("/etc"))]);
    let collected = check(&base, &new);
    let notes: Vec<_> = collected.risk.symlinks.iter().map(|item| (item.path.path.as_str(), item.note.as_str())).collect();
    assert_eq!(
        notes,
        [
            ("abs", "points to /etc, outside of the repository"),
            ("changed", "points to dir"),
            ("dir/up", "points to ../../etc/passwd, outside of the repository")
        ]
    );
}

#[test]
fn file_directory_and_symlink_take_each_others_place() {
    let all = [
        tree([(b"a", file("text\n")), (b"z", file("z"))]),
        tree([(b"a", link("z")), (b"z", file("z"))]),
        tree([(b"a/b/c", file("text\n")), (b"a/x", exec("#!\n")), (b"z", file("z"))]),
        tree([(b"a/b", link("../z")), (b"z", file("z"))]),
        tree([(b"a", link("d")), (b"d/f", file("f")), (b"z", file("z"))]),
        tree([(b"a/f", file("f")), (b"d", link("a")), (b"z", file("z"))]),
    ];
    let checkout = Checkout::new(ObjectFormat::Sha1);
    for base in &all {
        for new in &all {
            check_in(&checkout, base, new);
        }
    }
    let collected = check(&all[0], &all[1]);
    assert_eq!(collected.files.iter().map(facts).collect::<Vec<_>>(), [("a", None, ChangeStatus::TypeChanged, Some(1), Some(1))]);
}

#[test]
fn names_of_every_kind() {
    let long = [b"d/".as_slice(), &[b'n'; 255]].concat();
    let names: [&[u8]; 18] = [
        b"new\nline",
        b"tab\there",
        b"quo\"te",
        b"back\\slash",
        b"-rf",
        b"--",
        b" lead",
        b"trail ",
        b"\xff\xfe",
        b"caf\xe9",
        "caf\u{e9}".as_bytes(),
        b"cr\r",
        "rtl\u{202e}".as_bytes(),
        b"a -> b",
        b"x\ty/\"q\"",
        b"diff --git a",
        b"..dots",
        &long,
    ];
    let of = |content: &str| names.iter().map(|name| (name.to_vec(), file(content))).collect::<Tree>();
    let (empty, old, new) = (Tree::new(), of("1\n"), of("1\n2\n"));
    check(&empty, &old);
    let collected = check(&old, &new);
    assert_eq!(collected.files.len(), names.len());
    check(&old, &empty);
    let moved: Tree = old.iter().map(|(path, entry)| ([path, b".moved".as_slice()].concat(), entry.clone())).filter(|(p, _)| p.len() < 255).collect();
    check(&old, &moved);
}

#[test]
fn a_path_as_deep_as_it_gets() {
    let deep = [b"d/".repeat(2046).as_slice(), b"f"].concat();
    let collected =
        crate::workspace::collect(&manifest(&Tree::new(), ObjectFormat::Sha1), &changes(&Tree::new(), &tree([(&deep, file("x"))]))).unwrap();
    assert_eq!(collected.files.len(), 1);
}

#[test]
fn a_patch_of_five_megabytes() {
    let text: String = (0..120_000).map(|n| format!("this is line number {n} of the large file\n")).collect();
    let collected = check(&tree([(b"large", file(&text))]), &tree([(b"large", file(text.replace("line", "row")))]));
    assert!(collected.patch.as_ref().unwrap().len() > 5_000_000);
    assert_eq!(collected.files[0].additions, Some(120_000));
    assert_eq!(collected.risk.large.len(), 1);
}

#[test]
fn attributes_of_the_job_steer_nothing() {
    let attributes = "* -diff -text filter=evil diff=evil merge=evil ident working-tree-encoding=UTF-16\n[attr]evil -diff\n*.txt evil eol=crlf\n";
    let base = tree([(b"a.txt", file("$Id$\none\n"))]);
    let new = tree([(b".gitattributes", file(attributes)), (b"a.txt", file("$Id$\ntwo\n")), (b"sub/.gitattributes", file(attributes))]);
    let changes = changes(&base, &new);
    let collected = crate::workspace::collect(&manifest(&base, ObjectFormat::Sha1), &changes).unwrap();
    assert!(collected.files.iter().all(|f| !f.binary));
    assert_eq!(collected.risk.git_files.len(), 2);
    // `git apply` of a user reads the attributes of the *base*, so that is what the checkout has.
    check(&base, &new);
}

#[test]
fn everything_deleted_and_all_new() {
    let full = tree([(b"a", file("a\n")), (b"b/c", exec("c")), (b"b/l", link("c")), (b"bin", file(BINARY)), (b"tests/x_test.py", file("t"))]);
    let collected = check(&full, &Tree::new());
    assert!(collected.files.iter().all(|f| f.status == ChangeStatus::Deleted && f.new_bytes.is_none()));
    assert_eq!(collected.risk.deleted_tests.len(), 1);
    check(&Tree::new(), &full);
}

#[test]
fn content_that_imitates_a_patch() {
    let fake = "diff --git a/x b/x\nnew file mode 100755\nindex 000..111\n--- /dev/null\n+++ b/x\n@@ -0,0 +1 @@\n+GIT binary patch\nliteral 0\n\n-- \n2.47\n";
    let base = tree([(b"f", file(format!("{fake}keep\n{fake}"))), (b"g", file("g\n"))]);
    let new = tree([(b"f", file(format!("{fake}{fake}keep\n-- \n+++ b/y\n--- a/y\n@@ -1 +1 @@\n"))), (b"g", file(fake))]);
    let collected = check(&base, &new);
    assert_eq!(collected.files.len(), 2);
}

#[test]
fn a_secret_is_pointed_at_and_kept() {
    let line = format!("OPENAI_API_KEY={}\n", ["sk-proj", &"a1B2".repeat(12)].join("-"));
    let collected = check(&Tree::new(), &tree([(b".env", file(&line)), (b"run.sh", exec("#!/bin/sh\n")), (b"AGENTS.md", file("x\u{202e}y\n"))]));
    assert_eq!(collected.risk.secrets.len(), 2);
    assert!(collected.patch.unwrap().windows(line.len()).any(|w| w == line.as_bytes()));
    assert_eq!((collected.risk.agent_instructions.len(), collected.risk.deceptive_text.len(), collected.risk.executables.len()), (1, 1, 1));
}

#[test]
fn a_sha256_repository() {
    let base = tree([(b"a", file("1\n")), (b"d/b", file(BINARY))]);
    let new = tree([(b"a", exec("2\n")), (b"d", link("a"))]);
    let collected = check_in(&Checkout::new(ObjectFormat::Sha256), &base, &new);
    assert_eq!(collected.files.len(), 3);
}

fn refused(base: &Tree, changes: &[Change]) -> Code {
    crate::workspace::collect(&manifest(base, ObjectFormat::Sha1), changes).unwrap_err().code
}

#[test]
fn a_seal_that_contradicts_the_manifest_is_refused() {
    let base = tree([(b"a", file("1\n")), (b"d/x", file("x")), (b"d/y", file("y"))]);
    let change = |path: &[u8], base: Option<(Mode, Vec<u8>)>, new: Option<(Mode, Vec<u8>)>| {
        let side = |s: Option<(Mode, Vec<u8>)>| s.map(|(mode, bytes)| Side { mode, bytes });
        Change { path: RepoPath::parse(path).unwrap(), base: side(base), new: side(new) }
    };
    let lies = [
        vec![change(b"a", Some(file("other\n")), Some(file("2\n")))],
        vec![change(b"a", Some(exec("1\n")), Some(file("2\n")))],
        vec![change(b"a", None, Some(file("2\n")))],
        vec![change(b"new", Some(file("1\n")), Some(file("2\n")))],
        vec![change(b"a/b", None, Some(file("2\n")))],
        vec![change(b"d", None, Some(file("2\n"))), change(b"d/x", Some(file("x")), None)],
        vec![change(b"n", None, Some(file("2\n"))), change(b"n/m", None, Some(file("2\n")))],
        vec![change(b"z", None, Some(file("2\n"))), change(b"b", None, Some(file("2\n")))],
    ];
    for lie in &lies {
        assert_eq!(refused(&base, lie), Code::JobFailed, "{lie:?}");
    }
    // The control: the truth passes.
    let truth = [change(b"d", None, Some(file("2\n"))), change(b"d/x", Some(file("x")), None), change(b"d/y", Some(file("y")), None)];
    assert!(crate::workspace::collect(&manifest(&base, ObjectFormat::Sha1), &truth).is_ok());
}

#[test]
fn what_no_patch_may_carry_is_left_out_by_name_and_the_rest_stays() {
    let base = tree([(b"module", (Mode::Submodule, Vec::new()))]);
    let new = tree([
        (b".gitmodules", link("x")),
        (b"GITMOD~1", link("x")),
        (b"module", (Mode::Submodule, Vec::new())),
        (b"module/inside", file("lost?\n")),
        (b"ok", file("ok\n")),
        (b"sub/.gitmodules", file("a file is fine\n")),
    ]);
    let collected = crate::workspace::collect(&manifest(&base, ObjectFormat::Sha1), &changes(&base, &new)).unwrap();
    let left_out: Vec<_> = collected.left_out.iter().map(|l| (std::str::from_utf8(l.path.as_bytes()).unwrap(), l.why)).collect();
    assert_eq!(left_out, [(".gitmodules", "gitmodules_symlink"), ("GITMOD~1", "gitmodules_symlink"), ("module/inside", "beneath_submodule")]);
    assert_eq!(collected.files.iter().map(|f| f.path.path.as_str()).collect::<Vec<_>>(), ["ok", "sub/.gitmodules"]);
}
