//! `doctor`: what is there, what is missing, and the command that mends it. It looks, and starts nothing.

use serde_json::{Value, json};

use super::output::{Output, Paint};
use crate::config::Settings;
use crate::display;
use crate::engine::EngineFacts;
use crate::error::{Code, Error, Result};
use crate::job::Jobs;
use crate::job::readiness::Readiness;

/// How a thing stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Good,
    /// Works, but something is weaker than it could be.
    Note,
    /// Without it no delegation works.
    Missing,
}

impl State {
    fn word(self) -> &'static str {
        match self {
            Self::Good => "ok",
            Self::Note => "note",
            Self::Missing => "missing",
        }
    }
}

/// One line of the report.
struct Line {
    name: &'static str,
    state: State,
    detail: String,
    mend: Option<String>,
    /// What a missing thing means for a script.
    code: Code,
}

/// `settings` may be an error: then the rest is looked at with the defaults.
pub(super) async fn run(out: &Output, settings: Result<Settings>) -> Result<u8> {
    let mut lines = vec![settings_line(&settings)];
    let jobs = Jobs::new(settings.unwrap_or_default());
    let found = jobs.readiness().await;
    lines.extend(found.checks.iter().map(|check| Line {
        name: check.name,
        state: if check.ok { State::Good } else { State::Missing },
        detail: check.detail.clone(),
        mend: check.hint.clone(),
        code: code(check.name, &found),
    }));
    if let Some(facts) = &found.engine {
        lines.extend(weaknesses(facts));
    }
    let missing = lines.iter().find(|line| line.state == State::Missing);
    let failure = missing.map(|line| {
        let e = Error::new(line.code, format!("{}: {}", line.name, line.detail));
        match &line.mend {
            Some(mend) => e.with_hint(mend.clone()),
            None => e,
        }
    });
    if out.json() {
        out.outcome(
            failure.as_ref(),
            json!({
                "ready": failure.is_none(),
                "checks": lines.iter().map(value).collect::<Vec<_>>(),
                "version": env!("CARGO_PKG_VERSION"),
                "engine": found.engine,
                "image": found.image,
                "gateway": found.gateway,
                "credential": found.credential,
            }),
        );
    } else {
        out.text(&lines.iter().map(|line| text(line, out.paint())).collect::<String>());
        out.text(match missing {
            None => "ready: try `anchorhold demo`, or `anchorhold delegate TASK` in a repository",
            Some(line) if line.code == Code::CodexAuthRequired => "not ready for a real model; `anchorhold demo` works without a key",
            Some(_) => "not ready: mend what is missing, from the top",
        });
    }
    Ok(failure.map_or(0, |e| e.code.exit_code()))
}

fn settings_line(settings: &Result<Settings>) -> Line {
    let line = |state, detail, mend| Line { name: "settings", state, detail, mend, code: Code::InvalidConfig };
    match settings {
        Ok(settings) => {
            let upstream = display::line(settings.model.upstream.as_bytes());
            line(State::Good, format!("model requests go to {upstream}, instance {}", settings.engine.instance), None)
        }
        Err(e) => line(State::Missing, display::line(e.chain().as_bytes()), e.hint.clone()),
    }
}

fn code(check: &str, found: &Readiness) -> Code {
    match check {
        "engine" => Code::EngineUnavailable,
        "image" if found.image.is_some() => Code::ImageMismatch,
        "image" => Code::ImageMissing,
        "gateway" => Code::GatewayUnavailable,
        "credential" => Code::CodexAuthRequired,
        "authorities" => Code::InvalidConfig,
        "git" => Code::GitUnavailable,
        _ => Code::SetupFailed,
    }
}

/// What this engine cannot enforce: jobs run, and say so in their isolation block.
fn weaknesses(facts: &EngineFacts) -> Vec<Line> {
    let mut lines = Vec::new();
    let mut note = |weak: bool, detail: &str, mend: &str| {
        if weak {
            let mend = Some(mend.to_owned()).filter(|mend| !mend.is_empty());
            lines.push(Line { name: "limits", state: State::Note, detail: detail.to_owned(), mend, code: Code::EngineError });
        }
    };
    let cgroups = "enable the controller in the kernel's command line of the engine's host";
    note(!facts.memory_limit, "this engine cannot limit memory", cgroups);
    note(
        facts.memory_limit && !facts.swap_limit,
        "this engine cannot limit swap, so a job may use more than its memory",
        "turn swap off, or enable swap accounting",
    );
    note(!facts.pids_limit, "this engine cannot limit processes", cgroups);
    let unconfined = facts.security_options.iter().any(|option| option.contains("seccomp") && option.contains("unconfined"));
    let seccomp = !unconfined && facts.security_options.iter().any(|option| option.contains("seccomp"));
    note(!seccomp, "this engine runs containers without a seccomp profile", "start the engine with its default profile");
    lines
}

fn value(line: &Line) -> Value {
    json!({ "name": line.name, "state": line.state.word(), "detail": line.detail, "mend": line.mend })
}

fn text(line: &Line, paint: Paint) -> String {
    let word = format!("{:<7}", line.state.word());
    let word = match line.state {
        State::Good => paint.green(&word),
        State::Note => paint.yellow(&word),
        State::Missing => paint.red(&word),
    };
    let mut text = format!("{word}  {:<10}  {}\n", line.name, display::line(line.detail.as_bytes()));
    if let Some(mend) = &line.mend {
        text.push_str(&format!("{:21}{}\n", "", paint.bold(&format!("→ {}", display::line(mend.as_bytes())))));
    }
    text
}
