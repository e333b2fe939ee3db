//! Progress on standard error: one moving line on a terminal, plain lines elsewhere, nothing with `--quiet`.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::output::Output;
use super::render;
use crate::protocol::progress::{Phase, Progress};
use crate::review::format::escape;

/// Shows what a job does while somebody waits for it.
pub(super) struct Reporter<'a> {
    out: &'a Output,
    bar: Option<ProgressBar>,
    started: Instant,
    /// The line shown last, so that a repeated record adds none.
    last: String,
    /// On a terminal too, keep each line instead of moving over it.
    history: bool,
}

impl<'a> Reporter<'a> {
    pub(super) fn new(out: &'a Output, history: bool) -> Self {
        let bar = (out.moving() && !out.quiet()).then(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
            if let Ok(style) = ProgressStyle::with_template("{spinner} {elapsed} {wide_msg}") {
                bar.set_style(style);
            }
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        });
        Self { out, bar, started: Instant::now(), last: String::new(), history }
    }

    /// A step of ours, before there are records or between them.
    pub(super) fn step(&mut self, text: &str) {
        self.show(text.to_owned());
    }

    /// A record of the job's log.
    pub(super) fn record(&mut self, record: &Progress) {
        self.show(activity(record));
    }

    /// A line that stays.
    pub(super) fn note(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| self.out.note(text)),
            None => self.out.note(text),
        }
    }

    fn show(&mut self, text: String) {
        if text == self.last {
            return;
        }
        let line = format!("[{:>6}] {text}", render::duration(self.started.elapsed()));
        match &self.bar {
            Some(bar) => {
                if self.history {
                    bar.suspend(|| self.out.note(&self.out.err_paint().dim(&line)));
                }
                bar.set_message(text.clone());
            }
            None => self.out.note(&line),
        }
        self.last = text;
    }
}

impl Drop for Reporter<'_> {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// One line on what a job does now; the job's own words are escaped, for a terminal and for the runner that reads a pipeline's log.
pub(super) fn activity(record: &Progress) -> String {
    let said = record.message.as_deref().map(|message| escape::inert(&render::clip(message.as_bytes(), 200))).filter(|said| !said.is_empty());
    match (record.phase, said) {
        (Phase::Queued, _) => match record.position {
            Some(position) => format!("queued: place {position}"),
            None => "queued".to_owned(),
        },
        (Phase::Sealed, _) => record.reason.map_or_else(|| "sealed".to_owned(), |reason| format!("sealed: {}", reason.as_str())),
        (phase, Some(said)) => format!("{}: {said}", phase_word(phase)),
        (phase, None) => phase_word(phase).to_owned(),
    }
}

pub(super) fn phase_word(phase: Phase) -> &'static str {
    match phase {
        Phase::Unpacking => "unpacking",
        Phase::Queued => "queued",
        Phase::Running => "running",
        Phase::Sealing => "sealing",
        Phase::Sealed => "sealed",
    }
}
