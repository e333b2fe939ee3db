//! Whatever the strings are, each form stays what it is; and nothing that is said becomes more than text.

use proptest::prelude::*;
use pulldown_cmark::{Event, Options, Parser, Tag};
use serde_json::{Value, json};

use super::*;
use crate::protocol::result::Usage;
use crate::review::{ChangedFile, Coverage, CoverageStatus, Verdict};

pub(crate) fn context() -> Context {
    Context {
        tool_version: "0.1.0".to_owned(),
        width: 100,
        color: false,
        threshold: Some(Severity::High),
        repository_url: Some("https://forge.example/me/repo".to_owned()),
    }
}

fn finding(severity: Severity, title: &str, file: Option<&str>, lines: Option<(u32, u32)>) -> Finding {
    Finding {
        severity,
        title: title.to_owned(),
        file: file.map(str::to_owned),
        lines: lines.map(|(start, end)| LineRange { start, end }),
        evidence: "The index is used unchecked:\n\n```rust\nlet x = v[i];\n```\nand `i` comes from outside.".to_owned(),
        risk: "It panics.".to_owned(),
        recommendation: "Use `get`.".to_owned(),
    }
}

pub(crate) fn review() -> Review {
    Review {
        job_id: "0123456789abcdef0123456789abcdef".to_owned(),
        reason: Reason::Completed,
        partial: false,
        partial_detail: String::new(),
        verdict: Verdict::Fail,
        confidence: Some(0.75),
        summary: "One thing stands in the way.".to_owned(),
        findings: vec![
            finding(Severity::High, "An index may be out of range", Some("src/a b.rs"), Some((10, 12))),
            finding(Severity::Low, "A name says little", Some("src/a b.rs"), Some((40, 40))),
            finding(Severity::Nit, "No changelog entry", None, None),
        ],
        questions: vec!["Is the size bounded?".to_owned()],
        assumptions: Vec::new(),
        next_steps: vec!["Add a test.".to_owned()],
        change: Change {
            scope: ReviewScope::Branch { base: "main".to_owned() },
            base_commit: Some("a".repeat(40)),
            head_commit: Some("b".repeat(40)),
            files: vec![ChangedFile {
                path: "src/a b.rs".to_owned(),
                old_path: None,
                shown: vec![LineRange { start: 8, end: 11 }, LineRange { start: 12, end: 20 }],
                added: 3,
                removed: 1,
            }],
            instruction_files: vec!["AGENTS.md".to_owned()],
        },
        coverage: Coverage {
            status: CoverageStatus::Partial,
            untracked_files_detected: 3,
            untracked_files_omitted: 2,
            omission_reasons: vec!["1 file is larger than what is shown".to_owned()],
            omission_kinds: vec!["too_large".to_owned()],
        },
        usage: Usage { input_tokens: 1_000, output_tokens: 200, ..Usage::default() },
        model: Some("rehearsal-1".to_owned()),
        version: "0.1.0".to_owned(),
    }
}

fn string(format: Format, review: &Review) -> String {
    String::from_utf8(render(format, review, &context())).unwrap()
}

fn parsed(format: Format, review: &Review) -> Value {
    serde_json::from_slice(&render(format, review, &context())).unwrap()
}

/// Lines that a runner would take for commands, wherever they stand.
fn commands(text: &str) -> Vec<&str> {
    let hidden =
        |line: &str| line.match_indices("##").any(|(at, _)| line[at + 2..].trim_start_matches(|c: char| c.is_ascii_alphanumeric()).starts_with('['));
    text.split(['\n', '\r']).filter(|line| line.trim_start().starts_with("::") || hidden(line)).collect()
}

#[test]
fn names_of_forms_are_read_back() {
    for format in Format::ALL {
        assert_eq!(Format::parse(format.as_str()), Some(format));
    }
    assert_eq!(Format::parse("SARIF"), None);
}

