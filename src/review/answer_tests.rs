use serde_json::json;

use super::*;

fn good() -> Value {
    json!({
        "verdict": "concerns", "confidence": 0.5, "summary": "  Mostly fine. ",
        "findings": [
            {"severity": "nit", "title": "a name", "file": null, "line": null, "line_end": null, "evidence": "e", "risk": "r", "recommendation": "c"},
            {"severity": "high", "title": "two\nlines", "file": "./src/a.rs", "line": 3, "line_end": 5, "evidence": "e", "risk": "r", "recommendation": "c"},
        ],
        "questions": ["q"], "assumptions": [], "next_steps": ["n", " "],
    })
}

fn read(value: &Value) -> Result<Answer, Fault> {
    parse(value.to_string().as_bytes())
}

fn with(pointer: &str, value: Value) -> Value {
    let mut answer = good();
    *answer.pointer_mut(pointer).unwrap() = value;
    answer
}

#[test]
fn an_answer_is_read_worst_first() {
    let answer = read(&good()).unwrap();
    assert_eq!((answer.verdict, answer.confidence, answer.summary.as_str(), answer.cut), (Verdict::Concerns, Some(0.5), "Mostly fine.", false));
    assert_eq!(answer.findings.iter().map(|f| f.severity).collect::<Vec<_>>(), [Severity::High, Severity::Nit]);
    let first = &answer.findings[0];
    assert_eq!((first.title.as_str(), first.file.as_deref(), first.lines), ("two lines", Some("src/a.rs"), Some(LineRange { start: 3, end: 5 })));
    assert_eq!((answer.questions.len(), answer.assumptions.len(), answer.next_steps.len()), (1, 0, 1));
    let fenced = format!("\n```json\n{}\n```\n", good());
    assert_eq!(parse(fenced.as_bytes()), Ok(answer));
}

#[test]
fn what_is_no_json_object_is_told_from_what_has_another_form() {
    let big = vec![b' '; MAX_BYTES + 1];
    for text in [&b""[..], b"I found nothing.", b"[]", b"{", b"\xff", b"{} {}", &big] {
        assert_eq!(parse(text), Err(Fault::InvalidJson));
    }
    for (pointer, value, field) in [
        ("/verdict", json!("fine"), "verdict"),
        ("/verdict", json!(1), "verdict"),
        ("/confidence", json!(1.5), "confidence"),
        ("/confidence", json!("high"), "confidence"),
        ("/summary", json!(null), "summary"),
        ("/findings", json!({}), "findings"),
        ("/findings/1", json!("x"), "findings[1]"),
        ("/findings/1/severity", json!("URGENT"), "findings[1].severity"),
        ("/findings/1/title", json!(" \n"), "findings[1].title"),
        ("/findings/1/line", json!("3"), "findings[1].line"),
        ("/findings/1/evidence", json!([]), "findings[1].evidence"),
        ("/questions", json!("q"), "questions"),
        ("/questions", json!([1]), "questions"),
    ] {
        let Err(Fault::SchemaViolation(what)) = read(&with(pointer, value)) else { panic!("{pointer} passed") };
        assert!(what.starts_with(&format!("{field} ")), "{what}");
        assert!(!what.contains("URGENT"), "what the reader says never quotes the text: {what}");
    }
}

#[test]
fn a_field_too_many_is_ignored_and_lists_may_be_missing() {
    let mut answer = good();
    answer["mood"] = json!("good");
    answer["findings"][0]["tags"] = json!([1]);
    for list in ["questions", "assumptions", "next_steps", "confidence"] {
        answer.as_object_mut().unwrap().shift_remove(list);
    }
    assert_eq!(read(&answer).unwrap().findings.len(), 2);
}

#[test]
fn a_path_that_leads_elsewhere_costs_the_place_and_not_the_finding() {
    let place = |path: &str| {
        let answer = read(&with("/findings/1/file", json!(path))).unwrap();
        (answer.findings[0].file.clone(), answer.findings[0].lines.is_some())
    };
    for path in
        ["/etc/passwd", "../x", "a/../../x", "a//b", "", ".", "a\nb", "a\u{1b}[0m", "/workspace", "/workspace/../x", ".git/config", "a/.GIT/hooks/x"]
    {
        assert_eq!(place(path), (None, false), "{path:?}");
    }
    assert_eq!(place("/workspace/src/a b.rs"), (Some("src/a b.rs".into()), true));
    assert_eq!(place("naïve/\u{202e}x"), (Some("naïve/\u{202e}x".into()), true), "raw; each form escapes");
}

#[test]
fn lines_are_positive_and_in_order() {
    let lines = |line: Value, end: Value| {
        let mut answer = with("/findings/1/line", line);
        answer["findings"][1]["line_end"] = end;
        read(&answer).unwrap().findings[0].lines.map(|lines| (lines.start, lines.end))
    };
    assert_eq!(lines(json!(3), json!(2)), Some((3, 3)));
    assert_eq!(lines(json!(3), json!(null)), Some((3, 3)));
    assert_eq!(lines(json!(0), json!(2)), None);
    assert_eq!(lines(json!(-1), json!(2)), None);
    assert_eq!(lines(json!(1.5), json!(2)), None);
    assert_eq!(lines(json!(5_000_000_000_u64), json!(2)), None);
    assert_eq!(lines(json!(null), json!(2)), None);
}

#[test]
fn findings_are_counted_once_and_bounded() {
    let mut answer = good();
    let twice = answer["findings"][1].clone();
    answer["findings"].as_array_mut().unwrap().push(twice);
    assert_eq!(read(&answer).unwrap().findings.len(), 2);
    let many: Vec<Value> = (0..MAX_FINDINGS + 1).map(|n| json!({"severity": "low", "title": format!("t{n}")})).collect();
    let answer = read(&with("/findings", json!(many))).unwrap();
    assert_eq!((answer.findings.len(), answer.cut), (MAX_FINDINGS, true));
    let long = read(&with("/findings/1/evidence", json!("é".repeat(5_000)))).unwrap();
    assert_eq!(long.findings[0].evidence.chars().count(), MAX_TEXT + 1);
}

#[test]
fn notes_are_read_line_by_line_as_far_as_they_go() {
    let line = |severity: &str, title: &str| json!({"severity": severity, "title": title, "file": "a", "line": 1}).to_string();
    let text =
        format!("{}\n\nnot json\n{}\n{}\n[1]\n{}\n{{\"severity\": \"hi", line("low", "x"), line("critical", "y"), line("low", "x"), line("odd", "z"));
    let notes = parse_notes(text.as_bytes());
    assert_eq!(notes.findings.iter().map(|f| f.title.as_str()).collect::<Vec<_>>(), ["y", "x"]);
    assert_eq!(notes.unreadable, 4);
    assert_eq!(parse_notes(b""), Notes::default());
}

#[test]
fn findings_alone_never_pass() {
    let one = |severity| verdict_of(&[Finding { severity, ..read(&good()).unwrap().findings.remove(0) }]);
    assert_eq!(verdict_of(&[]), Verdict::Unknown);
    assert_eq!((one(Severity::Critical), one(Severity::High)), (Verdict::Fail, Verdict::Fail));
    assert_eq!((one(Severity::Medium), one(Severity::Nit)), (Verdict::Concerns, Verdict::Concerns));
}

proptest::proptest! {
    #[test]
    fn no_bytes_make_the_readers_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200), key in "[a-z_]{1,12}", text in ".{0,20}") {
        let _ = parse(&bytes);
        let _ = parse_notes(&bytes);
        let _ = read(&with("/findings/0", json!({key: text, "severity": "low", "title": "t"})));
    }
}
