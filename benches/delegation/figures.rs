//! Taking and printing figures.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// One line of the table.
pub struct Figure {
    name: &'static str,
    value: f64,
    unit: &'static str,
    baseline: Option<(&'static str, f64)>,
    limit: f64,
    at_least: bool,
}

impl Figure {
    /// Seconds against a baseline of the same run.
    pub fn ratio(name: &'static str, value: f64, baseline_name: &'static str, baseline: f64, limit: f64) -> Self {
        Self { name, value, unit: "s", baseline: Some((baseline_name, baseline)), limit, at_least: false }
    }

    /// A figure with a limit of its own.
    pub fn absolute(name: &'static str, value: f64, unit: &'static str, limit: f64) -> Self {
        Self { name, value, unit, baseline: None, limit, at_least: false }
    }

    /// A figure that must not be below its limit.
    pub fn at_least(name: &'static str, value: f64, unit: &'static str, limit: f64) -> Self {
        Self { name, value, unit, baseline: None, limit, at_least: true }
    }
}

/// Prints the table. A figure over its limit is marked, not failed: these machines are noisy.
pub fn print(figures: &[Figure], runs: usize) {
    println!("\nmedian of {runs} runs\n");
    for figure in figures {
        let (shown, measured) = match figure.baseline {
            Some((name, baseline)) => {
                let ratio = figure.value / baseline;
                (format!("{ratio:6.2} × ({name} {baseline:.3} s)   {:.3} s", figure.value), ratio)
            }
            None => (format!("{:6.2} {}", figure.value, figure.unit), figure.value),
        };
        let kept = if figure.at_least { measured >= figure.limit } else { measured <= figure.limit };
        let (verdict, bound) = (if kept { "ok  " } else { "MISS" }, if figure.at_least { "at least" } else { "at most" });
        println!("{verdict} {:<55} {shown}   ({bound} {})", figure.name, figure.limit);
    }
}

/// Seconds that a closure takes.
pub fn timed(work: impl FnOnce()) -> f64 {
    let start = Instant::now();
    work();
    start.elapsed().as_secs_f64()
}

/// The median of several runs after one that is not counted.
pub fn median(runs: usize, mut run: impl FnMut() -> f64) -> f64 {
    run();
    let mut values: Vec<f64> = (0..runs).map(|_| run()).collect();
    middle(&mut values)
}

/// The middle value.
pub fn middle(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Now, in Unix milliseconds.
pub fn unix_ms() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs_f64() * 1000.0
}

/// Resident memory of a process, MB of 10^6 bytes.
pub fn rss_mb(pid: u32) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the process runs on this machine");
    let kib: f64 = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).and_then(|v| v.trim().trim_end_matches(" kB").parse().ok()).expect("VmRSS");
    kib * 1024.0 / 1e6
}
