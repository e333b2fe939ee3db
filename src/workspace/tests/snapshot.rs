//! Plan and pack on repositories as people have them.

use super::*;
use crate::config::ByteSize;
use crate::error::Code;
use crate::workspace::plan;

fn names(shown: &[crate::workspace::ShownPath]) -> Vec<&str> {
    shown.iter().map(|p| p.path.as_str()).collect()
}

fn left_out(summary: &SnapshotSummary) -> Vec<(&str, &str)> {
    summary.left_out.iter().map(|l| (l.path.path.as_str(), l.why.as_str())).collect()
}

#[test]
fn a_dirty_tree_is_sent_as_it_lies_there_and_stays_as_it_is() {
    let repo = Repo::new();
    repo.write("bin", b"\0\x01");
    repo.write("gone", "x");
    repo.link("link", "/etc/passwd");
    repo.write("tool", "#!/bin/sh\n");
    std::fs::set_permissions(repo.path("tool"), std::fs::Permissions::from_mode(0o755)).unwrap();
    repo.write(".gitignore", "ignored\n");
    repo.write(".gitattributes", "*.txt export-ignore export-subst text eol=crlf ident\n");
    repo.commit("More");
    repo.write("a.txt", "$Id$ uncommitted\r\n");
    repo.write("bin", b"\0\x02");
    repo.write("staged", "staged");
    repo.git(&["add", "staged"]);
    repo.write("staged", "then edited");
    repo.remove("gone");
    repo.write("untracked", "SECRET");
    repo.write("ignored", "SECRET");
    let before = fingerprint(&repo.base());
    let plan = repo.plan().unwrap();
    assert_eq!((plan.summary().files, plan.summary().deleted_files, plan.summary().dirty), (9, 1, true));
    let snapshot = unpack(plan);
    assert_eq!(fingerprint(&repo.base()), before);
    let expected = tree([
        (b".gitattributes", file("*.txt export-ignore export-subst text eol=crlf ident\n")),
        (b".gitignore", file("ignored\n")),
        (b"a.txt", file("$Id$ uncommitted\r\n")),
        (b"bin", file(b"\0\x02")),
        (b"dir/b.txt", file("b\n")),
        (b"dir/deep/c.txt", file("c\n")),
        (b"link", link("/etc/passwd")),
        (b"staged", file("then edited")),
        (b"tool", exec("#!/bin/sh\n")),
    ]);
    assert_eq!(snapshot.tree, expected);
    let summary = snapshot.summary;
    assert_eq!((summary.files, summary.deleted_files, summary.left_out_count, summary.untracked_sent), (9, 1, 0, false));
    assert_eq!(summary.bytes, expected.values().map(|(_, bytes)| bytes.len() as u64).sum::<u64>());
}

#[test]
fn head_branch_and_subject() {
    let repo = Repo::new();
    let plan = repo.plan().unwrap();
    assert_eq!(plan.head_subject(), Some("Start here"));
    assert_eq!(plan.summary().head.as_deref(), Some(repo.git(&["rev-parse", "HEAD"]).as_str()));
    assert_eq!((plan.summary().branch.as_deref(), plan.summary().dirty, plan.summary().shallow), (Some("main"), false, false));
    assert_eq!((plan.root(), plan.subdirectory()), (repo.top().as_path(), None));
    repo.git(&["pack-refs", "--all"]);
    assert_eq!(repo.plan().unwrap().summary().head, plan.summary().head);
    repo.git(&["checkout", "-q", "--detach"]);
    let plan = repo.plan().unwrap();
    assert_eq!((plan.summary().branch.as_deref(), plan.summary().dirty), (None, false));
    // A touched file with the same content is no change.
    std::thread::sleep(std::time::Duration::from_millis(20));
    repo.write("a.txt", "one\ntwo\n");
    assert!(!repo.plan().unwrap().summary().dirty);
    repo.write("a.txt", "one\nTWO\n");
    assert!(repo.plan().unwrap().summary().dirty);
    repo.git(&["add", "a.txt"]);
    assert!(repo.plan().unwrap().summary().dirty);
}

#[test]
fn a_subdirectory_is_known_and_the_whole_tree_is_sent() {
    let repo = Repo::new();
    let plan = plan(&repo.path("dir/deep"), &WorkspaceSettings::default()).unwrap();
    assert_eq!(plan.subdirectory().map(RepoPath::as_bytes), Some(&b"dir/deep"[..]));
    assert_eq!(unpack(plan).tree.len(), 3);
}

