//! What every end-to-end test needs: an environment of its own, a repository, and the certainty that nothing is left on the engine.
//!
//! Each environment has its own instance and its own gateway, so tests run beside each other and beside a user's jobs.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// An environment that nothing of the user's reaches, with an instance and a gateway of its own on the engine.
pub struct Environment {
    directory: tempfile::TempDir,
    instance: String,
    variables: Vec<(String, String)>,
}

impl Environment {
    /// One with the rehearsal model.
    pub fn new() -> Self {
        let directory = tempfile::Builder::new().prefix("anchorhold-test-").tempdir().expect("a temporary directory");
        let instance = format!("test-{}", &uuid::Uuid::new_v4().simple().to_string()[..12]);
        let mut variables = vec![
            ("HOME".to_owned(), directory.path().join("home").display().to_string()),
            ("ANCHORHOLD_MODEL_UPSTREAM".to_owned(), "rehearsal".to_owned()),
            ("ANCHORHOLD_ENGINE_INSTANCE".to_owned(), instance.clone()),
            ("ANCHORHOLD_GATEWAY_NAME".to_owned(), format!("anchorhold-{instance}")),
            ("ANCHORHOLD_LIMITS_MEMORY".to_owned(), "1GiB".to_owned()),
            ("ANCHORHOLD_LIMITS_DEADLINE_SECONDS".to_owned(), "300".to_owned()),
        ];
        // Which engine and which image: that alone comes from outside.
        for name in ["PATH", "DOCKER_HOST", "DOCKER_CERT_PATH", "DOCKER_TLS_VERIFY", "ANCHORHOLD_IMAGE_NAME", "ANCHORHOLD_ENGINE_HOST"] {
            if let Ok(value) = std::env::var(name) {
                variables.push((name.to_owned(), value));
            }
        }
        std::fs::create_dir(directory.path().join("home")).expect("a home");
        Self { directory, instance, variables }
    }

    /// Sets a variable for every program started from now on.
    pub fn set(&mut self, name: &str, value: &str) {
        self.variables.retain(|(known, _)| known != name);
        self.variables.push((name.to_owned(), value.to_owned()));
    }

    /// A directory that goes with this environment.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Its name on the engine.
    pub fn instance(&self) -> &str {
        &self.instance
    }

    /// The whole environment of a child.
    pub fn variables(&self) -> &[(String, String)] {
        &self.variables
    }

    /// The built program, with this environment and nothing else.
    pub fn anchorhold(&self, arguments: &[&str]) -> Command {
        let mut command = self.command(env!("CARGO_BIN_EXE_anchorhold"));
        command.args(arguments);
        command
    }

    /// Any program, with this environment and nothing else.
    pub fn command(&self, program: &str) -> Command {
        let mut command = anchorhold::process::command(program, self.path());
        command.env_clear().envs(self.variables.iter().map(|(name, value)| (name, value)));
        command
    }

    /// A repository with one commit that holds these files.
    pub fn repository(&self, name: &str, files: &[(&str, &[u8])]) -> Repository {
        let path = self.path().join(name);
        std::fs::create_dir(&path).expect("a directory for the repository");
        let repository = Repository { path };
        repository.git(&["init", "-q", "-b", "main"]);
        for (file, bytes) in files {
            repository.write(file, bytes);
        }
        repository.git(&["add", "-A"]);
        repository.git(&["commit", "-q", "--allow-empty", "-m", "start"]);
        repository
    }

    /// What the engine holds of this instance's jobs: names of containers and volumes. Empty when nothing leaked.
    pub fn leftovers(&self) -> Vec<String> {
        let filter = format!("label=anchorhold.instance={}", self.instance);
        let mut names = self.docker(&["ps", "-a", "--filter", &filter, "--format", "{{.Names}}"]);
        names.extend(self.docker(&["volume", "ls", "--filter", &filter, "--format", "{{.Name}}"]));
        names
    }

