//! Repositories that want something of whoever reads them.

use super::snapshot::fifo;
use super::*;
use crate::error::Code;
use crate::workspace::{applies, apply, plan};

/// A script that leaves a marker when it runs.
pub(super) fn trap(repo: &Repo, name: &str) -> String {
    let script = repo.base().join(format!("trap-{name}"));
    let marker = repo.base().join("markers").join(name);
    write_file(
        &script,
        format!("#!/bin/sh\nmkdir -p '{}'\ntouch '{}'\ncat 2>/dev/null\n", marker.parent().unwrap().display(), marker.display()).as_bytes(),
    );
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    script.display().to_string()
}

pub(super) fn markers(repo: &Repo) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(repo.base().join("markers")) else { return Vec::new() };
    let mut names: Vec<String> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

pub(super) fn clear_markers(repo: &Repo) {
    std::fs::remove_dir_all(repo.base().join("markers")).ok();
}

/// A repository whose configuration runs something at every turn.
pub(super) fn booby_trapped() -> Repo {
    let repo = Repo::new();
    repo.write("evil.txt", "one\n");
    repo.write(".gitattributes", "* filter=evil diff=evil merge=evil\n*.bin filter=process\n");
    repo.write("x.bin", "x");
    repo.commit("Traps");
    for (key, name) in [
        ("core.fsmonitor", "fsmonitor"),
        ("core.pager", "pager"),
        ("core.editor", "editor"),
        ("core.sshCommand", "ssh"),
        ("core.gitProxy", "proxy"),
        ("core.alternateRefsCommand", "alternate-refs"),
        ("credential.helper", "credential"),
        ("gpg.program", "gpg"),
        ("diff.external", "external-diff"),
        ("diff.evil.textconv", "textconv"),
        ("filter.evil.clean", "clean"),
        ("filter.evil.smudge", "smudge"),
        ("filter.process.process", "process"),
        ("merge.evil.driver", "merge"),
        ("alias.st", "alias"),
        ("uploadpack.packObjectsHook", "pack-hook"),
    ] {
        let script = trap(&repo, name);
        repo.git(&["config", key, &if name == "alias" { format!("!{script}") } else { script }]);
    }
    let included = repo.base().join("included");
    write_file(&included, format!("[core]\n\thooksPath = {}\n[log]\n\tshowSignature = true\n", repo.base().join("hooks").display()).as_bytes());
    repo.git(&["config", "include.path", &included.display().to_string()]);
    for hook in ["post-index-change", "post-checkout", "applypatch-msg", "pre-applypatch", "reference-transaction"] {
        let script = trap(&repo, hook);
        write_file(&repo.base().join("hooks").join(hook), std::fs::read(script).unwrap().as_slice());
        std::fs::set_permissions(repo.base().join("hooks").join(hook), std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    // Touched, and changed with the size kept: every comparison must read it.
    std::thread::sleep(std::time::Duration::from_millis(20));
    repo.write("evil.txt", "two\n");
    repo.write("a.txt", "one\ntwo\n");
    clear_markers(&repo);
    repo
}

#[test]
fn nothing_in_the_configuration_runs() {
    let repo = booby_trapped();
    let before = fingerprint(&repo.top());
    let plan = repo.plan().unwrap();
    assert!(plan.summary().dirty);
    let snapshot = unpack(plan);
    assert_eq!(snapshot.tree[b"evil.txt".as_slice()], file("two\n"));
    let mut new = snapshot.tree.clone();
    new.insert(b"evil.txt".to_vec(), file("three\n"));
    let changes = changes(&snapshot.tree, &new);
    let collected = crate::workspace::collect(&snapshot.manifest, &changes).unwrap();
    assert!(applies(&repo.top(), &changes).unwrap().exact);
    assert_eq!(fingerprint(&repo.top()), before);
    // The way through `git apply`, too: the file was edited elsewhere.
    repo.write("evil.txt", "two\n\n\n\n\nmore\n");
    assert!(!applies(&repo.top(), &changes).unwrap().exact);
    let _ = apply(&repo.top(), &changes, collected.patch.as_ref().unwrap());
    assert_eq!(markers(&repo), Vec::<String>::new());
}

#[test]
fn the_traps_work_control() {
    let repo = booby_trapped();
    git_output(&repo.top(), &["status"]);
    git_output(&repo.top(), &["diff"]);
    git_output(&repo.top(), &["-c", "diff.external=", "diff", "--no-ext-diff"]);
    git_output(&repo.top(), &["st"]);
    git_output(&repo.top(), &["checkout", "--", "evil.txt"]);
    let sprung = markers(&repo);
    for name in ["fsmonitor", "clean", "external-diff", "textconv", "alias", "smudge", "post-index-change", "post-checkout"] {
        assert!(sprung.iter().any(|m| m == name), "{name} is not in {sprung:?}");
    }
}

#[test]
fn a_submodule_is_not_entered() {
    let other = Repo::new();
    let repo = Repo::new();
    repo.git(&["-c", "protocol.file.allow=always", "submodule", "--quiet", "add", &other.top().display().to_string(), "module"]);
    repo.commit("Module");
    let script = trap(&repo, "fsmonitor");
    git(&repo.path("module"), &["config", "core.fsmonitor", &script]);
    std::fs::write(repo.path("module/a.txt"), "dirty").unwrap();
    clear_markers(&repo);
    repo.snapshot();
    assert_eq!(markers(&repo), Vec::<String>::new());
    git_output(&repo.top(), &["status"]);
    assert_eq!(markers(&repo), ["fsmonitor"]);
}

#[test]
fn a_configured_work_tree_is_not_believed() {
    let repo = Repo::new();
    let elsewhere = repo.base().join("elsewhere");
    write_file(&elsewhere.join("a.txt"), b"CANARY");
    repo.git(&["config", "core.worktree", &elsewhere.display().to_string()]);
    assert_eq!(repo.snapshot().tree[b"a.txt".as_slice()], file("one\ntwo\n"));
}

#[test]
fn links_and_special_files_in_the_tree() {
    let repo = Repo::new();
    let outside = repo.base().join("outside");
    write_file(&outside.join("b.txt"), b"CANARY");
    write_file(&outside.join("deep/c.txt"), b"CANARY");
    for name in ["fifo", "socket", "was-file"] {
        repo.write(name, "x");
    }
    repo.write("parent/under", "u");
    repo.link("passwd", "/etc/passwd");
    repo.commit("Special");
    std::fs::remove_dir_all(repo.path("dir")).unwrap();
    repo.link("dir", outside.as_os_str().as_bytes());
    repo.remove("fifo");
    fifo(&repo.path("fifo"));
    repo.remove("socket");
    let _socket = std::os::unix::net::UnixListener::bind(repo.path("socket")).unwrap();
    repo.remove("was-file");
    repo.write("was-file/inside", "untracked");
    std::fs::remove_dir_all(repo.path("parent")).unwrap();
    repo.write("parent", "now a file");
    let snapshot = repo.snapshot();
    assert_eq!(snapshot.tree, tree([(b"a.txt", file("one\ntwo\n")), (b"passwd", link("/etc/passwd"))]));
    let left_out: Vec<_> = snapshot.summary.left_out.iter().map(|l| (l.path.path.as_str(), l.why.as_str())).collect();
    assert_eq!(
        left_out,
        [
            ("dir/b.txt", "beyond_symlink"),
            ("dir/deep/c.txt", "beyond_symlink"),
            ("fifo", "special_file"),
            ("socket", "special_file"),
            ("was-file", "directory")
        ]
    );
    assert_eq!(snapshot.summary.deleted_files, 1);
}

/// Names in the index replaced by others of the same length, with a checksum that fits.
fn craft_index(repo: &Repo, replace: &[(&[u8], &[u8])]) {
    use sha1::Digest as _;
    let path = repo.top().join(".git/index");
    let mut bytes = std::fs::read(&path).unwrap();
    for (from, to) in replace {
        assert_eq!(from.len(), to.len());
        let at = bytes.windows(from.len()).position(|w| w == *from).unwrap();
        bytes[at..at + to.len()].copy_from_slice(to);
    }
    let end = bytes.len() - 20;
    let digest = sha1::Sha1::digest(&bytes[..end]);
    bytes[end..].copy_from_slice(&digest);
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn a_crafted_index_is_refused_by_name_and_the_rest_is_sent() {
    let repo = Repo::new();
    for name in ["Xgit/config", "XGIT/x", "gitX1/f", "aa/bb/x", "Yabs/f", "dfXx", "mod", "modXin"] {
        repo.write(name, "CANARY");
    }
    write_file(&repo.base().join("x"), b"CANARY");
    repo.commit("Names");
    let id = repo.git(&["rev-parse", "HEAD"]);
    repo.git(&["rm", "-q", "--cached", "mod"]);
    repo.git(&["update-index", "--add", "--cacheinfo", &format!("160000,{id},mod")]);
    repo.git(&["update-index", "--index-version", "2"]);
    repo.remove("mod");
    repo.write("mod/in", "CANARY");
    repo.remove("dfXx");
    repo.write("df/x", "x");
    craft_index(
        &repo,
        &[
            (b"Xgit/config", b".git/config"),
            (b"XGIT/x", b".GIT/x"),
            (b"gitX1/f", b"git~1/f"),
            (b"aa/bb/x", b"../../x"),
            (b"Yabs/f", b"/abs/f"),
            (b"dfXx", b"df/x"),
            (b"modXin", b"mod/in"),
        ],
    );
    let snapshot = repo.snapshot();
    let mut left_out: Vec<_> = snapshot.summary.left_out.iter().map(|l| (l.path.path.as_str(), l.why.as_str())).collect();
    left_out.sort_unstable();
    let refused = ["../../x", ".GIT/x", ".git/config", "/abs/f", "git~1/f", "mod/in"].map(|name| (name, "refused_name"));
    assert_eq!(left_out, refused);
    assert!(!snapshot.tree.values().any(|(_, content)| content == b"CANARY"));
    assert_eq!(snapshot.tree.keys().map(Vec::as_slice).collect::<Vec<_>>(), [&b"a.txt"[..], b"df/x", b"dir/b.txt", b"dir/deep/c.txt", b"mod"]);
}

#[test]
fn a_corrupt_index_is_an_error_and_not_an_empty_workspace() {
    let repo = Repo::new();
    for damage in [&b"garbage"[..], b"", b"DIRC\0\0\0\x02\xff\xff\xff\xff"] {
        std::fs::write(repo.top().join(".git/index"), damage).unwrap();
        match repo.plan() {
            Err(error) => assert!(matches!(error.code, Code::WorktreeError | Code::WorkspaceTooLarge), "{error:?}"),
            // git takes an empty file for an empty index.
            Ok(plan) => assert!(damage.is_empty() && plan.summary().files == 0),
        }
    }
}

#[test]
fn special_files_in_the_git_directory_do_not_block() {
    for (name, codes) in [
        ("HEAD", [Code::WorktreeError]),
        ("refs/heads/main", [Code::WorktreeError]),
        ("index", [Code::WorktreeError]),
        ("config", [Code::WorktreeError]),
    ] {
        let repo = Repo::new();
        let at = repo.top().join(".git").join(name);
        std::fs::remove_file(&at).unwrap();
        fifo(&at);
        assert!(codes.contains(&repo.plan().err().unwrap().code), "{name}");
    }
}

#[test]
fn a_repository_of_another_user_is_refused() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let repo = Repo::new();
    let other = Some(rustix::fs::Uid::from_raw(12345));
    let chown = |path: &Path, uid| rustix::fs::chownat(rustix::fs::CWD, path, uid, None, rustix::fs::AtFlags::empty()).unwrap();
    for part in [repo.top(), repo.top().join(".git")] {
        chown(&part, other);
        let error = repo.plan().err().unwrap();
        assert!(error.code == Code::UnsafeRepository && error.hint.unwrap().contains("safe.directory"), "{part:?}");
        chown(&part, Some(rustix::process::geteuid()));
    }
    assert!(repo.plan().is_ok());
}

#[test]
fn objects_in_an_odd_place_are_still_found() {
    // The path of the real objects goes into a file with its own syntax.
    let repo = Repo::new();
    for name in ["#hash", "new\nline", "quo\"te", "caf\u{e9}", "a:b"] {
        let at = repo.base().join(name);
        git(&repo.base(), &["clone", "-q", "--no-hardlinks", &repo.top().display().to_string(), name]);
        assert_eq!(plan(&at, &WorkspaceSettings::default()).unwrap().head_subject(), Some("Start here"), "{name:?}");
    }
}