#[test]
fn a_linked_worktree() {
    let repo = Repo::new();
    repo.git(&["worktree", "add", "-q", "-b", "side", "../side"]);
    let side = repo.base().join("side");
    std::fs::write(side.join("a.txt"), "in the worktree\n").unwrap();
    let plan = plan(&side, &WorkspaceSettings::default()).unwrap();
    assert_eq!((plan.root(), plan.summary().branch.as_deref(), plan.summary().dirty), (side.as_path(), Some("side"), true));
    assert_eq!(unpack(plan).tree[b"a.txt".as_slice()], file("in the worktree\n"));
}

#[test]
fn a_worktree_of_a_bare_clone_works_and_the_clone_itself_is_refused_by_name() {
    let repo = Repo::new();
    git(&repo.base(), &["clone", "-q", "--bare", "repo", "bare"]);
    let bare = repo.base().join("bare");
    git(&bare, &["worktree", "add", "-q", "../tree", "main"]);
    assert_eq!(plan(&repo.base().join("tree"), &WorkspaceSettings::default()).unwrap().summary().files, 3);
    for place in [bare.clone(), bare.join("refs"), repo.top().join(".git"), repo.top().join(".git/objects")] {
        let error = plan(&place, &WorkspaceSettings::default()).err().unwrap();
        assert!(error.code == Code::WorktreeError && error.message.contains("bare"), "{place:?}: {error}");
    }
}

#[test]
fn shallow_shared_and_partial_clones() {
    let repo = Repo::new();
    repo.write("a.txt", "second\n");
    repo.commit("Second");
    repo.git(&["config", "uploadpack.allowFilter", "true"]);
    let url = format!("file://{}", repo.top().display());
    git(&repo.base(), &["clone", "-q", "--depth", "1", &url, "shallow"]);
    git(&repo.base(), &["clone", "-q", "--shared", "repo", "shared"]);
    git(&repo.base(), &["clone", "-q", "--filter=blob:none", &url, "partial"]);
    // What HEAD says in a shared clone comes from another repository, and so is not handed over.
    for (name, shallow, subject) in [("shallow", true, Some("Second")), ("shared", false, None), ("partial", false, Some("Second"))] {
        let plan = plan(&repo.base().join(name), &WorkspaceSettings::default()).unwrap();
        assert_eq!((plan.summary().shallow, plan.summary().dirty, plan.head_subject()), (shallow, false, subject), "{name}");
        assert_eq!(unpack(plan).tree, repo.snapshot().tree, "{name}");
    }
}

#[test]
fn sparse_checkouts_count_what_is_not_there() {
    for sparse_index in ["--sparse-index", "--no-sparse-index"] {
        let repo = Repo::new();
        repo.git(&["sparse-checkout", "set", "--cone", sparse_index, "nothing"]);
        assert!(!repo.path("dir").exists());
        let plan = repo.plan().unwrap();
        let summary = plan.summary();
        assert_eq!((summary.files, summary.sparse_files, summary.deleted_files, summary.dirty), (1, 2, 0, false), "{sparse_index}");
        assert_eq!(unpack(plan).tree, tree([(b"a.txt", file("one\ntwo\n"))]));
    }
}

#[test]
fn indexes_of_every_version_and_a_split_one() {
    let repo = Repo::new();
    for version in ["2", "3", "4"] {
        repo.git(&["update-index", "--index-version", version]);
        assert_eq!(repo.snapshot().tree.len(), 3, "version {version}");
    }
    repo.git(&["update-index", "--split-index"]);
    repo.write("new", "n");
    repo.git(&["add", "new"]);
    repo.git(&["rm", "-q", "--cached", "a.txt"]);
    assert_eq!(repo.snapshot().tree.keys().map(Vec::as_slice).collect::<Vec<_>>(), [&b"dir/b.txt"[..], b"dir/deep/c.txt", b"new"]);
    repo.git(&["update-index", "--no-split-index", "--untracked-cache"]);
    repo.git(&["update-index", "--assume-unchanged", "new"]);
    repo.write("new", "edited although assumed unchanged");
    assert_eq!(repo.snapshot().tree[b"new".as_slice()], file("edited although assumed unchanged"));
}

#[test]
fn intent_to_add_and_unmerged_are_sent_once_as_they_lie_there() {
    let repo = Repo::new();
    repo.write("intended", "soon\n");
    repo.git(&["add", "-N", "intended"]);
    assert_eq!(repo.snapshot().tree[b"intended".as_slice()], file("soon\n"));
    repo.git(&["reset", "-q", "--hard"]);
    std::fs::remove_file(repo.path("intended")).ok();
    repo.git(&["checkout", "-q", "-b", "other"]);
    repo.write("a.txt", "other\n");
    repo.commit("Other");
    repo.git(&["checkout", "-q", "main"]);
    repo.write("a.txt", "main\n");
    repo.commit("Main");
    assert!(!git_output(&repo.top(), &["merge", "other"]).status.success());
    let snapshot = repo.snapshot();
    assert_eq!((snapshot.summary.unmerged_files, snapshot.summary.files, snapshot.summary.dirty), (1, 3, true));
    assert!(snapshot.tree[b"a.txt".as_slice()].1.starts_with(b"<<<<<<<"));
}

