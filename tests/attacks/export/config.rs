//! What the repository's configuration, the caller's environment and the caller's search path would run.

use super::host;
use crate::arena::Arena;
use crate::case::{Case, Group, Promise, Verdict, Verdicts, Weakening};
use crate::support::rehearsal::{Step, task};

pub const GROUP: Group = Group {
    name: "export-config",
    cases: &[
        Case {
            id: "E05-configuration",
            promise: Promise::Escape,
            tries: "fsmonitor, filters, external diff, textconv, hooks, pager, helpers, aliases of the repository",
        },
        Case { id: "E05-included-file", promise: Promise::HostLeak, tries: "configuration that includes another file: is that file opened" },
        Case { id: "E05-environment", promise: Promise::Escape, tries: "GIT_* and other variables of the caller that run or write something" },
        Case { id: "E05-search-path", promise: Promise::Escape, tries: "a `git` in the repository, and a PATH that looks in the current directory" },
        Case { id: "E15-partial-clone", promise: Promise::Exfiltration, tries: "missing objects whose promised remote runs a command" },
    ],
    run,
    controls: &[
        Weakening::point(&["export.repo_config"], &["E05-configuration", "E05-included-file", "E15-partial-clone"]),
        Weakening::point(&["export.clear_env"], &["E05-environment"]),
        Weakening::point(&["export.search_path"], &["E05-search-path"]),
    ],
    mutations: &[],
    no_control: &[],
};

fn run(arena: &Arena, wanted: &[&str]) -> Verdicts {
    let mut all = Vec::new();
    if wanted.iter().any(|id| id.starts_with("E05")) {
        all.extend(traps(arena));
    }
    if wanted.contains(&"E15-partial-clone") {
        all.push(partial_clone(arena));
    }
    all
}