#[test]
fn text_says_everything_and_wraps() {
    let mut review = review();
    review.summary = "word ".repeat(60);
    let text = string(Format::Text, &review);
    for part in [
        "fail: 3 findings (1 high, 1 low, 1 nit), confidence 75%\n",
        "the branch, main...HEAD: 1 file, +3 -1\n",
        "2 of 3 untracked files were left out",
        "review went by those of the base: AGENTS.md",
        "1. high: An index may be out of range\n   in src/a b.rs, lines 10-12\n   Evidence\n   | The index is used unchecked:\n   |\n   | ```rust\n",
        "Questions\n  - Is the size bounded?\n",
        "job 0123456789abcdef0123456789abcdef, model rehearsal-1, 1200 tokens, Anchorhold 0.1.0\n",
    ] {
        assert!(text.contains(part), "no {part:?} in {text}");
    }
    assert!(text.lines().filter(|line| line.starts_with("| word")).count() >= 3 && text.lines().all(|line| line.chars().count() <= 110), "{text}");
    assert!(!text.contains("partial"), "{text}");
    review.partial = true;
    review.partial_detail = "The job used up its token budget.".to_owned();
    assert!(string(Format::Text, &review).contains("! this review is partial, so there may be more to find: The job used up its token budget.\n"));
}

#[test]
fn a_change_that_was_empty_had_no_job() {
    let review = Review { job_id: String::new(), ..review() };
    assert!(string(Format::Text, &review).contains("\nno job, ") && string(Format::Markdown, &review).contains("\nNo job, "));
}

#[test]
fn fingerprints_outlive_moved_lines_and_a_new_run() {
    let before = review();
    let mut after = before.clone();
    for finding in &mut after.findings {
        finding.lines = finding.lines.map(|lines| LineRange { start: lines.start + 7, end: lines.end + 9 });
        finding.evidence = "other words".to_owned();
    }
    after.findings[0].title = "An index may be  out of range!".to_owned();
    after.job_id = "f".repeat(32);
    assert_eq!(fingerprints(&before.findings), fingerprints(&after.findings));
    let mut twins = before.findings.clone();
    twins.push(twins[0].clone());
    twins.push(Finding { file: Some("src/other.rs".to_owned()), ..twins[0].clone() });
    twins.push(Finding { severity: Severity::Medium, ..twins[0].clone() });
    let prints = fingerprints(&twins);
    assert_eq!(prints.iter().collect::<std::collections::HashSet<_>>().len(), twins.len(), "{prints:?}");
    assert_eq!(prints[..3], fingerprints(&before.findings)[..]);
}

#[test]
fn sarif_says_where_how_bad_and_whether_it_is_whole() {
    let mut review = review();
    let log = parsed(Format::Sarif, &review);
    let run = &log["runs"][0];
    let result = &run["results"][0];
    assert_eq!((&result["ruleId"], &result["level"]), (&"anchorhold.high".into(), &"error".into()));
    assert_eq!(run["tool"]["driver"]["rules"][result["ruleIndex"].as_u64().unwrap() as usize]["id"], result["ruleId"]);
    let place = &result["locations"][0]["physicalLocation"];
    assert_eq!((&place["artifactLocation"]["uri"], &place["region"]), (&"src/a%20b.rs".into(), &json!({"startLine": 10, "endLine": 12})));
    assert_eq!(result["partialFingerprints"]["anchorholdFinding/v1"], fingerprints(&review.findings)[0]);
    assert_eq!(run["results"][2]["locations"][0]["physicalLocation"]["artifactLocation"]["uri"], NO_FILE);
    assert_eq!(run["invocations"][0]["executionSuccessful"], true);
    assert_eq!(run["automationDetails"]["id"], "anchorhold/branch/0123456789abcdef0123456789abcdef");
    assert_eq!(run["versionControlProvenance"][0]["revisionId"], "b".repeat(40));
    for rule in run["tool"]["driver"]["rules"].as_array().unwrap() {
        assert!(rule["help"]["text"].as_str().is_some_and(|text| text.len() > 40), "{rule}");
    }
    review.partial = true;
    review.reason = Reason::TokenBudget;
    let log = parsed(Format::Sarif, &review);
    let invocation = &log["runs"][0]["invocations"][0];
    assert_eq!(invocation["executionSuccessful"], false);
    assert!(invocation["toolExecutionNotifications"][0]["message"]["text"].as_str().unwrap().contains("token_budget"));
}

