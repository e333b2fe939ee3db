//! Rules about the sources and their dependencies that no compiler checks. Offline: what cargo has downloaded is enough.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking, also in its helpers")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;

/// The same list as in `deny.toml`, which is for those who have cargo-deny.
fn deny_toml() -> toml::Table {
    toml::from_str(&std::fs::read_to_string(root().join("deny.toml")).unwrap()).unwrap()
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn strings<'a>(table: &'a toml::Table, path: [&str; 2]) -> Vec<&'a str> {
    table[path[0]][path[1]].as_array().unwrap().iter().filter_map(|v| v.as_str().or_else(|| v.get("crate")?.as_str())).collect()
}

/// Everything that can get into a binary for this platform: id, name, version, license, source.
fn packages() -> Vec<BTreeMap<String, String>> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let mut command = anchorhold::process::command(&cargo, &root());
    for name in ["HOME", "CARGO_HOME", "RUSTUP_HOME", "RUSTUP_TOOLCHAIN"] {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    let platform = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let output = command.args(["metadata", "--offline", "--locked", "--format-version=1", "--filter-platform", &platform]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let used: Vec<&str> = metadata["resolve"]["nodes"].as_array().unwrap().iter().map(|n| n["id"].as_str().unwrap()).collect();
    let all = metadata["packages"].as_array().unwrap().iter().filter(|p| used.contains(&p["id"].as_str().unwrap()));
    all.map(|p| ["name", "version", "license", "source"].map(|key| (key.to_owned(), p[key].as_str().unwrap_or_default().to_owned())).into()).collect()
}

/// Whether an SPDX expression can be met by allowed licenses. The old `A/B` means `A OR B`.
fn license_ok(expression: &str, allowed: &[&str]) -> bool {
    fn any_of(tokens: &mut std::iter::Peekable<std::vec::IntoIter<String>>, allowed: &[&str]) -> bool {
        let mut ok = all_of(tokens, allowed);
        while tokens.next_if(|t| t == "OR").is_some() {
            ok |= all_of(tokens, allowed);
        }
        ok
    }
    fn all_of(tokens: &mut std::iter::Peekable<std::vec::IntoIter<String>>, allowed: &[&str]) -> bool {
        let mut ok = one(tokens, allowed);
        while tokens.next_if(|t| t == "AND").is_some() {
            ok &= one(tokens, allowed);
        }
        ok
    }
    fn one(tokens: &mut std::iter::Peekable<std::vec::IntoIter<String>>, allowed: &[&str]) -> bool {
        let Some(mut name) = tokens.next() else { return false };
        if name == "(" {
            let ok = any_of(tokens, allowed);
            return tokens.next().is_some_and(|t| t == ")") && ok;
        }
        if tokens.next_if(|t| t == "WITH").is_some() {
            name = format!("{name} WITH {}", tokens.next().unwrap_or_default());
        }
        allowed.contains(&name.as_str())
    }
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let mut tokens = spaced.split_whitespace().map(str::to_owned).collect::<Vec<_>>().into_iter().peekable();
    any_of(&mut tokens, allowed) && tokens.next().is_none()
}

#[test]
fn license_expressions_are_read_rightly() {
    let allowed = ["MIT", "ISC", "Apache-2.0 WITH LLVM-exception"];
    for good in ["MIT", "GPL-3.0 OR MIT", "MIT/Apache-2.0", "MIT AND ISC", "(MIT OR X) AND ISC", "Apache-2.0 WITH LLVM-exception"] {
        assert!(license_ok(good, &allowed), "{good}");
    }
    for bad in ["", "GPL-3.0", "MIT AND GPL-3.0", "(MIT OR X) AND Y", "Apache-2.0", "MIT)", "(MIT", "MIT WITH X", "MIT MIT"] {
        assert!(!license_ok(bad, &allowed), "{bad}");
    }
}

#[test]
fn every_dependency_is_permissively_licensed_from_the_registry_and_not_banned() {
    let deny = deny_toml();
    let allowed = strings(&deny, ["licenses", "allow"]);
    let banned = strings(&deny, ["bans", "deny"]);
    assert!(allowed.len() > 5 && banned.contains(&"tokio-tar"));
    let packages = packages();
    assert!(packages.len() > 100 && packages.iter().any(|p| p["name"] == "bollard"), "{}", packages.len());
    let mut faults = Vec::new();
    for p in &packages {
        let who = format!("{} {}", p["name"], p["version"]);
        if !license_ok(&p["license"], &allowed) {
            faults.push(format!("{who}: license {:?}", p["license"]));
        }
        // Our own has no source; a path or git dependency would have none, or another.
        if p["name"] != env!("CARGO_PKG_NAME") && !p["source"].starts_with("registry+") {
            faults.push(format!("{who}: source {:?}", p["source"]));
        }
        if banned.contains(&p["name"].as_str()) {
            faults.push(format!("{who}: banned"));
        }
    }
    // Two versions of these would be two stacks in one binary.
    for name in ["tokio", "hyper", "rustls", "ring", "http", "serde", "rustix", "tar", "bollard", "rmcp"] {
        if packages.iter().filter(|p| p["name"] == name).count() > 1 {
            faults.push(format!("{name}: more than one version"));
        }
    }
    assert!(faults.is_empty(), "{faults:#?}");
}

/// Code lines of a source file: what stands in a comment names nothing.
fn code(path: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().map(|l| l.split_once("//").map_or(l, |(code, _)| code).to_owned()).collect()
}

fn sources(dir: &Path, all: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, all);
        } else if path.extension().is_some_and(|e| e == "rs") {
            all.push(path);
        }
    }
}

