//! Reviews of repositories that want something of whoever reads them.

use super::hostile::{booby_trapped, clear_markers, markers};
use super::review::{branch, commit, paths, text, working_tree};
use super::snapshot::fifo;
use super::*;
use crate::error::Code;
use crate::workspace::{Untracked, manifest_of, plan_review, plan_review_within};

/// An object from bytes that git itself would not write.
fn object(repo: &Repo, kind: &str, bytes: &[u8]) -> String {
    let file = repo.base().join("object");
    write_file(&file, bytes);
    repo.git(&["hash-object", "-w", "--literally", "-t", kind, &file.display().to_string()])
}

fn tree_entry(mode: &str, name: &[u8], id: &str) -> Vec<u8> {
    let id = crate::protocol::manifest::ObjectId::parse(id.as_bytes()).unwrap();
    [mode.as_bytes(), b" ", name, b"\0", id.as_bytes()].concat()
}

#[test]
fn nothing_in_the_configuration_runs() {
    let repo = booby_trapped();
    repo.git(&["-c", "core.fsmonitor=false", "branch", "before"]);
    // Committed without any of the traps.
    let at = repo.top();
    let quiet = ["-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null", "-c", "filter.evil.clean=", "-c", "filter.process.process="];
    git(&at, &[&quiet[..], &["commit", "-q", "-a", "--no-verify", "-m", "Evil"]].concat());
    repo.write("evil.txt", "three\n");
    repo.write("loose.txt", "untracked\n");
    clear_markers(&repo);
    let lying = repo.review(&working_tree(Untracked::Include));
    assert_eq!(paths(&lying), ["evil.txt", "loose.txt"]);
    assert!(text(&lying).contains("-two\n+three\n"), "{}", text(&lying));
    let left = repo.review(&branch("before"));
    assert!(text(&left).contains("-one\n+two\n"), "{}", text(&left));
    assert_eq!(paths(&repo.review(&commit("HEAD"))), paths(&left));
    manifest_of(&left.plan, &[]).unwrap();
    assert_eq!(unpack(left.plan).tree[b"evil.txt".as_slice()], file("two\n"));
    assert_eq!(unpack(lying.plan).tree[b"evil.txt".as_slice()], file("three\n"));
    assert_eq!(markers(&repo), Vec::<String>::new());
    // The control: these traps are set.
    git_output(&at, &["diff", "before", "HEAD"]);
    git_output(&at, &["status"]);
    let sprung = markers(&repo);
    assert!(["fsmonitor", "external-diff"].iter().all(|name| sprung.iter().any(|marker| marker == name)), "{sprung:?}");
}

#[test]
fn committed_bytes_are_sent_as_they_are() {
    let repo = Repo::new();
    repo.write(".gitattributes", "*.txt text eol=crlf ident\n*.bin filter=lfs\n*.md -diff\n*.secret export-ignore\n");
    repo.write("crlf.txt", "$Id$\none\n");
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n";
    repo.write("large.bin", pointer);
    repo.write("x.md", "one\n");
    repo.write("y.secret", "one\n");
    repo.commit("One");
    repo.write("x.md", "two\n");
    repo.commit("Two");
    repo.write("large.bin", "the real bytes");
    let planned = repo.review(&commit("HEAD"));
    assert!(text(&planned).contains("-one\n+two\n"), "attributes hide nothing");
    let snapshot = unpack(planned.plan);
    assert_eq!((&snapshot.tree[b"crlf.txt".as_slice()], &snapshot.tree[b"large.bin".as_slice()]), (&file("$Id$\none\n"), &file(pointer)));
    assert!(snapshot.tree.contains_key(b"y.secret".as_slice()) && snapshot.summary.lfs_pointer_count == 1);
}

#[test]
fn odd_names_come_through() {
    let repo = Repo::new();
    let names: [&[u8]; 7] = [b"new\nline", b"\xff\xfe", b"-rf", b"\"q\"", b" s ", b"tab\there", "caf\u{e9}".as_bytes()];
    for name in names {
        repo.write(name, "1\n");
    }
    repo.commit("Names");
    for name in names {
        repo.write(name, "2\n");
    }
    let mut expected: Vec<String> = names.iter().map(|name| crate::workspace::show::name(name)).collect();
    expected.sort();
    for untracked in [Untracked::Exclude, Untracked::Include] {
        let planned = repo.review(&working_tree(untracked));
        let mut found: Vec<String> = planned.change.files.iter().map(|file| file.path.clone()).collect();
        found.sort();
        assert_eq!(found, expected);
    }
    assert!(expected.contains(&"new\nline".to_owned()) && !expected.iter().any(|name| name.contains('\u{fffd}')));
}

