//! Oracles that cannot fail prove nothing: each judge is given what it must refuse.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use anchorhold::protocol::manifest::Mode;
use serde_json::{Value, json};

use super::targets::{answer, assert_clean_path, display, patch, policy, review, settings, trees, within};

/// Whether a judge refuses.
fn refuses(judge: impl FnOnce()) -> bool {
    catch_unwind(AssertUnwindSafe(judge)).is_err()
}

#[test]
fn the_judge_of_requests_refuses_what_the_provider_would_act_on() {
    let good = json!({"model": "m", "store": false, "stream": true, "input": [{"type": "message", "content": [{"type": "input_text", "text": "url"}]}],
        "tools": [{"type": "function", "name": "f", "parameters": {"type": "object", "properties": {"url": {"type": "mcp"}}}}]});
    policy::judge(&good);
    let rows: [(&str, Value); 12] = [
        ("/store", json!(true)),
        ("/stream", json!(false)),
        ("/user", json!("the job's own")),
        ("/background", json!(true)),
        ("/previous_response_id", json!("resp_1")),
        ("/metadata", json!({})),
        ("/tools", json!([{"type": "web_search"}])),
        ("/tools", json!([{"type": "namespace", "tools": [{"type": "mcp", "name": "n"}]}])),
        ("/tools", json!([{"type": "function", "server_url": "x"}])),
        ("/input", json!([{"type": "item_reference", "id": "x"}])),
        ("/input", json!([{"type": "message", "content": [{"type": "input_image", "image_url": "https://x"}]}])),
        ("/input", json!([{"type": "message", "content": [{"type": "input_image", "file_id": "x"}]}])),
    ];
    for (at, value) in rows {
        let mut bad = good.clone();
        bad[&at[1..]] = value;
        assert!(refuses(|| policy::judge(&bad)), "{bad}");
    }
}

#[test]
fn the_judge_of_answers_refuses_what_is_no_event_and_what_tells_the_credential() {
    let event = |kind: &str, data: Value| format!("event: {kind}\ndata: {data}\n\n");
    let delta = |text: &str| event("a.delta", json!({"type": "a.delta", "delta": text}));
    answer::judge(delta("plain").as_bytes());
    for bad in [
        "data: {\"type\":\"a\"}\n\n".to_owned(),
        event("a", json!({"type": "b"})),
        "event: a\ndata: {\n\n".to_owned(),
        "event: a\nid: 7\ndata: {\"type\":\"a\"}\n\n".to_owned(),
        "event: a\ndata: {\"type\":\"a\"}".to_owned(),
        delta("so sk-sk-0123456789ab is"),
        "event: a\ndata: {\"type\":\"a\",\"x\":[\"\\u0073k-sk-0123456789ab\"]}\n\n".to_owned(),
        event("a", json!({"type": "a", "sk-sk-0123456789ab": 1})),
        format!("{}{}", delta("sk-sk-0123"), delta("456789ab")),
    ] {
        assert!(refuses(|| answer::judge(bad.as_bytes())), "{bad}");
    }
}

#[test]
fn the_judge_of_text_refuses_what_is_not_seen_or_moves() {
    display::judge("é漢 ok", false);
    for bad in ["\x1b", "a\nb", "\u{202e}", "\u{200b}", "\u{e0041}", "\u{fe0f}", "\u{9b}", "\r"] {
        assert!(refuses(|| display::judge(bad, false)), "{bad:?}");
    }
    assert!(refuses(|| display::judge("a\rb", true)));
}

#[test]
fn the_judge_of_paths_refuses_what_leaves_or_lies() {
    assert_clean_path(b"a/.github/b");
    for bad in [&b""[..], b"/a", b"a/../b", b"a//b", b"a\0", b".git/x", b"a/.GIT", b".git .", b"GIT~1", b".git:x", b".g\xe2\x80\x8cit"] {
        assert!(refuses(|| assert_clean_path(bad)), "{}", bad.escape_ascii());
    }
}

#[test]
fn the_judge_of_trees_refuses_what_no_working_tree_can_hold() {
    let named: [&[u8]; 5] = [b"a", b"a-b", b"a/b", b"b/c", b"b/d"];
    trees::judge(&[b"a", b"a-b", b"b/c", b"b/d"], &named);
    let bad: [&[&[u8]]; 5] = [&[b"a", b"a-b", b"a/b"], &[b"b/d", b"b/c"], &[b"a", b"a"], &[b"z"], &[b"a", b"../b"]];
    for paths in bad {
        assert!(refuses(|| trees::judge(paths, &named)), "{paths:?}");
    }
}

