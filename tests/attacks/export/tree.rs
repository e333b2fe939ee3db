//! What lies at a tracked path, what a path is called, and what is no path of the index at all: one repository with all of it, one delegation.

use std::os::unix::ffi::OsStrExt as _;

use super::host::{self, Told};
use crate::arena::Arena;
use crate::case::{Case, Group, Promise, Verdict, Verdicts, Weakening};
use crate::support::Repo;
use crate::support::rehearsal::{Step, task};

pub const GROUP: Group = Group {
    name: "export-tree",
    cases: &[
        Case { id: "E01-tracked-symlink", promise: Promise::HostLeak, tries: "tracked links to host files, also where the index says file" },
        Case { id: "E02-symlinked-parent", promise: Promise::HostLeak, tries: "a tracked directory replaced by a link out of the tree" },
        Case { id: "E04-special-files", promise: Promise::DenialOfService, tries: "a FIFO and a socket at tracked paths" },
        Case { id: "E07-attributes", promise: Promise::Deception, tries: "attributes that drop, rewrite and hide content" },
        Case { id: "E08-names", promise: Promise::Deception, tries: "names with newline, tab, quotes, dashes, bytes that are no text, 255 bytes" },
        Case { id: "E10-git-names", promise: Promise::Escape, tries: "a crafted index with .GIT, git~1, sub/.git, `..` and absolute paths" },
        Case { id: "E11-submodule", promise: Promise::Escape, tries: "submodules with hostile configuration, URL and paths" },
        Case { id: "E14-untracked", promise: Promise::HostLeak, tries: "untracked and ignored secrets, the git directory's own files" },
        Case { id: "E14-host-unchanged", promise: Promise::HostWrite, tries: "content, mode, owner and times of the whole host tree" },
    ],
    run,
    controls: &[
        Weakening::point(&["export.nofollow"], &["E01-tracked-symlink"]),
        Weakening::point(&["export.beneath"], &["E02-symlinked-parent"]),
        Weakening::point(&["export.regular_only"], &["E04-special-files"]),
        Weakening::point(&["export.attributes"], &["E07-attributes"]),
        Weakening::point(&["export.names"], &["E10-git-names"]),
        Weakening::point(&["export.submodules"], &["E11-submodule"]),
        Weakening::point(&["export.repo_config"], &["E14-host-unchanged"]),
        Weakening::point(&["export.untracked"], &["E14-untracked"]),
    ],
    mutations: &[],
    no_control: &[("E08-names", "names are bytes from end to end: there is no check here that could be taken away")],
};

const ODD_NAMES: [&[u8]; 9] =
    [b"new\nline", b"tab\there", b"-rf", b"quote\"'\\", b"\xff\xfe", b"cr\r", "rtl\u{202e}txt".as_bytes(), b"BZh91AY", b" "];

fn run(arena: &Arena, _wanted: &[&str]) -> Verdicts {
    let repo = arena.env.repo();
    fill(&repo);
    // Listens as long as the delegation lasts.
    let _socket = std::os::unix::net::UnixListener::bind(repo.path().join("socket")).expect("socket");
    let beside = repo.path().parent().expect("parent").to_owned();
    let before = host::state(&beside);
    let result = arena.env.run_in(repo.path(), &["delegate", "--json", &host::telling()]).flat();
    let changed = host::difference(&before, &host::state(&beside));
    let stopped = |m: &&str| m.contains("git directory") || m.contains("make the patch");
    if let Some(message) = result["error"]["message"].as_str().filter(stopped) {
        // Behind the host's check the same rule stands twice more: PID 1 parses the names again, and git takes none of them into a tree.
        return vec![("E10-git-names".to_owned(), Verdict::Breached(format!("delivered: {message}")))];
    }
    let told = Told::of(arena, result);
    let verdict = |id: &str, breached: bool, detail: String| (id.to_owned(), Verdict::of(breached, detail));
    let kinds = ["fifo", "socket"].map(|name| told.left_out(name));
    let refused = [".GIT/x", "git~1/x", "sub/.git/x", "../../x", "/abs/x"].map(|name| told.left_out(name));
    vec![
        verdict("E01-tracked-symlink", told.has("CANARY-E01"), format!("link: {:?}", told.entries.get(b"link".as_slice()))),
        verdict("E02-symlinked-parent", told.has("CANARY-E02"), told.left_out("parent/file")),
        verdict("E04-special-files", kinds != ["special_file", "special_file"], kinds.join(", ")),
        attributes(arena, &told),
        names(&told),
        verdict("E10-git-names", told.has("CANARY-E10") || refused.iter().any(|why| why != "refused_name"), refused.join(", ")),
        submodule(arena, &told),
        verdict("E14-untracked", told.has("CANARY-E14"), format!("in the cell: {:?}", told.canaries)),
        verdict("E14-host-unchanged", !changed.is_empty(), format!("changed: {changed:?}")),
    ]
}