#[test]
fn sha256_and_reftable_repositories() {
    for args in [&["--object-format=sha256"][..], &["--ref-format=reftable"]] {
        let repo = Repo::empty(args);
        repo.write("f", "x\n");
        let error = repo.plan().err().unwrap();
        assert_eq!(error.code, Code::WorktreeError);
        repo.commit("One");
        let plan = repo.plan().unwrap();
        assert_eq!((plan.summary().branch.as_deref(), plan.summary().dirty), (Some("main"), false), "{args:?}");
        assert_eq!(plan.summary().head.as_deref(), Some(repo.git(&["rev-parse", "HEAD"]).as_str()));
        let snapshot = unpack(plan);
        assert_eq!(snapshot.manifest.entries[0].id.to_hex(), repo.git(&["rev-parse", "HEAD:f"]));
        repo.git(&["worktree", "add", "-q", "-b", "side", "../side"]);
        let side = crate::workspace::plan(&repo.base().join("side"), &WorkspaceSettings::default()).unwrap();
        assert_eq!((side.summary().branch.as_deref(), side.summary().files), (Some("side"), 1), "{args:?}");
    }
}

#[test]
fn submodules_and_lfs_pointers_are_reported() {
    let repo = Repo::new();
    let other = Repo::new();
    repo.git(&["-c", "protocol.file.allow=always", "submodule", "--quiet", "add", &other.top().display().to_string(), "module"]);
    repo.write("model.bin", "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n");
    repo.commit("Module");
    let snapshot = repo.snapshot();
    assert_eq!(names(&snapshot.summary.submodules), ["module"]);
    assert_eq!(names(&snapshot.summary.lfs_pointers), ["model.bin"]);
    assert_eq!((snapshot.summary.submodule_count, snapshot.summary.lfs_pointer_count, snapshot.summary.files), (1, 1, 5));
    assert_eq!(snapshot.tree[b"module".as_slice()], (Mode::Submodule, Vec::new()));
    let entry = snapshot.manifest.find(b"module").unwrap();
    assert_eq!((entry.id.to_hex(), entry.size), (repo.git(&["rev-parse", "HEAD:module"]), 0));
    // Inside of the module it is a repository of its own, whose git directory a file points to.
    let inside = plan(&repo.path("module"), &WorkspaceSettings::default()).unwrap();
    assert_eq!((inside.root(), inside.summary().files), (repo.path("module").as_path(), 3));
}

#[test]
fn a_worktree_without_file_modes_takes_them_from_the_index() {
    let repo = Repo::new();
    repo.git(&["update-index", "--chmod=+x", "a.txt"]);
    repo.git(&["config", "core.fileMode", "false"]);
    assert_eq!(repo.snapshot().tree[b"a.txt".as_slice()].0, Mode::Executable);
    repo.git(&["config", "core.fileMode", "true"]);
    assert_eq!(repo.snapshot().tree[b"a.txt".as_slice()].0, Mode::File);
}

#[test]
fn names_of_every_kind_and_case_pairs_come_through() {
    let repo = Repo::empty(&[]);
    let long = [b'n'; 255];
    let names: [&[u8]; 9] = [b"new\nline", b"tab\t", b"-rf", b"quo\"te", b"\xff\xfe", b"cr\r", "rtl\u{202e}".as_bytes(), b"README", b"readme"];
    for name in names.iter().copied().chain([&long[..]]) {
        repo.write(name, name);
    }
    repo.commit("Names");
    let snapshot = repo.snapshot();
    assert_eq!(snapshot.tree.len(), 10);
    assert!(snapshot.tree.iter().all(|(name, (_, content))| name == content));
}

#[test]
fn frames_are_cut_at_file_boundaries_and_large_files_stand_alone() {
    let repo = Repo::empty(&[]);
    // Content that does not compress to nothing.
    let noise = |seed: u32, len: usize| -> Vec<u8> {
        let mut state = seed;
        (0..len)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 24) as u8
            })
            .collect()
    };
    for n in 0..12 {
        repo.write(format!("small{n:02}"), noise(n, 900_000));
    }
    repo.write("huge", noise(99, 13 << 20));
    repo.write("empty", "");
    repo.commit("Frames");
    let snapshot = repo.snapshot();
    assert_eq!(snapshot.tree.len(), 14);
    assert_eq!(snapshot.tree[b"huge".as_slice()].1, noise(99, 13 << 20));
    let frames: Vec<u64> = snapshot.manifest.frames.iter().map(|f| f.plain).collect();
    assert_eq!(frames, [0, 13 << 20, 4_500_000, 4_500_000, 1_800_000]);
}

