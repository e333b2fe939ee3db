//! The events of Codex: the same claims in any division, every kept text bounded.

use anchorhold::codex::events::{Events, Lines, MAX_ACTIVITY};

pub fn run(data: &[u8]) {
    let how = super::Source(data).byte();
    let (whole, shown) = super::within(data.len(), 64 << 10, 24, || read(&[data]));
    let (parts, shown_of_parts) = read(&super::pieces(data, how));
    assert_eq!(shown, shown_of_parts, "the division decides");
    assert_eq!(whole.report, parts.report, "the division decides");
    assert_eq!(whole.actions, parts.actions, "the division decides");
    assert!(shown.iter().all(|text| text.chars().count() <= MAX_ACTIVITY));
    let report = &whole.report;
    assert!(report.error.as_ref().is_none_or(|e| e.len() <= 2048));
    assert!(report.thread_id.as_ref().is_none_or(|id| id.len() <= 100));
    assert!(whole.actions <= report.events && report.events <= data.iter().filter(|b| **b == b'\n').count() as u64);
    // Only our own process knows these.
    assert!(report.exit_code.is_none() && report.signal.is_none() && !report.code_mode_host_failed);
}

fn read(pieces: &[&[u8]]) -> (Events, Vec<String>) {
    let mut lines = Lines::default();
    let mut events = Events::default();
    let mut shown = Vec::new();
    for piece in pieces {
        lines.push(piece, |line| shown.extend(events.line(line, 7)));
    }
    (events, shown)
}

pub fn seeds() -> Vec<Vec<u8>> {
    vec![
        br#"{"type":"thread.started","thread_id":"0199-abc"}
{"type":"turn.started"}
{"type":"item.started","item":{"id":"1","type":"command_execution","command":"/bin/bash -lc 'cargo test'","aggregated_output":"","exit_code":null,"status":"in_progress"}}
{"type":"item.completed","item":{"id":"1","type":"command_execution","command":"bash -c \"x\"","aggregated_output":"x","exit_code":0}}
{"type":"item.completed","item":{"id":"2","type":"file_change","changes":[{"path":"/workspace/a","kind":"add"},{"path":"b","kind":"delete"}]}}
{"type":"turn.completed","usage":{"input_tokens":10,"cached_input_tokens":4,"output_tokens":3,"reasoning_output_tokens":1}}
"#
        .to_vec(),
        br#"{"type":"item.completed","item":{"type":"agent_message","text":" All done.\nReally."}}
{"type":"item.completed","item":{"type":"reasoning","text":"**Plan**"}}
{"type":"item.started","item":{"type":"mcp_tool_call","tool":"t"}}
{"type":"item.updated","item":{"type":"web_search","query":"\u00e9\ud83d\ude00"}}
{"type":"item.completed","item":{"type":"error","message":"m"}}
{"type":"error","message":"Reconnecting... 1/5"}
{"type":"turn.failed","error":{"message":"Quota exceeded"}}
"#
        .to_vec(),
    ]
}
