//! Where everything that the command line says goes out.

use std::io::{IsTerminal as _, Write as _};
use std::sync::OnceLock;

use serde_json::{Map, Value, json};

use super::args::ColorChoice;
use crate::display;
use crate::error::Error;

/// The two streams, and in which form each is wanted.
///
/// A reader that closed standard output early (`anchorhold diff … | head`) has had enough, and that is no error. Any other failed write is
/// one: half a patch in a full file system must not look like a whole one.
pub(super) struct Output {
    json: bool,
    quiet: bool,
    /// Standard output takes colours.
    out_color: bool,
    /// Standard error takes colours and moving lines.
    err_color: bool,
    out_terminal: bool,
    err_terminal: bool,
    failed: OnceLock<std::io::Error>,
    /// Something was not written, for whatever reason.
    cut: OnceLock<()>,
}

impl Output {
    pub(super) fn new(json: bool, quiet: bool, color: ColorChoice) -> Self {
        let out_terminal = std::io::stdout().is_terminal();
        let err_terminal = std::io::stderr().is_terminal();
        let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        let plain = set("NO_COLOR").is_some() || set("TERM").is_some_and(|term| term == "dumb");
        let wanted = |terminal: bool| match color {
            ColorChoice::Auto => terminal && !plain,
            ColorChoice::Always => true,
            ColorChoice::Never => false,
        };
        let dumb = set("TERM").is_some_and(|term| term == "dumb");
        Self {
            json,
            quiet,
            out_color: wanted(out_terminal),
            err_color: wanted(err_terminal),
            out_terminal,
            err_terminal: err_terminal && !dumb,
            failed: OnceLock::new(),
            cut: OnceLock::new(),
        }
    }

    /// Whether a JSON document is wanted.
    pub(super) fn json(&self) -> bool {
        self.json
    }

    /// Whether progress and notes are unwanted.
    pub(super) fn quiet(&self) -> bool {
        self.quiet
    }

    /// Whether a person looks at standard output.
    pub(super) fn is_terminal(&self) -> bool {
        self.out_terminal
    }

    /// Whether standard error can redraw a line.
    pub(super) fn moving(&self) -> bool {
        self.err_terminal
    }

    /// Paint for standard output.
    pub(super) fn paint(&self) -> Paint {
        Paint(self.out_color)
    }

    /// Paint for standard error.
    pub(super) fn err_paint(&self) -> Paint {
        Paint(self.err_color)
    }

    /// Bytes to standard output as they are; `false`: nobody reads them any more.
    pub(super) fn bytes(&self, bytes: &[u8]) -> bool {
        let mut out = std::io::stdout().lock();
        match out.write_all(bytes).and_then(|()| out.flush()) {
            Ok(()) => true,
            Err(e) => {
                let _ = self.cut.set(());
                if e.kind() != std::io::ErrorKind::BrokenPipe {
                    // The first failure is the one that is told.
                    let _ = self.failed.set(e);
                }
                false
            }
        }
    }

    /// Whether everything that was said so far was written and flushed.
    pub(super) fn arrived(&self) -> bool {
        self.cut.get().is_none()
    }

    /// The exit code of the whole, once everything is said: another one where standard output could not be written.
    pub(super) fn finish(self, code: u8) -> u8 {
        let Some(e) = self.failed.into_inner() else { return code };
        let e = Error::internal("standard output could not be written").with_hint("free space where it goes, and run it again").with_source(e);
        write_error(&error_text(&e, Paint(self.err_color)));
        e.code.exit_code()
    }

    /// Text to standard output, ended by a newline.
    pub(super) fn text(&self, text: &str) -> bool {
        let end = if text.ends_with('\n') || text.is_empty() { "" } else { "\n" };
        self.bytes(format!("{text}{end}").as_bytes())
    }

    /// The one document of a verb that succeeded: `ok` and the verb's own fields.
    pub(super) fn document(&self, fields: Value) {
        self.outcome(None, fields);
    }

