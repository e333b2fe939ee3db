//! GitHub: workflow annotations for the log, a step summary, and the payload of a pull request's review.
//!
//! GitHub shows ten annotations of each kind a step and drops the others without a word, so what goes beyond is counted in one of them. A
//! review's comment may only stand on lines that the diff shows, and all of it is refused for one that does not.

use serde_json::{Map, Value, json};

use super::escape::{clip, command_data, command_property, cut, line, words};
use super::{Context, Level, counted, in_order, lines_text, markdown, partial_text};
use crate::review::{ChangedFile, Finding, LineRange, Review};

/// Annotations of one kind in a step.
pub const ANNOTATIONS: usize = 10;
/// Bytes of a step summary; GitHub's own limit is 1 MiB, other steps' excluded.
pub const SUMMARY: usize = 1_000_000;
/// Comments of one review: enough to work through, and few enough for one request.
pub const COMMENTS: usize = 30;
/// Bytes of a review's body and of a comment; GitHub's own limit is 65,536 characters.
pub const BODY: usize = 60_000;

/// Workflow commands, one a line.
pub fn annotations(review: &Review, context: &Context) -> Vec<u8> {
    let mut out = String::new();
    // What is said of the whole takes a place of its own kind.
    let mut shown = [(Level::Error, 0), (Level::Warning, usize::from(review.partial)), (Level::Note, 1)];
    let mut left_out = 0usize;
    if review.partial {
        out.push_str(&command(Level::Warning, &[("title", "The review is partial")], &line(&partial_text(review))));
    }
    for finding in &review.findings {
        let level = Level::of(finding.severity);
        match shown.iter_mut().find(|(of, _)| *of == level) {
            Some((_, count)) if *count < ANNOTATIONS => {
                *count += 1;
                out.push_str(&annotation(level, finding));
            }
            _ => left_out += 1,
        }
    }
    let mut said = format!("{}, {}", review.verdict.as_str(), counted(&review.findings));
    if left_out > 0 {
        said.push_str(&format!("; {left_out} of them are not shown as annotations, since GitHub shows {ANNOTATIONS} of a kind: the summary has all"));
    }
    let title = format!("Anchorhold {} review", context.tool_version);
    out.push_str(&command(Level::Note, &[("title", &title)], &said));
    out.into_bytes()
}

fn annotation(level: Level, finding: &Finding) -> String {
    let title = format!("{}: {}", finding.severity.as_str(), clip(&finding.title, 200));
    let lines = finding.lines.map(in_order).map(|lines| (lines.start.to_string(), lines.end.to_string()));
    let file = finding.file.as_deref().map(line);
    let mut properties: Vec<(&str, &str)> = Vec::new();
    if let Some(file) = &file {
        properties.push(("file", file));
        if let Some((start, end)) = &lines {
            properties.extend([("line", start.as_str()), ("endLine", end.as_str())]);
        }
    }
    properties.push(("title", &title));
    let said: Vec<String> = [("", &finding.evidence), ("Risk: ", &finding.risk), ("What to do: ", &finding.recommendation)]
        .into_iter()
        .filter(|(_, text)| !text.trim().is_empty())
        .map(|(name, text)| format!("{name}{}", cut(&words(text.trim()), 3_000)))
        .collect();
    // A command without a message is shown by its name.
    let said = if said.is_empty() { clip(&finding.title, 200) } else { said.join("\n") };
    command(level, &properties, &said)
}

fn command(level: Level, properties: &[(&str, &str)], message: &str) -> String {
    let name = match level {
        Level::Error => "error",
        Level::Warning => "warning",
        Level::Note => "notice",
    };
    let properties: Vec<String> = properties.iter().map(|(name, value)| format!("{name}={}", command_property(value))).collect();
    format!("::{name} {}::{}\n", properties.join(","), command_data(message))
}

/// The step summary, Markdown.
pub fn summary(review: &Review, context: &Context) -> Vec<u8> {
    markdown::bounded(review, context, SUMMARY).into_bytes()
}

/// What to send to `POST /repos/OWNER/NAME/pulls/NUMBER/reviews`, as JSON.
///
/// Only ever a comment, never an approval. In-line comments stand on lines that the diff shows; the other findings are in the body.
pub fn payload(review: &Review, context: &Context) -> Vec<u8> {
    let mut comments = Vec::new();
    let mut rest: Vec<(usize, &Finding)> = Vec::new();
    for (number, finding) in review.findings.iter().enumerate() {
        match comment(review, number, finding) {
            Some(comment) if comments.len() < COMMENTS => comments.push(comment),
            _ => rest.push((number, finding)),
        }
    }
    let mut body = markdown::head(review);
    if body.len() > BODY / 2 {
        body = format!("## Review: {}, {}\n", review.verdict.as_str(), counted(&review.findings));
    }
    let foot = markdown::foot(review, context);
    let title = if comments.is_empty() { "Findings" } else { "Findings beyond the lines of this diff" };
    markdown::push_findings(&mut body, title, &rest, BODY.saturating_sub(foot.len() + 200));
    body.push_str(&foot);
    let mut payload = Map::new();
    if let Some(commit) = &review.change.head_commit {
        payload.insert("commit_id".to_owned(), commit.clone().into());
    }
    payload.insert("event".to_owned(), "COMMENT".into());
    payload.insert("body".to_owned(), body.into());
    payload.insert("comments".to_owned(), comments.into());
    super::json::document(&Value::Object(payload))
}

/// A finding as an in-line comment; `None`: the diff shows none of its lines.
fn comment(review: &Review, number: usize, finding: &Finding) -> Option<Value> {
    let file = review.change.files.iter().find(|file| Some(&file.path) == finding.file.as_ref())?;
    let lines = in_order(finding.lines?);
    let on = shown_part(file, lines)?;
    let mut body =
        format!("**{}. {}: {}**\n\n", number + 1, finding.severity.as_str(), super::escape::markdown_line(&cut(&line(&finding.title), 300)));
    if on != lines {
        body.push_str(&format!("About {}.\n\n", lines_text(lines)));
    }
    let without_place = Finding { file: None, ..finding.clone() };
    body.push_str(&markdown::body(&without_place));
    if body.len() > BODY {
        return None;
    }
    let mut comment = json!({ "path": file.path, "side": "RIGHT", "line": on.end });
    if let Value::Object(comment) = &mut comment {
        // Both ends of a longer comment lie in one hunk.
        if on.start < on.end {
            comment.insert("start_line".to_owned(), on.start.into());
            comment.insert("start_side".to_owned(), "RIGHT".into());
        }
        comment.insert("body".to_owned(), body.into());
    }
    Some(comment)
}

/// The first part of the lines that one hunk shows.
fn shown_part(file: &ChangedFile, lines: LineRange) -> Option<LineRange> {
    file.shown.iter().find_map(|shown| {
        let part = LineRange { start: lines.start.max(shown.start), end: lines.end.min(shown.end) };
        (part.start <= part.end && part.start > 0).then_some(part)
    })
}
