//! `gateway limits`: what holds for all jobs of this engine's gateway together.

use serde_json::json;

use super::output::Output;
use crate::error::Result;
use crate::job::{GatewayState, Jobs, LimitChange};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Show the limits in force for all jobs of this gateway, or change them at once
    Limits(Limits),
}

#[derive(Debug, clap::Args)]
struct Limits {
    /// Put the limits of your own settings in force, whatever others brought
    #[arg(long, conflicts_with = "slots")]
    apply: bool,
    /// Let so many jobs run at once from now on; the settings of nobody are changed
    #[arg(long, value_name = "JOBS", value_parser = clap::value_parser!(u32).range(1..))]
    slots: Option<u32>,
}

pub(super) async fn run(out: &Output, jobs: &Jobs, args: &Args) -> Result<u8> {
    let Verb::Limits(limits) = &args.verb;
    let change = match (limits.apply, limits.slots) {
        (true, _) => LimitChange::Settings,
        (false, Some(slots)) => LimitChange::Slots(slots),
        (false, None) => LimitChange::None,
    };
    let state = jobs.gateway_limits(change).await?;
    if out.json() {
        out.document(json!({ "limits": state }));
    } else {
        out.text(&text(&state, jobs.settings().engine.max_running_jobs));
    }
    Ok(0)
}

fn text(state: &GatewayState, own: u32) -> String {
    let ceilings = &state.ceilings;
    let day = if ceilings.tokens_per_day == 0 { "no ceiling".to_owned() } else { ceilings.tokens_per_day.to_string() };
    let mut lines = vec![
        format!("jobs at once      {} ({} run, {} wait)", state.slots, state.running, state.queued),
        format!("tokens a day      {day}"),
        format!("requests at once  {}", ceilings.requests),
        format!("connections       {}", ceilings.connections),
    ];
    if own != state.slots {
        lines.push(format!("your settings say {own} jobs at once; `anchorhold gateway limits --apply` puts them in force"));
    }
    lines.join("\n")
}
