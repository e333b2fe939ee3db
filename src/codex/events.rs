//! Reading Codex's `--json` events. The lines are hostile: any process of the agent can write to the same pipe. So lines are bounded, fields that
//! are not needed are skipped without being kept, and nothing read here is more than a claim.

use std::borrow::Cow;

use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::protocol::result::{CodexReport, Usage};

/// Longest line that is parsed; longer ones are only counted and spooled.
pub const MAX_LINE: usize = 1 << 20;
/// Longest activity text, in characters.
pub const MAX_ACTIVITY: usize = 200;
/// Longest error text that is kept, in bytes.
const MAX_ERROR: usize = 2048;
/// Longest thread id that is kept.
const MAX_THREAD_ID: usize = 100;

/// Cuts a stream of bytes into lines of bounded length.
#[derive(Default)]
pub struct Lines {
    partial: Vec<u8>,
    /// The line at hand is too long: its rest is passed over.
    skipping: bool,
}

impl Lines {
    /// Adds bytes and calls `each` for every complete line, without its end; `None` stands for a line that was too long.
    pub fn push(&mut self, mut bytes: &[u8], mut each: impl FnMut(Option<&[u8]>)) {
        while let Some(end) = bytes.iter().position(|b| *b == b'\n') {
            let (line, rest) = bytes.split_at(end);
            bytes = rest.get(1..).unwrap_or_default();
            if self.skipping || self.partial.len() + line.len() > MAX_LINE {
                each(None);
            } else if self.partial.is_empty() {
                each(Some(line));
            } else {
                self.partial.extend_from_slice(line);
                each(Some(&self.partial));
            }
            self.skipping = false;
            self.partial.clear();
            // One long line must not cost its memory for the rest of the job.
            self.partial.shrink_to(16 << 10);
        }
        if self.skipping || self.partial.len() + bytes.len() > MAX_LINE {
            self.skipping = true;
            self.partial = Vec::new();
        } else {
            self.partial.extend_from_slice(bytes);
        }
    }
}

#[derive(Deserialize)]
struct Event<'a> {
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
    #[serde(borrow, default)]
    thread_id: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    item: Option<Item<'a>>,
    #[serde(default)]
    usage: Option<EventUsage>,
    #[serde(borrow, default)]
    message: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    error: Option<EventError<'a>>,
}

#[derive(Deserialize)]
struct EventError<'a> {
    #[serde(borrow, default)]
    message: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct EventUsage {
    #[serde(default)]
    input_tokens: u64,
    #[serde(default)]
    cached_input_tokens: u64,
    #[serde(default)]
    output_tokens: u64,
    #[serde(default)]
    reasoning_output_tokens: u64,
}

#[derive(Deserialize)]
struct Item<'a> {
    #[serde(rename = "type", borrow, default)]
    kind: Cow<'a, str>,
    #[serde(borrow, default)]
    command: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    changes: Option<Vec<FileChange<'a>>>,
    #[serde(borrow, default)]
    text: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    message: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    query: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    tool: Option<Cow<'a, str>>,
    #[serde(default, rename = "aggregated_output")]
    _output: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct FileChange<'a> {
    #[serde(borrow, default)]
    path: Cow<'a, str>,
    #[serde(borrow, default)]
    kind: Cow<'a, str>,
}

/// What the events said so far.
#[derive(Default)]
pub struct Events {
    /// For the sealed result.
    pub report: CodexReport,
    /// Items that did something: commands, file changes, tool calls.
    pub actions: u64,
    /// Events that tell only of trouble (`error`): Codex repeats them for as long as it waits for a network.
    pub complaints: u64,
}

