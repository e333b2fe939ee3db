//! A user's `config.toml`: only settings of a list reach a job, as values that the cell takes and that mean what they meant; the report tells no value.

use anchorhold::codex::settings::is_taken;
use anchorhold::config::ModelSettings;
use anchorhold::job::Inherited;
use anchorhold::job::readers::take_config;
use anchorhold::protocol::request::JobKind;

/// What a job may have, written down once more: text, numbers, names and words that lead nowhere and run nothing.
const HARMLESS: [&str; 11] = [
    "model_reasoning_summary",
    "model_verbosity",
    "personality",
    "model_context_window",
    "model_auto_compact_token_limit",
    "tool_output_token_limit",
    "project_doc_max_bytes",
    "project_doc_fallback_filenames",
    "developer_instructions",
    "instructions",
    "compact_prompt",
];

/// First byte: the kind of job. The rest: the file.
pub fn run(data: &[u8]) {
    let (kind, text) = data.split_first().map_or((&0, &b""[..]), |(kind, text)| (kind, text));
    let Ok(text) = std::str::from_utf8(text) else { return };
    let kind = if kind % 2 == 0 { JobKind::Delegate } else { JobKind::Review };
    let settings = ModelSettings::default();
    // Many small values are many times their text in memory, as every parser holds them.
    let found = super::within(data.len(), 64 << 10, 1200, || {
        let mut found = Inherited::default();
        take_config(text, &settings, kind, &mut found);
        found
    });
    judge(text, kind, &found);
}

/// Fails where a job got what it must not have.
pub fn judge(text: &str, kind: JobKind, found: &Inherited) {
    let table = text.parse::<toml::Table>().unwrap_or_default();
    for (key, line) in &found.config {
        assert!(HARMLESS.contains(&key.as_str()), "{key}");
        assert!(is_taken(key, line), "the cell refuses {key} = {line}");
        assert!(!line.chars().any(char::is_control), "{key} = {line:?}");
        let value = format!("v = {line}").parse::<toml::Table>().expect("a value").remove("v").expect("it is there");
        let of_user = table.get(key).expect("a key of the file");
        let fewer = || {
            let (taken, all) = (value.as_array(), of_user.as_array());
            taken.is_some_and(|taken| taken.iter().all(|name| all.is_some_and(|all| all.contains(name))))
        };
        assert!(value == *of_user || (kind == JobKind::Review && fewer()), "{key}: {of_user} became {value}");
    }
    let word = |text: &str| !text.is_empty() && text.len() <= 128 && text.bytes().all(|b| b.is_ascii_graphic());
    for (name, value) in [("model", &found.model), ("model_reasoning_effort", &found.reasoning_effort)] {
        let Some(value) = value else { continue };
        assert!(word(value) && !value.starts_with('-') && table.get(name).and_then(toml::Value::as_str) == Some(value), "{name} = {value:?}");
    }
    assert!(found.instructions.is_none() && found.rules.is_empty() && found.report.files.is_empty());
    let report = &found.report;
    assert!(report.left_out.len() <= 24 && report.warnings.len() <= 24 && report.taken.len() <= HARMLESS.len() + 2);
    for name in report.taken.iter().chain(report.left_out.iter().map(|left| &left.name)) {
        // The file itself, or a key of it; never a value.
        let known = name == "config.toml" || name == "(a name that is not shown)" || table.contains_key(name);
        assert!(known && name.len() <= 80 && !name.chars().any(char::is_control), "{name:?}");
    }
    for sentence in &report.warnings {
        assert!(sentence.len() <= 400 && !sentence.chars().any(char::is_control), "{sentence:?}");
    }
}

pub fn seeds() -> Vec<Vec<u8>> {
    let texts = [
        "\0model = \"gpt-5.5\"\nmodel_reasoning_effort = \"high\"\nmodel_verbosity = \"low\"\ninstructions = \"say \\\"hi\\\"\"\n",
        "\x01project_doc_fallback_filenames = [\"CLAUDE.md\", \"README.md\"]\nproject_doc_max_bytes = 1024\ncompact_prompt = '''a\nb'''\n",
        "\0model_provider = \"other\"\nmodel = \"x\"\nmodel_context_window = 200000\n[model_providers.other]\nbase_url = \"http://127.0.0.1\"\n",
        "\0notify = [\"sh\", \"-c\", \"id\"]\n[mcp_servers.a]\ncommand = \"x\"\n[shell_environment_policy]\nset = { A = \"b\" }\n",
        "\0developer_instructions = \"\\u0007 \\n \u{202e}\"\ntool_output_token_limit = 100\npersonality = \"friendly\"\nmodel_reasoning_summary = \"auto\"\n",
        "\0model_auto_compact_token_limit = 5000\nmodel = \n= \"\"\n",
    ];
    texts.map(|text| text.as_bytes().to_vec()).into()
}
