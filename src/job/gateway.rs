//! The gateway's container: found or made, and asked through one kept control session.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;

use super::admin::{self, Session};
use super::spec;
use super::time::own_ms;
use crate::config::Settings;
use crate::engine::{ContainerFacts, ContainerRef, ContainerState, Engine, ImageFacts, ObjectName, Tolerance, outcome_unknown};
use crate::error::{Code, Error, Result};
use crate::protocol::admin::{AdminRequest, AdminResponse, Bringer, Ceilings, GatewayLimits, JobAccount};
use crate::protocol::{PROTOCOL_VERSION, paths};

/// How long a gateway that was just started may take until its control answers.
pub(super) const START_WITHIN: Duration = Duration::from_secs(10);
/// The same for a delivery, which nobody waits for by the second, and which may be one of dozens.
pub(super) const DELIVERY_WITHIN: Duration = Duration::from_secs(45);
/// How long the account of an ended job is worth waiting for.
const ACCOUNT_WITHIN: Duration = Duration::from_secs(3);
/// How long a pass is worth trying to revoke at a gateway that dies meanwhile.
const REVOKE_WITHIN: Duration = Duration::from_secs(5);
/// How long a gateway that dies meanwhile is waited for by who needs its word.
const DECIDE_WITHIN: Duration = Duration::from_secs(5);
/// How long several processes may take to agree on one gateway.
const SETTLE_WITHIN: Duration = Duration::from_secs(20);
const RETRY_AFTER: Duration = Duration::from_millis(50);
/// The longest pause, which they grow to.
const RETRY_AT_LAST: Duration = Duration::from_secs(1);

/// This process's way to the gateway.
pub(super) struct Gateway {
    /// Unix milliseconds at which this process read its settings.
    pub read_ms: u64,
    /// The gateway of this process has its limits.
    brought: AtomicBool,
    /// One at a time; taken out while in use, so that a call that is dropped half-way drops the session with it.
    session: Mutex<Option<Session>>,
}

/// The container, looked at but not judged.
pub(super) async fn look(engine: &Engine, settings: &Settings) -> Result<Option<ContainerFacts>> {
    match engine.inspect_container(&reference(settings)?).await? {
        Some(facts) => Ok(Some(facts)),
        None => renamed(engine, settings).await,
    }
}

/// Whether a gateway that did not answer may do so in a moment: one that is being started again is worth that; one that is not there is not.
async fn returns(engine: &Engine, settings: &Settings) -> bool {
    let facts = look(engine, settings).await;
    facts.is_ok_and(|facts| facts.is_some_and(|facts| matches!(facts.state, ContainerState::Running | ContainerState::Restarting)))
}

pub(super) fn reference(settings: &Settings) -> Result<ContainerRef> {
    Ok(ContainerRef::Name(ObjectName::parse(&settings.gateway.name)?))
}

/// The container where somebody gave it another name: its label says whose it is. A second one beside it could not run, because both have the same volumes.
async fn renamed(engine: &Engine, settings: &Settings) -> Result<Option<ContainerFacts>> {
    let found = engine.list_containers(&[(spec::GATEWAY, &settings.gateway.name)]).await?;
    match found.into_iter().next() {
        Some(facts) => engine.inspect_container(&ContainerRef::Id(facts.id)).await,
        None => Ok(None),
    }
}

/// What these settings say of all jobs together.
pub(super) fn limits(settings: &Settings) -> GatewayLimits {
    let gateway = &settings.gateway;
    GatewayLimits {
        slots: settings.engine.max_running_jobs,
        ceilings: Ceilings { tokens_per_day: gateway.tokens_per_day, requests: gateway.max_requests, connections: gateway.max_connections },
    }
}

/// What to do about the container that was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// It runs and is the one that these settings and this build want.
    Use,
    /// It is the right one and does not run.
    Start,
    /// It is the right one and somebody paused it.
    Unpause,
    /// It runs and was made by another build or for another network.
    Outdated,
    /// It does not run, and is broken or was made by another build or for another network.
    Replace,
    /// Something else has its name.
    Foreign,
}

