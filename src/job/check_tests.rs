use super::super::Isolation;
use super::*;

fn request() -> StartRequest {
    StartRequest {
        work: Work::Delegate { task: "do it".into() },
        workspace_root: "/".into(),
        model: None,
        reasoning_effort: None,
        isolation: Isolation::Inherit,
        deadline_seconds: None,
        queue_seconds: None,
        idle_seconds: None,
        token_budget: None,
        on_behalf: false,
        include_ignored: false,
        idempotency_key: None,
        trace: None,
    }
}

fn code(change: impl FnOnce(&mut StartRequest)) -> Option<Code> {
    let mut request = request();
    change(&mut request);
    arguments(&Settings::default(), &request).err().map(|error| {
        assert!(error.hint.is_some(), "{error}");
        error.code
    })
}

#[test]
fn arguments_are_checked_at_their_edges() {
    assert_eq!(code(|_| {}), None);
    assert_eq!(code(|r| r.work = Work::Delegate { task: " \n\t\u{3000}".into() }), Some(Code::InvalidArguments));
    assert_eq!(code(|r| r.work = Work::Delegate { task: "a\0b".into() }), Some(Code::InvalidArguments));
    assert_eq!(code(|r| r.work = Work::Delegate { task: "x".repeat(MAX_INPUT) }), None);
    assert_eq!(code(|r| r.work = Work::Delegate { task: "é".repeat(MAX_INPUT / 2 + 1) }), Some(Code::InputTooLarge));
    assert_eq!(code(|r| r.reasoning_effort = Some("x".repeat(128))), None);
    assert_eq!(code(|r| r.reasoning_effort = Some("x".repeat(129))), Some(Code::InvalidReasoningEffort));
    assert_eq!(code(|r| r.reasoning_effort = Some("hi\"\n".into())), Some(Code::InvalidReasoningEffort));
    assert_eq!(code(|r| r.deadline_seconds = Some(10)), None);
    assert_eq!((code(|r| r.queue_seconds = Some(1)), code(|r| r.queue_seconds = Some(0))), (None, Some(Code::InvalidArguments)));
    assert_eq!((code(|r| r.idle_seconds = Some(0)), code(|r| r.idle_seconds = Some(5))), (None, None));
    assert_eq!(code(|r| r.idle_seconds = Some(4)), Some(Code::InvalidArguments));
    assert_eq!(code(|r| r.deadline_seconds = Some(9)), Some(Code::InvalidArguments));
    assert_eq!(code(|r| r.deadline_seconds = Some(604_801)), Some(Code::InvalidArguments));
    assert_eq!((code(|r| r.token_budget = Some(0)), code(|r| r.token_budget = Some(u64::MAX))), (None, Some(Code::InvalidArguments)));
    assert_eq!(code(|r| r.idempotency_key = Some("k".repeat(200))), None);
    assert_eq!(code(|r| r.idempotency_key = Some("k".repeat(201))), Some(Code::InvalidArguments));
    assert_eq!(code(|r| r.idempotency_key = Some(String::new())), Some(Code::InvalidArguments));
}

#[test]
fn bounds_out_of_range_name_the_field_and_the_range() {
    let mut settings = Settings::default();
    settings.limits.tokens = 1_000;
    let ask = |change: &dyn Fn(&mut StartRequest)| {
        let mut request = request();
        change(&mut request);
        arguments(&settings, &request)
            .err()
            .map(|error| format!("{} {}", error.details["field"].as_str().unwrap(), error.details["reason"].as_str().unwrap()))
    };
    let none: Option<&str> = None;
    for (change, expected) in [
        (
            &(|r: &mut StartRequest| r.deadline_seconds = Some(9)) as &dyn Fn(&mut StartRequest),
            Some("deadline_seconds must be between 10 and 604800"),
        ),
        (&|r| r.queue_seconds = Some(u64::MAX), Some("queue_seconds must be between 1 and 2592000")),
        (&|r| r.idle_seconds = Some(4), Some("idle_seconds must be 0 (never) or between 5 and 604800")),
        // Whose settings they are may go over them; an assistant may not.
        (&|r| r.token_budget = Some(1_001), none),
        (&|r| (r.token_budget, r.on_behalf) = (Some(1_000), true), none),
        (&|r| (r.token_budget, r.on_behalf) = (Some(1_001), true), Some("max_tokens must be between 1 and 1000")),
        (&|r| (r.token_budget, r.on_behalf) = (Some(0), true), Some("max_tokens must be between 1 and 1000")),
    ] {
        assert_eq!(ask(change).as_deref(), expected);
    }
}

#[test]
fn questions_and_reviews_bring_bounded_additions() {
    let ask = |question: &str, context: Option<String>, instructions: Option<String>| {
        let more = Additions { extra_context: context, developer_instructions: instructions };
        code(|r| r.work = Work::Consult { question: question.into(), more })
    };
    assert_eq!(ask("why?", None, None), None);
    assert_eq!(ask(" \n", None, None), Some(Code::InvalidArguments));
    assert_eq!(ask("why?", Some("x".repeat(MAX_INPUT - 4)), None), None);
    assert_eq!(ask("why?", Some("x".repeat(MAX_INPUT - 3)), None), Some(Code::InputTooLarge));
    assert_eq!(ask("why?", Some("a\0".into()), None), Some(Code::InvalidArguments));
    assert_eq!(ask("why?", None, Some("é".repeat(2048))), None);
    assert_eq!(ask("why?", None, Some("é".repeat(2049))), Some(Code::InputTooLarge));
    for mark in DEVELOPER_MARKS {
        assert_eq!(ask("why?", None, Some(format!("x {mark} y"))), Some(Code::InvalidArguments));
    }
}

