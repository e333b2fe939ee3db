//! The fuzz targets under libFuzzer: `ANCHORHOLD_FUZZ_TARGET` says which. The targets themselves are those of the smoke run.
#![no_main]

#[path = "../tests/fuzz/targets/mod.rs"]
mod targets;

use std::sync::OnceLock;

static TARGET: OnceLock<fn(&[u8])> = OnceLock::new();

fn chosen() -> fn(&[u8]) {
    let name = std::env::var("ANCHORHOLD_FUZZ_TARGET").unwrap_or_default();
    match targets::TARGETS.iter().find(|target| target.name == name) {
        Some(target) => {
            // What our own writers make goes where libFuzzer finds it.
            if let Some(place) = std::env::var_os("ANCHORHOLD_FUZZ_SEEDS") {
                for (number, seed) in (target.seeds)().iter().enumerate() {
                    std::fs::write(std::path::Path::new(&place).join(format!("seed-{number}")), seed).expect("a place for the seeds");
                }
            }
            target.run
        }
        None => {
            let names: Vec<&str> = targets::TARGETS.iter().map(|target| target.name).collect();
            eprintln!("ANCHORHOLD_FUZZ_TARGET must be one of {}", names.join(", "));
            std::process::exit(2);
        }
    }
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    TARGET.get_or_init(chosen)(data);
});
