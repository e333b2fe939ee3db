//! The send manifest, and what `.worktreeinclude` brings in.

use super::review::{branch, working_tree};
use super::*;
use crate::error::Code;
use crate::workspace::{Origin, PlanOptions, ReviewRequest, SendManifest, Untracked, manifest_of, plan_with};

const WITH: PlanOptions = PlanOptions { include_ignored: true };

impl Repo {
    fn plan_with(&self, options: PlanOptions) -> Result<Plan> {
        let before = fingerprint(&self.top());
        let planned = plan_with(&self.top(), &[], &WorkspaceSettings::default(), options);
        assert_eq!(fingerprint(&self.top()), before);
        planned
    }
}

fn named(manifest: &SendManifest, origin: Origin) -> Vec<&str> {
    manifest.entries.iter().filter(|entry| entry.origin == origin).map(|entry| entry.path.path.as_str()).collect()
}

/// Files that are ignored, and a list of some of them.
fn with_ignored() -> Repo {
    let repo = Repo::new();
    repo.write(".gitignore", ".env\nbuild/\n*.cache\n");
    repo.write(".worktreeinclude", "# what a build needs\n.env\nbuild/*\n!build/huge.o\nvendor/**/*.jar\n.git/config\n/link\n../x\na.txt\n");
    repo.commit("Ignore");
    repo.write(".env", "TOKEN=1\n");
    repo.write("build/lib.o", "o");
    repo.write("build/huge.o", "no");
    repo.write("build/.git/config", "no");
    repo.write("x.cache", "no");
    repo.write("vendor/deep/y.jar", "untracked, not ignored");
    repo.write("plain", "no");
    write_file(&repo.base().join("x"), b"no");
    repo.link("link", "/etc/passwd");
    repo
}

#[test]
fn ignored_files_are_sent_only_when_asked_and_listed_by_themselves() {
    let repo = with_ignored();
    assert!(!repo.snapshot().tree.contains_key(b".env".as_slice()));
    assert_eq!(manifest_of(&repo.plan().unwrap(), &[]).unwrap().included_count, 0);
    let plan = repo.plan_with(WITH).unwrap();
    let manifest = manifest_of(&plan, &[]).unwrap();
    assert_eq!(named(&manifest, Origin::Included), [".env", "build/lib.o", "link", "vendor/deep/y.jar"]);
    assert_eq!(manifest.included.iter().map(|p| p.path.as_str()).collect::<Vec<_>>(), named(&manifest, Origin::Included));
    assert!(manifest.secret_looking.iter().any(|secret| secret.path.path == ".env" && secret.origin == Origin::Included));
    let snapshot = unpack(plan);
    assert_eq!(snapshot.tree[b".env".as_slice()], file("TOKEN=1\n"));
    assert_eq!(snapshot.tree[b"link".as_slice()], link("/etc/passwd"), "a link is sent as its text");
    assert!(!snapshot.tree.values().any(|(_, bytes)| bytes == b"no"));
    assert_eq!((snapshot.summary.included_count, snapshot.summary.untracked_sent), (4, true));
    assert_eq!((snapshot.summary.included_secret_named, manifest.included_bytes), (1, 8 + 1 + 11 + 22));
    assert_eq!(snapshot.summary.files, manifest.files);
}

#[test]
fn a_list_that_is_no_small_file_is_refused() {
    let repo = with_ignored();
    repo.remove(".worktreeinclude");
    assert_eq!(repo.plan_with(WITH).unwrap().summary().included_count, 0);
    repo.link(".worktreeinclude", ".gitignore");
    assert_eq!(repo.plan_with(WITH).err().unwrap().code, Code::WorktreeError);
    repo.remove(".worktreeinclude");
    repo.write(".worktreeinclude", "x\n".repeat(40_000));
    assert_eq!(repo.plan_with(WITH).err().unwrap().code, Code::WorktreeError);
    assert!(repo.plan().is_ok(), "nobody asked for it");
}

#[test]
fn caps_count_what_is_included() {
    let repo = with_ignored();
    let mut caps = WorkspaceSettings { max_files: 6, ..WorkspaceSettings::default() };
    let plan = |caps: &WorkspaceSettings| plan_with(&repo.top(), &[], caps, WITH).err().map(|e| e.code);
    assert_eq!(plan(&caps), Some(Code::WorkspaceTooLarge));
    caps.max_files = 9;
    assert_eq!(plan(&caps), None);
}