/// One repository, one hostile environment, one delegation, and each later look at its result.
fn traps(arena: &Arena) -> Verdicts {
    let repo = arena.env.repo();
    repo.bash(
        r#"M=$PWD/../marker; mkdir ../hooks
seq 9 > f; printf '* filter=evil diff=evil merge=evil\n*.p filter=process\n' > .gitattributes; echo p > x.p
printf '#!/bin/sh\ntouch %s-path\nexit 1\n' $M > git; chmod +x git
git add .; git commit -qm base; sed -i s/1/one/ f; echo q > x.p
for h in post-index-change reference-transaction pre-commit post-checkout applypatch-msg; do printf '#!/bin/sh\ntouch %s-config-hook\n' $M > ../hooks/$h; chmod +x ../hooks/$h; done
git config core.hooksPath $PWD/../hooks
for key in core.fsmonitor core.pager core.editor core.sshCommand core.gitProxy core.alternateRefsCommand credential.helper gpg.program diff.external diff.evil.textconv diff.evil.command \
  filter.evil.clean filter.evil.smudge filter.process.process merge.evil.driver uploadpack.packObjectsHook; do git config $key "touch $M-config-$key; cat"; done
for name in ls-files diff cat-file config apply rev-parse; do git config alias.$name "!touch $M-config-alias"; done
printf '[core]\n\tfsmonitor = touch %s-config-include\n' $M > ../included; git config include.path $PWD/../included
printf '#!/bin/sh\ntouch %s-env-helper\n' $M > ../helper; chmod +x ../helper
rm -f ../marker*"#,
    );
    let beside = repo.path().parent().expect("parent");
    let (marker, helper) = (beside.join("marker-env").display().to_string(), beside.join("helper").display().to_string());
    let trace = |name: &str| (name.to_owned(), format!("{marker}-{name}"));
    let mut hostile: Vec<(String, String)> =
        ["GIT_TRACE", "GIT_TRACE2", "GIT_TRACE2_EVENT", "GIT_TRACE_SETUP", "GIT_TRACE_PERFORMANCE"].map(trace).to_vec();
    for name in ["GIT_EXTERNAL_DIFF", "GIT_PAGER", "PAGER", "GIT_ASKPASS", "GIT_SSH", "GIT_SSH_COMMAND", "GIT_EDITOR", "GIT_PROXY_COMMAND"] {
        hostile.push((name.to_owned(), helper.clone()));
    }
    let count = [("GIT_CONFIG_COUNT", "1"), ("GIT_CONFIG_KEY_0", "core.fsmonitor"), ("GIT_CONFIG_VALUE_0", helper.as_str())];
    hostile.extend(count.map(|(name, value)| (name.to_owned(), value.to_owned())));
    hostile.extend(
        [("GIT_INDEX_FILE", "/nonexistent"), ("GIT_OBJECT_DIRECTORY", "/nonexistent"), ("GIT_NAMESPACE", "evil")]
            .map(|(n, v)| (n.to_owned(), v.to_owned())),
    );
    // The caller's own search path is only theirs to weaken: a current directory in it is an old habit.
    let path = format!(".:{}:", std::env::var("PATH").expect("PATH"));
    hostile.push(("PATH".to_owned(), path));
    let opened = Watch::of(&beside.join("included"));
    let run = |args: &[&str]| {
        let out = arena.env.command(repo.path(), args).envs(hostile.iter().cloned()).output().expect("the binary runs");
        serde_json::from_slice::<serde_json::Value>(&out.stdout).unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&out.stderr)))
    };
    let before = host::state(repo.path());
    let result = run(&["delegate", "--json", &task(&[Step::Shell("sed -i s/9/nine/ f"), Step::Say("done")])]);
    let changed = host::difference(&before, &host::state(repo.path()));
    let job = result["job_id"].as_str().or_else(|| result["job"]["job_id"].as_str()).unwrap_or_default().to_owned();
    if !arena.is_weakened() {
        assert!(!job.is_empty() && changed.is_empty(), "{changed:?} {result:#}");
    }
    // Edited elsewhere, so that git itself must say whether the patch applies.
    repo.bash("sed -i s/3/three/ f");
    run(&["result", "--json", &job]);
    let included = opened.any();
    let sprung = repo.markers();
    let of = |kind: &str| {
        let these: Vec<_> = sprung.iter().filter(|name| name.starts_with(&format!("marker-{kind}"))).cloned().collect();
        Verdict::of(!these.is_empty(), format!("left behind: {these:?}"))
    };
    vec![
        ("E05-configuration".to_owned(), of("config")),
        ("E05-included-file".to_owned(), Verdict::of(included, format!("opened: {included}"))),
        ("E05-environment".to_owned(), of("env")),
        ("E05-search-path".to_owned(), of("path")),
    ]
}

/// Whether a file was opened.
struct Watch(std::os::fd::OwnedFd);

impl Watch {
    fn of(path: &std::path::Path) -> Self {
        use rustix::fs::inotify;
        let fd = inotify::init(inotify::CreateFlags::NONBLOCK | inotify::CreateFlags::CLOEXEC).expect("inotify");
        inotify::add_watch(&fd, path, inotify::WatchFlags::OPEN).expect("watch");
        Self(fd)
    }

    fn any(&self) -> bool {
        rustix::io::read(&self.0, &mut [0u8; 4096]).is_ok_and(|n| n > 0)
    }
}

/// A clone that lacks HEAD's commit, and says that a remote has promised it.
fn partial_clone(arena: &Arena) -> (String, Verdict) {
    let repo = arena.env.repo();
    repo.bash(
        r#"echo x > f; git add .; git commit -qm base; M=$PWD/../marker
c=$(git rev-parse HEAD); rm -f .git/objects/${c:0:2}/${c:2}
git config extensions.partialClone origin; git config core.repositoryFormatVersion 1; git config remote.origin.url $PWD/../nowhere
git config remote.origin.promisor true; git config remote.origin.partialclonefilter blob:none; git config remote.origin.uploadpack "touch $M-fetch; false"
rm -f ../marker*"#,
    );
    let attempt = host::attempt(arena, repo.path(), &[]);
    let fetched = repo.markers().iter().any(|m| m.starts_with("marker-fetch"));
    ("E15-partial-clone".to_owned(), Verdict::of(fetched || attempt.made > 0, format!("{}, fetched: {fetched}", attempt.detail())))
}
