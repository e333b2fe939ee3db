//! Subscriptions to a job's resources: `notifications/resources/updated` when what they hold has changed.
//!
//! Two revisions of the protocol, one work: `resources/subscribe` until 2025-11-25, `subscriptions/listen` from 2026-07-28 on. Nothing of it outlives the
//! client, and one client can hold only so many.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rmcp::model::{ResourceUpdatedNotificationParam, SubscriptionFilter};
use rmcp::service::{Peer, SubscriptionContext, SubscriptionSink};
use rmcp::{ErrorData, RoleServer};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::reach::Reach;
use super::resources::{self, Part};
use crate::error::{Code, Error};
use crate::job::{Following, JobId, Jobs, Stand};

/// Addresses that one client can be subscribed to at once: each running job among them is a connection to the engine.
pub const MOST: usize = 64;

/// Of one client.
pub struct Subscriptions {
    held: Arc<Mutex<HashMap<String, Held>>>,
    room: Arc<Semaphore>,
    closed: CancellationToken,
}

struct Held {
    number: u64,
    stop: CancellationToken,
}

impl Subscriptions {
    /// None yet. `closed` says that the client is gone.
    pub fn new(closed: CancellationToken) -> Self {
        Self { held: Arc::default(), room: Arc::new(Semaphore::new(MOST)), closed }
    }

    /// `resources/subscribe`. Once more for the same address is fine.
    ///
    /// # Errors
    ///
    /// As `resources/read`: no such address or job; too many at once.
    pub async fn subscribe(&self, jobs: &Jobs, uri: String, peer: Peer<RoleServer>, tasks: &TaskTracker) -> Result<(), ErrorData> {
        let (id, part) = resources::parse(&uri).ok_or_else(|| resources::protocol_error(&resources::unknown()))?;
        // Followed before the look, so that no change is lost between.
        let following = jobs.follow(&id);
        let known = Stand::At(jobs.status(&id).await.map_err(|e| resources::protocol_error(&e))?.state);
        if lock(&self.held).contains_key(&uri) {
            return Ok(());
        }
        let room = self.room.clone().try_acquire_owned().map_err(|_| resources::protocol_error(&too_many()))?;
        let stop = self.closed.child_token();
        let number = {
            let mut held = lock(&self.held);
            let number = held.values().map(|held| held.number).max().map_or(0, |last| last + 1);
            held.insert(uri.clone(), Held { number, stop: stop.clone() });
            number
        };
        let held = self.held.clone();
        tasks.spawn(async move {
            let sink = Sink::Client(peer);
            tokio::select! {
                () = tell(following, known, part, &uri, &sink, room) => {}
                () = stop.cancelled() => {}
            }
            let mut held = lock(&held);
            // It may be subscribed to anew already.
            if held.get(&uri).is_some_and(|held| held.number == number) {
                held.remove(&uri);
            }
        });
        Ok(())
    }

    /// `resources/unsubscribe`. An address that is not subscribed to is fine.
    pub fn unsubscribe(&self, uri: &str) {
        if let Some(held) = lock(&self.held).remove(uri) {
            held.stop.cancel();
        }
    }

    /// What of a `subscriptions/listen` is accepted: addresses of jobs, as many as there is room for.
    pub fn accepted(&self, requested: &SubscriptionFilter) -> SubscriptionFilter {
        let asked = requested.resource_subscriptions.iter().flatten();
        let mut accepted: Vec<&String> = asked.filter(|uri| resources::parse(uri).is_some()).collect();
        accepted.sort();
        accepted.dedup();
        accepted.truncate(self.room.available_permits());
        SubscriptionFilter::builder().resource_subscriptions(accepted).build()
    }

