//! Whether a delegation would work now: looks, starts nothing, costs nothing. `doctor` and the status tool show it.

use std::path::Path;
use std::time::Duration;

use serde::Serialize;

use super::weakness::{self, Weakness};
use super::{Jobs, gateway, isolation};
use crate::config::Settings;
use crate::engine::{ContainerState, Engine, EngineFacts};
use crate::error::{Error, Result};
use crate::protocol::admin::Upstream;

/// How long the engine may take to answer all questions together.
const ENGINE_TIMEOUT: Duration = Duration::from_secs(15);
/// The image's label that names the build of the binary in it.
pub const LABEL_BUILD: &str = "anchorhold.build";
/// The image's label that names its Codex CLI.
pub const LABEL_CODEX: &str = "anchorhold.codex";

/// One thing that must be in order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// A stable word: `engine`, `image`, `gateway`, `credential`, `git`; `authorities` where `[model] ca_file` is of no use.
    pub name: &'static str,
    /// Whether it is.
    pub ok: bool,
    /// What was found.
    pub detail: String,
    /// The command or setting that mends it.
    pub hint: Option<String>,
}

/// The runtime image on the engine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RuntimeImage {
    /// Its name in the settings.
    pub name: String,
    /// `sha256:…`.
    pub id: String,
    /// Version of the Codex CLI in it.
    pub codex_version: Option<String>,
    /// Whether it holds this build of the binary.
    pub matches: bool,
    /// Bytes.
    pub size: u64,
}

/// The gateway's container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum GatewayState {
    /// The engine could not be asked.
    Unknown,
    /// Not there; the first delegation starts it.
    Absent,
    /// Running.
    Running,
    /// There, and not running; the next delegation starts it.
    Stopped,
}

/// The API key; never its value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum Credential {
    /// The rehearsal model takes none.
    NotNeeded,
    /// There is one.
    Present {
        /// The variable or file that holds it.
        from: String,
    },
    /// There is none.
    Missing {
        /// Where it was looked for.
        looked: String,
    },
}

/// Everything that was found.
#[derive(Debug, Clone, Serialize)]
pub struct Readiness {
    /// In the order in which a delegation needs them.
    pub checks: Vec<Check>,
    /// The engine, where it answered.
    pub engine: Option<EngineFacts>,
    /// The runtime image, where it is there.
    pub image: Option<RuntimeImage>,
    /// The gateway.
    pub gateway: GatewayState,
    /// The API key.
    pub credential: Credential,
    /// What is weak about the engine, the worst first; jobs run all the same.
    pub weaknesses: Vec<Weakness>,
}

impl Readiness {
    /// Whether every check is in order.
    pub fn ready(&self) -> bool {
        self.checks.iter().all(|check| check.ok)
    }

    /// In one sentence: ready, or the first thing to mend.
    pub fn sentence(&self) -> String {
        match self.checks.iter().find(|check| !check.ok) {
            None => "ready".to_owned(),
            Some(Check { name, detail, hint: Some(hint), .. }) => format!("{name}: {detail}; {hint}"),
            Some(Check { name, detail, hint: None, .. }) => format!("{name}: {detail}"),
        }
    }
}

impl Jobs {
    /// Looks whether a delegation would work now. Starts nothing and sends nothing to the provider.
    pub async fn readiness(&self) -> Readiness {
        let settings = self.settings();
        let engine_side = match tokio::time::timeout(ENGINE_TIMEOUT, ask_engine(settings)).await {
            Ok(found) => found,
            Err(_) => EngineSide::failed(bad("engine", "the engine does not answer within 15 s".into(), Some("restart the engine".into()))),
        };
        let EngineSide { mut checks, engine, image, gateway } = engine_side;
        let credential = find_credential(settings);
        checks.push(check_credential(&credential));
        checks.extend(check_authorities(settings).await);
        checks.push(check_git().await);
        let weaknesses = match &engine {
            Some(facts) => weaknesses(facts).await,
            None => Vec::new(),
        };
        Readiness { checks, engine, image, gateway, credential, weaknesses }
    }
}

async fn weaknesses(facts: &EngineFacts) -> Vec<Weakness> {
    let host = facts.host.clone();
    let local = tokio::task::spawn_blocking(move || weakness::Local::look(&host)).await.unwrap_or_default();
    weakness::find(facts, &local)
}