#[test]
fn caps_refuse_before_any_content_is_read() {
    let repo = Repo::new();
    let sparse = std::fs::File::create(repo.path("sparse")).unwrap();
    repo.git(&["add", "-N", "sparse"]);
    sparse.set_len(10 << 30).unwrap();
    let caps = |change: &dyn Fn(&mut WorkspaceSettings)| {
        let mut caps = WorkspaceSettings { max_bytes: ByteSize(1 << 40), max_file: ByteSize(1 << 40), ..WorkspaceSettings::default() };
        change(&mut caps);
        let error = plan(&repo.top(), &caps).err().unwrap();
        assert!(error.code == Code::WorkspaceTooLarge && error.hint.is_some());
        let number = |key: &str| error.details[key].as_u64().unwrap();
        (error.details["cap"].as_str().unwrap().to_owned(), number("limit"), number("actual"))
    };
    assert_eq!(caps(&|c| c.max_files = 3), ("max_files".to_owned(), 3, 4));
    assert_eq!(caps(&|c| c.max_path = 13), ("max_path".to_owned(), 13, 14));
    assert_eq!(caps(&|c| c.max_file = ByteSize(1 << 20)), ("max_file".to_owned(), 1 << 20, 10 << 30));
    assert_eq!(caps(&|c| c.max_bytes = ByteSize(1 << 30)), ("max_bytes".to_owned(), 1 << 30, (10 << 30) + 12));
}

#[test]
fn what_changes_between_plan_and_pack_is_said() {
    let repo = Repo::new();
    for name in ["grows", "vanishes", "becomes-fifo", "becomes-link", "link-becomes-file"] {
        repo.write(name, name);
    }
    repo.remove("link-becomes-file");
    repo.link("link-becomes-file", "x");
    repo.write("big", vec![7; 9 << 20]);
    repo.commit("Race");
    let plan = repo.plan().unwrap();
    repo.write("grows", "grown meanwhile");
    for name in ["vanishes", "becomes-fifo", "becomes-link", "link-becomes-file", "big"] {
        repo.remove(name);
    }
    fifo(&repo.path("becomes-fifo"));
    repo.link("becomes-link", "/etc/passwd");
    repo.write("link-becomes-file", "now a file");
    std::fs::remove_dir_all(repo.path("dir")).unwrap();
    repo.link("dir", "/etc");
    let snapshot = unpack(plan);
    let expected = tree([
        (b"a.txt", file("one\ntwo\n")),
        (b"becomes-link", link("/etc/passwd")),
        (b"grows", file("grown meanwhile")),
        (b"link-becomes-file", file("now a file")),
    ]);
    assert_eq!(snapshot.tree, expected);
    let mut left = left_out(&snapshot.summary);
    left.sort_unstable();
    assert_eq!(
        left,
        [
            ("becomes-fifo", "special_file"),
            ("big", "changed_while_read"),
            ("dir/b.txt", "beyond_symlink"),
            ("dir/deep/c.txt", "beyond_symlink"),
            ("vanishes", "changed_while_read")
        ]
    );
    assert_eq!(snapshot.summary.left_out_count, 5);
}

pub fn fifo(path: &Path) {
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
}

#[test]
fn an_error_of_the_sink_ends_the_work_and_comes_back() {
    let repo = Repo::new();
    for n in 0..8 {
        repo.write(format!("f{n}"), vec![b'x'; 5 << 20]);
    }
    repo.commit("Big");
    let mut calls = 0;
    let error = crate::workspace::pack(repo.plan().unwrap(), &mut |_, _| {
        calls += 1;
        Err(io::Error::other(crate::error::Error::new(Code::EngineError, "upload")))
    })
    .err()
    .unwrap();
    assert_eq!((error.code, calls), (Code::EngineError, 1));
}

#[test]
fn directories_that_are_no_repository_are_named() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(plan(dir.path(), &WorkspaceSettings::default()).err().unwrap().code, Code::NotAGitRepo);
    assert_eq!(plan(Path::new("x"), &WorkspaceSettings::default()).err().unwrap().code, Code::InvalidWorkspaceRoot);
    let unborn = Repo::empty(&[]);
    let error = unborn.plan().err().unwrap();
    assert!(error.code == Code::WorktreeError && error.message.contains("no commit yet") && error.hint.is_some());
}
