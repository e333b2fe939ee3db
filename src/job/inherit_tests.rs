use super::*;

fn any() -> ModelSettings {
    ModelSettings::default()
}

fn of(home: &Path) -> Inherited {
    read(home, &any(), Isolation::Inherit, JobKind::Delegate)
}

/// A home with this configuration.
fn configured(config: &str) -> tempfile::TempDir {
    let home = tempfile::tempdir().unwrap();
    std::fs::write(home.path().join(CONFIG), config).unwrap();
    home
}

fn left_out(report: &Report) -> Vec<(&str, &str)> {
    report.left_out.iter().map(|left| (left.name.as_str(), left.why)).collect()
}

const FULL: &str = r#"
    model = "gpt-5.5"
    model_reasoning_effort = "high"
    model_verbosity = "low"
    developer_instructions = "Say so.\nTwice."
    project_doc_fallback_filenames = ["CLAUDE.md", "README.md"]
    notify = ["say", "done"]
    sandbox_mode = "danger-full-access"
    approval_policy = "never"
    openai_base_url = "http://127.0.0.1:9/v1"
    web_search = "live"
    profile = "fast"
    a_key_of_tomorrow = { any = "thing" }
    [profiles.fast]
    model = "o3"
    [mcp_servers.s]
    command = "sh"
    [hooks]
    [features]
    hooks = true
    [model_providers.mine]
    base_url = "http://127.0.0.1:9/v1"
    [shell_environment_policy]
    inherit = "all"
    ["https://user:hunter22@example.com/"]
    x = 1
"#;

#[test]
fn only_what_is_on_the_list_is_taken_and_the_rest_is_named() {
    let home = configured(FULL);
    std::fs::write(home.path().join("AGENTS.md"), "be brief").unwrap();
    std::fs::create_dir(home.path().join("rules")).unwrap();
    std::fs::write(home.path().join("rules/default.rules"), "prefix_rule(pattern=[\"touch\"])").unwrap();
    std::fs::write(home.path().join("rules/notes.txt"), "x").unwrap();
    std::fs::write(home.path().join("auth.json"), "{}").unwrap();
    let found = of(home.path());
    assert_eq!((found.model.as_deref(), found.reasoning_effort.as_deref()), (Some("gpt-5.5"), Some("high")));
    let config: Vec<(&str, &str)> = found.config.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    assert_eq!(
        config,
        [
            ("model_verbosity", "\"low\""),
            ("project_doc_fallback_filenames", "[\"CLAUDE.md\",\"README.md\"]"),
            ("developer_instructions", "\"Say so.\\u000aTwice.\""),
        ]
    );
    assert_eq!(found.document_names(), ["CLAUDE.md", "README.md"]);
    assert_eq!(found.instructions.as_deref(), Some("be brief"));
    assert_eq!(found.rules.len(), 1);
    let report = &found.report;
    assert_eq!(report.taken, ["model", "model_reasoning_effort", "model_verbosity", "project_doc_fallback_filenames", "developer_instructions"]);
    assert_eq!(report.files.iter().map(|file| file.name.as_str()).collect::<Vec<_>>(), ["AGENTS.md", "rules/default.rules"]);
    let mut names: Vec<&str> = left_out(report)
        .into_iter()
        .map(|(name, why)| {
            assert_eq!(why, "not_on_the_list", "{name}");
            name
        })
        .collect();
    names.sort_unstable();
    assert_eq!(
        names,
        [
            "(a name that is not shown)",
            "a_key_of_tomorrow",
            "approval_policy",
            "features",
            "hooks",
            "mcp_servers",
            "model_providers",
            "notify",
            "openai_base_url",
            "profile",
            "profiles",
            "sandbox_mode",
            "shell_environment_policy",
            "web_search",
        ]
    );
    assert_eq!((report.left_out_count, report.warnings.len()), (14, 0), "as anybody may expect: {report:?}");
    // The command line takes all of it.
    let settings = crate::protocol::request::CodexSettings { config: found.config.clone(), model: found.model.clone(), ..Default::default() };
    crate::codex::command::command_line(&settings).unwrap();
    let told = serde_json::to_string(report).unwrap();
    for value in ["gpt-5.5", "Twice", "hunter22", "127.0.0.1", "danger", "prefix_rule", "brief"] {
        assert!(!told.contains(value), "a report has names alone: {value} in {told}");
    }
}

#[test]
fn each_isolation_leaves_out_its_part() {
    let home = configured("model_verbosity = \"low\"");
    std::fs::write(home.path().join("AGENTS.md"), "be brief").unwrap();
    std::fs::create_dir(home.path().join("rules")).unwrap();
    std::fs::write(home.path().join("rules/a.rules"), "").unwrap();
    let parts = |isolation| {
        let found = read(home.path(), &any(), isolation, JobKind::Consult);
        (found.config.len(), found.instructions.is_some(), found.rules.len())
    };
    assert_eq!(parts(Isolation::Inherit), (1, true, 1));
    assert_eq!(parts(Isolation::IgnoreConfig), (0, true, 1));
    assert_eq!(parts(Isolation::IgnoreRules), (1, true, 0));
    assert_eq!(parts(Isolation::Nothing), (0, false, 0));
}

