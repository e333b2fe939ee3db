//! The command line: one file a verb, and the only place that prints.
//!
//! A verb takes an [`Output`] and its arguments and gives back an exit code or an error; how either is shown is decided here, once.
//! What it says about a job goes to standard output, progress and errors go to standard error. With `--json` standard output
//! carries one JSON document, on errors too.

mod apply;
mod args;
mod attempts;
mod attest;
mod audit;
mod cancel;
mod completions;
mod consult;
mod consume;
mod delegate;
mod demo;
mod diff;
mod doctor;
mod dry_run;
mod ended;
mod exit;
mod fetch;
mod follow;
mod gateway;
mod gc;
mod go_on;
mod how;
mod image;
mod job_ref;
mod jobs;
mod logs;
mod man;
mod mcp;
mod output;
mod progress;
mod render;
mod reports;
mod result;
mod review;
mod serve;
mod stats;
mod status;
#[cfg(test)]
mod tests;
mod wait;

use std::ffi::OsString;

use clap::Parser as _;
use clap::error::ErrorKind;

use crate::config::Settings;
use crate::error::{Code, Error, Result};
use crate::job::Jobs;

use args::{Cli, Command, LogFormat};
use output::Output;

/// Runs the command line and returns the exit code. `args` starts with the program's name.
pub fn run(args: &[OsString]) -> u8 {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(e) => return usage(&e, args),
    };
    let out = Output::new(cli.global.json, cli.global.quiet, cli.global.color);
    let settings = Settings::load_with(cli.global.config.as_deref(), &cli.global.set);
    start_log(cli.global.log_format, settings.as_ref().ok());
    let code = dispatch(&out, cli, settings).unwrap_or_else(|e| out.error(&e));
    crate::telemetry::finish();
    out.finish(code)
}

/// Runs `anchorhold gateway run|admin`, which only containers call; `args` are those after `gateway`.
pub fn gateway(args: &[OsString]) -> u8 {
    // Each part sets up its own log: the gateway's container has another reader than a terminal.
    let out = Output::new(false, false, args::ColorChoice::Never);
    let part = match args {
        [word] => word.to_str().unwrap_or_default(),
        _ => "",
    };
    let done = match part {
        "run" => single_runtime().and_then(|runtime| runtime.block_on(crate::gateway::run())),
        "admin" => single_runtime().and_then(|runtime| runtime.block_on(crate::gateway::admin_relay())),
        _ => Err(Error::new(Code::InvalidArguments, "the gateway has the parts `run` and `admin`")
            .with_hint("the command line starts the gateway by itself; `anchorhold doctor` tells how it is")),
    };
    match done {
        Ok(()) => 0,
        Err(e) => out.error(&e),
    }
}

fn dispatch(out: &Output, cli: Cli, settings: Result<Settings>) -> Result<u8> {
    // What needs no settings must work where the settings are broken.
    let command = match cli.command {
        Command::Completions(args) => return completions::run(out, &args),
        Command::Man(args) => return man::run(out, &args),
        Command::Doctor => return block_on(doctor::run(out, settings)),
        other => other,
    };
    let settings = settings?;
    if let Command::Demo(args) = &command {
        return block_on(demo::run(out, &settings, args));
    }
    if let Command::Image(args) = command {
        return block_on(image::run(out, &settings, args));
    }
    let settings = match &command {
        Command::Serve(args) => serve::adjusted(settings, args)?,
        _ => settings,
    };
    let jobs = Jobs::new(settings);
    block_on(async {
        let done = with_jobs(out, &jobs, command).await;
        // Deliveries, seals and removals that this process began are awaited, except by who pressed Ctrl-C twice.
        if !matches!(&done, Err(e) if e.code == Code::Interrupted) {
            jobs.shutdown().await;
        }
        done
    })
}