struct EngineSide {
    checks: Vec<Check>,
    engine: Option<EngineFacts>,
    image: Option<RuntimeImage>,
    gateway: GatewayState,
}

impl EngineSide {
    fn failed(check: Check) -> Self {
        Self { checks: vec![check], engine: None, image: None, gateway: GatewayState::Unknown }
    }
}

async fn ask_engine(settings: &Settings) -> EngineSide {
    let reached = async {
        let engine = Engine::connect(&settings.engine).await?;
        let facts = engine.facts().await?;
        Ok::<_, Error>((engine, facts))
    };
    let (engine, facts) = match reached.await {
        Ok(found) => found,
        Err(error) => return EngineSide::failed(failed("engine", &error)),
    };
    let place = crate::display::line(facts.host.as_bytes());
    let version = crate::display::line(facts.version.as_bytes());
    // A job would be refused for the same reasons.
    let mut checks = vec![match isolation::judge(settings, &facts, true) {
        Ok(_) => good("engine", format!("version {version} at {place}")),
        Err(error) => failed("engine", &error),
    }];

    let image = match engine.inspect_image(&settings.image.name).await {
        Ok(Some(found)) => {
            let label = |name: &str| found.labels.get(name).map(|text| crate::display::line(text.as_bytes()));
            let matches = this_build().is_none_or(|build| label(LABEL_BUILD).as_deref() == Some(build));
            let image = RuntimeImage {
                name: settings.image.name.clone(),
                id: found.id.clone(),
                codex_version: label(LABEL_CODEX),
                matches,
                size: found.size,
            };
            checks.push(if matches {
                good("image", format!("{} is there", settings.image.name))
            } else {
                bad("image", format!("{} was built by another build of anchorhold", settings.image.name), Some("run `anchorhold image build`".into()))
            });
            Some(image)
        }
        Ok(None) => {
            let hint = "run `anchorhold image build`".to_owned();
            checks.push(bad("image", format!("{} is not on the engine", settings.image.name), Some(hint)));
            None
        }
        Err(error) => {
            checks.push(failed("image", &error));
            None
        }
    };

    let (gateway, check) = match gateway_state(&engine, settings).await {
        Ok(state) => {
            let detail = match state {
                GatewayState::Running => "running",
                GatewayState::Stopped => "stopped; the next delegation starts it",
                GatewayState::Absent | GatewayState::Unknown => "not there yet; the first delegation starts it",
            };
            (state, good("gateway", format!("{}: {detail}", settings.gateway.name)))
        }
        Err(error) => (GatewayState::Unknown, failed("gateway", &error)),
    };
    checks.push(check);
    EngineSide { checks, engine: Some(facts), image, gateway }
}

async fn gateway_state(engine: &Engine, settings: &Settings) -> Result<GatewayState> {
    Ok(match gateway::look(engine, settings).await? {
        None => GatewayState::Absent,
        Some(facts) => match facts.state {
            ContainerState::Running | ContainerState::Restarting => GatewayState::Running,
            ContainerState::Created | ContainerState::Paused | ContainerState::Removing | ContainerState::Exited | ContainerState::Dead => {
                GatewayState::Stopped
            }
        },
    })
}

/// The build id of this binary, where the build script gave one.
fn this_build() -> Option<&'static str> {
    option_env!("ANCHORHOLD_BUILD_ID")
}

fn find_credential(settings: &Settings) -> Credential {
    match settings.model.upstream() {
        Ok(Upstream::Rehearsal) => return Credential::NotNeeded,
        Ok(Upstream::Http { .. }) => {}
        Err(error) => return Credential::Missing { looked: error.message },
    }
    let model = &settings.model;
    if !model.api_key_file.is_empty() {
        let from = format!("the file {}", crate::display::line(model.api_key_file.as_bytes()));
        // Only whether something is there; the content is not kept.
        return match std::fs::metadata(Path::new(&model.api_key_file)) {
            Ok(facts) if facts.is_file() && facts.len() > 0 => Credential::Present { from },
            Ok(_) => Credential::Missing { looked: format!("{from} is empty or not a file") },
            Err(_) => Credential::Missing { looked: format!("{from} cannot be read") },
        };
    }
    let name = crate::display::line(model.api_key_env.as_bytes());
    if std::env::var_os(&model.api_key_env).is_some_and(|value| !value.is_empty()) {
        Credential::Present { from: format!("the environment variable {name}") }
    } else {
        Credential::Missing { looked: format!("the environment variable {name} is not set for this process") }
    }
}

