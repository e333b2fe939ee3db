//! `doctor`: what is there, what is missing, and the command that mends it. It looks, and starts nothing.

use serde_json::{Value, json};

use super::output::{Output, Paint};
use crate::config::Settings;
use crate::display;
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
    let notes: Vec<Line> = weaknesses(&found).collect();
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
                "weaknesses": found.weaknesses,
                "engine": found.engine,
                "image": found.image,
                "gateway": found.gateway,
                "credential": found.credential,
            }),
        );
    } else {
        out.text(&lines.iter().map(|line| text(line, out.paint())).collect::<String>());
        out.text(&notes.iter().map(|line| text(line, out.paint())).collect::<String>());
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
        "engine" if found.engine.is_some() => Code::IsolationMismatch,
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

/// What is weak about the engine; jobs run all the same, and their isolation block says what it cannot enforce.
fn weaknesses(found: &Readiness) -> impl Iterator<Item = Line> {
    found.weaknesses.iter().map(|weakness| Line {
        name: weakness.id,
        state: State::Note,
        detail: format!("{}: {}", weakness.severity.as_str(), weakness.detail),
        mend: Some(weakness.mend.clone()),
        code: Code::EngineError,
    })
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
    let mut text = format!("{word}  {:<19}  {}\n", line.name, display::line(line.detail.as_bytes()));
    if let Some(mend) = &line.mend {
        text.push_str(&format!("{:30}{}\n", "", paint.bold(&format!("→ {}", display::line(mend.as_bytes())))));
    }
    text
}