#[test]
fn a_configuration_that_cannot_be_read_is_said_without_its_words() {
    for (config, why, line) in [
        ("model = \"x\"\n\nsecret hunter22 = [\n", "not_toml", "line 3"),
        (&"[".repeat(100_000), "not_toml", "line 1"),
        (&format!("# {}", "x".repeat(1 << 20)), "too_large", "too large"),
    ] {
        let home = configured(config);
        let found = of(home.path());
        assert_eq!(left_out(&found.report), [(CONFIG, why)]);
        let [warning] = found.report.warnings.as_slice() else { panic!("{:?}", found.report) };
        assert!(
            warning.starts_with("config.toml of your Codex was not taken") && warning.contains(line) && warning.contains("ignore-config"),
            "{warning}"
        );
        assert!(!warning.contains("hunter22"), "{warning}");
        assert_eq!(Inherited { report: Report::default(), ..found }, Inherited::default());
    }
    let home = tempfile::tempdir().unwrap();
    std::fs::write(home.path().join(CONFIG), b"model = \"\xff\"").unwrap();
    assert_eq!(left_out(&of(home.path()).report), [(CONFIG, "not_text")]);
    assert_eq!(of(&home.path().join("absent")), Inherited::default());
}

#[test]
fn one_bad_value_costs_only_itself() {
    let home = configured(
        "model = \"GPT 5\"\nmodel_verbosity = \"huge\"\nmodel_reasoning_effort = \"High\"\nproject_doc_max_bytes = -1\npersonality = \"friendly\"",
    );
    let found = of(home.path());
    assert_eq!(found.config, [("personality".to_owned(), "\"friendly\"".to_owned())]);
    assert_eq!((&found.model, &found.reasoning_effort), (&None, &None));
    assert_eq!(
        left_out(&found.report),
        [("model", "bad_value"), ("model_reasoning_effort", "bad_value"), ("model_verbosity", "bad_value"), ("project_doc_max_bytes", "bad_value")]
    );
    assert_eq!(found.report.warnings.len(), 4);
}

#[test]
fn a_model_that_cannot_be_asked_is_left_out_and_stops_nobody() {
    let home = configured("model = \"llama\"\nmodel_provider = \"mine\"\nmodel_context_window = 5000");
    let found = of(home.path());
    assert_eq!((found.model, found.config.len()), (None, 0));
    assert_eq!(
        left_out(&found.report),
        [("model", "other_provider"), ("model_context_window", "other_provider"), ("model_provider", "not_on_the_list")]
    );
    let home = configured("model = \"gpt-5.5\"");
    let only = ModelSettings { allowed_models: vec!["gpt-6".into()], ..any() };
    let found = read(home.path(), &only, Isolation::Inherit, JobKind::Delegate);
    assert_eq!((found.model, left_out(&found.report)), (None, vec![("model", "not_allowed")]));
}

#[test]
fn a_review_takes_no_instructions_that_its_change_could_bring() {
    let names = |config: &str| {
        let found = read(configured(config).path(), &any(), Isolation::Inherit, JobKind::Review);
        let why = found.report.left_out.first().map(|left| left.why);
        (found.config.into_iter().map(|(_, value)| value).next(), why)
    };
    assert_eq!(names("project_doc_fallback_filenames = [\"README.md\", \"CLAUDE.md\"]"), (Some("[\"CLAUDE.md\"]".to_owned()), None));
    assert_eq!(names("project_doc_fallback_filenames = [\"README.md\"]"), (None, Some("not_in_reviews")));
}

#[test]
fn what_looks_like_a_secret_stays_here() {
    // Put together here, so that no scanner takes this file for a leak.
    let token = format!("ghp_{}", "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8");
    let home = configured(&format!("developer_instructions = \"use {token}\""));
    std::fs::write(home.path().join("AGENTS.md"), format!("x\nthe token is {token}\n")).unwrap();
    std::fs::create_dir(home.path().join("rules")).unwrap();
    std::fs::write(home.path().join("rules/a.rules"), format!("prefix_rule(pattern=[\"curl\", \"-H\", \"{token}\"])")).unwrap();
    std::fs::write(home.path().join("rules/b.rules"), "").unwrap();
    let found = of(home.path());
    assert_eq!(
        left_out(&found.report),
        [("developer_instructions", "looks_secret"), ("AGENTS.md", "looks_secret"), ("rules/a.rules", "looks_secret")]
    );
    assert!(found.report.warnings[2].contains("its rules do not hold in this job") && found.report.warnings[2].contains("ignore-rules"));
    assert_eq!(found.rules.len(), 1);
    assert!(!format!("{found:?}").contains(&token));
}