impl Events {
    /// Takes one line; returns what Codex is doing now, if the line says so.
    pub fn line(&mut self, line: Option<&[u8]>, now_unix_ms: u64) -> Option<String> {
        let line = match line {
            Some(line) if line.iter().all(u8::is_ascii_whitespace) => return None,
            Some(line) => line,
            None => {
                self.report.events += 1;
                self.report.last_event_unix_ms = Some(now_unix_ms);
                return None;
            }
        };
        let event: Event<'_> = serde_json::from_slice(line).ok()?;
        self.report.events += 1;
        self.report.last_event_unix_ms = Some(now_unix_ms);
        match event.kind.as_ref() {
            "thread.started" => {
                self.report.thread_id = event.thread_id.filter(|id| id.len() <= MAX_THREAD_ID).map(Cow::into_owned);
                None
            }
            "turn.started" => Some("thinking…".to_owned()),
            "turn.completed" => {
                self.report.turn_completed = true;
                self.report.usage = event.usage.map(|usage| Usage {
                    input_tokens: usage.input_tokens,
                    cached_input_tokens: usage.cached_input_tokens,
                    output_tokens: usage.output_tokens,
                    reasoning_output_tokens: usage.reasoning_output_tokens,
                });
                None
            }
            "turn.failed" | "error" => {
                self.complaints += 1;
                let message = event.error.and_then(|error| error.message).or(event.message)?;
                let reconnecting = message.starts_with("Reconnecting");
                self.report.error = Some(cut(&message, MAX_ERROR).to_owned());
                reconnecting.then(|| "waiting for the model…".to_owned())
            }
            kind @ ("item.started" | "item.updated" | "item.completed") => self.item(kind, event.item?),
            _ => None,
        }
    }

    fn item(&mut self, kind: &str, item: Item<'_>) -> Option<String> {
        let completed = kind == "item.completed";
        let acts = matches!(item.kind.as_ref(), "command_execution" | "file_change" | "mcp_tool_call" | "collab_tool_call");
        if completed && acts {
            self.actions += 1;
        }
        let text = match item.kind.as_ref() {
            // After a command the model thinks again; the command itself was shown when it started.
            "command_execution" if completed => return None,
            "command_execution" => format!("$ {}", shown_command(&item.command?)),
            "file_change" => {
                let changes = item.changes?;
                let first = changes.first()?;
                let verb = match first.kind.as_ref() {
                    "add" => "adding",
                    "delete" => "deleting",
                    _ => "editing",
                };
                let path = first.path.strip_prefix("/workspace/").unwrap_or(&first.path);
                match changes.len() {
                    1 => format!("{verb} {path}"),
                    more => format!("{verb} {path} and {} more", more - 1),
                }
            }
            "agent_message" if completed => item.text?.trim().lines().next()?.to_owned(),
            "reasoning" if completed => {
                let text = item.text?;
                let line = text.trim().lines().next()?.trim_matches('*').to_owned();
                if line.is_empty() { "thinking…".to_owned() } else { line }
            }
            "web_search" => format!("searching {}", item.query?),
            "mcp_tool_call" if !completed => format!("tool {}", item.tool?),
            "error" if completed => {
                self.report.error = Some(cut(&item.message?, MAX_ERROR).to_owned());
                return None;
            }
            _ => return None,
        };
        let line: String = text.chars().take(MAX_ACTIVITY).collect();
        Some(line)
    }
}

/// The command without the shell that Codex wraps around it.
fn shown_command(command: &str) -> &str {
    let Some((shell, inner)) = command.split_once(' ') else { return command };
    let inner = match shell.rsplit('/').next() {
        Some("bash" | "sh" | "zsh" | "dash") => inner.strip_prefix("-lc ").or_else(|| inner.strip_prefix("-c ")),
        _ => None,
    };
    let Some(inner) = inner else { return command };
    ['\'', '"'].into_iter().find_map(|quote| inner.strip_prefix(quote)?.strip_suffix(quote)).unwrap_or(inner)
}

