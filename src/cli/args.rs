//! The command line's grammar: global options and the list of verbs. Each verb's own options stand in its file.

use clap::{Parser, Subcommand, ValueEnum};

use super::{
    apply, audit, completions, consult, consume, delegate, demo, diff, fetch, gateway, go_on, image, jobs, logs, man, result, review, serve, stats,
    wait,
};

/// Delegate coding tasks to the Codex CLI in a container without a network, and get back a reviewable diff that was never applied.
#[derive(Debug, Parser)]
#[command(name = "anchorhold", version, max_term_width = 110, infer_long_args = false)]
#[command(after_help = "Exit codes, JSON documents and examples: docs/CLI.md. Settings: docs/CONFIGURATION.md.")]
pub(super) struct Cli {
    #[command(flatten)]
    pub(super) global: Global,
    #[command(subcommand)]
    pub(super) command: Command,
}

/// Options of every verb.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Global options")]
pub(super) struct Global {
    /// Write one JSON document to standard output, on errors too
    #[arg(long, global = true)]
    pub(super) json: bool,
    /// No progress and no notes on standard error
    #[arg(long, short, global = true)]
    pub(super) quiet: bool,
    /// Colours; auto: on a terminal, unless NO_COLOR is set or TERM is dumb
    #[arg(long, global = true, value_enum, value_name = "WHEN", default_value = "auto", hide_possible_values = true)]
    pub(super) color: ColorChoice,
    /// Settings file [default: $ANCHORHOLD_CONFIG, else ~/.config/anchorhold/config.toml]
    #[arg(long, global = true, value_name = "FILE")]
    pub(super) config: Option<String>,
    /// A setting, over the file and the environment; may be given several times
    #[arg(long = "set", global = true, value_name = "TABLE.KEY=VALUE", value_parser = key_value)]
    pub(super) set: Vec<(String, String)>,
    /// Form of the log on standard error, whose level ANCHORHOLD_LOG sets [default: log.format]
    #[arg(long, global = true, value_enum, value_name = "FORM")]
    pub(super) log_format: Option<LogFormat>,
}

fn key_value(text: &str) -> Result<(String, String), String> {
    text.split_once('=').map(|(key, value)| (key.trim().to_owned(), value.to_owned())).ok_or_else(|| "write TABLE.KEY=VALUE".to_owned())
}

/// When to use colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum ColorChoice {
    /// On a terminal.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// The log's form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum LogFormat {
    /// A line for people.
    Text,
    /// A JSON object a line.
    Json,
}

/// One job, by its id.
#[derive(Debug, clap::Args)]
pub(super) struct JobArg {
    /// Job id, or its first digits (at least 4) where no other job begins with them
    #[arg(value_name = "JOB")]
    pub(super) job: String,
}

/// The verbs, in the order in which people meet them.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Try everything without a key: a scripted model on a temporary repository, with live progress and a diff
    Demo(demo::Args),
    /// Say what is missing, and the command that mends it
    Doctor,
    /// Start a job on a repository; with --wait (the default) follow it and show the result
    Delegate(delegate::Args),
    /// Go on with an ended delegation in a new job: its working tree, its conversation, its base
    Continue(go_on::Args),
    /// Have a change reviewed; writes text, Markdown, JSON, SARIF, JUnit, or what GitHub and GitLab read
    Review(review::Args),
    /// Ask a question about a repository
    Consult(consult::Args),
    /// List jobs, newest first
    Jobs(jobs::Args),
    /// Say where a job stands
    Status(JobArg),
    /// Stay until jobs have ended; their outcome is the exit code
    Wait(wait::Args),
    /// Show a job's progress records
    Logs(logs::Args),
    /// Show an ended job's result; its outcome is the exit code
    Result(result::Args),
    /// Write an ended job's patch: the exact bytes, or coloured on a terminal
    Diff(diff::Args),
    /// Check an ended job's changes and apply them to the working tree
    Apply(apply::Args),
    /// Write an ended job's changes as a commit under refs/anchorhold/, for those who review with git
    Fetch(fetch::Args),
    /// End a job; its partial work is kept
    Cancel(JobArg),
    /// Show an ended job's result and remove the job
    Consume(consume::Args),
    /// Say what a job's cell really was: image, limits, specification, gateway, and digests of what went in and out
    Attest(JobArg),
    /// Check the gateway's ledger, or print what it says of a job
    Audit(audit::Args),
    /// Count jobs, slots, requests and tokens; for people, as JSON, or for Prometheus
    Stats(stats::Args),
    /// Remove what has expired or belongs to no job
    Gc,
    /// See or change at once what holds for all jobs of this engine's gateway
    Gateway(gateway::Args),
    /// Build the runtime image
    Image(image::Args),
    /// Serve the Model Context Protocol on standard input and output
    Mcp,
    /// Serve the same over HTTP, to several clients at once
    Serve(serve::Args),
    /// Print a completion script for a shell
    Completions(completions::Args),
    /// Print a manual page, or write all of them into a directory
    Man(man::Args),
}