fn judge(facts: &ContainerFacts, settings: &Settings, image: &ImageFacts) -> Verdict {
    let label = |key: &str| facts.labels.get(key).map(String::as_str);
    if label(spec::GATEWAY) != Some(&settings.gateway.name) {
        return Verdict::Foreign;
    }
    let right = facts.image_id == image.id && label(spec::GATEWAY_NETWORK) == Some(&settings.gateway.network);
    match (facts.state, right) {
        (ContainerState::Running | ContainerState::Restarting, true) => Verdict::Use,
        (ContainerState::Running | ContainerState::Restarting | ContainerState::Paused, false) => Verdict::Outdated,
        (ContainerState::Paused, true) => Verdict::Unpause,
        (ContainerState::Created | ContainerState::Exited, true) => Verdict::Start,
        (ContainerState::Created | ContainerState::Exited, false) | (ContainerState::Removing | ContainerState::Dead, _) => Verdict::Replace,
    }
}

impl Gateway {
    /// No connection is made here. The settings are taken for those of this moment.
    pub(super) fn new() -> Self {
        Self { read_ms: own_ms(), brought: AtomicBool::new(false), session: Mutex::default() }
    }

    /// Sees to it that the gateway knows these settings' limits, once in a process: every session begins with them. Without a gateway there is
    /// nothing to be told.
    pub(super) async fn bring_limits(&self, engine: &Engine, settings: &Settings) {
        if self.brought.load(Ordering::Relaxed) {
            return;
        }
        if let Err(e) = self.request(engine, settings, &AdminRequest::Status, Duration::ZERO).await {
            tracing::debug!(error = e.chain(), "the gateway was not told the limits");
        }
    }

    /// Closes the kept session: a server that waits for its client holds none.
    pub(super) async fn rest(&self) {
        *self.session.lock().await = None;
    }

    /// Says which limits this process's settings have; whether they are new is for the gateway to judge.
    async fn introduce(&self, mut session: Session, settings: &Settings) -> Result<Session> {
        let by = Bringer { instance: settings.engine.instance.clone(), read_ms: self.read_ms };
        match session.request(&AdminRequest::Limits { limits: limits(settings), by: Some(by) }).await? {
            // A gateway of an older build takes them with the next admission.
            AdminResponse::Error { code, .. } => tracing::debug!(code, "the gateway takes no limits"),
            _ => self.brought.store(true, Ordering::Relaxed),
        }
        Ok(session)
    }

    /// Makes sure that a gateway runs which this process can use. `found` is what [`look`] saw. Gives whether the engine has quotas for volumes: that was
    /// tried when the gateway was made, and stands on its label.
    pub(super) async fn ensure(
        &self,
        engine: &Engine,
        settings: &Settings,
        image: &ImageFacts,
        found: Option<ContainerFacts>,
        tolerance: Tolerance,
    ) -> Result<bool> {
        let mut found = found;
        // Other processes may do the same at the same time; then one of the next rounds finds the work done. They may also replace each
        // other's, as when the image was just rebuilt, so rounds are bounded by time and come with a pause.
        let until = Instant::now() + SETTLE_WITHIN;
        let mut pause = Duration::ZERO;
        while Instant::now() < until {
            tokio::time::sleep(pause).await;
            pause = RETRY_AFTER;
            let Some(facts) = found else {
                if let Some(quota) = self.create(engine, settings, image, tolerance).await? {
                    self.wait_ready(engine, settings).await?;
                    return Ok(quota);
                }
                found = look(engine, settings).await?;
                continue;
            };
            let container = ContainerRef::Id(facts.id.clone());
            let quota = facts.labels.get(spec::GATEWAY_QUOTA).is_some_and(|text| text == "true");
            match judge(&facts, settings, image) {
                Verdict::Use => return Ok(quota),
                Verdict::Start => {
                    engine.start_container(&container).await?;
                    self.wait_ready(engine, settings).await?;
                    return Ok(quota);
                }
                Verdict::Unpause => {
                    engine.unpause_container(&container).await?;
                    return Ok(quota);
                }
                Verdict::Foreign => {
                    return Err(Error::new(
                        Code::GatewayUnavailable,
                        format!("start the gateway: another container is named {:?}", settings.gateway.name),
                    )
                    .with_hint("remove or rename that container, or set `[gateway] name`"));
                }
                Verdict::Outdated => {
                    if !self.idle(engine, settings).await? {
                        return Ok(quota);
                    }
                    // The old one's session ends with it.
                    *self.session.lock().await = None;
                    tracing::info!(gateway = settings.gateway.name, "replacing the gateway of another build or network");
                    engine.remove_container(&container).await?;
                }
                Verdict::Replace => {
                    engine.remove_container(&container).await?;
                }
            }
            found = look(engine, settings).await?;
        }
        Err(Error::new(Code::GatewayUnavailable, "start the gateway: its container keeps changing")
            .with_hint("another process may be replacing it; try again, and run `anchorhold doctor` if this stays"))
    }

