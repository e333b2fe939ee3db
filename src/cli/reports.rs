//! `--format` and `--output`: in which forms a review is wanted, and where each goes.
//!
//! A report is written whole or not at all, and all of them before the job may go: what was paid for is not lost over a full disk.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use clap::{Arg, ArgAction, ArgMatches, Command};
use serde_json::{Value, json};

use super::output::Output;
use crate::error::{Code, Error, Result};
use crate::review::format::{Context, Format, github, render};
use crate::review::{Review, Severity};

/// The longest file for a step summary that is not ours to write to any more: GitHub refuses it whole beyond 1 MiB.
const STEP_SUMMARY: u64 = 1 << 20;
/// Characters in a line where no terminal says how wide it is.
const WIDTH: usize = 100;

/// The forms and places as they were typed, in pairs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Reports {
    /// In the order of the command line.
    pairs: Vec<Report>,
    /// What is wrong with the pairs, told when they are needed.
    fault: Option<String>,
}

/// One form and where it goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Report {
    pub(super) format: Format,
    /// `None`: standard output.
    pub(super) output: Option<PathBuf>,
}

impl clap::Args for Reports {
    fn augment_args(command: Command) -> Command {
        let format = Arg::new("format")
            .long("format")
            .value_name("FORMAT")
            .action(ArgAction::Append)
            .value_parser(clap::builder::PossibleValuesParser::new(Format::ALL.map(Format::as_str)))
            .help("Form of the report; several times for several, each with its --output [default: text]");
        let output = Arg::new("output")
            .long("output")
            .short('o')
            .value_name("FILE")
            .action(ArgAction::Append)
            .value_parser(clap::value_parser!(PathBuf))
            .help("Where the --format before it goes; -: standard output, as without it. With github: the payload of a pull request's review");
        command.arg(format).arg(output)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl clap::FromArgMatches for Reports {
    fn from_arg_matches(matches: &ArgMatches) -> std::result::Result<Self, clap::Error> {
        let formats = matches.get_many::<String>("format").into_iter().flatten().filter_map(|word| Format::parse(word));
        let formats = matches.indices_of("format").into_iter().flatten().zip(formats.map(Typed::Format));
        let outputs = matches.get_many::<PathBuf>("output").into_iter().flatten().cloned();
        let outputs = matches.indices_of("output").into_iter().flatten().zip(outputs.map(Typed::Output));
        let mut typed: Vec<(usize, Typed)> = formats.chain(outputs).collect();
        typed.sort_by_key(|(at, _)| *at);
        Ok(Self::pair(typed.into_iter().map(|(_, typed)| typed)))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> std::result::Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

/// One of the two options.
#[derive(Debug)]
enum Typed {
    Format(Format),
    Output(PathBuf),
}

impl Reports {
    fn pair(typed: impl Iterator<Item = Typed>) -> Self {
        let mut reports = Self::default();
        let mut placed = true;
        for typed in typed {
            match typed {
                Typed::Format(format) => {
                    reports.pairs.push(Report { format, output: None });
                    placed = false;
                }
                Typed::Output(file) => match reports.pairs.last_mut() {
                    Some(last) if !placed => {
                        last.output = (file != Path::new("-")).then_some(file);
                        placed = true;
                    }
                    _ => reports.fault = Some("each --output goes with the --format before it".to_owned()),
                },
            }
        }
        reports
    }

    /// Whether any was asked for.
    pub(super) fn asked(&self) -> bool {
        !self.pairs.is_empty() || self.fault.is_some()
    }

    /// The reports to make, after all that can be known to fail was looked at: before a job is started and paid for.
    pub(super) fn checked(&self, json: bool, allowed: &[Format]) -> Result<Vec<Report>> {
        let wrong = |message: String| {
            Err(Error::new(Code::InvalidArguments, message)
                .with_hint("such as `--format sarif --output review.sarif --format markdown --output review.md`"))
        };
        if let Some(fault) = &self.fault {
            return wrong(fault.clone());
        }
        let text = || vec![Report { format: Format::Text, output: None }];
        let pairs = if self.pairs.is_empty() && !json { text() } else { self.pairs.clone() };
        if let Some(other) = pairs.iter().find(|report| !allowed.contains(&report.format)) {
            return wrong(format!("the form `{}` is for reviews", other.format.as_str()));
        }
        // Annotations work on standard output alone: that is what the runner reads.
        let to_stdout = pairs.iter().filter(|report| report.output.is_none() || report.format == Format::Github).count();
        if to_stdout > usize::from(!json) {
            return wrong(if json {
                "--json has standard output for itself".to_owned()
            } else {
                "only one form can go to standard output".to_owned()
            });
        }
        for (at, report) in pairs.iter().enumerate() {
            let Some(file) = &report.output else { continue };
            if pairs.iter().take(at).any(|earlier| earlier.output.as_ref() == Some(file)) {
                return wrong("two forms go to one file".to_owned());
            }
            Target::of(file)?.try_out()?;
        }
        Ok(pairs)
    }
}

/// From which severity on a review fails; `none`: none does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FailOn(pub(super) Option<Severity>);

impl FailOn {
    /// As typed.
    pub(super) fn parse(text: &str) -> std::result::Result<Self, String> {
        match text {
            "none" => Ok(Self(None)),
            _ => {
                Severity::parse(text).map(|severity| Self(Some(severity))).ok_or_else(|| "write critical, high, medium, low, nit or none".to_owned())
            }
        }
    }
}

/// What the forms need to know.
pub(super) fn context(out: &Output, threshold: Option<Severity>) -> Context {
    Context {
        tool_version: env!("CARGO_PKG_VERSION").to_owned(),
        width: if out.is_terminal() { terminal_width() } else { WIDTH },
        color: out.paint().0,
        threshold,
        repository_url: repository_url(&|name| std::env::var(name).ok()),
    }
}

fn terminal_width() -> usize {
    rustix::termios::tcgetwinsize(std::io::stdout()).map_or(WIDTH, |size| usize::from(size.ws_col)).min(120)
}

/// Where the repository is at home, as GitHub's and GitLab's pipelines say.
fn repository_url(env: &dyn Fn(&str) -> Option<String>) -> Option<String> {
    let github = || Some(format!("{}/{}", env("GITHUB_SERVER_URL")?, env("GITHUB_REPOSITORY")?));
    let text = env("CI_PROJECT_URL").or_else(github)?;
    let url = url::Url::parse(&text).ok()?;
    let plain = matches!(url.scheme(), "http" | "https") && url.username().is_empty() && url.password().is_none() && url.query().is_none();
    (plain && url.has_host()).then(|| url.to_string())
}

/// Writes every report: files first, standard output last. What was written is told in the order of the command line.
pub(super) fn write(out: &Output, reports: &[Report], review: &Review, context: &Context) -> Result<Vec<Value>> {
    let plain = Context { color: false, width: WIDTH, ..context.clone() };
    for report in reports {
        if let Some(file) = &report.output {
            let bytes = match report.format {
                Format::Github => github::payload(review, &plain),
                format => render(format, review, &plain),
            };
            Target::of(file)?.write(&bytes)?;
        }
        if report.format == Format::Github
            && let Some(file) = std::env::var_os("GITHUB_STEP_SUMMARY").filter(|file| !file.is_empty())
        {
            step_summary(Path::new(&file), &github::summary(review, &plain))?;
        }
    }
    for report in reports.iter().filter(|report| report.output.is_none() || report.format == Format::Github) {
        out.bytes(&render(report.format, review, context));
    }
    let place = |report: &Report| report.output.as_ref().map(|file| file.to_string_lossy().into_owned());
    Ok(reports.iter().map(|report| json!({ "format": report.format.as_str(), "output": place(report) })).collect())
}

/// Writes a text of ours: a file whole or not at all, or standard output.
pub(super) fn write_bytes(out: &Output, report: &Report, bytes: &[u8]) -> Result<()> {
    match &report.output {
        Some(file) => Target::of(file)?.write(bytes),
        None => {
            out.bytes(bytes);
            Ok(())
        }
    }
}

/// Adds to what other steps have written, unless that makes it too long for GitHub.
fn step_summary(file: &Path, text: &[u8]) -> Result<()> {
    let there = std::fs::metadata(file).map_or(0, |data| data.len());
    let text =
        if there.saturating_add(text.len() as u64) < STEP_SUMMARY { text } else { b"\nThe review's summary does not fit here beside the others.\n" };
    let write = || std::fs::OpenOptions::new().append(true).create(true).open(file).and_then(|mut file| file.write_all(text));
    write().map_err(|e| failed(file, e))
}

fn failed(file: &Path, e: std::io::Error) -> Error {
    Error::internal("a report could not be written").with_detail("file", file.to_string_lossy()).with_source(e)
}

/// Where a file is to be written.
enum Target {
    /// Replaced in one step; links are followed to what they name.
    File { path: PathBuf, beside: PathBuf },
    /// A device or pipe: written to as it is.
    Special(PathBuf),
}

impl Target {
    fn of(file: &Path) -> Result<Self> {
        let bad = |why: &str| {
            Error::new(Code::InvalidArguments, format!("a report cannot go there: {why}"))
                .with_hint("name a file in a directory that is there and can be written to")
                .with_detail("file", file.to_string_lossy())
        };
        let path = match std::fs::metadata(file) {
            Ok(data) if data.is_dir() => return Err(bad("it is a directory")),
            Ok(data) if !data.is_file() => return Ok(Self::Special(file.to_owned())),
            Ok(_) => file.canonicalize().map_err(|e| bad("it cannot be found").with_source(e))?,
            Err(_) => file.to_owned(),
        };
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
        if path.file_name().is_none() || !parent.is_dir() {
            return Err(bad("its directory is not there"));
        }
        let beside = parent.to_owned();
        Ok(Self::File { path, beside })
    }

    /// Makes what the writing will need, and removes it.
    fn try_out(&self) -> Result<()> {
        match self {
            Self::File { path, beside } => temporary(beside).map(drop).map_err(|e| {
                Error::new(Code::InvalidArguments, "a report cannot go there: nothing can be written beside it")
                    .with_hint("name a file in a directory that can be written to")
                    .with_detail("file", path.to_string_lossy())
                    .with_source(e)
            }),
            Self::Special(_) => Ok(()),
        }
    }

    fn write(&self, bytes: &[u8]) -> Result<()> {
        match self {
            Self::Special(path) => {
                std::fs::OpenOptions::new().write(true).open(path).and_then(|mut file| file.write_all(bytes)).map_err(|e| failed(path, e))
            }
            Self::File { path, beside } => {
                let whole = || {
                    let mut file = temporary(beside)?;
                    file.write_all(bytes)?;
                    file.as_file().sync_all()?;
                    file.persist(path).map(drop).map_err(|e| e.error)
                };
                whole().map_err(|e| failed(path, e))
            }
        }
    }
}

/// A file beside another one, with the rights that any new file would have.
fn temporary(beside: &Path) -> std::io::Result<tempfile::NamedTempFile> {
    use std::os::unix::fs::PermissionsExt as _;
    tempfile::Builder::new().prefix(".anchorhold-").permissions(std::fs::Permissions::from_mode(0o666)).tempfile_in(beside)
}

#[cfg(test)]
#[path = "reports_tests.rs"]
mod tests;
