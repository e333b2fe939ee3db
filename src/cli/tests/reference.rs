//! `docs/REFERENCE.md`: what the server serves, what the command line parses and what the settings are, as they are. `ANCHORHOLD_REFERENCE=write` (`make
//! reference`) writes it; else it must be what would be written.

use std::fmt::Write as _;
use std::path::PathBuf;

use clap::Command;

use crate::cli::exit::EXIT_CODES;
use crate::cli::man::{self, grammar};
use crate::config::Settings;
use crate::error::Code;

const HEAD: &str = "# Reference\n\nEvery tool, resource, error, verb, exit code and setting, made by `make reference` from the schemas that the server serves, the grammar that reads the command \
line, and the settings' own defaults; a test keeps it true. What they are for stands in [MCP.md](MCP.md), [CLI.md](CLI.md) and [CONFIGURATION.md](CONFIGURATION.md).\n\n\
[Tools](#tools) · [Resources](#resources) · [Errors](#errors) · [Command line](#command-line) · [Exit codes](#exit-codes) · [Settings](#settings)\n\n";

fn place(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs").join(name)
}

#[tokio::test]
async fn the_reference_is_true() {
    let protocol = crate::mcp::tests::reference::markdown().await;
    let text = format!("{HEAD}{protocol}{}{}{}", command_line(), exit_codes(), settings());
    let path = place("REFERENCE.md");
    if std::env::var_os("ANCHORHOLD_REFERENCE").is_some_and(|word| word == "write") {
        std::fs::write(&path, &text).unwrap();
    }
    let there = std::fs::read_to_string(&path).unwrap_or_default();
    let differs = text.lines().zip(there.lines()).find(|(new, old)| new != old);
    assert!(there == text, "docs/REFERENCE.md is not what would be made now; run `make reference`. The first line that differs: {differs:#?}");
}

/// `Code::ALL` is written by hand, and the rest is made from it.
#[test]
fn all_codes_are_in_the_list() {
    let source = include_str!("../../error.rs");
    let (_, texts) = source.split_once("fn as_str").unwrap();
    let (texts, _) = texts.split_once("fn exit_code").unwrap();
    let written: Vec<&str> = texts.split('"').skip(1).step_by(2).collect();
    let listed: Vec<&str> = Code::ALL.iter().map(|code| code.as_str()).collect();
    assert_eq!(listed, written);
}

#[test]
fn exit_codes_mean_the_same_everywhere() {
    let page = std::fs::read_to_string(place("CLI.md")).unwrap();
    for (code, meaning) in EXIT_CODES {
        assert!(
            page.contains(&format!("\n| {code} | {meaning} |")),
            "docs/CLI.md says something else of exit code {code} than src/cli/exit.rs: {meaning}"
        );
    }
    for code in Code::ALL {
        assert!(EXIT_CODES.iter().any(|(exit, _)| *exit == code.exit_code()), "src/cli/exit.rs lacks {code}'s exit code {}", code.exit_code());
    }
}

/// Each flag that stands for a setting says so in its help, as `[default: table.key]`; what it names must be there.
#[test]
fn flags_name_settings_that_there_are() {
    let known: Vec<String> = keys().into_iter().map(|(key, _)| key).collect();
    let named = flags();
    assert!(named.len() > 5, "{named:?}");
    for (key, flag) in named {
        assert!(known.contains(&key), "{flag} names the setting {key}, which there is not");
    }
}

fn command_line() -> String {
    let mut text = "\n## Command line\n\nOptions of every verb:\n\n".to_owned();
    let whole = grammar();
    text.push_str(&options(&whole, true));
    for verb in whole.get_subcommands() {
        one_verb(verb, &mut text);
    }
    text
}

fn one_verb(verb: &Command, text: &mut String) {
    if verb.is_hide_set() {
        return;
    }
    let beneath: Vec<&Command> = verb.get_subcommands().collect();
    if !beneath.is_empty() {
        beneath.into_iter().for_each(|verb| one_verb(verb, text));
        return;
    }
    let usage = verb.clone().render_usage().to_string();
    let usage = usage.trim_start_matches("Usage: ").split_whitespace().collect::<Vec<_>>().join(" ");
    let about = verb.get_about().map(ToString::to_string).unwrap_or_default();
    let _ = write!(text, "\n### `{}`\n\n{}.\n\n```text\n{usage}\n```\n", verb.get_bin_name().unwrap(), about.trim_end_matches('.'));
    let table = options(verb, false);
    if !table.is_empty() {
        let _ = write!(text, "\n{table}");
    }
}

