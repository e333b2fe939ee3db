//! Everything at a glance: jobs by state, the gateway's load, what lies on the engine; as a document and in Prometheus' text form.
//!
//! Asked from the engine and the gateway's control alone, and nothing is started for it: where there is no gateway, it says so.

use std::time::Duration;

use serde::Serialize;

use super::service::Core;
use super::{JobId, JobState, ListFilter, labels, list};
use crate::error::{Error, Result};
use crate::protocol::admin::{AdminRequest, AdminResponse, GatewayStats};
use crate::telemetry::prometheus::Page;

/// Every state, in the order of a job's life.
const STATES: [JobState; 10] = [
    JobState::Preparing,
    JobState::Queued,
    JobState::Running,
    JobState::Sealing,
    JobState::Completed,
    JobState::Failed,
    JobState::Cancelled,
    JobState::Timeout,
    JobState::Interrupted,
    JobState::Lost,
];

/// What there is, at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Stats {
    /// `[engine] instance`, whose jobs and volumes are counted. The gateway's numbers are of all instances that it serves.
    pub instance: String,
    /// Jobs by state; every state is there.
    pub jobs: serde_json::Map<String, serde_json::Value>,
    /// All of them.
    pub jobs_total: u64,
    /// The one that was started first.
    pub oldest_job: Option<OldestJob>,
    /// Volumes of jobs.
    pub volumes: u64,
    /// The gateway's own numbers; `None`: it does not run, or cannot be asked.
    pub gateway: Option<GatewayStats>,
    /// Why not.
    pub gateway_problem: Option<String>,
}

/// The job that was started first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OldestJob {
    /// Which.
    pub job_id: JobId,
    /// RFC 3339.
    pub started_at: String,
    /// Seconds since then.
    pub age_seconds: u64,
}

/// Looks.
pub(super) async fn stats(core: &Core) -> Result<Stats> {
    let engine = core.engine().await?;
    let instance = core.settings.engine.instance.as_str();
    let filter = ListFilter::default();
    let filters = [(labels::INSTANCE, instance)];
    let (jobs, volumes, gateway) = tokio::join!(
        list::list(core, &filter),
        engine.list_volumes(&filters),
        core.gateway.request(&engine, &core.settings, &AdminRequest::Stats, Duration::ZERO),
    );
    let jobs = jobs?;
    let volumes = volumes?.into_iter().filter(|(_, labels)| labels.contains_key(labels::JOB)).count() as u64;
    let (gateway, gateway_problem) = match gateway {
        Ok(AdminResponse::Stats(stats)) => (Some(stats), None),
        Ok(_) => (None, Some(Error::internal("the gateway answered something else").chain())),
        Err(e) => (None, Some(e.chain())),
    };
    let count = |state: JobState| jobs.iter().filter(|job| job.state == state).count() as u64;
    Ok(Stats {
        instance: instance.to_owned(),
        jobs: STATES.into_iter().map(|state| (state.as_str().to_owned(), count(state).into())).collect(),
        jobs_total: jobs.len() as u64,
        // Newest first.
        oldest_job: jobs.last().map(|job| OldestJob {
            job_id: job.job_id.clone(),
            started_at: job.started_at.clone(),
            age_seconds: core.now_ms().saturating_sub(job.started_unix_ms) / 1000,
        }),
        volumes,
        gateway,
        gateway_problem,
    })
}

impl Stats {
    /// Prometheus' text exposition format, version 0.0.4. No label holds anything that a job could have said.
    pub fn prometheus(&self) -> String {
        let mut page = Page::default();
        page.head("anchorhold_jobs", "gauge", "Jobs of this instance by state.");
        for (state, count) in &self.jobs {
            page.line("anchorhold_jobs", &[("state", state)], count.as_u64().unwrap_or(0));
        }
        let age = self.oldest_job.as_ref().map_or(0, |job| job.age_seconds);
        page.one("anchorhold_oldest_job_age_seconds", "gauge", "Seconds since the oldest job was started; 0: there is none.", age);
        page.one("anchorhold_volumes", "gauge", "Volumes of jobs of this instance.", self.volumes);
        page.one("anchorhold_gateway_up", "gauge", "Whether the gateway answers.", self.gateway.is_some().into());
        let Some(gateway) = &self.gateway else { return page.text() };
        for (name, kind, help, value) in [
            ("slots", "gauge", "Slots there are.", gateway.slots),
            ("slots_used", "gauge", "Slots in use.", gateway.running),
            ("queued", "gauge", "Jobs that wait for a slot.", gateway.queued),
            ("passes", "gauge", "Jobs whose passes are held.", gateway.passes),
            ("requests_under_way", "gauge", "Model requests under way.", gateway.requests_under_way),
            ("connections", "gauge", "Connections of jobs.", gateway.connections),
            ("tokens_today", "gauge", "Tokens charged or set aside today (UTC) at real providers.", gateway.tokens_today),
            ("resident_bytes", "gauge", "Memory of the gateway's process.", gateway.resident_bytes),
            ("uptime_seconds", "gauge", "Seconds since the gateway started.", gateway.uptime_seconds),
            ("ledger_lines", "gauge", "Number of the ledger's last line.", gateway.ledger_head.seq),
            ("requests_total", "counter", "Model requests that ended since the gateway started.", gateway.requests),
            ("refusals_total", "counter", "Of these, refused by the policy.", gateway.refusals),
            ("provider_failures_total", "counter", "Of these, failed at the provider.", gateway.provider_failures),
        ] {
            page.one(&format!("anchorhold_gateway_{name}"), kind, help, value);
        }
        page.text()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stats(gateway: Option<GatewayStats>) -> Stats {
        Stats {
            instance: "default".into(),
            jobs: STATES.into_iter().map(|state| (state.as_str().to_owned(), u64::from(state == JobState::Running).into())).collect(),
            jobs_total: 1,
            oldest_job: None,
            volumes: 2,
            gateway,
            gateway_problem: None,
        }
    }

    #[test]
    fn every_line_is_a_sample_after_its_head() {
        let text = stats(Some(GatewayStats { slots: 4, requests: 7, ..GatewayStats::default() })).prometheus();
        let mut typed = None;
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                typed = rest.split(' ').next();
            } else if !line.starts_with("# HELP ") {
                let (name, value) = line.rsplit_once(' ').unwrap();
                assert_eq!(name.split('{').next(), typed, "{line}");
                value.parse::<u64>().unwrap();
            }
        }
        for wanted in
            ["anchorhold_jobs{state=\"running\"} 1", "anchorhold_volumes 2", "anchorhold_gateway_up 1", "anchorhold_gateway_requests_total 7"]
        {
            assert!(text.lines().any(|line| line == wanted), "{wanted} in\n{text}");
        }
        let down = stats(None).prometheus();
        assert!(down.contains("anchorhold_gateway_up 0\n") && !down.contains("slots"), "{down}");
    }
}
