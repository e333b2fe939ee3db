//! What a reviewer must look at, from facts alone: names, modes, and the added text. Nothing here changes the patch.

use std::collections::{BTreeSet, HashMap};

use super::diff::Record;
use super::secrets;
use super::{ChangeStatus, FileChange, Risk, RiskItem, ShownPath};
use crate::protocol::changes::Side;
use crate::protocol::manifest::Mode;

/// A file over this is large.
const LARGE: u64 = 1 << 20;

/// What the added text of each record holds.
pub struct Scanner {
    found: Vec<Found>,
}

#[derive(Default)]
struct Found {
    secrets: BTreeSet<&'static str>,
    deceptive: u64,
    first_deceptive: Option<char>,
}

impl Scanner {
    /// For so many records.
    pub fn new(records: usize) -> Self {
        Self { found: (0..records).map(|_| Found::default()).collect() }
    }

    /// One added line of a record.
    pub fn line(&mut self, record: usize, line: &[u8]) {
        let Some(found) = self.found.get_mut(record) else { return };
        secrets::scan(line, &mut found.secrets);
        // ASCII text without control characters deceives nobody; a carriage return at the end is a line ending.
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.iter().all(|b| matches!(b, b'\t' | b' '..=b'~')) {
            return;
        }
        for chunk in line.utf8_chunks() {
            let mut last = '\0';
            for (at, c) in chunk.valid().char_indices() {
                // A byte order mark before the first letter, and the joiners inside of emoji, are no deceit.
                let usual = c == '\u{feff}' && at == 0 || matches!(c, '\u{fe0f}' | '\u{200d}') && last >= '\u{2000}';
                if crate::display::is_deceptive(c) && !usual {
                    found.deceptive += 1;
                    found.first_deceptive.get_or_insert(c);
                }
                last = c;
            }
        }
    }
}

/// The whole block.
pub fn assess(records: &[Record], files: &[FileChange], scanner: &Scanner, new_sides: &HashMap<&[u8], &Side>) -> Risk {
    let mut risk = Risk::default();
    for ((record, file), found) in records.iter().zip(files).zip(&scanner.found) {
        let item = |note: String| RiskItem { path: ShownPath::new(&record.path), note };
        let side = new_sides.get(record.path.as_slice()).copied();
        if let Some(side) = side.filter(|side| side.mode == Mode::Symlink) {
            risk.symlinks.push(item(link_note(&record.path, &side.bytes)));
        }
        if record.new_mode == Some(Mode::Executable) && record.old_mode != Some(Mode::Executable) {
            risk.executables.push(item(if record.old_mode.is_none() { "a new executable file" } else { "became executable" }.to_owned()));
        }
        // A rename can carry a file into such a place, or out of it.
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
                risk.git_files.push(item(format!("steers git: {verb}")));
            }
            if matches!(verb, "deleted" | "moved away") && name.test() {
                risk.deleted_tests.push(item(format!("a test: {verb}")));
            }
        }
        if file.binary {
            risk.binaries.push(item(match file.new_bytes {
                Some(bytes) => format!("binary content, {bytes} bytes"),
                None => "binary content, deleted".to_owned(),
            }));
        }
        if side.is_some() && Name::new(&record.path).secret() {
            risk.secrets.push(item("a file of this name usually holds a secret".to_owned()));
        }
        if !found.secrets.is_empty() {
            let kinds: Vec<&str> = found.secrets.iter().copied().collect();
            risk.secrets.push(item(format!("added text looks like it holds: {}", kinds.join(", "))));
        }
        if let Some(first) = found.first_deceptive {
            let (count, code) = (found.deceptive, u32::from(first));
            risk.deceptive_text.push(item(format!("added text has {count} characters that are not shown or change the display, first U+{code:04X}")));
        }
        if let Some(note) = name_note(&record.path).filter(|_| side.is_some()) {
            risk.deceptive_text.push(item(note.to_owned()));
        }
        if let Some(bytes) = file.new_bytes.filter(|bytes| *bytes > LARGE) {
            risk.large.push(item(format!("{bytes} bytes")));
        }
    }
    risk
}