    /// Waits until nothing is left: what a consumed job leaves is removed beside the answer of a server.
    pub fn nothing_is_left(&self) {
        let begun = std::time::Instant::now();
        while !self.leftovers().is_empty() {
            assert!(begun.elapsed() < std::time::Duration::from_secs(60), "left: {:?}", self.leftovers());
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
    }

    /// Runs the engine's client and gives the lines that it prints.
    pub fn docker(&self, arguments: &[&str]) -> Vec<String> {
        let output = self.command("docker").args(arguments).output().expect("the tests need the docker client");
        String::from_utf8_lossy(&output.stdout).lines().map(ToOwned::to_owned).collect()
    }

    fn remove(&self, filter: &str) {
        let containers = self.docker(&["ps", "-aq", "--no-trunc", "--filter", filter]);
        for container in &containers {
            self.docker(&["rm", "-f", "-v", container]);
        }
        for volume in self.docker(&["volume", "ls", "-q", "--filter", filter]) {
            self.docker(&["volume", "rm", &volume]);
        }
    }
}

impl Default for Environment {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Environment {
    /// Removes what carries this environment's labels, and nothing else: first the jobs, then the gateway whose socket they mount.
    fn drop(&mut self) {
        self.remove(&format!("label=anchorhold.instance={}", self.instance));
        self.remove(&format!("label=anchorhold.gateway=anchorhold-{}", self.instance));
    }
}

/// A git repository of a test.
pub struct Repository {
    path: PathBuf,
}

impl Repository {
    /// Its top.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The same as text.
    pub fn text(&self) -> String {
        self.path.to_str().expect("temporary directories have plain names").to_owned()
    }

    /// Writes a file, and the directories to it.
    pub fn write(&self, file: &str, bytes: &[u8]) {
        let path = self.path.join(file);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("directories");
        std::fs::write(path, bytes).expect("a file");
    }

    /// Runs git as a user would, but with no configuration of this machine; panics where it fails.
    pub fn git(&self, arguments: &[&str]) -> Output {
        let output = self.try_git(arguments);
        assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        output
    }

    /// The same, whatever comes.
    pub fn try_git(&self, arguments: &[&str]) -> Output {
        anchorhold::process::command("git", &self.path)
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .args(["-c", "user.name=Test", "-c", "user.email=test@example.com", "-c", "commit.gpgsign=false"])
            .args(arguments)
            .output()
            .expect("the tests need git")
    }

    /// Every path below the top with its bytes, `.git` included: the tree must be the same before and after.
    pub fn fingerprint(&self) -> Vec<(PathBuf, Vec<u8>)> {
        fn walk(directory: &Path, found: &mut Vec<(PathBuf, Vec<u8>)>) {
            let mut entries: Vec<PathBuf> = std::fs::read_dir(directory).expect("a directory").map(|entry| entry.expect("an entry").path()).collect();
            entries.sort();
            for path in entries {
                let kind = path.symlink_metadata().expect("metadata").file_type();
                if kind.is_symlink() {
                    let target = std::fs::read_link(&path).expect("a link").into_os_string().into_encoded_bytes();
                    found.push((path, target));
                } else if kind.is_dir() {
                    found.push((path.clone(), Vec::new()));
                    walk(&path, found);
                } else {
                    let bytes = std::fs::read(&path).expect("a file");
                    found.push((path, bytes));
                }
            }
        }
        let mut found = Vec::new();
        walk(&self.path, &mut found);
        found
    }

    /// Applies a patch to a fresh clone of HEAD with git's own `apply`, and gives the clone.
    pub fn applied(&self, patch: &[u8], beside: &str) -> Self {
        let path = self.path.with_file_name(beside);
        let target = path.to_str().expect("temporary directories have plain names");
        self.git(&["clone", "-q", "--no-hardlinks", ".", target]);
        let clone = Self { path: path.clone() };
        let file = path.with_extension("patch");
        std::fs::write(&file, patch).expect("a patch file");
        clone.git(&["apply", "--index", "--binary", file.to_str().expect("a plain name")]);
        clone
    }
}