fn names(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + word.len()..].chars().next();
        let part_of_a_name = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == '-');
        !part_of_a_name(before) && !part_of_a_name(after)
    })
}

/// The map of `docs/ARCHITECTURE.md`: each foreign library behind one module, and what meets a job's bytes far from the engine.
#[test]
fn modules_keep_to_the_map() {
    /// A word, and the only places beneath `src/` that may use it.
    const ONLY: [(&str, &[&str]); 6] = [
        ("bollard", &["engine/"]),
        ("rmcp", &["mcp/"]),
        ("clap", &["cli/", "main.rs"]),
        ("clap_complete", &["cli/", "main.rs"]),
        ("clap_mangen", &["cli/"]),
        ("indicatif", &["cli/"]),
    ];
    /// A place, and the words that may not be used there.
    const NEVER: [(&str, &[&str]); 3] = [
        ("gateway/", &["crate::engine", "crate::image", "crate::mcp", "crate::cli"]),
        ("init/", &["crate::engine", "crate::image", "crate::mcp", "crate::cli"]),
        ("protocol/", &["crate::engine", "crate::image", "crate::mcp", "crate::cli", "crate::gateway", "crate::init"]),
    ];
    let src = root().join("src");
    let mut all = Vec::new();
    sources(&src, &mut all);
    let mut faults = Vec::new();
    let mut seen = 0;
    for path in &all {
        let place = path.strip_prefix(&src).unwrap().to_str().unwrap();
        for (number, line) in code(path).iter().enumerate() {
            for (word, places) in ONLY {
                if names(line, word) {
                    seen += 1;
                    if !places.iter().any(|p| place.starts_with(p)) {
                        faults.push(format!("src/{place}:{}: {word} belongs to {places:?}", number + 1));
                    }
                }
            }
            for (part, words) in NEVER {
                for word in words.iter().filter(|w| place.starts_with(part) && line.contains(*w)) {
                    faults.push(format!("src/{place}:{}: {part} may not use {word}", number + 1));
                }
            }
        }
    }
    assert!(seen > 10, "the search finds nothing");
    assert!(faults.is_empty(), "{faults:#?}");
}

/// Programs start in few places: `git` only through the builder that gives it no environment and no configuration, the engine's client never.
#[test]
fn git_has_one_builder_and_docker_is_never_run() {
    /// What starts a program, and the only places beneath `src/` that may.
    const ONLY: [(&str, &[&str]); 4] = [
        // The builder; its version; the user's own lists of trusted repositories and of ignored files, which no git directory is part of.
        (r#"command("git""#, &["process.rs", "job/readiness.rs", "workspace/repo.rs", "workspace/untracked.rs"]),
        (r#"command("docker""#, &[]),
        (r#"Command::new("docker""#, &[]),
        (r#"Command::new("git""#, &[]),
    ];
    let src = root().join("src");
    let mut all = Vec::new();
    sources(&src, &mut all);
    let (mut faults, mut seen) = (Vec::new(), 0);
    for path in &all {
        let place = path.strip_prefix(&src).unwrap().to_str().unwrap();
        // Tests play the user, whose git is any git.
        if place.contains("/tests/") || place.ends_with("tests.rs") {
            continue;
        }
        for (number, line) in code(path).iter().enumerate() {
            for (start, places) in ONLY.iter().filter(|(start, _)| line.contains(start)) {
                seen += 1;
                if !places.contains(&place) {
                    faults.push(format!("src/{place}:{}: {start} belongs to {places:?}", number + 1));
                }
            }
        }
    }
    assert!(seen >= 3, "the search finds nothing");
    assert!(faults.is_empty(), "{faults:#?}");
}
