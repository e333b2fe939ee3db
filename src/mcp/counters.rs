//! What a server counts of the calls it answers. Names and outcomes are words of this program, so that no caller makes a series.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use crate::telemetry::prometheus::Page;

/// Of all clients together.
#[derive(Debug, Default)]
pub struct Counters {
    calls: Mutex<BTreeMap<(&'static str, &'static str), u64>>,
    answers: Mutex<BTreeMap<(&'static str, u16), u64>>,
}

impl Counters {
    /// A tool was called; `outcome` is `ok` or an error's code.
    pub fn call(&self, tool: &'static str, outcome: &'static str) {
        add(&self.calls, (tool, outcome));
    }

    /// A request over HTTP was answered.
    pub fn answer(&self, path: &'static str, status: u16) {
        add(&self.answers, (path, status));
    }

    /// Writes them down.
    pub fn write(&self, page: &mut Page) {
        page.head("anchorhold_tool_calls_total", "counter", "Tool calls that ended, by tool and outcome: ok, or an error's code.");
        for ((tool, outcome), count) in &copy(&self.calls) {
            page.line("anchorhold_tool_calls_total", &[("tool", tool), ("outcome", outcome)], *count);
        }
        page.head("anchorhold_http_answers_total", "counter", "Answers over HTTP, by path and status.");
        for ((path, status), count) in &copy(&self.answers) {
            page.line("anchorhold_http_answers_total", &[("path", path), ("status", &status.to_string())], *count);
        }
    }
}

fn add<K: Ord>(table: &Mutex<BTreeMap<K, u64>>, key: K) {
    *table.lock().unwrap_or_else(PoisonError::into_inner).entry(key).or_default() += 1;
}

fn copy<K: Ord + Clone>(table: &Mutex<BTreeMap<K, u64>>) -> BTreeMap<K, u64> {
    table.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_add_up_by_tool_and_outcome() {
        let counters = Counters::default();
        counters.call("codex_status", "ok");
        counters.call("codex_status", "ok");
        counters.call("codex_status", "engine_unavailable");
        counters.answer("/mcp", 401);
        let mut page = Page::default();
        counters.write(&mut page);
        let text = page.text();
        for line in [
            "anchorhold_tool_calls_total{tool=\"codex_status\",outcome=\"ok\"} 2",
            "anchorhold_tool_calls_total{tool=\"codex_status\",outcome=\"engine_unavailable\"} 1",
            "anchorhold_http_answers_total{path=\"/mcp\",status=\"401\"} 1",
        ] {
            assert!(text.lines().any(|there| there == line), "{line} in\n{text}");
        }
    }
}
