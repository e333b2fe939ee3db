//! `serve`: the Model Context Protocol over HTTP, for several clients at once.

use serde_json::json;

use super::output::Output;
use crate::config::Settings;
use crate::error::Result;
use crate::job::Jobs;
use crate::mcp::Listening;

#[derive(Debug, clap::Args)]
#[command(after_help = "Paths: /mcp for clients, /healthz (says only that the server lives), /metrics (Prometheus).\n\n\
    The token comes from a file or from the variable ANCHORHOLD_TOKEN, never from the command line. Beyond loopback a token and [roots] allow \
    are required. It is plain HTTP: beyond this machine put something in front of it that speaks TLS. SIGTERM finishes what is under way and \
    ends; jobs run on.")]
pub(super) struct Args {
    /// Address and port; port 0: a free one [default: server.listen, 127.0.0.1:7411]
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<String>,
    /// File that holds the bearer token which clients must send [default: server.token_file]
    #[arg(long, value_name = "FILE")]
    token_file: Option<String>,
}

/// The settings with what the flags say.
pub(super) fn adjusted(mut settings: Settings, args: &Args) -> Result<Settings> {
    if let Some(listen) = &args.listen {
        settings.server.listen.clone_from(listen);
    }
    if let Some(file) = &args.token_file {
        settings.server.token_file.clone_from(file);
    }
    settings.check()?;
    Ok(settings)
}

pub(super) async fn run(out: &Output, jobs: Jobs) -> Result<u8> {
    crate::mcp::serve_http(jobs, |listening| say(out, listening)).await.map(|()| 0)
}

fn say(out: &Output, listening: &Listening) {
    let url = format!("http://{}/mcp", listening.address);
    if out.json() {
        out.document(json!({"serve": {"url": url, "address": listening.address.to_string(), "token_required": listening.token}}));
        return;
    }
    let token = if listening.token { "a bearer token is required" } else { "no token: every user of this machine may call" };
    out.note(&format!("listening on {url} ({token})"));
    if listening.beyond_loopback {
        out.note("this is plain HTTP: beyond this machine put something in front of it that speaks TLS");
    }
}
