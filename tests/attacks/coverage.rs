//! The suite about itself: no case without a control, no protection without a mutation.

use std::collections::BTreeSet;
use std::path::Path;

use libtest_mimic::{Failed, Trial};

use crate::case::Group;

pub fn trials(groups: &[Group]) -> Vec<Trial> {
    let (cases, points, fields, pages) = (groups.to_vec(), groups.to_vec(), groups.to_vec(), groups.to_vec());
    vec![
        Trial::test("coverage::every_case_has_a_control", move || every_case_has_a_control(&cases)),
        Trial::test("coverage::every_point_has_a_mutation", move || every_point_has_a_mutation(&points)),
        Trial::test("coverage::every_field_has_a_mutation", move || every_field_has_a_mutation(&fields)),
        Trial::test("coverage::the_pages_are_current", move || the_pages_are_current(&pages)),
    ]
}

fn verdict(problems: &[String]) -> Result<(), Failed> {
    if problems.is_empty() { Ok(()) } else { Err(Failed::from(problems.join("\n"))) }
}

fn every_case_has_a_control(groups: &[Group]) -> Result<(), Failed> {
    let mut problems = Vec::new();
    let mut ids = BTreeSet::new();
    for group in groups {
        for case in group.cases {
            if !ids.insert(case.id) {
                problems.push(format!("{} stands for two cases", case.id));
            }
            let controlled = group.controls.iter().any(|control| control.breaches.contains(&case.id));
            let excused = group.no_control.iter().any(|(id, why)| *id == case.id && !why.is_empty());
            if controlled == excused {
                problems.push(format!("{} needs a control, or else a reason why there is none", case.id));
            }
        }
        for weakening in group.controls.iter().chain(group.mutations) {
            for id in weakening.breaches {
                if !group.cases.iter().any(|case| case.id == *id) {
                    problems.push(format!("{}: {} names the case {id}, which is not there", group.name, weakening.name));
                }
            }
            if weakening.breaches.is_empty() {
                problems.push(format!("{}: {} breaches nothing", group.name, weakening.name));
            }
        }
        problems.extend(group.mutations.iter().filter(|w| !w.single()).map(|w| format!("{} weakens more than one thing", w.name)));
    }
    verdict(&problems)
}

fn every_point_has_a_mutation(groups: &[Group]) -> Result<(), Failed> {
    let mut points = BTreeSet::new();
    collect(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut points);
    let weakened: BTreeSet<String> =
        groups.iter().flat_map(Group::single_weakenings).flat_map(|w| w.points.iter().map(|p| (*p).to_owned()).collect::<Vec<_>>()).collect();
    let controlled = |point: &str| groups.iter().flat_map(|g| g.controls).any(|control| control.points.contains(&point));
    let doubled: BTreeSet<String> = DOUBLED.iter().map(|(point, _)| (*point).to_owned()).filter(|point| controlled(point)).collect();
    points.retain(|point| !doubled.contains(point));
    let mut problems: Vec<String> = points.difference(&weakened).map(|p| format!("the protection {p} is weakened by no mutation")).collect();
    problems.extend(weakened.difference(&points).map(|p| format!("a mutation names {p}, which is not in the sources")));
    verdict(&problems)
}

/// Points behind a second wall, so that nothing turns red when they alone are off: a control takes both away.
const DOUBLED: [(&str, &str); 5] = [
    ("gateway.proxy", "the environment that could name a proxy is cleared besides"),
    ("inherit.list", "the cell refuses a setting that is not on the list, and no job starts"),
    ("codex.settings", "the host hands over no setting that is not on the list"),
    ("mcp.continue", "the start compares the job's directory with the caller's once more"),
    ("continue.workspace", "the MCP server compares before it, and the command line names the job's own directory"),
];

/// Fields of the create call that no mutation weakens, and why.
const NOT_WEAKENED: [(&str, &str); 3] = [
    ("Image", "no wall of the container; the group `supply` attacks it"),
    ("Labels", "facts about a job, no wall"),
    (
        "HostConfig.Privileged",
        "an engine in a sandbox cannot start such a container; CapAdd, SecurityOpt, MaskedPaths and devices are weakened one by one",
    ),
];

/// Every field that `engine/spec.rs` writes is taken away by a merge patch of its own.
fn every_field_has_a_mutation(groups: &[Group]) -> Result<(), Failed> {
    let source = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/engine/spec.rs")).expect("the specification");
    let mut fields = written(&source, "Ok(ContainerCreateBody {", "");
    fields.extend(written(&source, "    HostConfig {\n", "HostConfig."));
    assert!(fields.len() > 35, "the fields were not found: {fields:?}");
    let patches: Vec<serde_json::Value> = groups.iter().flat_map(Group::single_weakenings).filter_map(|w| serde_json::from_str(w.job).ok()).collect();
    let weakened = |field: &str| {
        let pointer = format!("/{}", field.replace('.', "/"));
        patches.iter().any(|patch| patch.pointer(&pointer).is_some())
    };
    let excused = |field: &str| NOT_WEAKENED.iter().any(|(known, _)| *known == field);
    let problems = fields.iter().filter(|field| *field != "HostConfig" && weakened(field) == excused(field));
    verdict(&problems.map(|field| format!("{field} must be weakened by a mutation, or else excused")).collect::<Vec<_>>())
}

/// The names that the engine gives to the fields of a struct literal which begins at `mark`.
fn written(source: &str, mark: &str, prefix: &str) -> Vec<String> {
    let literal = source.split_once(mark).expect("the literal").1;
    // A field of the literal itself stands as deep as the first one; what is deeper belongs to a field.
    let first = literal.lines().find(|line| line.contains(": ")).expect("a field");
    let indent = first.len() - first.trim_start().len();
    let of_literal = literal.lines().take_while(|line| line.trim().is_empty() || line.len() - line.trim_start().len() >= indent);
    of_literal
        .filter(|line| line.len() - line.trim_start().len() == indent)
        .filter_map(|line| {
            let name = line.trim_start().split([':', ',']).next()?;
            (!name.is_empty() && name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')).then(|| format!("{prefix}{}", camel(name)))
        })
        .collect()
}

fn camel(name: &str) -> String {
    name.split('_').map(|word| word[..1].to_uppercase() + &word[1..]).collect()
}

fn the_pages_are_current(groups: &[Group]) -> Result<(), Failed> {
    let stale = crate::document::pages(groups).into_iter().filter(|(path, text)| std::fs::read_to_string(path).ok().as_ref() != Some(text));
    let problems: Vec<String> = stale.map(|(path, _)| format!("{} is not current: `make attacks-document` writes it", path.display())).collect();
    verdict(&problems)
}

/// The names in `weaken::off("…")` below a directory.
fn collect(directory: &Path, points: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(directory).expect("the sources") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            collect(&path, points);
        } else if path.extension().is_some_and(|e| e == "rs") && !path.ends_with("weaken.rs") {
            let text = std::fs::read_to_string(&path).expect("a source file");
            let named = text.split("weaken::off(\"").skip(1).filter_map(|rest| Some(rest.split_once('"')?.0.to_owned()));
            // What the fault suite takes away has its controls there (`tests/faults/coverage.rs`).
            points.extend(named.filter(|point| !point.starts_with("fault.")));
        }
    }
}
