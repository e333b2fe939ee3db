//! What is counted. Names, labels and their values are words of this program, so that nothing a job says makes a series.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{ENDPOINT, EXPORTER};

/// Upper bounds of a duration's buckets, in milliseconds.
pub const BOUNDS: [f64; 12] = [5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1_000.0, 5_000.0, 30_000.0, 300_000.0, 1_800_000.0];

/// What is counted, and in what unit.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Series {
    /// Dotted, `anchorhold.…`.
    pub name: &'static str,
    /// In UCUM's spelling.
    pub unit: &'static str,
    /// Key and value, each one of few.
    pub labels: Vec<(&'static str, &'static str)>,
}

/// What was seen of a series since it was last sent.
#[derive(Debug, Clone, PartialEq)]
pub enum Point {
    /// So many more.
    Count(u64),
    /// So many now.
    Gauge(u64),
    /// Durations.
    Times {
        /// How many.
        count: u64,
        /// Milliseconds of all.
        sum_ms: f64,
        /// How many in each bucket; one more than there are bounds.
        buckets: Vec<u64>,
    },
}

/// One observation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Seen {
    /// So many more.
    More(u64),
    /// So many now.
    Now(u64),
    /// It took so many milliseconds.
    Took(f64),
}

/// The series of one collector, until they are sent.
#[derive(Debug, Default)]
pub struct Table(BTreeMap<Series, Point>);

impl Table {
    /// Adds an observation.
    pub fn add(&mut self, series: Series, seen: Seen) {
        match seen {
            Seen::More(more) => match self.0.entry(series).or_insert(Point::Count(0)) {
                Point::Count(count) => *count = count.saturating_add(more),
                other => *other = Point::Count(more),
            },
            Seen::Now(value) => {
                self.0.insert(series, Point::Gauge(value));
            }
            Seen::Took(ms) => {
                let fresh = || Point::Times { count: 0, sum_ms: 0.0, buckets: vec![0; BOUNDS.len() + 1] };
                if let Point::Times { count, sum_ms, buckets } = self.0.entry(series).or_insert_with(fresh) {
                    *count += 1;
                    *sum_ms += ms;
                    let bucket = BOUNDS.iter().position(|bound| ms <= *bound).unwrap_or(BOUNDS.len());
                    if let Some(bucket) = buckets.get_mut(bucket) {
                        *bucket += 1;
                    }
                }
            }
        }
    }

    /// Takes everything out.
    pub fn take(&mut self) -> Vec<(Series, Point)> {
        std::mem::take(&mut self.0).into_iter().collect()
    }
}

/// Observes for the host's collector; nothing without one.
pub fn observe(name: &'static str, unit: &'static str, labels: &[(&'static str, &'static str)], seen: Seen) {
    if let Some(endpoint) = ENDPOINT.get() {
        observe_for(endpoint, name, unit, labels, seen);
    }
}

/// Observes for a collector of the caller's choice. Never waits.
pub fn observe_for(endpoint: &Arc<str>, name: &'static str, unit: &'static str, labels: &[(&'static str, &'static str)], seen: Seen) {
    if let Some(exporter) = EXPORTER.get() {
        exporter.observe(endpoint, Series { name, unit, labels: labels.to_vec() }, seen);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn observations_add_up_by_series() {
        let series = |name: &'static str, outcome| Series { name, unit: "1", labels: vec![("outcome", outcome)] };
        let mut table = Table::default();
        table.add(series("a", "ok"), Seen::More(2));
        table.add(series("a", "ok"), Seen::More(3));
        table.add(series("a", "failed"), Seen::More(1));
        table.add(series("b", "ok"), Seen::Now(7));
        table.add(series("b", "ok"), Seen::Now(4));
        for ms in [1.0, 5.0, 6.0, 1e9] {
            table.add(series("c", "ok"), Seen::Took(ms));
        }
        let taken = table.take();
        assert_eq!(taken[0], (series("a", "failed"), Point::Count(1)));
        assert_eq!(taken[1], (series("a", "ok"), Point::Count(5)));
        assert_eq!(taken[2], (series("b", "ok"), Point::Gauge(4)));
        let Point::Times { count, buckets, .. } = &taken[3].1 else { panic!("{taken:?}") };
        assert_eq!((*count, buckets[0], buckets[1], buckets[BOUNDS.len()]), (4, 2, 1, 1));
        assert!(table.take().is_empty());
    }
}
