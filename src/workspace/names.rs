//! What a path's name means to a developer's tools. Only the name counts, in any directory and letter case.

/// A path in lower case, for questions about what its name means to tools.
pub struct Name {
    path: String,
}

/// Names (lower case) of files that tools run or that say what they run.
const RUNS_CODE_FILES: &[&str] = &[
    ".ackrc",
    ".appveyor.yml",
    ".autotest",
    ".babelrc.js",
    ".bash_profile",
    ".bashrc",
    ".bazelrc",
    ".cirrus.yml",
    ".clangd",
    ".commitlintrc.js",
    ".coveragerc",
    ".ctags",
    ".dir-locals.el",
    ".dockerignore",
    ".drone.yml",
    ".emacs",
    ".envrc",
    ".eslintrc.cjs",
    ".eslintrc.js",
    ".exrc",
    ".flake8",
    ".gdbinit",
    ".gitlab-ci.yml",
    ".gitpod.dockerfile",
    ".gitpod.yml",
    ".gradle.properties",
    ".inputrc",
    ".irbrc",
    ".justfile",
    ".lintstagedrc",
    ".lintstagedrc.js",
    ".lintstagedrc.json",
    ".lldbinit",
    ".local.vimrc",
    ".lvimrc",
    ".mise.local.toml",
    ".mise.toml",
    ".mocharc.cjs",
    ".mocharc.js",
    ".mocharc.yml",
    ".npmignore",
    ".npmrc",
    ".nvimrc",
    ".nvmrc",
    ".nycrc",
    ".overcommit.yml",
    ".pdbrc",
    ".pip.conf",
    ".pnpmfile.cjs",
    ".pnpmfile.js",
    ".pre-commit-config.yaml",
    ".pre-commit-hooks.yaml",
    ".prettierrc.js",
    ".profile",
    ".pryrc",
    ".pylintrc",
    ".pypirc",
    ".pythonrc",
    ".pythonstartup",
    ".rspec",
    ".ruby-version",
    ".rustfmt.toml",
    ".semaphore",
    ".stylelintrc.js",
    ".tool-versions",
    ".travis.yml",
    ".vela.yml",
    ".vimrc",
    ".yarnrc",
    ".yarnrc.yml",
    ".ycm_extra_conf.py",
    ".zprofile",
    ".zshenv",
    ".zshrc",
    ".zuul.yaml",
    "ansible.cfg",
    "apm.yml",
    "appfile",
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
    "build.sc",
    "build.xml",
    "build.zig",
    "buildspec.yaml",
    "buildspec.yml",
    "bunfig.toml",
    "capfile",
    "cargo.toml",
    "cloudbuild.yaml",
    "cloudbuild.yml",
    "cmakelists.txt",
    "cmakepresets.json",
    "codemagic.yaml",
    "commit-msg",
    "compile_commands.json",
    "composer.json",
    "conanfile.py",
    "conanfile.txt",
    "configure",
    "configure.ac",
    "configure.in",
    "conftest.py",
    "containerfile",
    "copier.yml",
    "cypress.json",
    "dangerfile",
    "default.nix",
    "deno.json",
    "deno.jsonc",
    "devbox.json",
    "devcontainer.json",
    "directory.build.props",
    "directory.build.targets",
    "dockerfile",
    "dodo.py",
    "earthfile",
    "elm.json",
    "environment.yml",
    "extconf.rb",
    "fabfile.py",
    "fastfile",
    "flake.nix",
    "gemfile",
    "gemfile.local",
    "global.json",
    "gnumakefile",
    "gradle-wrapper.properties",
    "gradle.properties",
    "gradlew",
    "gradlew.bat",
    "gruntfile.js",
    "guardfile",
    "gulpfile.js",
    "gulpfile.ts",
    "hatch_build.py",
    "init.gradle",
    "jakefile",
    "jakefile.js",
    "jenkinsfile",
    "jest.setup.js",
    "jsconfig.json",
    "justfile",
    "lefthook.yaml",
    "lefthook.yml",
    "lerna.json",
    "local.properties",
    "makefile",
    "makefile.am",
    "makefile.pl",
    "makevars",
    "manifest.in",
    "meson.build",
    "mise.toml",
    "mix.exs",
    "mkdocs.yml",
    "module.bazel",
    "mvnw",
    "mvnw.cmd",
    "noxfile.py",
    "nuget.config",
    "nx.json",
    "omnisharp.json",
    "package.json",
    "package.swift",
    "package.yaml",
    "phpunit.xml",
    "pip.conf",
    "pipfile",
    "plugins.sbt",
    "podfile",
    "pom.xml",
    "post-checkout",
    "post-merge",
    "pre-commit",
    "pre-push",
    "prepare-commit-msg",
    "procfile",
    "project.clj",
    "psake.ps1",
    "pubspec.yaml",
    "pyproject.toml",
    "pytest.ini",
    "pyvenv.cfg",
    "rakefile",
    "rebar.config",
    "renovate.json",
    "requirements.txt",
    "rust-toolchain",
    "rust-toolchain.toml",
    "sconstruct",
    "settings.gradle",
    "settings.gradle.kts",
    "setup.cfg",
    "setup.py",
    "shell.nix",
    "sitecustomize.py",
    "skaffold.yaml",
    "snakefile",
    "spec_helper.rb",
    "stack.yaml",
    "taskfile.yaml",
    "taskfile.yml",
    "tasks.py",
    "thorfile",
    "tiltfile",
    "tox.ini",
    "tsconfig.json",
    "turbo.json",
    "usercustomize.py",
    "vagrantfile",
    "wercker.yml",
    "workspace",
    "workspace.bazel",
    "wscript",
    "xmake.lua",
];
/// Directories all of whose files do.
const RUNS_CODE_DIRS: &[&str] = &[
    ".buildkite",
    ".bundle",
    ".cargo",
    ".ci",
    ".circleci",
    ".config/mise",
    ".ctags.d",
    ".dagger",
    ".devcontainer",
    ".direnv",
    ".emacs.d",
    ".fleet",
    ".forgejo",
    ".gitea",
    ".githooks",
    ".github/actions",
    ".github/workflows",
    ".gitlab",
    ".gradle",
    ".helix",
    ".hooks",
    ".husky",
    ".idea",
    ".jenkins",
    ".kakrc",
    ".moon",
    ".mvn",
    ".nova",
    ".nvim",
    ".nx",
    ".pants.d",
    ".pre-commit",
    ".run",
    ".semaphore",
    ".sublime",
    ".teamcity",
    ".tekton",
    ".vagrant",
    ".vim",
    ".vscode",
    ".vscode-server",
    ".woodpecker",
    ".yarn",
    ".zed",
    "buildsrc",
    "git-hooks",
    "githooks",
    "gradle/wrapper",
    "hooks",
];
const AGENT_FILES: &[&str] = &[
    ".aider.conf.yml",
    ".aiderignore",
    ".augment-guidelines",
    ".clinerules",
    ".continuerc.json",
    ".cursorignore",
    ".cursorrules",
    ".geminiignore",
    ".goosehints",
    ".llmrules",
    ".mcp.json",
    ".replit",
    ".roomodes",
    ".rules",
    ".sourcegraph",
    ".windsurfrules",
    "agent.json",
    "agent.md",
    "agents.md",
    "agents.override.md",
    "antigravity.md",
    "claude.local.md",
    "claude.md",
    "codex.md",
    "conventions.md",
    "copilot-instructions.md",
    "cursor.md",
    "gemini.md",
    "llms.txt",
    "mcp.json",
    "mcp.yaml",
    "mcp_config.json",
    "opencode.json",
    "opencode.jsonc",
    "prompt.md",
    "qwen.md",
    "replit.md",
    "skill.md",
    "system_prompt.md",
    "warp.md",
];
const AGENT_DIRS: &[&str] = &[
    ".agent",
    ".agents",
    ".ai",
    ".aider",
    ".amazonq",
    ".antigravity",
    ".augment",
    ".claude",
    ".clinerules",
    ".codex",
    ".cody",
    ".continue",
    ".cursor",
    ".devin",
    ".factory",
    ".gemini",
    ".github/agents",
    ".github/chatmodes",
    ".github/instructions",
    ".github/prompts",
    ".github/skills",
    ".goose",
    ".junie",
    ".kiro",
    ".opencode",
    ".qoder",
    ".qwen",
    ".roo",
    ".trae",
    ".windsurf",
    ".zencoder",
];
const SECRET_FILES: &[&str] = &[
    ".dockercfg",
    ".dockerconfigjson",
    ".env",
    ".envrc.local",
    ".git-credentials",
    ".htpasswd",
    ".my.cnf",
    ".netrc",
    ".npmrc",
    ".pgpass",
    ".pypirc",
    ".s3cfg",
    ".vault-token",
    "_netrc",
    "auth.json",
    "credentials",
    "credentials.json",
    "id_dsa",
    "id_ecdsa",
    "id_ecdsa_sk",
    "id_ed25519",
    "id_ed25519_sk",
    "id_rsa",
    "kubeconfig",
    "master.key",
    "secrets.env",
    "secrets.json",
    "secrets.toml",
    "secrets.yaml",
    "secrets.yml",
    "service-account.json",
    "terraform.tfstate",
];
const SECRET_ENDINGS: &[&str] = &[".jks", ".kdbx", ".key", ".keystore", ".ovpn", ".p12", ".pem", ".pfx", ".ppk", ".tfvars"];

