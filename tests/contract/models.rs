//! The list of models against the Codex CLI that is pinned.

use std::path::PathBuf;

use serde_json::Value;

use super::support::Environment;
use anchorhold::codex::models::{KNOWN, VERSION};

#[test]
fn the_models_are_those_of_the_pinned_codex() {
    let codex =
        std::env::var_os("ANCHORHOLD_TEST_CODEX").map(PathBuf::from).expect("set ANCHORHOLD_TEST_CODEX to the Codex binary (`make test` does)");
    let environment = Environment::new();
    let home = environment.path().join("codex");
    std::fs::create_dir(&home).unwrap();
    let output = environment.command(codex.to_str().unwrap()).env("CODEX_HOME", &home).args(["debug", "models", "--bundled"]).output().unwrap();
    let catalogue: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&output.stderr)));
    let offered = catalogue["models"].as_array().unwrap().iter().filter(|model| model["visibility"] == "list");
    let offered: Vec<_> = offered
        .map(|model| {
            let efforts: Vec<&str> =
                model["supported_reasoning_levels"].as_array().unwrap().iter().map(|level| level["effort"].as_str().unwrap()).collect();
            (model["slug"].as_str().unwrap(), model["display_name"].as_str().unwrap(), model["default_reasoning_level"].as_str().unwrap(), efforts)
        })
        .collect();
    let known: Vec<_> = KNOWN.iter().map(|model| (model.slug, model.display_name, model.default_effort, model.efforts.to_vec())).collect();
    assert_eq!(known, offered);
    let version = environment.command(codex.to_str().unwrap()).arg("--version").output().unwrap();
    assert!(String::from_utf8_lossy(&version.stdout).trim().ends_with(VERSION));
}
