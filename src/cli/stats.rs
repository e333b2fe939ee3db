//! `stats`: everything at a glance.

use serde_json::json;

use super::output::Output;
use crate::error::Result;
use crate::job::Jobs;
use crate::job::stats::Stats;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Form of the numbers; --json goes before it
    #[arg(long, value_name = "FORM", value_parser = ["text", "prometheus"], default_value = "text")]
    format: String,
}

pub(super) async fn run(out: &Output, jobs: &Jobs, args: &Args) -> Result<u8> {
    let stats = jobs.stats().await?;
    if out.json() {
        out.document(json!({ "stats": stats }));
    } else if args.format == "prometheus" {
        out.text(&stats.prometheus());
    } else {
        out.text(&text(&stats));
    }
    Ok(0)
}

fn text(stats: &Stats) -> String {
    let states: Vec<String> =
        stats.jobs.iter().filter(|(_, count)| count.as_u64() != Some(0)).map(|(state, count)| format!("{count} {state}")).collect();
    let states = if states.is_empty() { String::new() } else { format!(" ({})", states.join(", ")) };
    let mut text = format!("jobs       {}{states}, {} volumes\n", stats.jobs_total, stats.volumes);
    if let Some(oldest) = &stats.oldest_job {
        text.push_str(&format!("oldest     {}, started {}\n", oldest.job_id, oldest.started_at));
    }
    match &stats.gateway {
        Some(gateway) => text.push_str(&format!(
            "slots      {} of {} in use, {} jobs wait\nrequests   {} under way; {} since it started, {} refused, {} failed at the provider\n\
             tokens     {} today\npasses     {}\ngateway    up {} s, {:.1} MiB\nledger     {}:{}\n",
            gateway.running,
            gateway.slots,
            gateway.queued,
            gateway.requests_under_way,
            gateway.requests,
            gateway.refusals,
            gateway.provider_failures,
            gateway.tokens_today,
            gateway.passes,
            gateway.uptime_seconds,
            mebibytes(gateway.resident_bytes),
            gateway.ledger_head.seq,
            gateway.ledger_head.sha256,
        )),
        None => {
            let why = stats.gateway_problem.as_deref().unwrap_or("it does not answer");
            text.push_str(&format!("gateway    {}\n", crate::display::line(why.as_bytes())));
        }
    }
    text
}

#[expect(clippy::cast_precision_loss, reason = "one digit is shown")]
fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