    /// Whether an outdated gateway may be replaced. A busy one is used as it is, if it speaks our protocol.
    async fn idle(&self, engine: &Engine, settings: &Settings) -> Result<bool> {
        // A gateway that does not answer serves nobody.
        let Ok(status) = self.request(engine, settings, &AdminRequest::Status, Duration::from_secs(2)).await else { return Ok(true) };
        match status {
            AdminResponse::Status { running: 0, queued: 0, .. } => Ok(true),
            AdminResponse::Status { protocol: PROTOCOL_VERSION, .. } => Ok(false),
            _ => Err(Error::new(Code::GatewayUnavailable, "use the gateway: one of another version is busy with jobs")
                .with_hint("wait until its jobs have ended, or set another `[gateway] name`")),
        }
    }

    /// Creates, checks and starts it, and gives whether the engine has quotas; `None`: another process was first.
    async fn create(&self, engine: &Engine, settings: &Settings, image: &ImageFacts, tolerance: Tolerance) -> Result<Option<bool>> {
        let quota = engine.has_volume_quota().await?;
        let asked = spec::gateway(settings, &image.id, quota)?;
        match engine.create_container(&asked).await {
            Ok((id, warnings)) => {
                let container = id.into();
                if let Err(e) = engine.verify_container(&container, &asked, &warnings, tolerance).await {
                    if let Err(e) = engine.remove_container(&container).await {
                        tracing::warn!(error = e.chain(), "left a gateway that is not as it was asked for");
                    }
                    return Err(e);
                }
                if let Err(e) = engine.start_container(&container).await {
                    // A container that this engine cannot start is of no use to the next attempt.
                    if let Err(e) = engine.remove_container(&container).await {
                        tracing::warn!(error = e.chain(), "left a gateway that does not start");
                    }
                    let hint = "set `[gateway] network` to a network of this engine, and run `anchorhold doctor`";
                    return Err(Error::new(Code::GatewayUnavailable, "start the gateway").with_hint(hint).with_source(e));
                }
                Ok(Some(quota))
            }
            Err(e) if e.details.get("conflict") == Some(&true.into()) => Ok(None),
            Err(e) if outcome_unknown(&e) && look(engine, settings).await?.is_some() => {
                // Made by that call or by another process: one that nobody has checked is not used, and one that runs is.
                self.remove_unstarted(engine, settings).await?;
                Ok(None)
            }
            Err(e) => Err(e),
        }
    }

    /// Removes a gateway that was made and never started.
    async fn remove_unstarted(&self, engine: &Engine, settings: &Settings) -> Result<()> {
        match look(engine, settings).await? {
            Some(facts) if facts.state == ContainerState::Created => engine.remove_container(&ContainerRef::Id(facts.id)).await.map(|_| ()),
            _ => Ok(()),
        }
    }

