//! Subscriptions to a job's resources, in both revisions of the protocol.
#![allow(deprecated, reason = "the older revision's calls are what is tested")]

use std::time::Duration;

use rmcp::model::{ServerNotification, SubscribeRequestParams, SubscriptionFilter, UnsubscribeRequestParams};
use serde_json::json;

use crate::session::{LEGACY, Session, modern};
use crate::small;
use crate::support::Environment;
use crate::support::rehearsal::Step;

const LONG: [Step<'_>; 2] = [Step::Delay(300), Step::Say("too late")];

#[tokio::test]
async fn a_subscriber_is_told_until_it_unsubscribes() {
    let environment = Environment::new();
    let repository = small(&environment);
    let session = Session::open(&environment, LEGACY).await;
    assert_eq!(session.client.peer_info().unwrap().capabilities.resources.as_ref().unwrap().subscribe, Some(true));
    let id = session.start(&repository, &LONG).await;
    let (status, diff) = (format!("anchorhold://jobs/{id}/status"), format!("anchorhold://jobs/{id}/diff"));
    session.until(&id, "running").await;
    for uri in [&status, &diff, &status] {
        session.client.subscribe(SubscribeRequestParams::new(uri)).await.unwrap();
    }
    for uri in [format!("anchorhold://jobs/{}/status", "0".repeat(32)), "file:///etc/passwd".to_owned()] {
        assert!(session.client.subscribe(SubscribeRequestParams::new(uri)).await.is_err(), "what is not there cannot be subscribed to");
    }
    assert_eq!(session.read(&status).await.unwrap()["state"], "running");
    session.call("codex_job_cancel", json!({"job_id": id})).await;
    session.updated(&status, 0).await;
    session.updated(&diff, 0).await;
    session.until(&id, "cancelled").await;
    assert_eq!(session.read(&status).await.unwrap()["state"], "cancelled");
    session.client.unsubscribe(UnsubscribeRequestParams::new(&diff)).await.unwrap();
    let (before, silent) = (session.updates(&status), session.updates(&diff));
    assert!(environment.anchorhold(&["consume", "--json", &id]).output().unwrap().status.code().is_some());
    session.updated(&status, before).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(session.updates(&diff), silent, "an address that was unsubscribed from is not told");
    assert!(session.read(&status).await.is_err(), "it is gone");
    session.close().await;
}

#[tokio::test]
async fn a_listener_of_the_newer_revision_is_told_too() {
    let environment = Environment::new();
    let repository = small(&environment);
    let session = Session::open(&environment, modern()).await;
    let id = session.start(&repository, &LONG).await;
    let uri = format!("anchorhold://jobs/{id}/status");
    session.until(&id, "running").await;
    let filter = SubscriptionFilter::builder().resource_subscriptions([uri.clone(), "file:///etc/passwd".to_owned()]).build();
    let mut subscription = session.client.listen(filter).await.unwrap();
    assert_eq!(subscription.acknowledged().resource_subscriptions, Some(vec![uri.clone()]));
    // Where it stands at the time of the subscription is no news.
    tokio::time::sleep(Duration::from_secs(1)).await;
    session.call("codex_job_cancel", json!({"job_id": id})).await;
    let told = tokio::time::timeout(Duration::from_secs(60), subscription.next()).await.unwrap().unwrap();
    let Some(ServerNotification::ResourceUpdatedNotification(update)) = told else { panic!("an update: {told:?}") };
    assert_eq!(update.params.uri, uri);
    session.close().await;
}
