//! What the engine answers, as facts of ours.

use std::collections::{BTreeMap, HashMap};

use bollard::models::{
    ContainerInspectResponse, ContainerStateStatusEnum, ContainerSummary, ContainerSummaryStateEnum, ImageInspect, SystemInfo, SystemVersion,
};

use super::{ContainerFacts, ContainerId, ContainerState, EngineFacts, ImageFacts};
use crate::error::{Code, Error, Result};

/// One row of a list.
pub(super) fn from_summary(row: ContainerSummary) -> Result<ContainerFacts> {
    use ContainerSummaryStateEnum as S;
    let state = match row.state {
        Some(S::CREATED) => ContainerState::Created,
        Some(S::RUNNING | S::STOPPING) => ContainerState::Running,
        Some(S::PAUSED) => ContainerState::Paused,
        Some(S::RESTARTING) => ContainerState::Restarting,
        Some(S::REMOVING) => ContainerState::Removing,
        Some(S::EXITED) => ContainerState::Exited,
        Some(S::DEAD) => ContainerState::Dead,
        Some(S::EMPTY) | None => return Err(malformed("a container without a state")),
    };
    let names = row.names.unwrap_or_default();
    Ok(ContainerFacts {
        id: ContainerId::parse(&row.id.unwrap_or_default())?,
        // Links give further names with a slash inside; a container's own has only the leading one.
        name: names.iter().map(|n| n.trim_start_matches('/')).find(|n| !n.contains('/')).unwrap_or_default().to_owned(),
        labels: sorted(row.labels),
        state,
        exit_code: row.status.as_deref().filter(|_| state == ContainerState::Exited).and_then(exit_code),
        oom_killed: false,
        created_unix_ms: row.created.and_then(|s| u64::try_from(s).ok()).unwrap_or(0).saturating_mul(1000),
        started_unix_ms: None,
        finished_unix_ms: None,
        image_id: row.image_id.unwrap_or_default(),
    })
}

/// The exit code in a list's status text, such as `Exited (137) 3 minutes ago`; the list carries it nowhere else.
pub(super) fn exit_code(status: &str) -> Option<i64> {
    let (code, _) = status.strip_prefix("Exited (")?.split_once(')')?;
    code.parse().ok()
}

/// Everything about one container.
pub(super) fn from_inspect(answer: ContainerInspectResponse) -> Result<ContainerFacts> {
    use ContainerStateStatusEnum as S;
    let state = answer.state.ok_or_else(|| malformed("a container without a state"))?;
    let word = match state.status {
        Some(S::CREATED) => ContainerState::Created,
        Some(S::RUNNING | S::STOPPING) => ContainerState::Running,
        Some(S::PAUSED) => ContainerState::Paused,
        Some(S::RESTARTING) => ContainerState::Restarting,
        Some(S::REMOVING) => ContainerState::Removing,
        Some(S::EXITED) => ContainerState::Exited,
        Some(S::DEAD) => ContainerState::Dead,
        Some(S::EMPTY) | None => return Err(malformed("a container without a state")),
    };
    Ok(ContainerFacts {
        id: ContainerId::parse(&answer.id.unwrap_or_default())?,
        name: answer.name.unwrap_or_default().trim_start_matches('/').to_owned(),
        labels: sorted(answer.config.and_then(|c| c.labels)),
        state: word,
        // One that the engine starts again and again shows between two starts how the last one ended.
        exit_code: state.exit_code.filter(|_| matches!(word, ContainerState::Exited | ContainerState::Restarting)),
        oom_killed: state.oom_killed.unwrap_or(false),
        created_unix_ms: answer.created.as_deref().and_then(unix_ms).unwrap_or(0),
        started_unix_ms: state.started_at.as_deref().and_then(unix_ms),
        finished_unix_ms: state.finished_at.as_deref().and_then(unix_ms),
        image_id: answer.image.unwrap_or_default(),
    })
}

/// Milliseconds since 1970; `None` for the engine's "never" (year 1) and for what is no time.
pub(super) fn unix_ms(text: &str) -> Option<u64> {
    let time: jiff::Timestamp = text.parse().ok()?;
    u64::try_from(time.as_millisecond()).ok().filter(|ms| *ms > 0)
}