fn fill(repo: &Repo) {
    let mut list = Vec::new();
    for name in ODD_NAMES.iter().copied().chain([[b'n'; 255].as_slice()]) {
        std::fs::write(repo.path().join(std::ffi::OsStr::from_bytes(name)), name).expect("file");
        list.extend([name, b"\0"].concat());
    }
    std::fs::write(repo.path().join("../names"), list).expect("file");
    repo.bash(
        r#"git --literal-pathspecs add --pathspec-from-file=../names --pathspec-file-nul
cd ..; mkdir outside; echo CANARY-E01 > outside/secret; echo CANARY-E02 > outside/file; echo CANARY-E10 > x; echo CANARY-E10 > ../x; M=$PWD/marker; cd repo
echo ordinary > ordinary
ln -s ../outside/secret link; ln -s "$PWD/../outside/secret" absolute; ln -s ../outside directory
echo text > file-becomes-link; mkdir parent; echo inside > parent/file; echo f > fifo; echo s > socket
echo here > export-ignored; echo '$Format:%H$ $Id$' > substituted; printf 'a\nb\n' > crlf; printf 'a\nb\n' > utf16
printf '%s\n' 'export-ignored export-ignore' 'substituted export-subst ident' 'crlf text eol=crlf' 'utf16 text eol=crlf' > .gitattributes
for d in XGIT gitX1 subX.git aaXbb Yabs; do mkdir -p $d; echo CANARY-E10 > $d/x; done
mkdir -p .GIT git~1 sub/.git; for d in .GIT git~1 sub/.git; do echo CANARY-E10 > $d/x; done
git init -q -b main module; echo m > module/m; git -C module add m; git -C module commit -qm m
git add ordinary link absolute directory file-becomes-link parent fifo socket export-ignored substituted crlf utf16 .gitattributes XGIT gitX1 subX.git aaXbb Yabs
for m in module gone; do git update-index --add --cacheinfo "160000,$(git -C module rev-parse HEAD),$m"; done
M=$PWD/../marker; printf '[submodule "m\\r"]\n\tpath = "module\\r"\n\turl = ext::sh -c touch%% %s-submodule\n\tupdate = !touch %s-submodule\n[submodule "../../x"]\n\tpath = ../../x\n\turl = --upload-pack=touch\n' $M $M > .gitmodules
git add .gitmodules
git commit -qm base
rm file-becomes-link; ln -s ../outside/secret file-becomes-link
rm -r parent; ln -s ../outside parent
rm fifo socket; mkfifo fifo
printf 'a\r\nb\r\n' > crlf; printf 'a\r\nb\r\n' > utf16
echo CANARY-E14 > .env; echo '*.secret' > .git/info/exclude; echo CANARY-E14 > key.secret; git config user.canary CANARY-E14"#,
    );
    craft_index(
        repo,
        &[(b"XGIT/x", b".GIT/x"), (b"gitX1/x", b"git~1/x"), (b"subX.git/x", b"sub/.git/x"), (b"aaXbb/x", b"../../x"), (b"Yabs/x", b"/abs/x")],
    );
    repo.bash("git config core.fsmonitor \"touch $PWD/../marker-monitor; false\"");
}