#[test]
fn a_link_in_a_sarif_message_is_none() {
    let mut review = review();
    review.findings[0].title = "[click](https://evil.example)".to_owned();
    let log = parsed(Format::Sarif, &review);
    assert!(log["runs"][0]["results"][0]["message"]["text"].as_str().unwrap().starts_with("\\[click\\](https"));
}

#[test]
fn junit_has_a_case_a_finding_and_one_for_the_whole() {
    let mut review = review();
    review.partial = true;
    let text = string(Format::Junit, &review);
    let document = roxmltree::Document::parse(&text).unwrap();
    let suite = document.descendants().find(|node| node.has_tag_name("testsuite")).unwrap();
    assert_eq!(["tests", "failures", "errors"].map(|name| suite.attribute(name).unwrap()), ["4", "1", "1"]);
    let named = |name: &str| document.descendants().filter(|node| node.has_tag_name(name)).count();
    assert_eq!([named("testcase"), named("failure"), named("error")], [4, 1, 1]);
    let failure = document.descendants().find(|node| node.has_tag_name("failure")).unwrap();
    assert_eq!(failure.parent().unwrap().attribute("file"), Some("src/a b.rs"));
    assert!(failure.text().unwrap().contains("let x = v[i];\n"));
}

#[test]
fn gitlab_has_what_its_merge_requests_read() {
    let mut review = review();
    let report = parsed(Format::Gitlab, &review);
    assert_eq!(report.as_array().unwrap().len(), 3);
    assert_eq!(report[0]["severity"], "critical");
    assert_eq!(report[0]["location"], json!({"path": "src/a b.rs", "lines": {"begin": 10, "end": 12}}));
    assert_eq!(report[0]["fingerprint"], fingerprints(&review.findings)[0]);
    assert_eq!(report[2]["location"]["path"], NO_FILE);
    review.partial = true;
    assert_eq!(parsed(Format::Gitlab, &review)[3]["check_name"], "anchorhold.partial");
}

#[test]
fn json_is_the_model_and_more() {
    let review = review();
    let document = parsed(Format::Json, &review);
    assert_eq!((&document["format_version"], &document["fail_on"], &document["findings_reaching"]), (&1.into(), &"high".into(), &1.into()));
    let back: Review = serde_json::from_value(document).unwrap();
    assert_eq!(back, review);
}

#[test]
fn annotations_are_as_many_as_github_shows_and_the_rest_is_counted() {
    let mut review = review();
    let one = string(Format::Github, &review);
    assert!(one.starts_with("::error file=src/a b.rs,line=10,endLine=12,title=high%3A An index may be out of range::The index"), "{one}");
    assert!(one.contains("%0A%0A```rust%0Alet x"), "{one}");
    assert!(!one.contains("not shown"), "{one}");
    review.findings = Severity::ALL.into_iter().flat_map(|severity| (0..20).map(move |n| finding(severity, &format!("t{n}"), None, None))).collect();
    review.partial = true;
    let many = string(Format::Github, &review);
    for kind in ["::error ", "::warning ", "::notice "] {
        assert_eq!(many.lines().filter(|line| line.starts_with(kind)).count(), ANNOTATIONS, "{kind}");
    }
    assert!(many.lines().last().unwrap().contains("72 of them are not shown as annotations"), "{many}");
}

use super::github::{ANNOTATIONS, BODY, COMMENTS, SUMMARY};

fn payload(review: &Review) -> Value {
    serde_json::from_slice(&github::payload(review, &context())).unwrap()
}