    /// The one document of a verb whose job did not end well, or ended well (`None`): `ok`, the error, and the verb's own fields.
    pub(super) fn outcome(&self, failure: Option<&Error>, fields: Value) {
        let mut document = Map::new();
        document.insert("ok".to_owned(), failure.is_none().into());
        if let Some(e) = failure {
            document.insert("error".to_owned(), error_value(e));
        }
        if let Value::Object(fields) = fields {
            document.extend(fields);
        }
        self.bytes(format!("{}\n", display::json(&format!("{:#}", Value::Object(document)))).as_bytes());
    }

    /// One line of a JSON stream.
    pub(super) fn json_line(&self, value: &Value) -> bool {
        self.bytes(format!("{}\n", display::json(&value.to_string())).as_bytes())
    }

    /// A remark on standard error; nothing with `--quiet`.
    pub(super) fn note(&self, text: &str) {
        if !self.quiet {
            self.note_block(text);
        }
    }

    /// Text on standard error, also with `--quiet`.
    pub(super) fn note_block(&self, text: &str) {
        write_error(text);
    }

    /// Shows an error in the wanted form and returns its exit code.
    pub(super) fn error(&self, e: &Error) -> u8 {
        if self.json {
            self.outcome(Some(e), Value::Null);
        } else {
            self.human_error(e);
        }
        e.code.exit_code()
    }

    /// Shows an error to a person, on standard error.
    pub(super) fn human_error(&self, e: &Error) {
        self.note_block(&error_text(e, self.err_paint()));
    }
}

/// Standard error is the last resort: where it cannot be written there is nobody to tell.
fn write_error(text: &str) {
    let end = if text.ends_with('\n') { "" } else { "\n" };
    let _ = std::io::stderr().lock().write_all(format!("{text}{end}").as_bytes());
}

/// An error for people: `error[code]: message`, its causes and what to do.
pub(super) fn error_text(e: &Error, paint: Paint) -> String {
    // Messages are ours, but causes may quote an engine or a file: nothing of it may steer the terminal.
    let shown = |text: &str| display::line(text.trim().as_bytes());
    let mut text = format!("{}: {}\n", paint.red(&format!("error[{}]", e.code)), shown(&e.message));
    for cause in causes(e) {
        text.push_str(&format!("  cause: {}\n", shown(&cause)));
    }
    for line in e.hint.iter().flat_map(|hint| hint.lines()) {
        text.push_str(&format!("  {}: {}\n", paint.bold("hint"), shown(line)));
    }
    text
}

/// The `error` object of a JSON document.
pub(super) fn error_value(e: &Error) -> Value {
    let shown = |text: &str| display::text(text.as_bytes());
    json!({
        "code": e.code.as_str(),
        "message": shown(&e.message),
        "causes": causes(e).iter().map(|cause| shown(cause)).collect::<Vec<_>>(),
        "hint": e.hint.as_deref().map(shown),
        "temporary": e.code.temporary(),
        "retry_after_ms": e.retry_after_ms,
        "details": e.details,
    })
}

/// The causes from the outside in, each said once.
fn causes(e: &Error) -> Vec<String> {
    let mut said = e.message.clone();
    let mut causes = Vec::new();
    let mut next = std::error::Error::source(e);
    while let Some(cause) = next {
        let text = cause.to_string();
        if !said.contains(&text) {
            said.push_str(&text);
            causes.push(text);
        }
        next = cause.source();
    }
    causes
}

/// Colours for one stream: escape sequences where they are wanted, else nothing.
#[derive(Debug, Clone, Copy)]
pub(super) struct Paint(pub(super) bool);

impl Paint {
    fn wrap(self, codes: &str, text: &str) -> String {
        if self.0 && !text.is_empty() { format!("\x1b[{codes}m{text}\x1b[0m") } else { text.to_owned() }
    }
    pub(super) fn bold(self, text: &str) -> String {
        self.wrap("1", text)
    }
    pub(super) fn dim(self, text: &str) -> String {
        self.wrap("2", text)
    }
    pub(super) fn red(self, text: &str) -> String {
        self.wrap("31", text)
    }
    pub(super) fn green(self, text: &str) -> String {
        self.wrap("32", text)
    }
    pub(super) fn yellow(self, text: &str) -> String {
        self.wrap("33", text)
    }
    pub(super) fn cyan(self, text: &str) -> String {
        self.wrap("36", text)
    }
}