#[test]
fn the_judge_of_patches_refuses_any_other_tree() {
    let tree = |bytes: &[u8], mode| BTreeMap::from([(b"a".to_vec(), (mode, bytes.to_vec()))]);
    let (base, new) = (tree(b"x\ny\n", Mode::File), tree(b"x\nz\n", Mode::File));
    let good = b"diff --git a/a b/a\nindex 1..2 100644\n--- a/a\n+++ b/a\n@@ -1,2 +1,2 @@\n x\n-y\n+z\n";
    patch::judge(&base, &new, good);
    assert!(refuses(|| patch::judge(&base, &tree(b"x\nz\n", Mode::Executable), good)), "another mode");
    assert!(refuses(|| patch::judge(&base, &tree(b"x\nz", Mode::File), good)), "no newline at its end");
    assert!(refuses(|| patch::judge(&tree(b"x\nw\n", Mode::File), &new, good)), "another base");
    let text = String::from_utf8_lossy(good);
    for (from, to) in
        [("+z", "+w"), ("-y", "-z"), (" x", " y"), ("-1,2", "-2,2"), ("+1,2", "+1,3"), ("a/a b/a", "a/b b/b"), ("index", "rename to b\nindex")]
    {
        assert!(refuses(|| patch::judge(&base, &new, text.replacen(from, to, 1).as_bytes())), "{from} became {to}");
    }
    assert!(refuses(|| patch::judge(&base, &new, &[&good[..], good].concat())), "twice");
}

#[test]
fn memory_is_counted() {
    within(0, 4096, 0, || drop(std::hint::black_box(vec![0u8; 1000])));
    assert!(refuses(|| within(10, 4096, 10, || drop(std::hint::black_box(vec![0u8; 100_000])))));
}

#[test]
fn the_judge_of_reviews_refuses_what_no_reader_may_let_through() {
    use anchorhold::review::{Finding, LineRange, Severity};
    let good = Finding {
        severity: Severity::High,
        title: "t".into(),
        file: Some("src/a.rs".into()),
        lines: Some(LineRange { start: 1, end: 2 }),
        evidence: String::new(),
        risk: String::new(),
        recommendation: String::new(),
    };
    review::judge(std::slice::from_ref(&good));
    let low = Finding { severity: Severity::Low, ..good.clone() };
    for bad in [
        vec![good.clone(), good.clone()],
        vec![Finding { title: "u".into(), ..low }, good.clone()],
        vec![Finding { file: Some("../x".into()), ..good.clone() }],
        vec![Finding { file: None, ..good.clone() }],
        vec![Finding { lines: Some(LineRange { start: 2, end: 1 }), ..good.clone() }],
        vec![Finding { title: "a\u{1b}b".into(), ..good.clone() }],
        vec![Finding { evidence: "x".repeat(4002), ..good.clone() }],
    ] {
        assert!(refuses(|| review::judge(&bad)), "{bad:?}");
    }
    review::judge_fault("findings[3].severity is not one of the words");
    assert!(refuses(|| review::judge_fault("findings[3].severity is not URGENT")));
    assert!(refuses(|| review::judge_fault("passwd is missing")));
}

#[test]
fn the_judge_of_settings_refuses_what_runs_leads_elsewhere_or_is_told() {
    use anchorhold::job::Inherited;
    use anchorhold::protocol::request::JobKind;
    let text = "instructions = \"a\"\nnotify = \"b\"\nmodel = \"m\"\nproject_doc_fallback_filenames = [\"CLAUDE.md\", \"x\"]\n";
    let of = |key: &str, line: &str| Inherited { config: vec![(key.to_owned(), line.to_owned())], ..Inherited::default() };
    let judge = |found: &Inherited, kind| settings::judge(text, kind, found);
    judge(&of("instructions", "\"a\""), JobKind::Delegate);
    judge(&of("project_doc_fallback_filenames", "[\"CLAUDE.md\"]"), JobKind::Review);
    let mut told = Inherited::default();
    told.report.taken.push("a".to_owned());
    for bad in [
        of("notify", "\"b\""),
        of("instructions", "\"b\""),
        of("instructions", "\"a\"\nnotify = 1"),
        of("project_doc_fallback_filenames", "[\"CLAUDE.md\"]"),
        Inherited { model: Some("n".to_owned()), ..Inherited::default() },
        Inherited { instructions: Some("a".to_owned()), ..Inherited::default() },
        told,
    ] {
        assert!(refuses(|| judge(&bad, JobKind::Delegate)), "{bad:?}");
    }
}