    /// Serves one `subscriptions/listen` until the client ends it or is gone.
    ///
    /// # Errors
    ///
    /// Too many at once, where several were opened in the same moment.
    pub async fn listen(&self, jobs: &Jobs, reach: &Reach, context: &SubscriptionContext) -> Result<(), ErrorData> {
        let sink = Sink::Listener(context.sink().clone());
        let mut telling = Vec::new();
        for uri in context.accepted().resource_subscriptions.iter().flatten() {
            let Some((id, part)) = resources::parse(uri) else { continue };
            let room = self.room.clone().try_acquire_owned().map_err(|_| resources::protocol_error(&too_many()))?;
            // One that is out of reach is as one that never was.
            let id = if reach.check(jobs, &id).await.is_ok() { id } else { JobId::random() };
            let mut following = jobs.follow(&id);
            let sink = &sink;
            telling.push(async move {
                let known = match following.beyond(Stand::Unknown).await {
                    // Where it stands now is not news, but that it does not is.
                    Stand::Gone => Stand::Unknown,
                    stand => stand,
                };
                tell(following, known, part, uri, sink, room).await;
            });
        }
        let all = async {
            futures_util::future::join_all(telling).await;
            // The jobs are gone; the client may still listen.
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = all => {}
            () = context.cancelled() => {}
            () = self.closed.cancelled() => {}
        }
        Ok(())
    }
}

fn lock(held: &Mutex<HashMap<String, Held>>) -> MutexGuard<'_, HashMap<String, Held>> {
    held.lock().unwrap_or_else(PoisonError::into_inner)
}

fn too_many() -> Error {
    Error::new(Code::Unsupported, format!("subscribe: a client can hold {MOST} subscriptions at once"))
        .with_hint("unsubscribe from the resources of jobs that have ended")
        .with_detail("limit", MOST)
}

enum Sink {
    Client(Peer<RoleServer>),
    Listener(SubscriptionSink),
}

/// Tells of each change of what the address holds, until the job is gone.
async fn tell(mut following: Following, mut known: Stand, part: Part, uri: &str, sink: &Sink, _room: OwnedSemaphorePermit) {
    let mut told = known;
    loop {
        known = following.beyond(known).await;
        // That the engine does not answer says nothing of the job.
        if known == Stand::Unreachable || known == told {
            continue;
        }
        told = known;
        if changes(part, known) {
            // A client that is gone ends this by its token.
            match sink {
                Sink::Client(peer) => drop(peer.notify_resource_updated(ResourceUpdatedNotificationParam::new(uri)).await),
                Sink::Listener(sink) => drop(sink.notify_resource_updated(uri).await),
            }
        }
        if known == Stand::Gone {
            return;
        }
    }
}

/// Whether a part of a job is another one than before, now that the job stands here.
fn changes(part: Part, now: Stand) -> bool {
    match (part, now) {
        (Part::Status, _) | (_, Stand::Gone) => true,
        (Part::Diff | Part::Events | Part::Report, Stand::At(state)) => state.is_final(),
        (Part::Diff | Part::Events | Part::Report, Stand::Unknown | Stand::Unreachable) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::JobState;

    #[test]
    fn a_result_changes_at_the_end_and_a_status_always() {
        for (state, result) in [(JobState::Queued, false), (JobState::Sealing, false), (JobState::Completed, true), (JobState::Lost, true)] {
            assert!(changes(Part::Status, Stand::At(state)));
            assert_eq!(changes(Part::Diff, Stand::At(state)), result);
        }
        assert!(changes(Part::Report, Stand::Gone));
    }

    #[test]
    fn only_addresses_of_jobs_are_accepted_and_only_so_many() {
        let subscriptions = Subscriptions::new(CancellationToken::new());
        let uri = |n: usize| format!("anchorhold://jobs/{n:032x}/status");
        let asked = |uris: Vec<String>| SubscriptionFilter::builder().tools_list_changed().resource_subscriptions(uris).build();
        let accepted = subscriptions.accepted(&asked(vec![uri(1), "file:///etc/passwd".into(), uri(1), "anchorhold://jobs/x/status".into()]));
        assert_eq!(accepted.resource_subscriptions, Some(vec![uri(1)]));
        assert_eq!(accepted.tools_list_changed, None);
        let accepted = subscriptions.accepted(&asked((0..MOST + 10).map(uri).collect()));
        assert_eq!(accepted.resource_subscriptions.unwrap().len(), MOST);
    }
}
