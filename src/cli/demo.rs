//! `demo`: a whole delegation on a temporary repository with the scripted model. No key, no settings, nothing left behind.

use std::path::Path;

use super::output::Output;
use super::progress::Reporter;
use super::{follow, render};
use crate::config::{RootSettings, Settings};
use crate::error::{Code, Error, Result};
use crate::job::{Isolation, JobId, JobResult, Jobs, StartRequest, Work};

/// The task, with the script that the rehearsal model plays in it.
const TASK: &str = include_str!("demo/task.md");
/// The repository: a function with a mistake, and the test that shows it.
const FILES: [(&str, &str); 3] =
    [("greet.py", include_str!("demo/greet.py")), ("test_greet.py", include_str!("demo/test_greet.py")), (".gitignore", "__pycache__/\n")];

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Keep the job and its repository, for trying the other verbs on them
    #[arg(long)]
    keep: bool,
}

pub(super) async fn run(out: &Output, settings: &Settings, args: &Args) -> Result<u8> {
    let jobs = Jobs::new(scripted(settings));
    let done = demo(out, &jobs, args.keep).await;
    // Whoever pressed Ctrl-C twice waits for nothing more.
    if !matches!(&done, Err(e) if e.code == Code::Interrupted) {
        jobs.shutdown().await;
    }
    done
}

/// The user's settings, but for the model and what could stand in the way of a repository in a temporary directory.
fn scripted(settings: &Settings) -> Settings {
    let mut settings = settings.clone();
    settings.model.upstream = "rehearsal".to_owned();
    settings.model.default_model = String::new();
    settings.model.allowed_models = Vec::new();
    settings.roots = RootSettings::default();
    settings
}

async fn demo(out: &Output, jobs: &Jobs, keep: bool) -> Result<u8> {
    let place = tempfile::tempdir().map_err(|e| Error::new(Code::SetupFailed, "make a temporary directory").with_source(e))?;
    let mut reporter = Reporter::new(out, true);
    reporter.step("a temporary repository with a failing test");
    repository(place.path())?;
    let request = StartRequest {
        work: Work::Delegate { task: TASK.to_owned() },
        workspace_root: place.path().canonicalize().unwrap_or_else(|_| place.path().to_path_buf()),
        model: None,
        reasoning_effort: None,
        // Whatever this user's own Codex is told, the demonstration is the same.
        isolation: Isolation::Nothing,
        deadline_seconds: Some(300),
        queue_seconds: None,
        idle_seconds: None,
        token_budget: None,
        on_behalf: false,
        include_ignored: false,
        idempotency_key: None,
        trace: None,
    };
    let (started, cancel_now) = follow::start(jobs, request, &mut reporter).await?;
    let id = started.status.job_id;
    let followed = async {
        reporter.step(&format!("the cell is there: {}", render::short(&id)));
        follow::to_the_end(jobs, &id, cancel_now, &mut reporter).await?;
        reporter.step("collecting: the patch is made, and proven by applying it to a copy");
        follow::or_interrupted(&id, follow::result(jobs, &id)).await
    };
    let followed = followed.await;
    if !keep {
        reporter.step("removing the job");
        tidy_up(jobs, &id, &followed).await;
    }
    drop(reporter);
    let result = followed?;
    let code = render::show_result(out, &result, true, keep);
    if keep {
        let kept = crate::display::line(place.keep().as_os_str().as_encoded_bytes());
        out.note(&format!("the repository is kept: {kept}"));
    }
    if code == 0 {
        out.note("\nThe model was a script; engine, container, Codex and patch were real. For a real model, set OPENAI_API_KEY and run: anchorhold delegate TASK");
    }
    Ok(code)
}

/// Leaves nothing, whatever happened. Whoever gave up waiting gets no further wait: the cancelled job expires.
async fn tidy_up(jobs: &Jobs, id: &JobId, followed: &Result<JobResult>) {
    if matches!(followed, Err(e) if e.code == Code::Interrupted) {
        return;
    }
    let gone = async {
        if followed.is_err() {
            jobs.cancel(id).await?;
            jobs.watch(id, &mut |_| {}).await?;
        }
        jobs.consume(id).await
    };
    if let Err(e) = gone.await {
        tracing::warn!(error = e.chain(), "the demo's job could not be removed");
    }
}

/// One commit with the three files.
fn repository(dir: &Path) -> Result<()> {
    for (name, content) in FILES {
        std::fs::write(dir.join(name), content).map_err(|e| Error::new(Code::SetupFailed, "write the demo's repository").with_source(e))?;
    }
    let identity = ["-c", "user.name=anchorhold", "-c", "user.email=demo@anchorhold.invalid"];
    for args in [&["init", "-q"][..], &["add", "."], &["commit", "-q", "-m", "A greeting, and a test that fails"]] {
        let done = crate::process::git(&dir.join(".git"), dir).args(identity).args(args).output();
        let done =
            done.map_err(|e| Error::new(Code::GitUnavailable, "git is not to be had").with_hint("install git: apt-get install git").with_source(e))?;
        if !done.status.success() {
            let said = crate::display::line(done.stderr.trim_ascii());
            return Err(Error::new(Code::WorktreeError, format!("git could not make the demo's repository: {said}")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_repository_is_one_clean_commit() {
        let place = tempfile::tempdir().unwrap();
        repository(place.path()).unwrap();
        let git = |args: &[&str]| {
            let done = crate::process::git(&place.path().join(".git"), place.path()).args(args).output().unwrap();
            assert!(done.status.success());
            String::from_utf8(done.stdout).unwrap()
        };
        assert_eq!(git(&["status", "--porcelain"]), "");
        assert_eq!(git(&["rev-list", "--count", "HEAD"]).trim(), "1");
        assert_eq!(git(&["ls-files"]).lines().count(), FILES.len());
    }

    #[test]
    fn the_users_model_key_and_roots_do_not_matter() {
        let mut settings = Settings::default();
        settings.model.allowed_models = vec!["some-model".to_owned()];
        settings.roots.allow = vec!["/nowhere".into()];
        settings.engine.host = "unix:///somewhere.sock".to_owned();
        let scripted = scripted(&settings);
        assert_eq!(scripted.model.upstream().unwrap(), crate::protocol::admin::Upstream::Rehearsal);
        assert!(scripted.model.allowed_models.is_empty() && scripted.roots.allow.is_empty());
        assert_eq!(scripted.engine, settings.engine);
    }

    #[test]
    fn the_script_corrects_what_the_repository_holds() {
        let (_, greet) = FILES.into_iter().find(|(name, _)| *name == "greet.py").unwrap();
        let removed: Vec<&str> = TASK.lines().filter_map(|line| line.strip_prefix('-')).collect();
        assert_eq!(removed.len(), 1);
        assert!(removed.iter().all(|line| greet.contains(line)));
    }
}