#[test]
fn a_change_under_review_does_not_say_what_is_included() {
    let repo = with_ignored();
    repo.git(&["checkout", "-q", "-b", "evil"]);
    repo.write(".worktreeinclude", "*\n");
    repo.git(&["commit", "-q", "-am", "Evil"]);
    let planned = repo.review(&ReviewRequest { include_ignored: true, ..branch("main") });
    assert_eq!(planned.change.files.len(), 1, "what is included is no part of the change");
    let manifest = manifest_of(&planned.plan, &[]).unwrap();
    assert_eq!(named(&manifest, Origin::Included), [".env", "build/lib.o", "link", "vendor/deep/y.jar"]);
    assert_eq!(named(&manifest, Origin::Commit).len(), 5);
    assert_eq!(unpack(planned.plan).tree[b".worktreeinclude".as_slice()], file("*\n"));
    let lying = repo.review(&ReviewRequest { include_ignored: true, ..working_tree(Untracked::Exclude) });
    assert!(lying.nothing_to_review() && lying.plan.summary().included_count > 4);
}

#[test]
fn the_manifest_is_what_would_be_sent() {
    let repo = Repo::new();
    let token = format!("ghp_{}", "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8s9T0");
    repo.write("config/prod.env", "x");
    repo.write("id_rsa", "key");
    repo.write("src/client.rs", format!("const A: u8 = 1;\nlet token = \"{token}\";\n"));
    repo.write("logo.bin", format!("\0{token}"));
    repo.write("AGENTS.md", "a\n");
    repo.write("dir/AGENTS.md", "b\n");
    repo.write(".agents/skills/x/SKILL.md", "c\n");
    repo.commit("More");
    repo.write("untracked", "u");
    repo.remove("dir/b.txt");
    super::snapshot::fifo(&repo.path("dir/b.txt"));
    let plan = repo.plan().unwrap();
    let before = fingerprint(&repo.top());
    let manifest = manifest_of(&plan, &[]).unwrap();
    assert_eq!(fingerprint(&repo.top()), before);
    let secret: Vec<_> = manifest.secret_looking.iter().map(|s| s.path.path.as_str()).collect();
    assert_eq!(secret, ["id_rsa", "src/client.rs"]);
    assert!(manifest.secret_looking[1].note.contains("a GitHub token") && !serde_json::to_string(&manifest).unwrap().contains(&token));
    assert!(manifest.secrets_scanned_fully);
    let instructions: Vec<_> = manifest.instruction_files.iter().map(|f| (f.path.path.as_str(), f.at_start)).collect();
    assert_eq!(instructions, [(".agents/skills/x/SKILL.md", true), ("AGENTS.md", true), ("dir/AGENTS.md", false)]);
    assert_eq!(manifest.left_out.iter().map(|l| (l.path.path.as_str(), l.why.as_str())).collect::<Vec<_>>(), [("dir/b.txt", "special_file")]);
    let snapshot = unpack(plan);
    assert_eq!((manifest.files, manifest.bytes), (snapshot.summary.files, snapshot.summary.bytes));
    let sent: Vec<_> = snapshot.manifest.entries.iter().map(|e| (crate::display::line(e.path.as_bytes()), e.size, e.mode.as_str())).collect();
    let said: Vec<_> = manifest.entries.iter().map(|e| (e.path.path.clone(), e.bytes, e.mode.as_str())).collect();
    assert_eq!(said, sent);
    let again: SendManifest = serde_json::from_str(&serde_json::to_string(&manifest).unwrap()).unwrap();
    assert_eq!(again, manifest);
}

#[test]
fn what_no_commit_holds_is_counted_by_content() {
    let repo = with_ignored();
    let before = repo.plan_with(WITH).unwrap().uncommitted().unwrap();
    // The ignored ones are not untracked, whoever asks for them.
    assert_eq!((before.tracked, before.untracked), (Some(0), 3), "link, plain, vendor/deep/y.jar");
    // Touched, not changed; changed; gone.
    let same = std::fs::read(repo.path("a.txt")).unwrap();
    repo.write("a.txt", same);
    repo.write(".gitignore", ".env\nbuild/\n*.cache\nplain\n");
    repo.remove("dir/b.txt");
    let fingerprint_before = fingerprint(&repo.top());
    let after = repo.plan().unwrap().uncommitted().unwrap();
    assert_eq!((after.tracked, after.untracked), (Some(2), 2));
    assert_eq!(fingerprint(&repo.top()), fingerprint_before);
}

#[test]
fn what_was_not_looked_at_is_said() {
    let repo = Repo::new();
    repo.write("big.txt", "x".repeat(300 << 10));
    repo.commit("Big");
    let manifest = manifest_of(&repo.plan().unwrap(), &[]).unwrap();
    assert!(!manifest.secrets_scanned_fully && manifest.entry_count == 4);
}
