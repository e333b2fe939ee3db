//! The framing around a task (`job`).