fn cut(text: &str, max: usize) -> &str {
    text.get(..text.floor_char_boundary(max)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn activities(lines: &[&str]) -> (Events, Vec<String>) {
        let mut events = Events::default();
        let shown = lines.iter().filter_map(|line| events.line(Some(line.as_bytes()), 7)).collect();
        (events, shown)
    }

    #[test]
    fn a_whole_run_is_understood() {
        let (events, shown) = activities(&[
            r#"{"type":"thread.started","thread_id":"0199-abc"}"#,
            r#"{"type":"turn.started"}"#,
            r#"{"type":"item.started","item":{"id":"1","type":"command_execution","command":"/bin/bash -lc 'cargo test'","aggregated_output":"","exit_code":null,"status":"in_progress"}}"#,
            r#"{"type":"item.completed","item":{"id":"1","type":"command_execution","command":"/bin/bash -lc 'cargo test'","aggregated_output":"x","exit_code":0,"status":"completed"}}"#,
            r#"{"type":"item.completed","item":{"id":"2","type":"file_change","changes":[{"path":"/workspace/src/x.rs","kind":"update"},{"path":"/workspace/y","kind":"add"}],"status":"completed"}}"#,
            r#"{"type":"item.completed","item":{"id":"3","type":"agent_message","text":"All done.\nReally."}}"#,
            r#"{"type":"turn.completed","usage":{"input_tokens":10,"cached_input_tokens":4,"cache_write_input_tokens":0,"output_tokens":3,"reasoning_output_tokens":1}}"#,
        ]);
        assert_eq!(shown, ["thinking…", "$ cargo test", "editing src/x.rs and 1 more", "All done."]);
        assert_eq!(events.actions, 2);
        let expected = CodexReport {
            thread_id: Some("0199-abc".to_owned()),
            usage: Some(Usage { input_tokens: 10, cached_input_tokens: 4, output_tokens: 3, reasoning_output_tokens: 1 }),
            events: 7,
            last_event_unix_ms: Some(7),
            turn_completed: true,
            ..CodexReport::default()
        };
        assert_eq!(events.report, expected);
    }

    #[test]
    fn the_shell_around_a_command_is_not_shown() {
        let shown =
            ["/usr/bin/bash -lc 'cargo test'", "/bin/bash -lc \"echo 'a'\"", "bash -lc ls", "sh -c 'x y'", "ls -la", "make"].map(shown_command);
        assert_eq!(shown, ["cargo test", "echo 'a'", "ls", "x y", "ls -la", "make"]);
    }

    #[test]
    fn failures_are_kept_bounded() {
        let (events, shown) = activities(&[
            r#"{"type":"error","message":"Reconnecting... 1/5 (stream cut)"}"#,
            r#"{"type":"turn.failed","error":{"message":"Quota exceeded"}}"#,
        ]);
        assert_eq!(shown, ["waiting for the model…"]);
        assert_eq!(events.report.error.as_deref(), Some("Quota exceeded"));
        assert!(!events.report.turn_completed);
        let long = format!(r#"{{"type":"error","message":"{}"}}"#, "é".repeat(5000));
        let (events, _) = activities(&[&long]);
        assert_eq!(events.report.error.unwrap().len(), 2048);
    }

    #[test]
    fn hostile_lines_do_no_harm() {
        let deep = format!(r#"{{"type":"item.started","item":{}"#, "[".repeat(100_000));
        let (events, shown) = activities(&[
            "",
            "null",
            "[]",
            "{\"type\":1}",
            "{\"type\":\"item.started\"}",
            r#"{"type":"item.started","item":{"type":"command_execution"}}"#,
            r#"{"type":"item.started","item":{"type":"file_change","changes":[]}}"#,
            r#"{"type":"turn.completed","usage":{"input_tokens":-1}}"#,
            r#"{"type":"thread.started","thread_id":{"a":1}}"#,
            "{\"type\":\"\\ud800\"}",
            &deep,
        ]);
        assert!(shown.is_empty());
        assert!(!events.report.turn_completed && events.report.thread_id.is_none());
        let huge = format!(r#"{{"type":"item.started","item":{{"type":"command_execution","command":"{}"}}}}"#, "x".repeat(10_000));
        assert_eq!(activities(&[&huge]).1[0].chars().count(), MAX_ACTIVITY);
    }

    #[test]
    fn lines_are_cut_and_bounded() {
        let collect = |pieces: &[&[u8]]| {
            let mut lines = Lines::default();
            let mut seen = Vec::new();
            for piece in pieces {
                lines.push(piece, |line| seen.push(line.map(<[u8]>::len)));
            }
            seen
        };
        assert_eq!(collect(&[b"ab\ncd", b"e\n\nf"]), [Some(2), Some(3), Some(0)]);
        let big = vec![b'x'; MAX_LINE];
        assert_eq!(collect(&[&big, b"\n", b"ok\n"]), [Some(MAX_LINE), Some(2)]);
        assert_eq!(collect(&[&big, b"y", &big, b"\nok\n"]), [None, Some(2)]);
        let mut one = big.clone();
        one.extend_from_slice(b"yz\nok\n");
        assert_eq!(collect(&[&one]), [None, Some(2)]);
    }
}