#[test]
fn comments_stand_on_lines_that_the_diff_shows() {
    let review = review();
    let payload = payload(&review);
    assert_eq!((&payload["event"], &payload["commit_id"]), (&"COMMENT".into(), &"b".repeat(40).into()));
    let comments = payload["comments"].as_array().unwrap();
    // Lines 10 to 12 lie in two hunks, and a comment must lie in one.
    assert_eq!(comments.len(), 1, "{payload:#}");
    let place = |name: &str| comments[0][name].clone();
    assert_eq!(json!([place("path"), place("start_line"), place("line"), place("side")]), json!(["src/a b.rs", 10, 11, "RIGHT"]));
    assert!(comments[0]["body"].as_str().unwrap().contains("About lines 10-12."));
    let body = payload["body"].as_str().unwrap();
    assert!(body.contains("#### 2. low: A name says little") && body.contains("#### 3. nit") && !body.contains("An index may"), "{body}");
}

#[test]
fn a_comment_of_one_line_has_no_first_line() {
    let mut review = review();
    review.findings = vec![finding(Severity::Low, "t", Some("src/a b.rs"), Some((14, 14)))];
    let payload = payload(&review);
    assert_eq!((&payload["comments"][0]["line"], &payload["comments"][0].get("start_line")), (&14.into(), &None));
}

#[test]
fn what_is_too_much_for_github_is_left_out_and_said() {
    let mut review = review();
    let long = "many words ".repeat(2_000);
    review.findings = (0..200)
        .map(|n| Finding { evidence: long.clone(), ..finding(Severity::High, &format!("title {n}"), Some("src/a b.rs"), Some((9, 9))) })
        .collect();
    let payload = payload(&review);
    let comments = payload["comments"].as_array().unwrap();
    assert_eq!(comments.len(), COMMENTS);
    assert!(comments.iter().all(|comment| comment["body"].as_str().unwrap().len() <= BODY));
    let body = payload["body"].as_str().unwrap();
    assert!(body.len() <= BODY && body.contains("more findings are left out here"), "{}", body.len());
    let summary = github::summary(&review, &context());
    assert!(summary.len() <= SUMMARY && String::from_utf8(summary).unwrap().contains("more findings are left out here"));
}

#[test]
fn markdown_keeps_code_and_makes_no_references() {
    assert_eq!(escape::markdown_line("use `get` of *v*"), "use `get` of \\*v\\*");
    assert_eq!(escape::markdown_line("ask @me or #12, see https://x.example/a_b"), "ask `@me` or `#12,` see `https://x.example/a_b`");
    assert_eq!(escape::markdown_line("1. <b> ![x](y) a`"), "1\\. \\<b\\> \\!\\[x\\](y) a\\`");
    assert_eq!(escape::markdown_line("`` a`b `` @`c`"), "``a`b`` `@` `c`");
    let blocks = escape::markdown_blocks("a\n\n```mermaid\ngraph\n```\n/close\nb", "> ", 1_000);
    assert_eq!(blocks, "> a\n>\n> ```\n> graph\n> ```\n> /close\\\n> b\n");
}

#[test]
fn no_word_of_a_finding_is_a_command_to_a_runner() {
    let mut review = review();
    for text in ["::add-mask::e", "##[add-mask]e", " ::stop-commands::x", "x ##vso[task.setvariable]y", "###[group]", "\n::error::x\r::debug::y"] {
        let hostile = format!("{text}\n{text}");
        review.summary = hostile.clone();
        review.questions = vec![hostile.clone()];
        review.findings[0] = Finding {
            title: hostile.clone(),
            evidence: hostile.clone(),
            risk: format!("```\n{hostile}\n```"),
            file: Some(text.to_owned()),
            ..review.findings[0].clone()
        };
        for format in Format::ALL {
            let shown = string(format, &review);
            let ours = |line: &&&str| format == Format::Github && ["::error ", "::notice ", "::warning "].iter().any(|name| line.starts_with(name));
            let left: Vec<&str> = commands(&shown).iter().filter(|line| !ours(line)).copied().collect();
            assert!(left.is_empty(), "{format:?}: {left:?}");
            assert!(format != Format::Github || shown.lines().count() == 4, "{shown}");
        }
    }
    // The search finds what it is for.
    assert_eq!(commands("  ::add-mask::e\nx ##[a]\nx ##vso[a]\n::\nfine :: x").len(), 4);
}

