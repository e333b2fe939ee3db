//! The invariants of `docs/ARCHITECTURE.md` that can be read from the sources: who may name what.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

use std::path::{Path, PathBuf};

/// A crate or path of ours, and the only places below `src/` where it may be named, with the reason.
struct Rule {
    name: &'static str,
    only_in: &'static [&'static str],
    because: &'static str,
}

/// `mcp/http/` parses what clients send: they may start jobs anyway, and nothing of a job reaches it.
const NO_HTTP_OF_A_JOB: &str = "what holds the engine's socket parses no HTTP from a job, only from the engine and from clients";

const RULES: &[Rule] = &[
    Rule { name: "bollard", only_in: &["engine/"], because: "one place knows the engine's API" },
    Rule { name: "rmcp", only_in: &["mcp/"], because: "the domain knows no protocol of its callers" },
    Rule { name: "clap", only_in: &["cli/"], because: "only the command line parses arguments" },
    Rule { name: "clap_complete", only_in: &["cli/"], because: "only the command line parses arguments" },
    Rule { name: "clap_mangen", only_in: &["cli/"], because: "only the command line parses arguments" },
    Rule { name: "indicatif", only_in: &["cli/"], because: "only the command line shows progress" },
    Rule { name: "tracing_subscriber", only_in: &["telemetry/"], because: "one place decides what is logged and where it goes" },
    Rule { name: "hyper", only_in: &["gateway/", "engine/connect.rs", "engine/ssh.rs", "mcp/http/"], because: NO_HTTP_OF_A_JOB },
    Rule { name: "hyper_util", only_in: &["gateway/", "engine/ssh.rs", "mcp/http/"], because: NO_HTTP_OF_A_JOB },
    Rule { name: "http_body_util", only_in: &["gateway/", "mcp/http/"], because: NO_HTTP_OF_A_JOB },
    // Spans and metrics go out as OTLP's JSON, written by ourselves; a crate for it would be named in `telemetry/` alone.
    Rule {
        name: "reqwest",
        only_in: &["gateway/", "telemetry/export.rs"],
        because: "only the gateway speaks to a model, and one place to a collector",
    },
    Rule {
        name: "rustls",
        only_in: &["gateway/", "engine/connect.rs", "telemetry/export.rs"],
        because: "only the gateway speaks to a model, and one place to a collector",
    },
    Rule { name: "tar", only_in: &["engine/", "image/", "job/"], because: "tar is what the engine's archive calls speak, and nothing else is" },
    Rule { name: "crate::process::git", only_in: &["workspace/", "cli/demo.rs"], because: "git runs on a user's repository in one place only" },
    Rule { name: "crate::cli", only_in: &["main.rs"], because: "arrows point down: nothing depends on the command line" },
    Rule { name: "crate::mcp", only_in: &["cli/mcp.rs", "cli/serve.rs"], because: "arrows point down: only the command line starts the server" },
];

/// Modules that reach no engine and know nothing of the host's side.
const INSIDE: &[&str] = &["init/", "gateway/", "protocol/", "codex/"];

/// What those may not name.
const HOST_SIDE: &[&str] = &["crate::engine", "crate::job", "crate::image", "crate::cli", "crate::mcp"];

/// Tests may reach for what they test.
fn is_test(path: &str) -> bool {
    path.contains("/tests/") || path.ends_with("tests.rs")
}

struct Source {
    /// Below `src/`, with slashes.
    path: String,
    /// Without comments and without the tests at its end.
    code: String,
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    walk(&root, &root, &mut found);
    assert!(found.len() > 20, "the sources were not found");
    found
}

fn walk(root: &Path, dir: &Path, found: &mut Vec<Source>) {
    let mut entries: Vec<PathBuf> = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            walk(root, &path, found);
        } else if path.extension().is_some_and(|ext| ext == "rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
            let code = text.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n");
            found.push(Source { path: path.strip_prefix(root).unwrap().to_string_lossy().replace('\\', "/"), code });
        }
    }
}

/// Whether `code` names the path: as a whole word, at the start of a path.
fn names(code: &str, name: &str) -> bool {
    let word = |c: char| c.is_alphanumeric() || c == '_';
    code.match_indices(name).any(|(at, _)| {
        let before = code[..at].chars().next_back();
        let after = &code[at + name.len()..];
        let starts = before.is_none_or(|c| !word(c) && c != ':' && c != '"' && c != '.');
        let ends = after.starts_with("::") || after.starts_with(';') || name.starts_with("crate::") && !after.starts_with(word);
        starts && ends
    })
}

#[test]
fn the_finder_finds() {
    assert!(names("use bollard::Docker;", "bollard"));
    assert!(names("let x = bollard::Docker::new();", "bollard"));
    assert!(names("use crate::process::git;", "crate::process::git"));
    assert!(names("crate::process::git(a, b)", "crate::process::git"));
    assert!(!names("crate::bollard::x", "bollard"));
    assert!(!names("mybollard::x", "bollard"));
    assert!(!names("use crate::process::gitish;", "crate::process::git"));
}

