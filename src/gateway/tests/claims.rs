//! Who may consume a job.

use super::*;

fn claim(n: u8, by: &str, instead_of: Option<&str>) -> AdminRequest {
    AdminRequest::Claim { job_id: job(n), by: by.to_owned(), instead_of: instead_of.map(ToOwned::to_owned) }
}

async fn holder(gateway: &Gateway, request: &AdminRequest) -> String {
    match gateway.admin(request).await {
        AdminResponse::Claim { by, .. } => by,
        other => panic!("{other:?}"),
    }
}

fn code(response: &AdminResponse) -> &str {
    if let AdminResponse::Error { code, .. } = response { code } else { "none" }
}

#[tokio::test]
async fn a_claim_is_one_outlives_the_gateway_and_ends_with_the_job() {
    let mut gateway = Gateway::start().await;
    assert_eq!(code(&gateway.admin(&claim(1, "a 1", None)).await), "unknown_job");
    gateway.admit(1, &Upstream::Rehearsal, |_| {}).await;
    for (request, holds) in [
        (claim(1, "a 1", None), "a 1"),
        (claim(1, "b 2", None), "a 1"),
        (claim(1, "a 1", None), "a 1"),
        (claim(1, "b 2", Some("c 3")), "a 1"),
        (claim(1, "b 2", Some("a 1")), "b 2"),
        (claim(1, "c 3", Some("a 1")), "b 2"),
    ] {
        assert_eq!(holder(&gateway, &request).await, holds);
    }
    // Its own admission again, and a restart, change nothing of it.
    gateway.admit(1, &Upstream::Rehearsal, |_| {}).await;
    gateway.end().await;
    gateway.run().await;
    assert_eq!(holder(&gateway, &claim(1, "c 3", None)).await, "b 2");
    // It is given back by who has it alone.
    let unclaim = |by: &str| AdminRequest::Unclaim { job_id: job(1), by: by.to_owned() };
    assert_eq!(gateway.admin(&unclaim("c 3")).await, AdminResponse::Ok);
    assert_eq!(holder(&gateway, &claim(1, "c 3", None)).await, "b 2");
    assert_eq!(gateway.admin(&unclaim("b 2")).await, AdminResponse::Ok);
    gateway.end().await;
    gateway.run().await;
    assert_eq!(holder(&gateway, &claim(1, "c 3", None)).await, "c 3");
    assert_eq!(gateway.admin(&AdminRequest::Revoke { job_id: job(1) }).await, AdminResponse::Ok);
    assert_eq!(code(&gateway.admin(&claim(1, "d 4", None)).await), "unknown_job");
    assert_eq!(gateway.admin(&unclaim("c 3")).await, AdminResponse::Ok);
    for bad in ["", "a\nb", "é", "x".repeat(257).as_str()] {
        assert_eq!(code(&gateway.admin(&claim(1, bad, None)).await), "invalid");
    }
    gateway.end().await;
}

#[tokio::test]
async fn of_many_at_once_one_is_told_yes() {
    let gateway = Gateway::start().await;
    gateway.admit(1, &Upstream::Rehearsal, |_| {}).await;
    assert_eq!(holder(&gateway, &claim(1, "dead", None)).await, "dead");
    let requests: Vec<(String, AdminRequest)> = (0..16).map(|n| (format!("p {n}"), claim(1, &format!("p {n}"), Some("dead")))).collect();
    let answers = futures_util::future::join_all(requests.iter().map(async |(by, request)| holder(&gateway, request).await == *by)).await;
    assert_eq!(answers.into_iter().filter(|won| *won).count(), 1);
    gateway.end().await;
}
