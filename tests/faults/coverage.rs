//! The suite about itself: every fault point in the sources is used by a case, and every case names points that are there.

use std::collections::BTreeSet;
use std::path::Path;

use libtest_mimic::{Failed, Trial};

use crate::case::Case;

pub fn trials(cases: &[Case]) -> Vec<Trial> {
    let used: Vec<(&str, &[&str])> = cases.iter().map(|case| (case.id, case.points)).collect();
    vec![Trial::test("coverage::every_point_is_used", move || every_point_is_used(&used))]
}

fn every_point_is_used(cases: &[(&str, &[&str])]) -> Result<(), Failed> {
    let mut points = BTreeSet::new();
    collect(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut points);
    let mut problems = Vec::new();
    let mut ids = BTreeSet::new();
    for (id, named) in cases {
        if !ids.insert(*id) {
            problems.push(format!("{id} stands for two cases"));
        }
        problems
            .extend(named.iter().filter(|point| !points.contains(**point)).map(|point| format!("{id} names {point}, which is not in the sources")));
    }
    problems
        .extend(points.iter().filter(|point| !cases.iter().any(|(_, named)| named.contains(&point.as_str()))).map(|p| format!("no case uses {p}")));
    if problems.is_empty() { Ok(()) } else { Err(Failed::from(problems.join("\n"))) }
}

/// The names in `fault::point("…")` of every source file.
fn collect(dir: &Path, points: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(dir).expect("the sources") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            collect(&path, points);
        } else if path.extension().is_some_and(|ext| ext == "rs") {
            let text = std::fs::read_to_string(&path).expect("a source");
            for piece in text.split("fault::point(\"").skip(1) {
                let name = piece.split('"').next().unwrap_or_default();
                // The module's own page shows the form.
                if name.chars().all(|c| c.is_ascii_lowercase() || matches!(c, '.' | '_')) {
                    points.insert(name.to_owned());
                }
            }
        }
    }
}
