//! The fault table, printed.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use crate::case::{Case, Row};

/// Runs cases a few at a time; what was found, by their place in the list.
fn run(cases: &[Case], begun: Instant) -> BTreeMap<usize, Result<Row, String>> {
    let workers = std::env::var("ANCHORHOLD_FAULTS_JOBS").ok().and_then(|n| n.parse().ok()).unwrap_or(3usize).max(1);
    let next = AtomicUsize::new(0);
    let results: Mutex<BTreeMap<usize, Result<Row, String>>> = Mutex::new(BTreeMap::new());
    std::thread::scope(|scope| {
        for _ in 0..workers.min(cases.len()) {
            scope.spawn(|| {
                while let Some((index, case)) = {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    cases.get(index).map(|case| (index, case))
                } {
                    let row = catch_unwind(AssertUnwindSafe(case.run)).map_err(|panic| {
                        let text = panic.downcast_ref::<String>().cloned().or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned()));
                        text.unwrap_or_else(|| "it panicked".to_owned())
                    });
                    eprintln!("{:>5} s  {}{}", begun.elapsed().as_secs(), case.id, if row.is_err() { ": RED" } else { "" });
                    results.lock().expect("no poison").insert(index, row);
                }
            });
        }
    });
    results.into_inner().expect("no poison")
}

/// Runs cases, prints a row for each, and with `document` writes `docs/FAULTS.md`; whether no cell is red.
pub fn table(cases: &[Case], document: bool) -> bool {
    let begun = Instant::now();
    let results = run(cases, begun);
    println!("{:<34} {:<44} {:<48} {:<12} {:<20} {:<8} {:>6}  leaks", "case", "fault", "step", "state", "reason", "patch", "s");
    if document {
        let found = cases.iter().zip(results.values()).filter_map(|(case, row)| Some((case.id, row.clone().ok()?))).collect();
        crate::write_page(&found);
    }
    let mut red = 0;
    for (case, row) in cases.iter().zip(results.values()) {
        match row {
            Ok(row) => println!(
                "{:<34} {:<44} {:<48} {:<12} {:<20} {:<8} {:>6.2}  0  {}",
                case.id, case.fault, case.step, row.state, row.reason, row.patch, row.answered, row.note
            ),
            Err(why) => {
                red += 1;
                println!("{:<34} {:<44} {:<48} RED: {why}", case.id, case.fault, case.step);
            }
        }
    }
    println!("{} cases, {red} red, {} s", cases.len(), begun.elapsed().as_secs());
    red == 0
}
