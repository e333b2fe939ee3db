//! A job's resources: its status, its patch, its events and its report, reached by the job's id.

use std::str::FromStr as _;

use rmcp::ErrorData;
use rmcp::model::{CacheScope, ErrorCode, ReadResourceResult, ResourceTemplate};
use serde_json::{Map, Value};

use super::call::Meta;
use super::{envelope, render};
use crate::display;
use crate::error::{Code, Error};
use crate::job::{JobId, Jobs};

/// Of a patch.
pub const DIFF_TYPE: &str = "text/x-diff";

/// What of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Where it stands.
    Status,
    /// The patch, exact bytes.
    Diff,
    /// Codex's events, JSON lines.
    Events,
    /// Everything known of the job.
    Report,
}

impl Part {
    const ALL: [Self; 4] = [Self::Status, Self::Diff, Self::Events, Self::Report];

    fn word(self) -> &'static str {
        match self {
            Self::Status => "status",
            Self::Diff => "diff",
            Self::Events => "events",
            Self::Report => "report",
        }
    }

    fn mime_type(self) -> &'static str {
        match self {
            Self::Diff => DIFF_TYPE,
            Self::Events => "application/x-ndjson",
            Self::Status | Self::Report => "application/json",
        }
    }
}

/// The address of a part of a job.
pub fn uri(id: &JobId, part: Part) -> String {
    format!("anchorhold://jobs/{id}/{}", part.word())
}

/// What `resources/templates/list` gives.
pub fn templates() -> Vec<ResourceTemplate> {
    Part::ALL
        .into_iter()
        .map(|part| {
            let (title, description) = match part {
                Part::Status => ("Status of a job", "Where a job stands, from its start on. Subscribe to be told of each change of its state."),
                Part::Diff => ("Patch of a job", "The whole patch of an ended job, exact bytes; base64 where it is not UTF-8 or holds characters that are not shown. Untrusted data."),
                Part::Events => ("Events of a job", "What Codex reported, one JSON object a line, bounded, unseen characters as JSON escapes. Untrusted data."),
                Part::Report => ("Report of a job", "Status, snapshot and usage of an ended job; changed files and risk, or findings; no list cut."),
            };
            ResourceTemplate::new(format!("anchorhold://jobs/{{id}}/{}", part.word()), format!("job-{}", part.word()))
                .with_title(title)
                .with_description(description)
                .with_mime_type(part.mime_type())
        })
        .collect()
}

/// Reads one.
///
/// # Errors
///
/// A protocol error whose data is the error envelope.
pub async fn read(jobs: &Jobs, uri: &str) -> Result<ReadResourceResult, ErrorData> {
    contents(jobs, uri).await.map_err(|error| protocol_error(&error))
}

/// An error as the protocol wants it, with the error envelope as its data.
pub fn protocol_error(error: &Error) -> ErrorData {
    let mut data = envelope::failure(error, None, None, Meta::new("resources/read").delivered());
    // Clients of the contract look for the error's own fields at the top.
    if let (Some(all), Value::Object(fields)) = (data.as_object_mut(), envelope::error_object(error, None)) {
        all.extend(fields);
    }
    let message = display::clip(format!("{}: {}", error.code, error.message).as_bytes(), 500);
    match error.code {
        Code::ResourceNotFound | Code::JobNotFound => ErrorData::resource_not_found(message, Some(data)),
        // In the range that the protocol leaves to servers.
        _ => ErrorData::new(ErrorCode(-32_000), message, Some(data)),
    }
}

/// The error for an address that is none of ours.
pub fn unknown() -> Error {
    Error::new(Code::ResourceNotFound, "no such resource")
        .with_hint("use anchorhold://jobs/{id}/status, /diff, /events or /report with the id of a job")
        .with_detail("templates", Part::ALL.map(|part| format!("anchorhold://jobs/{{id}}/{}", part.word())).to_vec())
}

async fn contents(jobs: &Jobs, uri: &str) -> Result<ReadResourceResult, Error> {
    let (id, part) = parse(uri).ok_or_else(unknown)?;
    if part == Part::Status {
        let status = jobs.status(&id).await.map_err(|error| error.with_detail("job_id", id.as_str()))?;
        return Ok(whole(display::json(&render::signed(render::status(&status)).to_string()).as_bytes(), uri, part));
    }
    let result = jobs.result(&id).await.map_err(|error| error.with_detail("job_id", id.as_str()))?;
    let bytes = match part {
        Part::Events => display::json_lines(&result.events).into_bytes(),
        // A status has been answered above.
        Part::Status | Part::Report => display::json(&render::report(&result).to_string()).into_bytes(),
        Part::Diff => match result.patch {
            Some(patch) => patch,
            None if !result.status.kind.makes_patch() => {
                return Err(Error::new(Code::ResourceNotFound, "a question or a review makes no patch")
                    .with_hint("read the job's /report, which has its findings")
                    .with_detail("job_id", id.as_str()));
            }
            None if result.no_changes => Vec::new(),
            None => {
                let details = Map::from_iter([("job_id".to_owned(), id.as_str().into())]);
                let mut error = result.failure().unwrap_or_else(|| Error::new(Code::JobLost, "the job left no patch"));
                error.details.extend(details);
                return Err(error);
            }
        },
    };
    Ok(whole(&bytes, uri, part))
}

/// A status changes, and a consumed job has none of its parts: nobody is to answer from a cache.
fn whole(bytes: &[u8], uri: &str, part: Part) -> ReadResourceResult {
    ReadResourceResult::new(vec![render::contents(bytes, uri, part.mime_type())]).with_ttl_ms(0).with_cache_scope(CacheScope::Private)
}

/// The job and the part that an address names.
pub fn parse(uri: &str) -> Option<(JobId, Part)> {
    let (id, word) = uri.strip_prefix("anchorhold://jobs/")?.split_once('/')?;
    let part = Part::ALL.into_iter().find(|part| part.word() == word)?;
    Some((JobId::from_str(id).ok()?, part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_addresses_are_read() {
        let id = JobId::random();
        for part in Part::ALL {
            assert_eq!(parse(&uri(&id, part)), Some((id.clone(), part)));
        }
        for text in [
            "",
            "anchorhold://jobs/",
            "anchorhold://jobs/x/diff",
            "file:///etc/passwd",
            &format!("anchorhold://jobs/{id}"),
            &format!("anchorhold://jobs/{id}/diff/x"),
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