/// An image.
pub(super) fn from_image(answer: ImageInspect) -> ImageFacts {
    let config = answer.config.unwrap_or_default();
    ImageFacts {
        id: answer.id.unwrap_or_default(),
        labels: sorted(config.labels),
        volumes: config.volumes.unwrap_or_default(),
        size: answer.size.and_then(|s| u64::try_from(s).ok()).unwrap_or(0),
    }
}

/// The engine itself.
pub(super) fn from_engine(host: &str, version: SystemVersion, info: SystemInfo) -> EngineFacts {
    let components = version.components.unwrap_or_default();
    let runc = components.into_iter().find(|c| c.name == "runc").map(|c| c.version);
    let mut runtimes: Vec<String> = info.runtimes.unwrap_or_default().into_keys().collect();
    runtimes.sort();
    EngineFacts {
        host: host.to_owned(),
        version: version.version.unwrap_or_default(),
        api_version: version.api_version.unwrap_or_default(),
        kernel: info.kernel_version.unwrap_or_default(),
        operating_system: info.operating_system.unwrap_or_default(),
        architecture: info.architecture.unwrap_or_default(),
        storage_driver: info.driver.unwrap_or_default(),
        cgroup_version: info.cgroup_version.map(|v| v.to_string()).unwrap_or_default(),
        security_options: info.security_options.unwrap_or_default(),
        runtimes,
        default_runtime: info.default_runtime.unwrap_or_default(),
        runc_version: runc.or_else(|| info.runc_commit.and_then(|c| c.id)).unwrap_or_default(),
        swap_limit: info.swap_limit.unwrap_or(false),
        memory_limit: info.memory_limit.unwrap_or(false),
        pids_limit: info.pids_limit.unwrap_or(false),
        live_restore: info.live_restore_enabled.unwrap_or(false),
        warnings: info.warnings.unwrap_or_default(),
    }
}

pub(super) fn sorted(labels: Option<HashMap<String, String>>) -> BTreeMap<String, String> {
    labels.unwrap_or_default().into_iter().collect()
}

fn malformed(what: &str) -> Error {
    Error::new(Code::EngineError, format!("the engine answered with {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exit_code_is_in_the_status_text() {
        assert_eq!(exit_code("Exited (137) 3 minutes ago"), Some(137));
        assert_eq!(exit_code("Exited (0) About a minute ago"), Some(0));
        assert_eq!(exit_code("Up 3 minutes (Paused)"), None);
        assert_eq!(exit_code("Created"), None);
        assert_eq!(exit_code("Exited (x) ago"), None);
        assert_eq!(exit_code("Restarting (1) 3 seconds ago"), None);
    }

    #[test]
    fn never_is_no_time() {
        assert_eq!(unix_ms("0001-01-01T00:00:00Z"), None);
        assert_eq!(unix_ms("2026-11-20T10:00:00.5Z"), Some(1_795_168_800_500));
        assert_eq!(unix_ms("2026-11-20T11:00:00.5+01:00"), Some(1_795_168_800_500));
        assert_eq!(unix_ms("soon"), None);
    }

    #[test]
    fn a_row_becomes_facts() {
        let row = ContainerSummary {
            id: Some("ab".repeat(32)),
            names: Some(vec!["/other/alias".to_owned(), "/anchorhold-x".to_owned()]),
            state: Some(ContainerSummaryStateEnum::EXITED),
            status: Some("Exited (10) 2 hours ago".to_owned()),
            created: Some(1_700_000_000),
            labels: Some(HashMap::from([("a".to_owned(), "b".to_owned())])),
            ..Default::default()
        };
        let facts = from_summary(row.clone()).unwrap();
        assert_eq!((facts.name.as_str(), facts.exit_code, facts.created_unix_ms), ("anchorhold-x", Some(10), 1_700_000_000_000));
        assert!(from_summary(ContainerSummary { id: Some("../x".to_owned()), ..row.clone() }).is_err());
        assert!(from_summary(ContainerSummary { state: None, ..row }).is_err());
    }
}