/// Files that say which dependencies are fetched, and from where.
const DEPENDENCY_FILES: &[&str] = &[
    "bun.lock",
    "bun.lockb",
    "cargo.lock",
    "composer.lock",
    "conda-lock.yml",
    "constraints.txt",
    "deno.lock",
    "flake.lock",
    "gemfile.lock",
    "go.mod",
    "go.sum",
    "go.work",
    "gradle.lockfile",
    "manifest.toml",
    "mix.lock",
    "module.bazel.lock",
    "npm-shrinkwrap.json",
    "package-lock.json",
    "package.resolved",
    "packages.lock.json",
    "paket.lock",
    "pdm.lock",
    "pipfile.lock",
    "pixi.lock",
    "pnpm-lock.yaml",
    "pnpm-workspace.yaml",
    "podfile.lock",
    "poetry.lock",
    "pubspec.lock",
    "pylock.toml",
    "shard.lock",
    "stack.yaml.lock",
    "uv.lock",
    "verification-metadata.xml",
    "yarn.lock",
];

impl Name {
    /// Of a path: in lower case, without characters that are not seen, and without the dots and spaces at the end of a component that some file
    /// systems drop.
    pub fn new(path: &[u8]) -> Self {
        let seen: String = String::from_utf8_lossy(path).chars().filter(|c| !crate::display::is_deceptive(*c)).collect();
        let parts: Vec<&str> = seen.split('/').map(|part| part.trim_end_matches(['.', ' '])).collect();
        Self { path: parts.join("/").to_lowercase() }
    }