    async fn wait_ready(&self, engine: &Engine, settings: &Settings) -> Result<()> {
        match self.request(engine, settings, &AdminRequest::Status, START_WITHIN).await? {
            AdminResponse::Status { protocol: PROTOCOL_VERSION, .. } => Ok(()),
            _ => Err(Error::new(Code::GatewayUnavailable, "use the gateway: it speaks another version of the protocol")
                .with_hint("build the image again with `anchorhold image build`")),
        }
    }

    /// One control request. Without an answer it is tried again for up to `patience`; every request may be sent twice.
    pub(super) async fn request(&self, engine: &Engine, settings: &Settings, request: &AdminRequest, patience: Duration) -> Result<AdminResponse> {
        let until = Instant::now() + patience;
        let mut slot = self.session.lock().await;
        let mut answer_within = admin::ANSWER_WITHIN;
        let mut pause = RETRY_AFTER;
        loop {
            let (kept, attempt) = match slot.take() {
                Some(session) => (true, Ok(session)),
                None => {
                    let opened = match self.open(engine, settings, answer_within).await {
                        Ok(session) => self.introduce(session, settings).await,
                        Err(e) => Err(e),
                    };
                    (false, opened)
                }
            };
            let failure = match attempt {
                // It has answered before, so its streams are not lost. To give up a request that the gateway works on and make it again would only add work.
                Ok(mut session) => match session.request_within(request, until.saturating_duration_since(Instant::now())).await {
                    Ok(answer) => {
                        *slot = Some(session);
                        return match answer {
                            AdminResponse::Error { code, message } => Err(admin::refused(&code, &message)),
                            answer => Ok(answer),
                        };
                    }
                    // The gateway may have been replaced since the session was opened.
                    Err(_) if kept => continue,
                    Err(e) => e,
                },
                Err(e) => e,
            };
            if Instant::now() >= until || failure.details.get("status") == Some(&404.into()) {
                return Err(failure);
            }
            // One that does not run refuses at once and hundreds of times; one that is slow needs longer each time, though never longer than there is patience.
            answer_within = answer_within.saturating_mul(2).min(patience.max(admin::ANSWER_WITHIN));
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(RETRY_AT_LAST);
        }
    }

    async fn open(&self, engine: &Engine, settings: &Settings, answer_within: Duration) -> Result<Session> {
        let argv = [paths::BINARY, "gateway", "admin"];
        let mut exec = engine.exec(&reference(settings)?, &argv, spec::GATEWAY_USER).await;
        if exec.as_ref().is_err_and(|e| e.details.get("status") == Some(&404.into()))
            && let Some(facts) = renamed(engine, settings).await?
        {
            exec = engine.exec(&ContainerRef::Id(facts.id), &argv, spec::GATEWAY_USER).await;
        }
        let exec = exec.map_err(|e| {
            if e.code == Code::EngineError {
                let status = e.details.get("status").cloned().unwrap_or_default();
                Error::new(Code::GatewayUnavailable, "speak to the gateway")
                    .with_hint("run `anchorhold doctor`")
                    .with_detail("status", status)
                    .with_source(e)
            } else {
                e
            }
        })?;
        Ok(Session::new(exec, answer_within))
    }

    /// What the gateway knows about a job; `None`: it cannot be asked, or does not know it.
    pub(super) async fn account(&self, engine: &Engine, settings: &Settings, job_id: &str) -> Option<JobAccount> {
        match self.request(engine, settings, &AdminRequest::Job { job_id: job_id.to_owned() }, ACCOUNT_WITHIN).await {
            Ok(AdminResponse::Job(account)) => Some(account),
            Ok(_) => None,
            Err(e) => {
                tracing::debug!(error = e.chain(), "the gateway's account could not be had");
                None
            }
        }
    }

