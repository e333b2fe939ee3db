//! The suite as pages: `docs/ATTACKS.md` as a whole, and the table of promises in `docs/SECURITY.md`. `ANCHORHOLD_ATTACKS=document` writes them.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use crate::case::{Group, Promise, Weakening};

const BEGIN: &str = "<!-- made by the attack suite: begin -->\n";
const END: &str = "<!-- made by the attack suite: end -->\n";

const PROMISES: [(Promise, &str); 12] = [
    (Promise::Escape, "Escape"),
    (Promise::HostLeak, "Host leak"),
    (Promise::HostWrite, "Host write"),
    (Promise::Exfiltration, "Exfiltration"),
    (Promise::Key, "Key"),
    (Promise::Spend, "Spend"),
    (Promise::Lateral, "Lateral"),
    (Promise::DenialOfService, "Denial of service"),
    (Promise::Persistence, "Persistence"),
    (Promise::Deception, "Deception"),
    (Promise::Loss, "Loss"),
    (Promise::Downgrade, "Downgrade"),
];

fn place(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(name)
}

/// Each page with the text that it should have.
pub fn pages(groups: &[Group]) -> Vec<(PathBuf, String)> {
    let security = place("SECURITY.md");
    let text = std::fs::read_to_string(&security).expect("docs/SECURITY.md");
    let (before, rest) = text.split_once(BEGIN).expect("the mark where the table begins");
    let (_, after) = rest.split_once(END).expect("the mark where the table ends");
    let whole = format!("{before}{BEGIN}{}{END}{after}", promises(groups));
    vec![(place("ATTACKS.md"), attacks(groups)), (security, whole)]
}

/// Writes the pages.
pub fn write(groups: &[Group]) {
    for (path, text) in pages(groups) {
        std::fs::write(path, text).expect("a page");
    }
}

fn promise_name(promise: Promise) -> &'static str {
    PROMISES.iter().find(|(p, _)| *p == promise).map(|(_, name)| *name).expect("all promises have names")
}

fn code(names: impl IntoIterator<Item = impl AsRef<str>>) -> String {
    names.into_iter().map(|name| format!("`{}`", name.as_ref())).collect::<Vec<_>>().join(" ")
}

/// Promise, the cases that try to break it, the protections whose loss turns one of them red.
fn promises(groups: &[Group]) -> String {
    let mut text = "| promise | cases | protections whose loss turns one of them red |\n|---|---|---|\n".to_owned();
    for (promise, name) in PROMISES {
        let cases: Vec<&str> = groups.iter().flat_map(|g| g.cases).filter(|c| c.promise == promise).map(|c| c.id).collect();
        let mut weakened: Vec<&str> = Vec::new();
        for weakening in groups.iter().flat_map(Group::single_weakenings) {
            if weakening.breaches.iter().any(|id| cases.contains(id)) {
                weakened.push(weakening.name);
            }
        }
        weakened.sort_unstable();
        weakened.dedup();
        // Call by call they are in the other page.
        let (calls, weakened): (Vec<&str>, Vec<&str>) = weakened.into_iter().partition(|name| name.starts_with("seccomp.json: "));
        let (again, cases): (Vec<&str>, Vec<&str>) = cases.into_iter().partition(|id| id.ends_with("-by-profile"));
        let further = |list: &[&str], words: &str| if list.is_empty() { String::new() } else { format!(", {} {words}", list.len()) };
        let again = further(&again, "of them again with the profile as the only wall");
        let calls = further(&calls, "system calls of `seccomp.json`, one by one");
        let _ = writeln!(text, "| {name} | {}{again} | {}{calls} |", code(cases), code(weakened));
    }
    text
}

fn attacks(groups: &[Group]) -> String {
    let mut text = "# The attacks, and what each proves\n\nMade by the attack suite (`tests/attacks`); a test keeps it true. `make attacks` tries every case in the product, where it must be blocked, and under its\ncontrols, where the same attack must succeed. `make attacks-mutate` takes away one protection at a time; at least one of the cases named beside it must succeed\nthen. `tests/attacks/README.md` explains the attacker and the rows that do not apply.\n".to_owned();
    let single: BTreeMap<&str, usize> = groups.iter().map(|g| (g.name, g.single_weakenings().len())).collect();
    let cases: usize = groups.iter().map(|g| g.cases.len()).sum();
    let _ = writeln!(text, "\n{cases} cases in {} groups, {} mutations.", groups.len(), single.values().sum::<usize>());
    for group in groups {
        let _ = write!(text, "\n## {}\n\n| case | promise | tries | succeeds under |\n|---|---|---|---|\n", group.name);
        for case in group.cases {
            let controls: Vec<&str> = group.controls.iter().filter(|c| c.breaches.contains(&case.id)).map(|c| c.name).collect();
            let why = group.no_control.iter().find(|(id, _)| *id == case.id).map(|(_, why)| format!("none: {why}"));
            let under = why.unwrap_or_else(|| code(controls));
            let _ = writeln!(text, "| `{}` | {} | {} | {} |", case.id, promise_name(case.promise), cell(case.tries), cell(&under));
        }
        let weakenings = group.single_weakenings();
        if !weakenings.is_empty() {
            let _ = write!(text, "\n| taken away | turns red |\n|---|---|\n");
            for weakening in &weakenings {
                let _ = writeln!(text, "| {} | {} |", taken(weakening), code(weakening.breaches));
            }
        }
    }
    text
}

fn taken(weakening: &Weakening) -> String {
    let patch = [weakening.job, weakening.gateway].into_iter().find(|p| !p.is_empty());
    match patch {
        Some(patch) if patch.len() <= 100 && patch != weakening.name => format!("`{}`: `{}`", weakening.name, cell(patch)),
        _ => format!("`{}`", weakening.name),
    }
}

/// Text in a table's cell.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}