#[test]
fn a_crafted_tree_delivers_only_what_can_be() {
    let repo = Repo::new();
    let blob = repo.git(&["rev-parse", "HEAD:a.txt"]);
    let inner = object(&repo, "tree", &tree_entry("100644", b"config", &blob));
    let nul = object(&repo, "blob", b"/etc\0/passwd");
    let mut top = Vec::new();
    for (mode, name, id) in [
        ("100644", &b".."[..], &blob),
        ("40000", b".GIT", &inner),
        ("40000", b".git", &inner),
        ("100644", b"AGENTS.md", &blob),
        ("100666", b"a", &blob),
        ("100644", b"a/b", &blob),
        ("120000", b"bad-link", &nul),
        ("100644", b"same", &blob),
        ("100755", b"same", &blob),
    ] {
        top.extend(tree_entry(mode, name, id));
    }
    let id = object(&repo, "tree", &top);
    let parent = repo.git(&["rev-parse", "HEAD"]);
    let evil = repo.git(&["commit-tree", "-p", &parent, "-m", "Evil", &id]);
    let planned = repo.review(&commit(&evil));
    assert!(planned.coverage.omission_reasons.iter().any(|reason| reason.contains("no working tree may have")), "{:?}", planned.coverage);
    assert_eq!(planned.change.instruction_files, ["AGENTS.md"]);
    let snapshot = unpack(planned.plan);
    assert_eq!(snapshot.tree, tree([(b"a", file("one\ntwo\n")), (b"same", file("one\ntwo\n"))]));
    let mut left: Vec<_> = snapshot.summary.left_out.iter().map(|l| (l.path.path.as_str(), l.why.as_str())).collect();
    left.sort_unstable();
    let refused = "refused_name";
    assert_eq!(
        left,
        [
            ("..", refused),
            (".GIT/config", refused),
            (".git/config", refused),
            ("AGENTS.md", "agent_instructions"),
            ("a/b", refused),
            ("bad-link", "refused_link"),
            ("same", refused)
        ]
    );
}

#[test]
fn content_that_has_not_its_id_is_an_error() {
    let repo = Repo::new();
    let loose = |id: &str| repo.top().join(".git/objects").join(&id[..2]).join(&id[2..]);
    let (one, other) = (repo.git(&["rev-parse", "HEAD:a.txt"]), repo.git(&["rev-parse", "HEAD:dir/b.txt"]));
    let bytes = std::fs::read(loose(&other)).unwrap();
    std::fs::remove_file(loose(&one)).unwrap();
    std::fs::write(loose(&one), bytes).unwrap();
    let error = match repo.try_review(&commit("HEAD")) {
        Err(error) => error,
        Ok(planned) => crate::workspace::pack(planned.plan, &mut |_, _| Ok(())).err().expect("the object is not what its id says"),
    };
    assert_eq!(error.code, Code::WorktreeError, "{error:?}");
}

#[test]
fn missing_objects_are_told_and_not_fetched() {
    let repo = Repo::new();
    repo.write("more.txt", "1\n");
    repo.commit("Two");
    let url = format!("file://{}", repo.top().display());
    repo.git(&["config", "uploadpack.allowFilter", "true"]);
    git(&repo.base(), &["clone", "-q", "--no-checkout", "--filter=blob:none", &url, "partial"]);
    let error = plan_review(&repo.base().join("partial"), &WorkspaceSettings::default(), &commit("HEAD")).err().unwrap();
    assert!(error.code == Code::WorktreeError && error.hint.as_ref().unwrap().contains("git archive"), "{error:?}");
}

#[test]
fn a_foreign_git_directory_hands_over_no_content() {
    let private = Repo::new();
    let repo = Repo::new();
    std::fs::remove_dir_all(repo.top().join(".git")).unwrap();
    repo.write(".git", format!("gitdir: {}\n", private.top().join(".git").display()));
    for request in [branch("main"), commit("HEAD"), working_tree(Untracked::Exclude)] {
        assert_eq!(repo.refused(&request).code, Code::UnsafeRepository);
    }
    // Objects elsewhere: only where the caller allows the place.
    git(&repo.base(), &["clone", "-q", "--shared", &private.top().display().to_string(), "borrower"]);
    let borrower = repo.base().join("borrower");
    let caps = WorkspaceSettings::default();
    let error = plan_review(&borrower, &caps, &commit("HEAD")).err().unwrap();
    assert!(error.code == Code::UnsafeRepository && error.hint.unwrap().contains("[roots]"));
    let roots = [repo.base(), private.base()];
    assert_eq!(paths(&plan_review_within(&borrower, &roots, &caps, &commit("HEAD")).unwrap()).len(), 3);
    assert_eq!(plan_review_within(&borrower, &roots[..1], &caps, &commit("HEAD")).err().unwrap().code, Code::WorkspaceOutsideRoots);
}