/// Where a link points, by its text alone.
fn link_note(path: &[u8], target: &[u8]) -> String {
    let shown: String = crate::display::line(target).chars().take(300).collect();
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

/// Why a name may deceive.
fn name_note(path: &[u8]) -> Option<&'static str> {
    if path.is_ascii() && !path.iter().any(u8::is_ascii_control) {
        return None;
    }
    let Ok(text) = std::str::from_utf8(path) else { return Some("the name is not UTF-8") };
    if text.chars().any(|c| crate::display::is_deceptive(c) || matches!(c, '\n' | '\t' | '\r')) {
        return Some("the name has characters that are not shown or change the display");
    }
    let lookalike = |c: char| matches!(c, '\u{370}'..='\u{52f}' | '\u{ff01}'..='\u{ff5e}');
    let mixed = |part: &str| part.chars().any(|c| c.is_ascii_alphabetic()) && part.chars().any(lookalike);
    text.split(['/', '.', '-', '_']).any(mixed).then_some("the name mixes letters of scripts that look alike")
}

/// A path in lower case, for questions about what its name means to tools.
struct Name {
    path: String,
}

/// Names (lower case) of files that tools run or that say what they run.
const RUNS_CODE_FILES: &[&str] = &[
    ".bazelrc",
    ".cirrus.yml",
    ".drone.yml",
    ".envrc",
    ".exrc",
    ".gdbinit",
    ".gitlab-ci.yml",
    ".justfile",
    ".lldbinit",
    ".mise.toml",
    ".npmrc",
    ".nvimrc",
    ".overcommit.yml",
    ".pdbrc",
    ".pnpmfile.cjs",
    ".pre-commit-config.yaml",
    ".pypirc",
    ".tool-versions",
    ".travis.yml",
    ".vimrc",
    ".yarnrc",
    ".yarnrc.yml",
    "appveyor.yml",
    "azure-pipelines.yml",
    "bitbucket-pipelines.yml",
    "brewfile",
    "build",
    "build.bazel",
    "build.gradle",
    "build.gradle.kts",
    "build.rs",
    "build.sbt",
    "build.xml",
    "build.zig",
    "cargo.toml",
    "cmakelists.txt",
    "composer.json",
    "configure",
    "configure.ac",
    "conftest.py",
    "containerfile",
    "default.nix",
    "directory.build.props",
    "directory.build.targets",
    "dockerfile",
    "flake.nix",
    "gemfile",
    "gnumakefile",
    "gradle-wrapper.properties",
    "gradlew",
    "gruntfile.js",
    "gulpfile.js",
    "hatch_build.py",
    "init.gradle",
    "jenkinsfile",
    "justfile",
    "lefthook.yml",
    "makefile",
    "meson.build",
    "mise.toml",
    "mix.exs",
    "module.bazel",
    "mvnw",
    "noxfile.py",
    "package.json",
    "package.swift",
    "pip.conf",
    "podfile",
    "pom.xml",
    "procfile",
    "pyproject.toml",
    "rakefile",
    "rust-toolchain",
    "rust-toolchain.toml",
    "sconstruct",
    "settings.gradle",
    "settings.gradle.kts",
    "setup.cfg",
    "setup.py",
    "shell.nix",
    "sitecustomize.py",
    "taskfile.yaml",
    "taskfile.yml",
    "tiltfile",
    "tox.ini",
    "usercustomize.py",
    "vagrantfile",
    "workspace",
    "workspace.bazel",
];
/// Directories all of whose files do.
const RUNS_CODE_DIRS: &[&str] = &[
    ".bundle",
    ".buildkite",
    ".cargo",
    ".circleci",
    ".devcontainer",
    ".fleet",
    ".forgejo",
    ".gitea",
    ".githooks",
    ".github/actions",
    ".github/workflows",
    ".gitlab",
    ".hooks",
    ".husky",
    ".idea",
    ".mvn",
    ".nvim",
    ".teamcity",
    ".vim",
    ".vscode",
    ".woodpecker",
    ".yarn",
    ".zed",
    "git-hooks",
    "githooks",
    "hooks",
];
const AGENT_FILES: &[&str] = &[
    ".aider.conf.yml",
    ".clinerules",
    ".cursorrules",
    ".goosehints",
    ".mcp.json",
    ".roomodes",
    ".windsurfrules",
    "agent.md",
    "agents.md",
    "agents.override.md",
    "claude.local.md",
    "claude.md",
    "copilot-instructions.md",
    "gemini.md",
    "mcp.json",
    "opencode.json",
    "skill.md",
    "warp.md",
];
const AGENT_DIRS: &[&str] = &[
    ".agents",
    ".amazonq",
    ".claude",
    ".clinerules",
    ".codex",
    ".continue",
    ".cursor",
    ".gemini",
    ".github/agents",
    ".github/chatmodes",
    ".github/instructions",
    ".github/prompts",
    ".junie",
    ".kiro",
    ".opencode",
    ".roo",
    ".windsurf",
];
const SECRET_FILES: &[&str] = &[
    ".env",
    ".git-credentials",
    ".htpasswd",
    ".my.cnf",
    ".netrc",
    ".npmrc",
    ".pgpass",
    ".pypirc",
    "_netrc",
    "credentials",
    "credentials.json",
    "id_dsa",
    "id_ecdsa",
    "id_ed25519",
    "id_rsa",
    "kubeconfig",
    "secrets.json",
    "secrets.toml",
    "secrets.yaml",
    "secrets.yml",
    "service-account.json",
    "terraform.tfstate",
];
const SECRET_ENDINGS: &[&str] = &[".jks", ".kdbx", ".key", ".keystore", ".ovpn", ".p12", ".pem", ".pfx", ".ppk", ".tfvars"];

