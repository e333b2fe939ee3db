//! The smoke run of the fuzz targets: every input of the corpus (regressions among them), the seeds, and a fixed number of mutated ones.
//! It needs no special compiler. `make fuzz` runs the same targets guided by coverage; see `docs/FUZZING.md`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "an oracle fails by panicking")]

mod controls;
mod mutate;
mod targets;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use self::targets::{TARGETS, Target};

fn place(part: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz").join(part)
}

/// The corpus of a target, in the order of its names.
fn corpus(target: &Target) -> Vec<(String, Vec<u8>)> {
    let Ok(entries) = std::fs::read_dir(place("corpus").join(target.name)) else { return Vec::new() };
    let mut files: Vec<PathBuf> = entries.map(|e| e.unwrap().path()).collect();
    files.sort();
    files.into_iter().map(|file| (file.file_name().unwrap().to_string_lossy().into_owned(), std::fs::read(&file).unwrap())).collect()
}

/// Runs one input; says which it was if an oracle fails.
fn try_input(target: &Target, name: &str, input: &[u8]) {
    if catch_unwind(AssertUnwindSafe(|| (target.run)(input))).is_err() {
        let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("fuzz-{}", target.name));
        std::fs::write(&kept, input).unwrap();
        panic!("target {}, input {name}: kept in {}\n{}", target.name, kept.display(), input.escape_ascii());
    }
}

fn smoke(name: &str) {
    let target = TARGETS.iter().find(|t| t.name == name).expect("a target");
    let mut inputs = (target.seeds)();
    for (number, seed) in inputs.iter().enumerate() {
        try_input(target, &format!("seed {number}"), seed);
    }
    for (file, input) in corpus(target) {
        try_input(target, &file, &input);
        inputs.push(input);
    }
    try_input(target, "empty", b"");
    let words =
        std::fs::read_to_string(place("dictionaries").join(format!("{name}.dict"))).map_or_else(|_| Vec::new(), |text| mutate::dictionary(&text));
    let number = |name: &str| std::env::var(name).ok().and_then(|n| n.parse::<u64>().ok());
    // Another seed is another run; more is longer.
    let mut random = mutate::Random::of(name, number("ANCHORHOLD_FUZZ_SEED").unwrap_or(0));
    for turn in 0..u64::from(target.smoke) * number("ANCHORHOLD_FUZZ_TIMES").unwrap_or(1) {
        let input = mutate::mutate(&inputs, &words, &mut random);
        try_input(target, &format!("mutation {turn}"), &input);
    }
}

macro_rules! smoke_runs {
    ($($name:ident)*) => {
        $(#[test]
        fn $name() {
            smoke(stringify!($name));
        })*
        const RUN: &[&str] = &[$(stringify!($name)),*];
    };
}

smoke_runs! { answer changes diff display download events ignore ledger lines listing log manifest patch path policy program review settings trees }

#[test]
fn every_target_is_run_and_every_corpus_has_a_target() {
    let names: Vec<&str> = TARGETS.iter().map(|t| t.name).collect();
    assert_eq!(names, RUN);
    for part in ["corpus", "dictionaries"] {
        for entry in std::fs::read_dir(place(part)).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            assert!(names.contains(&name.trim_end_matches(".dict")), "fuzz/{part}/{name} belongs to no target");
        }
    }
    for target in TARGETS {
        let files = corpus(target);
        assert!(!files.is_empty(), "fuzz/corpus/{} is empty", target.name);
        assert!(files.iter().all(|(_, bytes)| bytes.len() <= 16 << 10), "fuzz/corpus/{} holds large files", target.name);
    }
}
