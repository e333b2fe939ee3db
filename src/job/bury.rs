//! Removing what a job is made of, and the tombstone of a job that never ran.
//!
//! A container's labels cannot be changed, so how a job ended that never started is said by another container: made under the
//! job's name from the same image, with no volumes, never started, its labels those of the job and the end. Any process reads it
//! like every other job, and retention removes it. It costs one empty container.

use super::JobId;
use super::labels::{Ended, JobLabels};
use super::service::Core;
use super::spec;
use crate::engine::{ContainerRef, ObjectName};
use crate::error::{Code, Error, Result};
use crate::protocol::result::Reason;

/// Takes a job's name away from its container: of several callers exactly one gets `true`, and removes what is left.
pub(super) async fn claim(core: &Core, id: &JobId, container: &ContainerRef) -> Result<bool> {
    core.engine().await?.rename_container(container, &spec::consumed_name(id)?).await
}

/// Removes a claimed container, its volumes and its pass. What cannot be removed now is found by the sweep; the errors are returned.
pub(super) async fn remove(core: &Core, id: &JobId, container: &ContainerRef) -> Vec<String> {
    let mut problems = Vec::new();
    let engine = match core.engine().await {
        Ok(engine) => engine,
        Err(e) => return vec![e.chain()],
    };
    let removing = async {
        let mut problems = Vec::new();
        if let Err(e) = engine.remove_container(container).await {
            problems.push(e.chain());
        }
        if let Ok(names) = spec::volume_names(id) {
            for outcome in futures_util::future::join_all(names.iter().map(|name| engine.remove_volume(name))).await {
                if let Err(e) = outcome {
                    problems.push(e.chain());
                }
            }
        }
        problems
    };
    // The pass first: volumes without a container are restored for as long as the gateway knows their job.
    core.gateway.revoke(&engine, &core.settings, id.as_str()).await;
    problems.extend(removing.await);
    for problem in &problems {
        tracing::warn!(job = %id, problem, "left for the sweep");
    }
    problems
}

/// Replaces a container that never started by a tombstone; `false`: somebody else took the job away first.
pub(super) async fn entomb(core: &Core, labels: &JobLabels, container: &ContainerRef, image_id: &str, ended: Ended) -> Result<bool> {
    if !claim(core, &labels.id, container).await? {
        return Ok(false);
    }
    let labels = JobLabels { ended: Some(ended), ..labels.clone() };
    let made = core.engine().await?.create_container(&spec::tombstone(image_id, &labels)?).await;
    remove(core, &labels.id, container).await;
    made.map(|_| true)
}

/// A delivery failed: says so, and leaves nothing of it behind.
pub(super) async fn failed_delivery(core: &Core, labels: &JobLabels, container: &ContainerRef, image_id: &str, error: &Error) {
    let hint = error.hint.as_deref().map(|hint| format!(" To mend it: {hint}.")).unwrap_or_default();
    let ended = Ended {
        reason: Reason::Failed,
        code: error.code,
        detail: format!("It could not be delivered and never ran: {}.{hint}", error.chain()),
        at_ms: core.now_ms(),
    };
    let buried = match entomb(core, labels, container, image_id, ended).await {
        Ok(true) => Ok(()),
        Ok(false) => removed_before_start(core, labels, container, image_id).await,
        Err(e) => Err(e),
    };
    if let Err(e) = buried {
        tracing::warn!(job = %labels.id, error = e.chain(), "could not leave word of a failed delivery");
    }
}

/// The container vanished while it was delivered. Where somebody removed it from outside, its volumes are left and nobody has told the job's end; who
/// cancelled it has left a tombstone, under the very name.
async fn removed_before_start(core: &Core, labels: &JobLabels, container: &ContainerRef, image_id: &str) -> Result<()> {
    let engine = core.engine().await?;
    let gone = engine.inspect_container(container).await?.is_none();
    if !gone || engine.list_volumes(&[(super::labels::JOB, labels.id.as_str())]).await?.is_empty() {
        return Ok(());
    }
    let ended = Ended {
        reason: Reason::Interrupted,
        code: Code::JobLost,
        detail: "Its container was removed from outside before it started; nothing has run.".to_owned(),
        at_ms: core.now_ms(),
    };
    let labels = JobLabels { ended: Some(ended), ..labels.clone() };
    match engine.create_container(&spec::tombstone(image_id, &labels)?).await {
        Ok(_) => {
            remove(core, &labels.id, container).await;
            Ok(())
        }
        Err(e) if e.details.get("conflict") == Some(&true.into()) => Ok(()),
        Err(e) => Err(e),
    }
}

/// Ends a job that has not started yet; `false`: it has changed meanwhile.
pub(super) async fn cancelled_before_start(core: &Core, labels: &JobLabels, container: &ContainerRef, image_id: &str) -> Result<bool> {
    let ended = Ended {
        reason: Reason::Cancelled,
        code: Code::JobCancelled,
        detail: "It was cancelled before it started; nothing has run.".to_owned(),
        at_ms: core.now_ms(),
    };
    entomb(core, labels, container, image_id, ended).await
}

/// Removes a volume by name where no container holds it.
pub(super) async fn remove_volume(core: &Core, name: &ObjectName) -> Result<bool> {
    core.engine().await?.remove_volume(name).await
}