/// The options of a verb that are its own, or those of every verb.
fn options(verb: &Command, global: bool) -> String {
    let mut text = String::new();
    for argument in
        verb.get_arguments().filter(|a| !a.is_hide_set() && a.is_global_set() == global && !["help", "version"].contains(&a.get_id().as_str()))
    {
        let values = argument.get_value_names().unwrap_or_default().iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
        let takes = argument.get_action().takes_values();
        let many = if argument.get_num_args().is_some_and(|n| n.max_values() > 1) { "…" } else { "" };
        let name = match (argument.get_short(), argument.get_long()) {
            (Some(short), Some(long)) => format!("`-{short}`, `--{long}`"),
            (None, Some(long)) => format!("`--{long}`"),
            (Some(short), None) => format!("`-{short}`"),
            (None, None) => String::new(),
        };
        let value = if takes { format!("`{}{many}`", values.replace('|', "\\|")) } else { String::new() };
        let words: Vec<String> = if takes {
            argument.get_possible_values().iter().filter(|v| !v.is_hide_set()).map(|v| format!("`{}`", v.get_name())).collect()
        } else {
            Vec::new()
        };
        let default: Vec<String> = argument.get_default_values().iter().map(|value| value.to_string_lossy().into_owned()).collect();
        let mut help = argument.get_help().map(ToString::to_string).unwrap_or_default().replace('|', "\\|");
        if !words.is_empty() {
            // A default that the help tells stands at its end.
            let at = help.find(" [default: ").unwrap_or(help.len());
            help.insert_str(at, &format!(": {}", words.join(", ")));
        }
        if !default.is_empty() && takes {
            let _ = write!(help, " [default: {}]", default.join(", "));
        }
        if argument.is_positional() && argument.is_required_set() {
            help.push_str(" (required)");
        }
        let first = [name, value].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ");
        let _ = writeln!(text, "| {first} | {help} |");
    }
    if text.is_empty() { text } else { format!("| option | meaning |\n|---|---|\n{text}") }
}

fn exit_codes() -> String {
    let mut text = "\n## Exit codes\n\n| code | meaning | errors |\n|---|---|---|\n".to_owned();
    for (exit, meaning) in EXIT_CODES {
        let codes: Vec<String> = Code::ALL.iter().filter(|code| code.exit_code() == *exit).map(|code| format!("`{code}`")).collect();
        let _ = writeln!(text, "| {exit} | {meaning} | {} |", codes.join(", "));
    }
    text
}

fn settings() -> String {
    let mut text = "\n## Settings\n\nThe key in the file, the variable that goes over it, the flags that go over both where there are such (`--set KEY=VALUE` is always one), the type as TOML has it, and the \
                    default. A size is a whole number of bytes or a text such as `4GiB`; a variable gives a list with commas between its entries.\n\n| key | variable | flag | type | default |\n|---|---|---|---|---|\n"
        .to_owned();
    let flags = flags();
    for (key, default) in keys() {
        let variable = format!("ANCHORHOLD_{}", key.replace('.', "_").to_uppercase());
        let mut own: Vec<String> = flags.iter().filter(|(named, _)| *named == key).map(|(_, flag)| format!("`{flag}`")).collect();
        own.sort_unstable();
        own.dedup();
        // A size reads back as what it was written as; no other text does.
        let size = default.as_str().is_some_and(|text| text.parse::<crate::config::ByteSize>().is_ok());
        let kind = if size { "size" } else { default.type_str() };
        let _ = writeln!(text, "| `{key}` | `{variable}` | {} | {kind} | `{default}` |", own.join(", "));
    }
    text
}

/// Every setting with its default.
fn keys() -> Vec<(String, toml::Value)> {
    let tables = toml::Table::try_from(Settings::default()).unwrap();
    let keys = |(table, keys): (String, toml::Value)| match keys {
        toml::Value::Table(keys) => keys.into_iter().map(|(key, default)| (format!("{table}.{key}"), default)).collect(),
        _ => Vec::new(),
    };
    tables.into_iter().flat_map(keys).collect()
}

/// Setting and flag, from what the flags' help says.
fn flags() -> Vec<(String, String)> {
    fn walk(command: &Command, found: &mut Vec<(String, String)>) {
        for argument in command.get_arguments() {
            let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
            let named = help.split_once("[default: ").map(|(_, rest)| rest.split([',', ']']).next().unwrap_or_default());
            let key = named.filter(|name| {
                name.split_once('.').is_some_and(|(table, key)| {
                    [table, key].iter().all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'))
                })
            });
            if let (Some(key), Some(long)) = (key, argument.get_long()) {
                found.push((key.to_owned(), format!("--{long}")));
            }
        }
        command.get_subcommands().for_each(|verb| walk(verb, found));
    }
    let mut found = Vec::new();
    walk(&man::grammar(), &mut found);
    found
}
