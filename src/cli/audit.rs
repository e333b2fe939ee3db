//! `audit`: whether the gateway's ledger is what was written, and what it says of a job.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::output::Output;
use crate::error::{Code, Error, Result};
use crate::job::{Jobs, LedgerPart};
use crate::protocol::ledger::verify::{Report, Verifier};
use crate::protocol::ledger::{CURRENT, Head, first_seq_of};

/// Bytes of a file that are looked at at once.
const PIECE: usize = 256 << 10;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Check every line of the ledger, the chain from each to the next, and the files' order; exit code 12 at the first break
    Verify(Source),
    /// Print the ledger's lines, all or those of one job, as they were written
    Show {
        /// Job id, or its first digits (at least 4); the job may be long gone
        #[arg(value_name = "JOB", value_parser = job)]
        job: Option<String>,
        #[command(flatten)]
        source: Source,
    },
}

#[derive(Debug, clap::Args)]
struct Source {
    /// A copy of a ledger file, in place of the gateway's own; may be given several times
    #[arg(long = "file", value_name = "FILE")]
    files: Vec<PathBuf>,
    /// A head that was noted earlier: that line must be there unchanged. The only way to see that lines at the end are missing
    #[arg(long = "head", value_name = "SEQ:SHA256", value_parser = head)]
    heads: Vec<Head>,
    /// The files are only some of the ledger's: do not miss those before them
    #[arg(long, requires = "files")]
    partial: bool,
}

fn job(text: &str) -> std::result::Result<String, String> {
    let good = (4..=32).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_hexdigit());
    if good { Ok(text.to_ascii_lowercase()) } else { Err("write at least 4 and at most 32 hex digits of the job's id".to_owned()) }
}

fn head(text: &str) -> std::result::Result<Head, String> {
    let (seq, sha256) = text.split_once(':').ok_or("write SEQ:SHA256")?;
    let good = sha256.len() == 64 && sha256.bytes().all(|b| b.is_ascii_hexdigit());
    match seq.parse() {
        Ok(seq) if seq > 0 && good => Ok(Head { seq, sha256: sha256.to_ascii_lowercase() }),
        _ => Err("write SEQ:SHA256, a number above 0 and 64 hex digits".to_owned()),
    }
}

pub(super) async fn run(out: &Output, jobs: &Jobs, args: &Args) -> Result<u8> {
    match &args.verb {
        Verb::Verify(source) => {
            let report = read(jobs, source, &mut |_, _| {}).await?;
            let failure = failure(&report);
            if out.json() {
                out.outcome(failure.as_ref(), json!({ "report": report }));
            } else {
                match &failure {
                    Some(e) => out.human_error(e),
                    None => {
                        out.text(&text(&report));
                    }
                }
            }
            Ok(failure.map_or(0, |e| e.code.exit_code()))
        }
        Verb::Show { job, source } => {
            let mut lines: Vec<Value> = Vec::new();
            let report = read(jobs, source, &mut |line, value| {
                let wanted = job.as_ref().is_none_or(|job| value.get("job").and_then(Value::as_str).is_some_and(|id| id.starts_with(job.as_str())));
                if wanted && out.json() {
                    lines.push(value.clone());
                } else if wanted {
                    out.text(&crate::display::line(line));
                }
            })
            .await?;
            let failure = failure(&report);
            if out.json() {
                out.outcome(failure.as_ref(), json!({ "lines": lines, "report": report }));
            } else if let Some(e) = &failure {
                out.human_error(e);
            }
            Ok(failure.map_or(0, |e| e.code.exit_code()))
        }
    }
}

/// Reads the gateway's ledger, or copies of its files.
async fn read(jobs: &Jobs, source: &Source, each: &mut (dyn FnMut(&[u8], &Value) + Send)) -> Result<Report> {
    let mut verifier = source.heads.iter().cloned().fold(Verifier::default(), Verifier::expect);
    if source.partial {
        verifier = verifier.partial();
    }
    if source.files.is_empty() {
        let head = jobs
            .ledger(&mut |part| match part {
                LedgerPart::File(name) => verifier.file(name),
                LedgerPart::Bytes(bytes) => verifier.bytes(bytes, each),
            })
            .await?;
        // The gateway's memory is one more place where the head is noted.
        if head.seq > 0 {
            verifier = verifier.expect(head);
        }
        return Ok(verifier.finish());
    }
    for path in in_order(&source.files)? {
        let failed = |e: std::io::Error| Error::new(Code::InvalidArguments, format!("cannot read {}", path.display())).with_source(e);
        let mut file = std::fs::File::open(path).map_err(failed)?;
        verifier.file(&name(path));
        let mut piece = vec![0; PIECE];
        loop {
            let read = file.read(&mut piece).map_err(failed)?;
            if read == 0 {
                break;
            }
            verifier.bytes(piece.get(..read).unwrap_or_default(), each);
        }
    }
    Ok(verifier.finish())
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Full files by their number, the current one last: however a shell lists them. Files of other names stay where they were given.
fn in_order(files: &[PathBuf]) -> Result<Vec<&Path>> {
    let mut ordered: Vec<&Path> = files.iter().map(PathBuf::as_path).collect();
    ordered.sort_by_key(|path| match (first_seq_of(&name(path)), name(path) == CURRENT) {
        (Some(seq), _) => (0, seq),
        (None, false) => (1, 0),
        (None, true) => (2, 0),
    });
    if let Some(pair) = ordered.windows(2).find(|pair| pair.first() == pair.get(1)) {
        return Err(Error::new(
            Code::InvalidArguments,
            format!("{} is given twice", pair.first().map(|p| p.display().to_string()).unwrap_or_default()),
        ));
    }
    Ok(ordered)
}

fn failure(report: &Report) -> Option<Error> {
    let broken = report.broken.as_ref()?;
    let at = if broken.line == 0 { String::new() } else { format!(" in {}, line {} (byte {})", broken.file, broken.line, broken.offset) };
    Some(
        Error::new(Code::LedgerBroken, format!("the ledger is broken{at}: {}", broken.message))
            .with_hint(format!("lines up to {} hold; keep a copy of the gateway's volume and find out who could write to it", report.head.seq))
            .with_detail("wrong", serde_json::to_value(broken.wrong).unwrap_or_default())
            .with_detail("seq", broken.seq),
    )
}

fn text(report: &Report) -> String {
    let from = if report.from_the_beginning { "from the beginning".to_owned() } else { format!("from line {} on", report.first_seq) };
    let mut text = format!("{} lines in {} files hold, {from}\nhead {}:{}\n", report.lines, report.files, report.head.seq, report.head.sha256);
    if let Some(policy) = &report.policy_sha256 {
        text.push_str(&format!("policy {policy}\n"));
    }
    if report.gaps > 0 {
        text.push_str(&format!("{} times the gateway could not write, or began after a crash\n", report.gaps));
    }
    if !report.unknown.is_empty() {
        text.push_str(&format!("not known to this version: {}\n", crate::display::line(report.unknown.join(", ").as_bytes())));
    }
    text
}