/// What agents may say: wild strings, and pieces that mean something to somebody.
fn said() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        3 => "\\PC{0,12}",
        1 => "[\u{0}-\u{10ffff}]{0,6}",
        6 => proptest::sample::select(vec![
            "`", "``", "```", "```mermaid\n", "~~~", "\n", "\n\n", "\r\n", " ", "    ", "\t", "# ", "## h", "> ", "- ", "* ", "1. ", "12) ", "***", "___", "---", "===", "|", "|-|-|", "a | b\n--|--\n",
            "<b>", "<script>", "<!--", "-->", "<details>", "</details>", "![i](u)", "[l](u)", "[r]: u", "[^1]", "&lt;", "&#64;me", "@me", "@", "@org/team", "#1", "GH-1", "o/r#2", "!3", "$x$", "$$", "www.x.org",
            "https://x.org", "<https://x.org>", "a@b.org", "mailto:a@b", ":tada:", "deadbeef", "\\", "\\`", "::add-mask::e\n", "##[group]", "##vso[x]y", "%0A", "%25", ",", ":", "]]>", "&", "\"", "'", "\u{202e}",
            "\u{b}", "\u{85}", "\u{2028}", "\u{fffe}", "/close", "~label", "word", "{0}", "${{ x }}",
        ]).prop_map(str::to_owned),
    ];
    proptest::collection::vec(piece, 0..14).prop_map(|pieces| pieces.concat())
}

fn hostile_finding() -> impl Strategy<Value = Finding> {
    let severity = proptest::sample::select(Severity::ALL.to_vec());
    (severity, said(), proptest::option::of(said()), proptest::option::of((any::<u32>(), any::<u32>())), said(), said(), said()).prop_map(
        |(severity, title, file, lines, evidence, risk, recommendation)| Finding {
            severity,
            title,
            file,
            lines: lines.map(|(start, end)| LineRange { start: start % 30, end: end % 30 }),
            evidence,
            risk,
            recommendation,
        },
    )
}

fn hostile_review() -> impl Strategy<Value = Review> {
    let texts = (said(), proptest::collection::vec(said(), 0..3), said(), said());
    (proptest::collection::vec(hostile_finding(), 0..5), texts, any::<bool>()).prop_map(|(findings, (summary, list, name, detail), partial)| {
        let mut review = review();
        review.change.files[0].path = findings.iter().find_map(|finding| finding.file.clone()).unwrap_or_default();
        Review {
            findings,
            summary,
            partial,
            partial_detail: detail.clone(),
            questions: list.clone(),
            next_steps: list.clone(),
            model: Some(name.clone()),
            change: Change { scope: ReviewScope::Branch { base: name.clone() }, instruction_files: vec![name], ..review.change.clone() },
            coverage: Coverage { omission_reasons: vec![detail], ..review.coverage.clone() },
            ..review
        }
    })
}