    /// Ends a job's pass, as far as the gateway can be asked; a pass ends by itself with its job's deadline.
    pub(super) async fn revoke(&self, engine: &Engine, settings: &Settings, job_id: &str) {
        let mut until = Instant::now() + REVOKE_WITHIN;
        let mut woken = false;
        while let Err(e) = self.request(engine, settings, &AdminRequest::Revoke { job_id: job_id.to_owned() }, Duration::ZERO).await {
            let returns = match look(engine, settings).await {
                // One that is being started again is worth a moment.
                Ok(Some(facts)) if matches!(facts.state, ContainerState::Running | ContainerState::Restarting) => true,
                // One that somebody paused or stopped would know the job for as long as it lives, and say that it is lost.
                Ok(Some(facts)) if !woken => {
                    woken = true;
                    until = Instant::now() + START_WITHIN;
                    wake(engine, settings, &facts).await
                }
                _ => false,
            };
            if !returns || Instant::now() >= until {
                tracing::debug!(error = e.chain(), "the pass could not be revoked");
                return;
            }
            tokio::time::sleep(RETRY_AFTER).await;
        }
    }

    /// Asks for something that only the gateway can decide; one that dies meanwhile is waited for. What it refuses is an error at once.
    pub(super) async fn decide(&self, engine: &Engine, settings: &Settings, request: &AdminRequest) -> Result<AdminResponse> {
        let until = Instant::now() + DECIDE_WITHIN;
        loop {
            match self.request(engine, settings, request, Duration::ZERO).await {
                Err(e) if !e.details.contains_key("gateway_code") && Instant::now() < until && returns(engine, settings).await => {
                    tokio::time::sleep(RETRY_AFTER).await;
                }
                answer => return answer,
            }
        }
    }
}

/// Lets a gateway run that was paused or stopped; whether it does.
async fn wake(engine: &Engine, settings: &Settings, facts: &ContainerFacts) -> bool {
    let container = ContainerRef::Id(facts.id.clone());
    if facts.labels.get(spec::GATEWAY) != Some(&settings.gateway.name) {
        return false;
    }
    match facts.state {
        ContainerState::Paused => engine.unpause_container(&container).await.is_ok(),
        ContainerState::Exited => engine.start_container(&container).await.is_ok(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::ContainerId;

    fn facts(state: ContainerState, change: impl FnOnce(&mut std::collections::BTreeMap<String, String>)) -> ContainerFacts {
        let mut labels = spec::gateway(&Settings::default(), "sha256:1", false).unwrap().labels;
        change(&mut labels);
        ContainerFacts {
            id: ContainerId::parse(&"a".repeat(64)).unwrap(),
            name: "anchorhold-gateway".into(),
            labels,
            state,
            exit_code: None,
            oom_killed: false,
            created_unix_ms: 0,
            started_unix_ms: None,
            finished_unix_ms: None,
            image_id: "sha256:1".into(),
        }
    }

    #[test]
    fn only_our_own_right_and_running_gateway_is_used() {
        use ContainerState as S;
        let image = ImageFacts { id: "sha256:1".into(), labels: Default::default(), volumes: Vec::new(), size: 0 };
        let right = |_: &mut _| {};
        let old = |state| ContainerFacts { image_id: "sha256:0".into(), ..facts(state, right) };
        let elsewhere = |labels: &mut std::collections::BTreeMap<String, String>| {
            labels.insert(spec::GATEWAY_NETWORK.into(), "host".into());
        };
        let foreign = |labels: &mut std::collections::BTreeMap<String, String>| labels.clear();
        for (facts, expected) in [
            (facts(S::Running, right), Verdict::Use),
            (facts(S::Restarting, right), Verdict::Use),
            (facts(S::Exited, right), Verdict::Start),
            (facts(S::Created, right), Verdict::Start),
            (facts(S::Paused, right), Verdict::Unpause),
            (facts(S::Dead, right), Verdict::Replace),
            (old(S::Running), Verdict::Outdated),
            (facts(S::Running, elsewhere), Verdict::Outdated),
            (old(S::Exited), Verdict::Replace),
            (facts(S::Running, foreign), Verdict::Foreign),
            (facts(S::Exited, foreign), Verdict::Foreign),
        ] {
            assert_eq!(judge(&facts, &Settings::default(), &image), expected, "{:?}", facts.state);
        }
    }
}