fn check_credential(credential: &Credential) -> Check {
    match credential {
        Credential::NotNeeded => good("credential", "none needed: the upstream is the built-in rehearsal model".into()),
        Credential::Present { from } => good("credential", format!("an API key is set in {from}")),
        Credential::Missing { looked } => bad(
            "credential",
            looked.clone(),
            Some("set model.api_key_file or the variable named by model.api_key_env; or try without a key: model.upstream = \"rehearsal\"".into()),
        ),
    }
}

/// Said only where the settings name a file that is of no use.
async fn check_authorities(settings: &Settings) -> Option<Check> {
    let model = settings.model.clone();
    let read = tokio::task::spawn_blocking(move || super::authorities::with_authorities(&model, model.upstream()?)).await;
    match read {
        Ok(Err(error)) if error.details.get("field") == Some(&"model.ca_file".into()) => Some(failed("authorities", &error)),
        _ => None,
    }
}

async fn check_git() -> Check {
    let version = tokio::task::spawn_blocking(|| crate::process::command("git", Path::new("/")).arg("--version").output()).await;
    match version {
        Ok(Ok(output)) if output.status.success() => good("git", crate::display::line(output.stdout.trim_ascii())),
        _ => bad("git", "git is not to be had on this machine".into(), Some("install git".into())),
    }
}

fn good(name: &'static str, detail: String) -> Check {
    Check { name, ok: true, detail, hint: None }
}

fn bad(name: &'static str, detail: String, hint: Option<String>) -> Check {
    Check { name, ok: false, detail, hint }
}

fn failed(name: &'static str, error: &Error) -> Check {
    bad(name, crate::display::bounded(error.chain().as_bytes(), 1000), error.hint.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(pairs: &[(&str, &str)]) -> Settings {
        let env: Vec<(String, String)> = pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        Settings::from_parts(None, None, &env).unwrap()
    }

    #[test]
    fn a_key_is_found_and_never_shown() {
        assert_eq!(find_credential(&settings(&[("ANCHORHOLD_MODEL_UPSTREAM", "rehearsal")])), Credential::NotNeeded);
        let unset = settings(&[("ANCHORHOLD_MODEL_API_KEY_ENV", "ANCHORHOLD_TEST_NO_SUCH_VARIABLE")]);
        assert!(matches!(find_credential(&unset), Credential::Missing { .. }));
        let file = tempfile::NamedTempFile::new().unwrap();
        let path = file.path().to_str().unwrap().to_owned();
        let from_file = settings(&[("ANCHORHOLD_MODEL_API_KEY_FILE", &path)]);
        assert!(matches!(find_credential(&from_file), Credential::Missing { .. }), "an empty file is no key");
        std::fs::write(file.path(), "sk-secret").unwrap();
        let found = find_credential(&from_file);
        assert!(matches!(found, Credential::Present { .. }));
        assert!(!format!("{found:?} {:?}", check_credential(&found)).contains("sk-secret"));
    }

    #[tokio::test]
    async fn without_an_engine_the_rest_is_still_told() {
        let jobs = Jobs::new(settings(&[("ANCHORHOLD_ENGINE_HOST", "unix:///nonexistent/engine.sock"), ("ANCHORHOLD_MODEL_UPSTREAM", "rehearsal")]));
        let readiness = jobs.readiness().await;
        assert!(!readiness.ready());
        assert!(readiness.sentence().starts_with("engine: "), "{}", readiness.sentence());
        let names: Vec<_> = readiness.checks.iter().map(|check| (check.name, check.ok)).collect();
        assert_eq!(names, [("engine", false), ("credential", true), ("git", true)]);
        assert_eq!(readiness.gateway, GatewayState::Unknown);
        let jobs = Jobs::new(settings(&[
            ("ANCHORHOLD_ENGINE_HOST", "unix:///nonexistent/engine.sock"),
            ("ANCHORHOLD_MODEL_CA_FILE", "/nonexistent/ca.pem"),
        ]));
        let bad = jobs.readiness().await.checks.into_iter().find(|check| check.name == "authorities").unwrap();
        assert!(!bad.ok && bad.detail.contains("/nonexistent/ca.pem") && bad.hint.is_some(), "{bad:?}");
    }
}