#[test]
fn each_dependency_is_named_in_its_place_only() {
    let mut broken = Vec::new();
    for source in sources().iter().filter(|source| !is_test(&source.path)) {
        for rule in RULES {
            let allowed = rule.only_in.iter().any(|place| source.path.starts_with(place));
            if !allowed && names(&source.code, rule.name) {
                broken.push(format!("src/{} names {}: {}", source.path, rule.name, rule.because));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn rules_are_about_things_that_are_used() {
    let sources = sources();
    for rule in RULES {
        let place = |source: &&Source| rule.only_in.iter().any(|place| source.path.starts_with(place));
        // `main.rs` names the library from outside.
        let used = |source: &Source| names(&source.code, rule.name) || names(&source.code, &rule.name.replace("crate::", "anchorhold::"));
        assert!(sources.iter().filter(place).any(used), "nothing in {:?} names {}", rule.only_in, rule.name);
    }
}

#[test]
fn what_runs_in_containers_reaches_no_engine() {
    let mut broken = Vec::new();
    for source in sources().iter().filter(|source| INSIDE.iter().any(|place| source.path.starts_with(place))) {
        broken.extend(HOST_SIDE.iter().filter(|name| names(&source.code, name)).map(|name| format!("src/{} names {name}", source.path)));
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn the_library_neither_prints_nor_exits() {
    let mut broken = Vec::new();
    // `fault.rs` holds the deaths that the test build is asked for.
    for source in sources().iter().filter(|source| !source.path.starts_with("cli/") && source.path != "fault.rs") {
        for call in ["println!", "print!", "eprintln!", "eprint!", "std::process::exit", "process::exit("] {
            if source.code.contains(call) {
                broken.push(format!("src/{} calls {call}", source.path));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn no_archive_is_unpacked_and_no_shell_is_called() {
    let mut broken = Vec::new();
    for source in sources() {
        // The image is tried by a shell inside a container.
        let shells: &[&str] = if source.path == "image/build.rs" { &[] } else { &["\"sh\", \"-c\"", "\"/bin/sh\""] };
        let unpacks: &[&str] = if names(&source.code, "tar") { &[".unpack(", ".unpack_in("] } else { &[] };
        let found = shells.iter().chain(unpacks).filter(|call| source.code.contains(**call));
        broken.extend(found.map(|call| format!("src/{} has {call}", source.path)));
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn the_map_names_every_module() {
    let map = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/ARCHITECTURE.md")).unwrap();
    let library = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs")).unwrap();
    for module in library.lines().filter_map(|line| line.strip_prefix("pub mod ")).map(|line| line.trim_end_matches(';')) {
        let named = map.contains(&format!("`{module}/`")) || map.contains(&format!("`{module}.rs`"));
        assert!(named, "docs/ARCHITECTURE.md does not say what `{module}` is for");
    }
}

fn document(name: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap()
}

#[test]
fn every_setting_is_documented_with_its_default() {
    let text = document("docs/CONFIGURATION.md");
    let settings = toml::Table::try_from(anchorhold::config::Settings::default()).unwrap();
    for (table, keys) in &settings {
        for (key, default) in keys.as_table().unwrap() {
            let row = format!("| `{table}.{key}` | `{default}` |");
            assert!(text.contains(&row), "docs/CONFIGURATION.md lacks {row}");
        }
    }
    // And no other: a row whose first cell is a key and nothing else.
    for line in text.lines().filter(|line| line.starts_with("| `")) {
        let key = line.trim_start_matches("| `").split_once("` | `").map(|(key, _)| key);
        let Some((table, key)) = key.and_then(|key| key.split_once('.')) else { continue };
        assert!(settings.get(table).and_then(|keys| keys.get(key)).is_some(), "docs/CONFIGURATION.md has {table}.{key}, which is no setting");
        let meaning = line.split(" | ").nth(2).unwrap_or_default();
        assert!(meaning.len() > 10, "docs/CONFIGURATION.md does not say what {table}.{key} means");
    }
}

#[test]
fn every_error_code_is_documented_with_its_exit_code() {
    let page = document("docs/CLI.md");
    let source = document("src/error.rs");
    let (_, texts) = source.split_once("fn as_str").unwrap();
    let (texts, _) = texts.split_once("fn exit_code").unwrap();
    let codes: Vec<&str> = texts.split('"').skip(1).step_by(2).collect();
    assert!(codes.len() > 30, "{codes:?}");
    let all: Vec<&str> = anchorhold::error::Code::ALL.iter().map(|code| code.as_str()).collect();
    assert_eq!(all, codes, "`Code::ALL` has each code, in the order of the table");
    for code in codes {
        assert_eq!(page.matches(&format!("`{code}`")).count(), 1, "docs/CLI.md names {code} once, in the row of its exit code");
    }
}

/// The pages that people read, by their place from the top.
fn pages() -> Vec<String> {
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let in_dir = |dir: &str| -> Vec<String> {
        let entries = std::fs::read_dir(top.join(dir)).unwrap().map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned());
        entries.filter(|name| name.ends_with(".md")).map(|name| format!("{dir}/{name}").trim_start_matches("./").to_owned()).collect()
    };
    [".", "docs", "docs/ci"].into_iter().flat_map(in_dir).collect()
}

/// The names under which a page's headings can be linked to.
fn anchors(page: &str) -> Vec<String> {
    let mut fenced = false;
    let headings = page.lines().filter(move |line| {
        fenced ^= line.starts_with("```");
        !fenced && line.starts_with('#')
    });
    let name = |heading: &str| {
        let text = heading.trim_start_matches('#').trim().to_lowercase();
        text.chars().filter(|c| c.is_alphanumeric() || [' ', '-', '_'].contains(c)).map(|c| if c == ' ' { '-' } else { c }).collect()
    };
    headings.map(name).collect()
}

#[test]
fn links_between_pages_lead_somewhere() {
    let mut seen = 0;
    let mut broken = Vec::new();
    for page in pages() {
        let text = document(&page);
        for link in text.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(link, _)| link) {
            if link.contains("://") || link.contains(char::is_whitespace) {
                continue;
            }
            seen += 1;
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let place = Path::new(&page).parent().unwrap().join(file);
            let target = if file.is_empty() { page.clone() } else { place.to_string_lossy().into_owned() };
            let there = Path::new(env!("CARGO_MANIFEST_DIR")).join(&target);
            if !there.exists() || !anchor.is_empty() && !anchors(&document(&target)).iter().any(|name| name == anchor) {
                broken.push(format!("{page}: {link}"));
            }
        }
    }
    assert!(seen > 30, "the links were not found: {seen}");
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

/// Each `${NAME:-value}` as its value.
fn with_defaults(text: &str) -> String {
    let mut parts = text.split("${");
    let mut whole = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        match part.split_once('}') {
            Some((variable, rest)) => {
                whole.push_str(variable.split_once(":-").map_or("", |(_, value)| value));
                whole.push_str(rest);
            }
            None => whole.push_str(part),
        }
    }
    whole
}

#[test]
fn compose_makes_the_gateway_that_the_command_line_would_make() {
    let compose = with_defaults(&document("compose.yaml"));
    let settings = anchorhold::config::Settings::default();
    use anchorhold::protocol::paths;
    for line in [
        format!("    image: {}", settings.image.name),
        format!("    container_name: {}", settings.gateway.name),
        format!("    entrypoint: [\"{}\", \"gateway\", \"run\"]", paths::BINARY),
        format!("    network_mode: {}", settings.gateway.network),
        format!("      - socket:{}", paths::SOCKET_DIR),
        format!("      - state:{}", paths::GATEWAY_STATE),
        format!("    name: {}-socket", settings.gateway.name),
        format!("    name: {}-state", settings.gateway.name),
        format!("      anchorhold.gateway: {}", settings.gateway.name),
        format!("      anchorhold.network: {}", settings.gateway.network),
        format!("      anchorhold.protocol: \"{}\"", anchorhold::protocol::PROTOCOL_VERSION),
        format!("      anchorhold.version: {}", env!("CARGO_PKG_VERSION")),
        format!("    entrypoint: [\"{}\", \"serve\"]", paths::BINARY),
        format!("    ports: [\"{}:7411\"]", settings.server.listen),
        format!("      ANCHORHOLD_MODEL_UPSTREAM: {}", settings.model.upstream),
    ] {
        assert!(compose.lines().any(|there| there == line), "compose.yaml lacks {line:?}");
    }
}

/// What a cell says of its end passes for ours only if it is a sentence that `init` is known to say; so each that `init` says must be known.
#[test]
fn every_sentence_of_init_is_known() {
    let mut found = 0;
    for source in sources()
        .iter()
        .filter(|s| ["init/cell.rs", "init/ending.rs", "init/slot.rs", "init/watch.rs", "protocol/connection.rs"].contains(&s.path.as_str()))
    {
        for literal in source.code.split('"').skip(1).step_by(2) {
            let sentence = literal.starts_with(|c: char| c.is_ascii_uppercase()) && literal.ends_with('.') && !literal.contains('{');
            if sentence {
                found += 1;
                assert!(anchorhold::protocol::result::is_our_sentence(literal), "{}: {literal:?} is missing in SENTENCES", source.path);
            }
        }
    }
    assert!(found > 25, "the sentences were not found: {found}");
}