/// What Markdown becomes: only what we build, and the words outside of code hold no reference.
fn check_markdown(text: &str, headings: usize) -> Result<(), TestCaseError> {
    let (mut found, mut code, mut quote) = (0, 0, 0);
    let mut plain = String::new();
    for event in Parser::new_ext(text, Options::all() - Options::ENABLE_SMART_PUNCTUATION) {
        match event {
            Event::Start(tag) => match tag {
                Tag::Heading { .. } => found += 1,
                Tag::BlockQuote(kind) => {
                    prop_assert!(kind.is_none() && quote == 0, "a quote in a quote: {text}");
                    quote += 1;
                }
                Tag::CodeBlock(kind) => {
                    prop_assert!(quote == 1, "code outside of a quote: {text}");
                    prop_assert!(matches!(&kind, pulldown_cmark::CodeBlockKind::Fenced(info) if info.is_empty()), "{kind:?}: {text}");
                    code += 1;
                }
                Tag::List(_) | Tag::Item => prop_assert!(quote == 0, "a list in a quote: {text}"),
                Tag::Paragraph => {}
                Tag::Strong => prop_assert!(quote == 0, "emphasis in a quote: {text}"),
                other => prop_assert!(false, "{other:?}: {text}"),
            },
            Event::End(end) => match end {
                pulldown_cmark::TagEnd::BlockQuote(_) => quote -= 1,
                pulldown_cmark::TagEnd::CodeBlock => code -= 1,
                pulldown_cmark::TagEnd::Paragraph | pulldown_cmark::TagEnd::Heading(_) | pulldown_cmark::TagEnd::Item => plain.push('\n'),
                _ => {}
            },
            Event::Text(said) if code == 0 => plain.push_str(&said),
            Event::Code(_) => plain.push('`'),
            Event::Text(_) => {}
            Event::SoftBreak | Event::HardBreak => plain.push('\n'),
            other => prop_assert!(false, "{other:?}: {text}"),
        }
    }
    prop_assert_eq!(found, headings, "{}", text);
    for mark in ["@", "://", "www.", "#", "$", "GH-", "gh-"] {
        prop_assert!(!plain.contains(mark), "{mark:?} in {plain:?}: {text}");
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn every_form_is_whole_whatever_is_said(review in hostile_review()) {
        for format in Format::ALL {
            let text = String::from_utf8(render(format, &review, &context())).unwrap();
            prop_assert!(text.chars().all(|c| !crate::display::is_deceptive(c)), "{format:?}: {text:?}");
            let ours = |line: &str| ["::error ", "::warning ", "::notice "].iter().any(|name| line.starts_with(name));
            match format {
                Format::Json => {
                    let back: Review = serde_json::from_str(&text).unwrap();
                    prop_assert_eq!(&back, &review);
                }
                Format::Sarif => {
                    let log: Value = serde_json::from_str(&text).unwrap();
                    prop_assert_eq!(log["runs"][0]["results"].as_array().unwrap().len(), review.findings.len());
                }
                Format::Gitlab => {
                    let report: Value = serde_json::from_str(&text).unwrap();
                    prop_assert_eq!(report.as_array().unwrap().len(), review.findings.len() + usize::from(review.partial));
                }
                Format::Junit => {
                    let document = roxmltree::Document::parse(&text).unwrap();
                    let known = ["testsuites", "testsuite", "testcase", "failure", "error", "system-out"];
                    prop_assert!(document.descendants().all(|node| !node.is_element() || known.contains(&node.tag_name().name())));
                    prop_assert_eq!(document.descendants().filter(|node| node.has_tag_name("testcase")).count(), review.findings.len() + 1);
                }
                Format::Github => prop_assert!(text.lines().all(ours) && text.lines().count() == review.findings.len() + 1 + usize::from(review.partial), "{text}"),
                Format::Markdown => {
                    let lists = usize::from(!review.questions.is_empty()) * 2;
                    let headings = 1 + usize::from(!review.findings.is_empty()) + review.findings.len() + lists;
                    check_markdown(&text, headings)?;
                }
                Format::Text => {}
            }
            prop_assert!(commands(&text).iter().all(|line| format == Format::Github && ours(line)), "{format:?}: {:?}", commands(&text));
        }
        let payload = payload(&review);
        let rest = review.findings.len() - payload["comments"].as_array().unwrap().len();
        check_markdown(payload["body"].as_str().unwrap(), 1 + usize::from(rest > 0) + rest)?;
        for comment in payload["comments"].as_array().unwrap() {
            check_markdown(comment["body"].as_str().unwrap(), 0)?;
            let line = comment["line"].as_u64().unwrap() as u32;
            prop_assert!(review.change.files[0].shown.iter().any(|shown| shown.start <= line && line <= shown.end));
        }
    }

    #[test]
    fn markdown_loses_no_word(raw in said()) {
        let bare = |text: &str| text.chars().filter(|c| !c.is_whitespace() && *c != '`').collect::<String>();
        let mut shown = String::new();
        for event in Parser::new_ext(&format!("x {}\n", escape::markdown_line(&raw)), Options::all() - Options::ENABLE_SMART_PUNCTUATION) {
            if let Event::Text(text) | Event::Code(text) = event {
                shown.push_str(&text);
            }
        }
        prop_assert_eq!(bare(&shown), format!("x{}", bare(&escape::line(&raw))));
    }
}