    fn file(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or_default()
    }

    /// Whether it lies in one of the directories, at any depth.
    fn in_dir(&self, dirs: &[&str]) -> bool {
        let path = format!("/{}", self.path);
        dirs.iter().any(|dir| path.contains(&format!("/{dir}/")))
    }

    /// What of a developer's tools reads it and runs what it says.
    pub fn runs_code(&self) -> Option<&'static str> {
        let file = self.file();
        let ends = |endings: &[&str]| endings.iter().any(|e| file.ends_with(e));
        if self.in_dir(&[".github", ".gitlab", ".circleci", ".buildkite", ".gitea", ".forgejo", ".teamcity", ".woodpecker"])
            || ends(&["gitlab-ci.yml", ".travis.yml", "-pipelines.yml", "appveyor.yml"])
            || file.starts_with("jenkinsfile")
            || matches!(file, ".cirrus.yml" | ".drone.yml" | ".woodpecker.yml")
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
        let image = file.starts_with("dockerfile")
            || file.starts_with("containerfile")
            || file.starts_with("makefile.")
            || file.ends_with(".dockerfile")
            || compose;
        let script_config = [".config.js", ".config.ts", ".config.mjs", ".config.cjs", ".config.mts", ".config.cts"];
        let known = RUNS_CODE_FILES.contains(&file) || self.in_dir(RUNS_CODE_DIRS) || ends(&script_config);
        let build = ends(&[
            ".mk",
            ".cmake",
            ".gemspec",
            ".csproj",
            ".fsproj",
            ".vbproj",
            ".vcxproj",
            ".targets",
            ".props",
            ".pth",
            ".gradle",
            ".gradle.kts",
            ".sln",
            ".am",
            ".m4",
            ".bzl",
            ".tf",
            ".sublime-project",
            ".podspec",
            ".cabal",
            ".nix",
        ]);
        (image || known || build).then_some("configuration that can run code")
    }

    /// Whether coding agents take it for instructions, or for their tools.
    pub fn agent_instructions(&self) -> bool {
        AGENT_FILES.contains(&self.file()) || self.in_dir(AGENT_DIRS) || self.file().starts_with(".aider")
    }

    /// Whether it steers git.
    pub fn git_file(&self) -> bool {
        let file = self.file();
        matches!(file, ".mailmap" | ".lfsconfig")
            || file.starts_with(".git")
                && !matches!(file, ".gitkeep" | ".git-credentials")
                && !file.starts_with(".gitlab")
                && !file.starts_with(".github")
    }

    /// Whether files of this name usually hold a secret.
    pub fn secret(&self) -> bool {
        let file = self.file();
        let env = file.starts_with(".env.") && !["example", "sample", "template", "dist", "defaults"].iter().any(|e| file.ends_with(e));
        env || SECRET_FILES.contains(&file) || SECRET_ENDINGS.iter().any(|e| file.ends_with(e)) || file.ends_with(".tfstate")
    }

    /// Whether it says which dependencies are fetched.
    pub fn dependencies(&self) -> bool {
        let file = self.file();
        DEPENDENCY_FILES.contains(&file)
            || (file.starts_with("requirements") || file.starts_with("constraints")) && (file.ends_with(".txt") || file.ends_with(".in"))
            || file.ends_with(".lock")
            || file.ends_with(".lockfile")
    }

    /// Whether it looks like a test.
    pub fn test(&self) -> bool {
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
            "DEEP/.GitHub/Workflows/x.yml",
            ".vscode./tasks.json",
            "Makefile.am ",
            "\u{200b}.envrc",
            "pre-commit",
            ".devcontainer/devcontainer.json",
            ".gradle/init.gradle",
            "gradle/wrapper/gradle-wrapper.jar",
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
        for path in ["Cargo.lock", "web/package-lock.json", "requirements-dev.txt", "go.sum"] {
            assert!(name(path).dependencies(), "{path}");
        }
        for path in [".env", "a/.env.production", "server.pem", "id_rsa", "x.tfvars"] {
            assert!(name(path).secret(), "{path}");
        }
        for path in ["tests/a.rs", "a/test_x.py", "b.spec.ts", "pkg/x_test.go"] {
            assert!(name(path).test(), "{path}");
        }
        for path in ["src/main.rs", "README.md", "environment.ts", ".env.example", "latest/x", "contest.py"] {
            let name = name(path);
            assert!(
                name.runs_code().is_none()
                    && !name.agent_instructions()
                    && !name.git_file()
                    && !name.secret()
                    && !name.test()
                    && !name.dependencies(),
                "{path}"
            );
        }
    }
}