#[test]
fn an_oversized_task_says_both_sizes() {
    let error = arguments(&Settings::default(), &StartRequest { work: Work::Delegate { task: "x".repeat(200_001) }, ..request() }).unwrap_err();
    assert_eq!(error.details["limit_bytes"], 200_000);
    assert_eq!(error.details["actual_bytes"], 200_001);
}

#[test]
fn models_are_well_formed_and_allowed() {
    let any = ModelSettings::default();
    let some = ModelSettings { allowed_models: vec!["gpt-5.5".into()], ..any.clone() };
    for name in ["gpt-5.5", "a/b:c_d-e.f", "0", "gpt-5.6-Sol"] {
        assert!(model(&any, name).is_ok(), "{name}");
    }
    for name in ["", "-m", "Gpt", "a b", "a\n", "a\"b", "é", &"a".repeat(129)] {
        assert_eq!(model(&any, name).unwrap_err().code, Code::InvalidModel, "{name}");
    }
    assert!(model(&some, "gpt-5.5").is_ok());
    let refused = model(&some, "other-model").unwrap_err();
    assert!(!refused.message.contains("other-model"), "the rejected value is not repeated");
    assert_eq!(refused.details["allowed_values"][0], "gpt-5.5");
    assert!(some_model(&some, None).is_err());
    assert!(some_model(&any, None).is_ok());
}

#[test]
fn workspaces_lie_beneath_the_roots_also_through_links() {
    let dir = tempfile::tempdir().unwrap();
    let top = dir.path().canonicalize().unwrap();
    for name in ["in/repo", "inner", "out"] {
        std::fs::create_dir_all(top.join(name)).unwrap();
    }
    std::fs::write(top.join("in/file"), "").unwrap();
    std::os::unix::fs::symlink("../out", top.join("in/escape")).unwrap();
    std::os::unix::fs::symlink("in/repo", top.join("entry")).unwrap();
    let any = RootSettings::default();
    let one = RootSettings { allow: vec![top.join("missing"), top.join("in")] };
    assert_eq!(workspace(&one, &top.join("in/repo")).unwrap(), top.join("in/repo"));
    assert_eq!(workspace(&one, &top.join("entry")).unwrap(), top.join("in/repo"));
    assert_eq!(workspace(&any, &top.join("in/escape")).unwrap(), top.join("out"));
    for outside in ["out", "in/escape", "inner", "in/../out"] {
        let error = workspace(&one, &top.join(outside)).unwrap_err();
        assert_eq!(error.code, Code::WorkspaceOutsideRoots, "{outside}");
        assert_eq!(error.details["candidate_roots"].as_array().unwrap().len(), 2);
    }
    for invalid in [Path::new("in/repo"), &top.join("nowhere"), &top.join("in/file")] {
        assert_eq!(workspace(&any, invalid).unwrap_err().code, Code::InvalidWorkspaceRoot, "{}", invalid.display());
    }
}

#[test]
fn the_key_comes_from_the_file_or_the_variable_and_is_never_repeated() {
    let http = Upstream::Http { base_url: "https://example.org/v1".into(), authorities: None };
    let settings = ModelSettings::default();
    let with = |value: Option<&str>| credential_from(&settings, &http, |_| value.map(str::to_owned));
    assert_eq!(with(Some(" sk-1 \n")).unwrap().unwrap().as_str(), "sk-1");
    for bad in [None, Some(""), Some("  "), Some("${OPENAI_API_KEY}"), Some("sk-1\nx-injected: 1"), Some("schl\u{fc}ssel")] {
        let error = with(bad).unwrap_err();
        assert_eq!(error.code, Code::CodexAuthRequired);
        let hint = error.hint.clone().unwrap_or_default();
        assert!(hint.contains("OPENAI_API_KEY"), "{hint}");
        assert!(!error.chain().contains("sk-1") && !hint.contains("sk-1"));
    }
    let loopback = Upstream::Http { base_url: "http://127.0.0.1:11434/v1".into(), authorities: None };
    assert!(credential_from(&settings, &loopback, |_| None).unwrap().is_none());
    assert!(credential_from(&settings, &Upstream::Rehearsal, |_| Some("sk-1".into())).unwrap().is_none());

    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("key");
    let from_file = |path: &Path| {
        let settings = ModelSettings { api_key_file: path.display().to_string(), ..ModelSettings::default() };
        credential_from(&settings, &http, |_| Some("from-env".into()))
    };
    std::fs::write(&file, "sk-file\n").unwrap();
    assert_eq!(from_file(&file).unwrap().unwrap().as_str(), "sk-file");
    std::fs::write(&file, "k".repeat(20_000)).unwrap();
    for bad in [file.as_path(), dir.path(), &dir.path().join("none")] {
        assert_eq!(from_file(bad).unwrap_err().code, Code::CodexAuthRequired, "{}", bad.display());
    }
}