impl Name {
    fn new(path: &[u8]) -> Self {
        Self { path: String::from_utf8_lossy(path).to_lowercase() }
    }

    fn file(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or_default()
    }

    /// Whether it lies in one of the directories, at any depth.
    fn in_dir(&self, dirs: &[&str]) -> bool {
        let path = format!("/{}", self.path);
        dirs.iter().any(|dir| path.contains(&format!("/{dir}/")))
    }

    fn runs_code(&self) -> Option<&'static str> {
        let file = self.file();
        let ends = |endings: &[&str]| endings.iter().any(|e| file.ends_with(e));
        if self.in_dir(&[".github", ".gitlab", ".circleci", ".buildkite", ".gitea", ".forgejo", ".teamcity", ".woodpecker"])
            || ends(&["gitlab-ci.yml", ".travis.yml", "-pipelines.yml", "appveyor.yml"])
            || matches!(file, "jenkinsfile" | ".cirrus.yml" | ".drone.yml" | ".woodpecker.yml")
        {
            // All of .github: what lies there may be called by a workflow; agents' files have a list of their own.
            return (!self.agent_instructions()).then_some("configuration of continuous integration");
        }
        if self.in_dir(&[".vscode", ".idea", ".devcontainer", ".zed", ".fleet", ".vim", ".nvim"]) || ends(&[".code-workspace"]) {
            return Some("editor configuration that can run code");
        }
        if self.in_dir(&[".husky", ".githooks", ".hooks", "githooks", "git-hooks", "hooks"]) {
            return Some("hooks");
        }
        let compose = file.starts_with("docker-compose") || file.starts_with("compose.");
        let image = file.starts_with("dockerfile") || file.ends_with(".dockerfile") || compose;
        let script_config = [".config.js", ".config.ts", ".config.mjs", ".config.cjs", ".config.mts"];
        let known = RUNS_CODE_FILES.contains(&file) || self.in_dir(RUNS_CODE_DIRS) || ends(&script_config);
        let build =
            ends(&[".mk", ".cmake", ".gemspec", ".csproj", ".fsproj", ".vbproj", ".vcxproj", ".targets", ".props", ".pth", ".gradle", ".gradle.kts"]);
        (image || known || build).then_some("configuration that can run code")
    }

    fn agent_instructions(&self) -> bool {
        AGENT_FILES.contains(&self.file()) || self.in_dir(AGENT_DIRS) || self.file().starts_with(".aider")
    }

    fn git_file(&self) -> bool {
        let file = self.file();
        matches!(file, ".mailmap" | ".lfsconfig")
            || file.starts_with(".git")
                && !matches!(file, ".gitkeep" | ".git-credentials")
                && !file.starts_with(".gitlab")
                && !file.starts_with(".github")
    }

    fn secret(&self) -> bool {
        let file = self.file();
        let env = file.starts_with(".env.") && !["example", "sample", "template", "dist", "defaults"].iter().any(|e| file.ends_with(e));
        env || SECRET_FILES.contains(&file) || SECRET_ENDINGS.iter().any(|e| file.ends_with(e)) || file.ends_with(".tfstate")
    }

    fn test(&self) -> bool {
        let file = self.file();
        let stem = file.split('.').next().unwrap_or_default();
        self.in_dir(&["test", "tests", "__tests__", "spec", "specs", "e2e", "testing"])
            || stem.starts_with("test_")
            || ["_test", "_tests", "_spec", "-test", "-spec"].iter().any(|e| stem.ends_with(e))
            || file.contains(".test.")
            || file.contains(".spec.")
            || (file.ends_with("test.java") || file.ends_with("tests.cs") || file.ends_with("test.kt") || file.ends_with("tests.swift"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_sorted_into_the_right_lists() {
        let name = |path: &str| Name::new(path.as_bytes());
        for path in [
            ".github/workflows/ci.yml",
            "sub/.envrc",
            ".vscode/tasks.json",
            "build.rs",
            "a/Makefile",
            "package.json",
            "Dockerfile.dev",
            "x/vite.config.ts",
            ".husky/pre-commit",
        ] {
            assert!(name(path).runs_code().is_some(), "{path}");
        }
        for path in ["AGENTS.md", "deep/CLAUDE.md", ".codex/config.toml", ".mcp.json", ".github/copilot-instructions.md", ".claude/settings.json"] {
            assert!(name(path).agent_instructions(), "{path}");
        }
        for path in [".gitmodules", "a/.gitattributes", ".GITIGNORE"] {
            assert!(name(path).git_file(), "{path}");
        }
        for path in [".env", "a/.env.production", "server.pem", "id_rsa", "x.tfvars"] {
            assert!(name(path).secret(), "{path}");
        }
        for path in ["tests/a.rs", "a/test_x.py", "b.spec.ts", "pkg/x_test.go"] {
            assert!(name(path).test(), "{path}");
        }
        for path in ["src/main.rs", "README.md", "environment.ts", ".env.example", "latest/x", "contest.py"] {
            let name = name(path);
            assert!(name.runs_code().is_none() && !name.agent_instructions() && !name.git_file() && !name.secret() && !name.test(), "{path}");
        }
    }

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
    fn deceptive_names_and_text_are_counted() {
        assert!(name_note("pay\u{202e}load.txt".as_bytes()).is_some());
        assert!(name_note("p\u{430}ypal.py".as_bytes()).is_some());
        assert!(name_note(b"caf\xe9").is_some());
        assert!(name_note("приклад.txt".as_bytes()).is_none());
        assert!(name_note("café.txt".as_bytes()).is_none());
        let mut scanner = Scanner::new(1);
        scanner.line(0, "\u{feff}plain ✔\u{fe0f} 👩\u{200d}💻\r".as_bytes());
        assert_eq!(scanner.found[0].deceptive, 0);
        scanner.line(0, "if admin\u{202e} x\u{200b}\rover\x1b[2K".as_bytes());
        assert_eq!((scanner.found[0].deceptive, scanner.found[0].first_deceptive), (4, Some('\u{202e}')));
    }
}
