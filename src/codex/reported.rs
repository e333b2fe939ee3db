//! Tests that the agent ran, as Codex's events tell it: which command, and with what exit code. All of it is a job's word.

use serde::{Deserialize, Serialize};

/// Programs that run tests, by the words of their command line in a row.
const RUNNERS: [&[&str]; 22] = [
    &["cargo", "test"],
    &["cargo", "nextest"],
    &["pytest"],
    &["py.test"],
    &["unittest"],
    &["tox"],
    &["npm", "test"],
    &["npm", "run", "test"],
    &["yarn", "test"],
    &["pnpm", "test"],
    &["jest"],
    &["vitest"],
    &["go", "test"],
    &["make", "test"],
    &["make", "check"],
    &["ctest"],
    &["mvn", "test"],
    &["gradle", "test"],
    &["rspec"],
    &["rake", "test"],
    &["phpunit"],
    &["dotnet", "test"],
];
/// Longest command that is told, in bytes.
const MAX_COMMAND: usize = 500;

/// What the events say of tests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ReportedTests {
    /// How often a test runner was run.
    pub runs: u64,
    /// Whether the last one ended with 0; `None`: it did not end.
    pub passed: Option<bool>,
    /// Its exit code.
    pub exit_code: Option<i64>,
    /// Its command, raw: cut, not escaped.
    #[serde(skip)]
    pub command: String,
}

#[derive(Deserialize)]
struct Event {
    #[serde(rename = "type")]
    kind: String,
    item: Option<Item>,
}

#[derive(Deserialize)]
struct Item {
    #[serde(rename = "type", default)]
    kind: String,
    #[serde(default)]
    command: String,
    exit_code: Option<i64>,
}

/// Reads Codex's events, JSON lines; `None`: no test runner is among the commands, which says nothing about tests.
pub fn reported_tests(events: &[u8]) -> Option<ReportedTests> {
    let mut found: Option<ReportedTests> = None;
    for line in events.split(|b| *b == b'\n') {
        // Most lines are something else, and what cannot be read says nothing.
        let Ok(Event { kind, item: Some(item) }) = serde_json::from_slice(line) else { continue };
        if kind != "item.completed" || item.kind != "command_execution" || !runs_tests(&item.command) {
            continue;
        }
        let runs = found.as_ref().map_or(0, |before| before.runs).saturating_add(1);
        let command = item.command.chars().take(MAX_COMMAND).collect();
        found = Some(ReportedTests { runs, passed: item.exit_code.map(|code| code == 0), exit_code: item.exit_code, command });
    }
    found
}

fn runs_tests(command: &str) -> bool {
    let words: Vec<&str> = command
        .split(|c: char| c.is_whitespace() || matches!(c, '\'' | '"' | ';' | '&' | '|' | '(' | ')' | '`'))
        .filter(|word| !word.is_empty())
        .map(|word| word.rsplit('/').next().unwrap_or(word))
        .collect();
    RUNNERS.iter().any(|runner| words.windows(runner.len()).any(|window| window == *runner))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ran(command: &str, exit_code: Option<i64>) -> String {
        let event = serde_json::json!({"type": "item.completed", "item": {"type": "command_execution", "command": command, "exit_code": exit_code}});
        format!("{event}\n")
    }

    #[test]
    fn the_last_run_of_a_test_runner_counts() {
        let events = [ran("/bin/bash -lc 'cd x && cargo test -q'", Some(101)), ran("/bin/bash -lc 'python3 -m pytest'", Some(0)), ran("ls", Some(1))];
        let found = reported_tests(events.concat().as_bytes()).unwrap();
        assert_eq!((found.runs, found.passed, found.exit_code), (2, Some(true), Some(0)));
        assert!(found.command.contains("pytest"));
        assert_eq!(reported_tests(ran("./node_modules/.bin/jest", None).as_bytes()).unwrap().passed, None);
    }

    #[test]
    fn what_is_no_test_runner_says_nothing() {
        for command in ["cargo build", "cat test", "echo attest", "npm install", "go build ./test"] {
            assert_eq!(reported_tests(ran(command, Some(0)).as_bytes()), None, "{command}");
        }
        assert_eq!(reported_tests(b"not json\n{\"type\":1}\n{}\n\xff"), None);
        assert_eq!(reported_tests(&[b"[".repeat(100_000), b"\n".to_vec()].concat()), None);
    }
}