/// An empty directory, a note, and nothing of the submodule's own configuration.
fn submodule(arena: &Arena, told: &Told) -> (String, Verdict) {
    let noted = told.result["snapshot"]["submodule_count"] == 2;
    let cloned = told.entries.keys().any(|path| path.starts_with(b"module/") || path.starts_with(b"gone/"));
    // The submodule alone is dirty, so that a comparison with HEAD comes as far as to it.
    let repo = arena.env.repo();
    repo.bash(
        "git init -q -b main m; echo m > m/m; git -C m add m; git -C m commit -qm m
git update-index --add --cacheinfo \"160000,$(git -C m rev-parse HEAD),m\"; git commit -qm base
echo '* filter=evil' > m/.git/info/attributes; git -C m config filter.evil.clean \"touch $PWD/../marker-submodule; cat\"; echo x > m/m",
    );
    let attempt = host::attempt(arena, repo.path(), &[]);
    let sprung = repo.markers();
    let detail = format!("noted: {noted}, files in it: {cloned}, left behind: {sprung:?}, {}", attempt.code);
    ("E11-submodule".to_owned(), Verdict::of(!noted || cloned || !sprung.is_empty(), detail))
}

/// Names in the index replaced by others of the same length, with a checksum that fits.
fn craft_index(repo: &Repo, replace: &[(&[u8], &[u8])]) {
    use sha1::Digest as _;
    repo.bash("git update-index --index-version 2");
    let path = repo.path().join(".git/index");
    let mut bytes = std::fs::read(&path).expect("index");
    for (from, to) in replace {
        assert_eq!(from.len(), to.len());
        let at = bytes.windows(from.len()).position(|w| w == *from).expect("the name");
        bytes[at..at + to.len()].copy_from_slice(to);
    }
    let end = bytes.len() - 20;
    let digest = sha1::Sha1::digest(&bytes[..end]);
    bytes[end..].copy_from_slice(&digest);
    std::fs::write(path, bytes).expect("index");
}

/// Bytes arrive as they lie on the disk, and a difference that the attributes want hidden is told.
fn attributes(arena: &Arena, told: &Told) -> (String, Verdict) {
    use sha2::Digest as _;
    let digest = |bytes: &[u8]| anchorhold::protocol::manifest::hex(&sha2::Sha256::digest(bytes));
    let expected: [(&[u8], &[u8]); 4] =
        [(b"export-ignored", b"here\n"), (b"substituted", b"$Format:%H$ $Id$\n"), (b"crlf", b"a\r\nb\r\n"), (b"utf16", b"a\r\nb\r\n")];
    let wrong: Vec<_> = expected
        .iter()
        .filter(|(name, bytes)| told.entries.get(*name) != Some(&digest(bytes)))
        .map(|(name, _)| name.escape_ascii().to_string())
        .collect();
    let hiding = arena.env.repo();
    hiding.bash("echo '* text eol=crlf' > .gitattributes; printf 'a\\nb\\n' > f; git add .; git commit -qm base; printf 'a\\r\\nb\\r\\n' > f");
    let result = arena.env.delegate(&hiding, &task(&[Step::Say("nothing")]));
    let dirty = result["snapshot"]["dirty"].as_bool().unwrap_or_else(|| panic!("{result:#}"));
    (
        "E07-attributes".to_owned(),
        Verdict::of(!wrong.is_empty() || !dirty, format!("not as on the disk: {wrong:?}; a hidden difference told: {dirty}")),
    )
}

fn names(told: &Told) -> (String, Verdict) {
    let lost: Vec<_> = ODD_NAMES.iter().filter(|name| !told.entries.contains_key(**name)).map(|name| name.escape_ascii().to_string()).collect();
    let long = told.entries.contains_key("n".repeat(255).as_bytes());
    ("E08-names".to_owned(), Verdict::of(!lost.is_empty() || !long, format!("lost: {lost:?}, 255 bytes: {long}")))
}