async fn with_jobs(out: &Output, jobs: &Jobs, command: Command) -> Result<u8> {
    match command {
        Command::Delegate(args) => delegate::run(out, jobs, args).await,
        Command::Continue(args) => go_on::run(out, jobs, args).await,
        Command::Review(args) => review::run(out, jobs, args).await,
        Command::Consult(args) => consult::run(out, jobs, args).await,
        Command::Jobs(args) => jobs::run(out, jobs, &args).await,
        Command::Status(args) => status::run(out, jobs, &args).await,
        Command::Wait(args) => wait::run(out, jobs, &args).await,
        Command::Logs(args) => logs::run(out, jobs, &args).await,
        Command::Result(args) => result::run(out, jobs, &args).await,
        Command::Diff(args) => diff::run(out, jobs, &args).await,
        Command::Apply(args) => apply::run(out, jobs, &args).await,
        Command::Fetch(args) => fetch::run(out, jobs, &args).await,
        Command::Cancel(args) => cancel::run(out, jobs, &args).await,
        Command::Consume(args) => consume::run(out, jobs, &args).await,
        Command::Attest(args) => attest::run(out, jobs, &args).await,
        Command::Stats(args) => stats::run(out, jobs, &args).await,
        Command::Gc => gc::run(out, jobs).await,
        Command::Gateway(args) => gateway::run(out, jobs, &args).await,
        Command::Audit(args) => audit::run(out, jobs, &args).await,
        Command::Mcp => mcp::run(out, jobs.clone()).await,
        Command::Serve(_) => serve::run(out, jobs.clone()).await,
        Command::Completions(_) | Command::Man(_) | Command::Doctor | Command::Demo(_) | Command::Image(_) => {
            Err(Error::internal("a verb without jobs"))
        }
    }
}

fn block_on(verb: impl Future<Output = Result<u8>>) -> Result<u8> {
    let runtime = runtime()?;
    let done = runtime.block_on(verb);
    // A read of standard input that never ends, or work that was given up, must not keep the process.
    runtime.shutdown_background();
    done
}

/// Bytes of a worker's stack; only what is used of it takes memory. Unoptimized builds keep all of a call's steps on it.
const WORKER_STACK: usize = 8 << 20;

/// Two workers: enough to upload while packing, and small.
fn runtime() -> Result<tokio::runtime::Runtime> {
    let built = tokio::runtime::Builder::new_multi_thread().worker_threads(2).thread_stack_size(WORKER_STACK).enable_all().build();
    built.map_err(|e| Error::internal("cannot start the runtime").with_source(e))
}

fn single_runtime() -> Result<tokio::runtime::Runtime> {
    let built = tokio::runtime::Builder::new_current_thread().enable_all().build();
    built.map_err(|e| Error::internal("cannot start the runtime").with_source(e))
}

/// Logs go to standard error; `ANCHORHOLD_LOG` filters them. Where the settings cannot be read, the log has the form of the flag, else text.
fn start_log(flag: Option<LogFormat>, settings: Option<&Settings>) {
    use crate::telemetry::{Form, Part};
    let form = match flag {
        Some(LogFormat::Text) => Form::Text,
        Some(LogFormat::Json) => Form::Json,
        None => settings.and_then(|settings| Form::parse(&settings.log.format)).unwrap_or_default(),
    };
    let endpoint = settings.and_then(|settings| settings.telemetry.endpoint(crate::telemetry::standard_endpoint().as_deref()));
    crate::telemetry::start(Part::Host, form, &std::env::var("ANCHORHOLD_LOG").unwrap_or_default(), endpoint.as_deref());
}

/// Help and version are answers; everything else is a usage error in the form that was asked for.
fn usage(e: &clap::Error, args: &[OsString]) -> u8 {
    let json = args.iter().take_while(|arg| *arg != "--").any(|arg| arg == "--json");
    let out = Output::new(json, false, args::ColorChoice::Never);
    match e.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            out.text(&e.to_string());
            0
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand if !json => {
            out.note_block(&e.to_string());
            Code::InvalidArguments.exit_code()
        }
        kind => {
            let text = e.to_string();
            let (message, hint) = match kind {
                ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => ("a verb is missing".to_owned(), "see `anchorhold --help`".to_owned()),
                _ => split_usage(&text),
            };
            out.error(&Error::new(Code::InvalidArguments, message).with_hint(hint))
        }
    }
}

/// clap's text in two parts: what is wrong, and the rest (tips, usage) as advice, each on one line.
fn split_usage(text: &str) -> (String, String) {
    let flat = |part: &str| crate::display::line(part.split_whitespace().collect::<Vec<_>>().join(" ").as_bytes());
    let text = text.strip_prefix("error: ").unwrap_or(text).replace("For more information, try '--help'.", "");
    match text.split_once("\n\n") {
        Some((what, rest)) if !rest.trim().is_empty() => (flat(what), flat(rest)),
        Some((what, _)) => (flat(what), "see `anchorhold --help`".to_owned()),
        None => (flat(&text), "see `anchorhold --help`".to_owned()),
    }
}
