//! `status`: where a job stands.

use serde_json::json;

use super::args::JobArg;
use super::output::Output;
use super::{job_ref, render};
use crate::error::Result;
use crate::job::Jobs;

pub(super) async fn run(out: &Output, jobs: &Jobs, args: &JobArg) -> Result<u8> {
    let id = job_ref::resolve(jobs, &args.job).await?;
    let status = jobs.status(&id).await?;
    if out.json() {
        out.document(json!({ "job": status }));
    } else {
        out.text(&render::status(&status, out.paint()));
    }
    Ok(0)
}
