//! The suite about itself: every fault point in the sources is used by a case, and every case names points that are there.

use std::collections::BTreeSet;
use std::path::Path;

use libtest_mimic::{Failed, Trial};

use crate::case::Case;

pub fn trials(cases: &[Case]) -> Vec<Trial> {
    let used: Vec<(&str, &[&str])> = cases.iter().map(|case| (case.id, case.points)).collect();
    let listed = cases.to_vec();
    vec![
        Trial::test("coverage::every_point_is_used", move || every_point_is_used(&used)),
        Trial::test("coverage::every_guarantee_has_a_control", every_guarantee_has_a_control),
        Trial::test("coverage::the_page_lists_every_case", move || the_page_lists_every_case(&listed)),
    ]
}

/// What the fault suite may take away (`weaken::off("fault.…")`) turns something red.
fn every_guarantee_has_a_control() -> Result<(), Failed> {
    let mut points = BTreeSet::new();
    collect(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), "weaken::off(\"fault.", &mut points);
    let controlled: BTreeSet<String> =
        crate::controls::CONTROLS.iter().filter_map(|control| control.point.strip_prefix("fault.").map(str::to_owned)).collect();
    if points == controlled && points.len() >= 3 {
        Ok(())
    } else {
        Err(Failed::from(format!("in the sources {points:?}, with a control {controlled:?}")))
    }
}

fn the_page_lists_every_case(cases: &[Case]) -> Result<(), Failed> {
    let page = std::fs::read_to_string(crate::document::page()).expect("docs/FAULTS.md");
    let here: BTreeSet<String> = cases.iter().map(crate::document::beginning).collect();
    let mut problems: Vec<String> = here.iter().filter(|line| !page.contains(line.as_str())).map(|line| format!("not on the page: {line}")).collect();
    let rows = page.lines().filter(|line| line.starts_with("| `"));
    problems.extend(rows.filter(|row| !here.iter().any(|line| row.starts_with(line))).map(|row| format!("no case: {row}")));
    if problems.is_empty() { Ok(()) } else { Err(Failed::from(format!("{}\n`make faults-document` writes docs/FAULTS.md", problems.join("\n")))) }
}

fn every_point_is_used(cases: &[(&str, &[&str])]) -> Result<(), Failed> {
    let mut points = BTreeSet::new();
    collect(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), "fault::point(\"", &mut points);
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

/// What follows a beginning up to the next quote, in every source file.
fn collect(dir: &Path, beginning: &str, points: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(dir).expect("the sources") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            collect(&path, beginning, points);
        } else if path.extension().is_some_and(|ext| ext == "rs") {
            let text = std::fs::read_to_string(&path).expect("a source");
            for piece in text.split(beginning).skip(1) {
                let name = piece.split('"').next().unwrap_or_default();
                // The module's own page shows the form.
                if name.chars().all(|c| c.is_ascii_lowercase() || matches!(c, '.' | '_')) {
                    points.insert(name.to_owned());
                }
            }
        }
    }
}
