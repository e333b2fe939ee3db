//! Runs groups outside the test runner and prints what came out: the table of cases, the table of mutations.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use crate::case::{Group, Verdict, Verdicts, Weakening};

type Tried = Result<Verdicts, String>;
/// The controls of a case, each with whether it let the case succeed.
type Controls = Vec<(String, bool)>;

/// Tries a piece of work side by side with others; a panic is its error.
fn guarded(work: impl FnOnce() -> Verdicts) -> Tried {
    catch_unwind(AssertUnwindSafe(work)).map_err(|panic| {
        let text = panic.downcast_ref::<String>().cloned().or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned()));
        text.unwrap_or_else(|| "it panicked".to_owned())
    })
}

/// Does all pieces of work, a few at a time, and gives their results in order.
fn side_by_side<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let workers = std::env::var("ANCHORHOLD_ATTACKS_JOBS").ok().and_then(|n| n.parse().ok()).unwrap_or(3usize).max(1);
    let next = AtomicUsize::new(0);
    let results: Mutex<BTreeMap<usize, R>> = Mutex::new(BTreeMap::new());
    std::thread::scope(|scope| {
        for _ in 0..workers.min(items.len()) {
            scope.spawn(|| {
                while let Some((index, item)) = {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    items.get(index).map(|item| (index, item))
                } {
                    let result = work(item);
                    results.lock().expect("no poison").insert(index, result);
                }
            });
        }
    });
    results.into_inner().expect("no poison").into_values().collect()
}

fn short(text: &str, width: usize) -> String {
    let plain: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if plain.chars().count() <= width { plain } else { plain.chars().take(width - 1).chain(['…']).collect() }
}

/// The table of cases; whether all are blocked in the product and breached under their controls.
pub fn table(groups: &[Group]) -> bool {
    enum Work<'g> {
        Product(&'g Group),
        Control(&'g Group, &'g Weakening),
    }
    let begun = Instant::now();
    let mut work = Vec::new();
    for group in groups {
        work.push(Work::Product(group));
        work.extend(group.controls.iter().map(|control| Work::Control(group, control)));
    }
    let results = side_by_side(&work, |piece| {
        let (name, verdicts) = match piece {
            Work::Product(group) => (format!("{} (product)", group.name), guarded(|| group.product())),
            Work::Control(group, control) => (format!("{} (control {})", group.name, control.name), guarded(|| group.weakened(control))),
        };
        eprintln!("{:>5.0?} s  {name}{}", begun.elapsed().as_secs(), if verdicts.is_err() { ": ERROR" } else { "" });
        verdicts
    });
    let mut product: BTreeMap<&str, Result<Verdict, String>> = BTreeMap::new();
    let mut controls: BTreeMap<&str, Controls> = BTreeMap::new();
    let mut problems = Vec::new();
    for (piece, verdicts) in work.iter().zip(&results) {
        match piece {
            Work::Product(group) => {
                for case in group.cases {
                    let verdict = match verdicts {
                        Ok(all) => all.iter().find(|(id, _)| id == case.id).map(|(_, v)| v.clone()).ok_or_else(|| "not tried".to_owned()),
                        Err(error) => Err(error.clone()),
                    };
                    product.insert(case.id, verdict);
                }
            }
            Work::Control(_, control) => {
                for id in control.breaches {
                    let breached = verdicts.as_ref().is_ok_and(|all| all.iter().any(|(tried, v)| tried == id && v.breached()));
                    if !breached {
                        let why = match verdicts {
                            Ok(all) => all.iter().find(|(tried, _)| tried == id).map_or("not tried", |(_, v)| v.detail()).to_owned(),
                            Err(error) => error.clone(),
                        };
                        problems.push(format!("{id}: the control {} did not let it succeed: {why}", control.name));
                    }
                    controls.entry(id).or_default().push((control.name.to_owned(), breached));
                }
            }
        }
    }
    println!("{:<34} {:<16} {:<9} {:<10} tries", "case", "promise", "product", "control");
    let mut count = 0;
    for group in groups {
        for case in group.cases {
            count += 1;
            let word = match product.get(case.id) {
                Some(Ok(Verdict::Blocked(_))) => "blocked",
                Some(Ok(Verdict::Breached(detail))) => {
                    problems.push(format!("{}: BREACHED: {detail}", case.id));
                    "BREACHED"
                }
                Some(Err(error)) => {
                    problems.push(format!("{}: could not be tried: {error}", case.id));
                    "ERROR"
                }
                None => "ERROR",
            };
            let control = match controls.get(case.id) {
                Some(all) if all.iter().all(|(_, breached)| *breached) => "succeeds",
                Some(_) => "FAILS",
                None => "none",
            };
            println!("{:<34} {:<16} {word:<9} {control:<10} {}", case.id, format!("{:?}", case.promise), case.tries);
            if let Some(Ok(verdict)) = product.get(case.id)
                && std::env::var_os("ANCHORHOLD_ATTACKS_VERBOSE").is_some()
            {
                println!("    {}", short(verdict.detail(), 300));
            }
        }
    }
    for group in groups {
        for (id, why) in group.no_control {
            println!("no control: {id}: {why}");
        }
    }
    for problem in &problems {
        println!("problem: {problem}");
    }
    println!("{count} cases, {} controls, {} problems, {} s", work.len() - groups.len(), problems.len(), begun.elapsed().as_secs());
    problems.is_empty()
}

/// The table of mutations; whether none survives.
pub fn mutations(groups: &[Group]) -> bool {
    let begun = Instant::now();
    let work: Vec<(&Group, Weakening)> = groups.iter().flat_map(|group| group.single_weakenings().into_iter().map(move |w| (group, w))).collect();
    let done = AtomicUsize::new(0);
    let results = side_by_side(&work, |(group, weakening)| {
        let verdicts = guarded(|| group.weakened(weakening));
        let count = done.fetch_add(1, Ordering::Relaxed) + 1;
        eprintln!("{:>5} s  {count}/{}  {} {}", begun.elapsed().as_secs(), work.len(), group.name, weakening.name);
        verdicts
    });
    println!("{:<44} {:<10} {:<9} by", "weakened", "area", "outcome");
    let mut survivors = 0;
    for ((group, weakening), verdicts) in work.iter().zip(&results) {
        let (outcome, by) = match verdicts {
            Ok(all) => {
                let red: Vec<&str> = all.iter().filter(|(_, v)| v.breached()).map(|(id, _)| id.as_str()).collect();
                let why = all.iter().map(|(id, v)| format!("{id}: {}", v.detail())).collect::<Vec<_>>().join("; ");
                if red.is_empty() { ("SURVIVES", short(&why, 200)) } else { ("red", red.join(", ")) }
            }
            Err(error) => ("ERROR", short(error, 200)),
        };
        survivors += usize::from(outcome != "red");
        println!("{:<44} {:<10} {outcome:<9} {by}", weakening.name, group.name);
    }
    println!("{} mutations, {survivors} survivors, {} s", work.len(), begun.elapsed().as_secs());
    survivors == 0
}