#[test]
fn references_that_are_no_files_do_not_block() {
    let repo = Repo::new();
    fifo(&repo.top().join(".git/refs/heads/pipe"));
    fifo(&repo.top().join(".git/FETCH_HEAD"));
    repo.link(".git/refs/heads/out", "/etc/passwd");
    repo.link(".git/refs/heads/loop", "loop");
    std::fs::write(repo.top().join(".git/refs/heads/circle"), "ref: refs/heads/circle\n").unwrap();
    std::fs::write(repo.top().join(".git/refs/heads/up"), "ref: ../../../x\n").unwrap();
    for base in ["pipe", "FETCH_HEAD", "circle"] {
        assert_eq!(repo.refused(&branch(base)).code, Code::InvalidBase, "{base}");
    }
    for base in ["out", "loop", "up"] {
        assert!(matches!(repo.refused(&branch(base)).code, Code::InvalidBase | Code::WorktreeError), "{base}");
    }
}

#[test]
fn special_files_and_links_are_not_read_as_content() {
    let repo = Repo::new();
    repo.write("pipe", "x\n");
    repo.commit("Pipe");
    repo.remove("pipe");
    fifo(&repo.path("pipe"));
    repo.remove("a.txt");
    repo.link("a.txt", "/etc/passwd");
    std::fs::remove_dir_all(repo.path("dir")).unwrap();
    repo.link("dir", "/etc");
    let planned = repo.review(&working_tree(Untracked::Exclude));
    let shown = text(&planned);
    assert!(shown.contains("+/etc/passwd\n") && !shown.contains("root:"), "a link is its text");
    assert_eq!(paths(&planned), ["a.txt", "dir/b.txt", "dir/deep/c.txt", "pipe"]);
    assert_eq!(planned.omitted.iter().map(|o| (o.path.path.as_str(), o.why)).collect::<Vec<_>>(), [("pipe", "special_file")]);
}

#[test]
fn a_commit_graph_that_lies_is_not_asked() {
    let repo = Repo::new();
    repo.git(&["checkout", "-q", "-b", "work"]);
    // git reads the first commits themselves, and believes the graph of those behind.
    for text in ["1\n", "2\n", "3\n"] {
        repo.write("a.txt", text);
        repo.commit("Work");
    }
    let honest = repo.review(&branch("main"));
    repo.git(&["commit-graph", "write", "--reachable"]);
    let file = repo.top().join(".git/objects/info/commit-graph");
    let mut bytes = std::fs::read(&file).unwrap();
    // The table of chunks begins after eight bytes: a name of four, an offset of eight. A commit's data: its tree, its parents, its time.
    let entry = bytes[8..].chunks(12).find(|entry| entry.starts_with(b"CDAT")).unwrap();
    let data = usize::try_from(u64::from_be_bytes(entry[4..12].try_into().unwrap())).unwrap();
    for commit in 0..4 {
        let parent = data + commit * 36 + 20;
        bytes[parent..parent + 4].copy_from_slice(&0x7000_0000u32.to_be_bytes());
    }
    std::fs::remove_file(&file).unwrap();
    std::fs::write(&file, bytes).unwrap();
    assert_eq!(repo.review(&branch("main")).diff, honest.diff);
    // The control: whoever asks it is misled.
    let misled = git_output(&repo.top(), &["-c", "core.commitGraph=true", "merge-base", "main", "HEAD"]);
    assert_ne!(String::from_utf8_lossy(&misled.stdout).trim_end(), repo.git(&["-c", "core.commitGraph=false", "merge-base", "main", "HEAD"]));
}

#[test]
fn caps_hold_for_commits() {
    let repo = Repo::new();
    let caps = |change: fn(&mut WorkspaceSettings)| {
        let mut caps = WorkspaceSettings::default();
        change(&mut caps);
        plan_review(&repo.top(), &caps, &commit("HEAD")).err().map(|e| e.code)
    };
    use crate::config::ByteSize;
    assert_eq!(caps(|_| {}), None);
    assert_eq!(caps(|c| c.max_files = 2), Some(Code::WorkspaceTooLarge));
    assert_eq!(caps(|c| c.max_bytes = ByteSize(9)), Some(Code::WorkspaceTooLarge));
    assert_eq!(caps(|c| c.max_file = ByteSize(7)), Some(Code::WorkspaceTooLarge));
    assert_eq!(caps(|c| c.max_path = 5), Some(Code::WorkspaceTooLarge));
}