#[test]
fn the_override_goes_first_and_what_is_blank_says_nothing() {
    let home = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(home.path().join(name), text).unwrap();
    write("AGENTS.md", "plain");
    write("AGENTS.override.md", " \n");
    assert_eq!(of(home.path()).instructions.as_deref(), Some("plain"));
    write("AGENTS.override.md", "override");
    assert_eq!(of(home.path()).instructions.as_deref(), Some("override"));
    write("AGENTS.override.md", &"x".repeat(usize::try_from(MAX_INSTRUCTIONS).unwrap() + 1));
    let found = of(home.path());
    assert_eq!((found.instructions, left_out(&found.report)), (None, vec![("AGENTS.override.md", "too_large")]));
}

#[test]
fn links_lead_to_files_of_the_same_kind_alone() {
    let home = tempfile::tempdir().unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    let link = |to: &str, name: &str| std::os::unix::fs::symlink(elsewhere.path().join(to), home.path().join(name)).unwrap();
    std::fs::write(elsewhere.path().join("CLAUDE.md"), "mine").unwrap();
    std::fs::write(elsewhere.path().join("id_ed25519"), "key").unwrap();
    std::fs::write(elsewhere.path().join("codex.toml"), "model_verbosity = \"low\"").unwrap();
    link("codex.toml", CONFIG);
    link("CLAUDE.md", "AGENTS.md");
    let found = of(home.path());
    assert_eq!((found.instructions.as_deref(), found.config.len()), (Some("mine"), 1));
    link("id_ed25519", "AGENTS.override.md");
    let found = of(home.path());
    assert_eq!((found.instructions, left_out(&found.report)), (None, vec![("AGENTS.override.md", "link")]));
    std::fs::remove_file(home.path().join("AGENTS.override.md")).unwrap();
    link("absent.md", "AGENTS.override.md");
    assert_eq!(left_out(&of(home.path()).report), [("AGENTS.override.md", "link")]);
}

#[test]
fn what_is_no_file_is_not_waited_for() {
    let home = tempfile::tempdir().unwrap();
    let fifo = |name: &str| rustix::fs::mknodat(rustix::fs::CWD, home.path().join(name), rustix::fs::FileType::Fifo, Mode::RUSR, 0).unwrap();
    fifo(CONFIG);
    fifo("AGENTS.md");
    std::fs::create_dir(home.path().join("AGENTS.override.md")).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(home.path().join("socket.rules")).unwrap();
    std::fs::create_dir(home.path().join("rules")).unwrap();
    fifo("rules/a.rules");
    std::os::unix::fs::symlink(home.path().join("socket.rules"), home.path().join("rules/b.rules")).unwrap();
    std::os::unix::fs::symlink("/dev/zero", home.path().join("rules/c.rules")).unwrap();
    let found = of(home.path());
    assert_eq!(
        left_out(&found.report),
        [
            (CONFIG, "not_a_file"),
            ("AGENTS.override.md", "not_a_file"),
            ("AGENTS.md", "not_a_file"),
            ("rules/a.rules", "not_a_file"),
            ("rules/b.rules", "not_a_file"),
            ("rules/c.rules", "link"),
        ]
    );
    assert_eq!(Inherited { report: Report::default(), ..found }, Inherited::default());
}

#[test]
fn rules_are_bounded_in_number_size_and_names() {
    let home = tempfile::tempdir().unwrap();
    let rules = home.path().join("rules");
    std::fs::write(&rules, "").unwrap();
    assert_eq!(left_out(&of(home.path()).report), [("rules", "not_a_file")]);
    std::fs::remove_file(&rules).unwrap();
    std::fs::create_dir(&rules).unwrap();
    for n in 0..MAX_RULES_FILES + 2 {
        std::fs::write(rules.join(format!("{n:03}.rules")), "# x").unwrap();
    }
    std::fs::write(rules.join("caf\u{e9}.rules"), "").unwrap();
    std::fs::write(rules.join("000-large.rules"), vec![b'#'; 65 << 10]).unwrap();
    let found = of(home.path());
    assert_eq!(found.rules.len(), MAX_RULES_FILES);
    assert_eq!(
        left_out(&found.report),
        [
            ("rules/000-large.rules", "too_large"),
            ("rules/032.rules", "too_many"),
            ("rules/033.rules", "too_many"),
            ("(a name that is not shown)", "bad_name")
        ]
    );
    assert!(found.report.warnings.iter().all(|warning| warning.contains("its rules do not hold in this job")), "{:?}", found.report.warnings);
}

#[test]
fn a_report_stays_small_enough_for_a_label() {
    let keys: String = (0..5_000).map(|n| format!("{}{n} = 1\n", "k".repeat(70))).collect();
    let found = of(configured(&keys).path());
    assert_eq!((found.report.left_out.len(), found.report.left_out_count), (MAX_LISTED, 5_000));
    assert!(serde_json::to_string(&found.report).unwrap().len() < 4_000);
}
