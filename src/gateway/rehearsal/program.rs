//! The little language of rehearsal programs; `docs/REHEARSAL.md` is its manual.
//!
//! A program stands in a fenced block of the task text. It becomes a list of answers, each of which ends with a tool call or with the final message.

use std::time::Duration;

use sha2::{Digest as _, Sha256};

use crate::protocol::result::Usage;

/// Most answers in a program.
const MAX_ANSWERS: usize = 2000;
/// Longest delay.
const MAX_DELAY: Duration = Duration::from_secs(3600);
/// Largest filler.
const MAX_FILLER: u64 = 64 << 20;

/// A program, ready to be played.
#[derive(Debug, Clone, PartialEq)]
pub struct Program {
    /// What the model answers, one after the other.
    pub answers: Vec<Answer>,
    /// Tells programs apart, for counting how often a fault has happened.
    pub id: [u8; 8],
}

/// One answer of the model.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Answer {
    /// Before the answer begins.
    pub delay: Duration,
    /// Messages before the action.
    pub says: Vec<String>,
    /// Bytes of text that are streamed and then thrown away.
    pub filler: u64,
    /// Bytes a second; `None` is at once.
    pub rate: Option<u64>,
    /// Tokens to report; `None` is counted from the sizes.
    pub usage: Option<Usage>,
    /// What goes wrong instead, in order.
    pub faults: Vec<PlannedFault>,
    /// How the answer ends.
    pub action: Action,
}

/// How an answer ends.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Runs a command.
    Shell(String),
    /// Applies a patch in the form of `apply_patch`.
    Patch(String),
    /// Ends the turn.
    Message(String),
    /// Ends the turn with a scripted review of the place that the last output names; no program can ask for it.
    Review,
}

impl Default for Action {
    fn default() -> Self {
        Self::Message("The rehearsal program has come to its end.".to_owned())
    }
}

/// A fault and how often it happens.
#[derive(Debug, Clone, PartialEq)]
pub struct PlannedFault {
    /// Number within the program.
    pub index: usize,
    /// How often; `None` is each time.
    pub times: Option<u64>,
    /// What happens.
    pub fault: Fault,
}

/// What can go wrong.
#[derive(Debug, Clone, PartialEq)]
pub enum Fault {
    /// An HTTP status with the code that a provider would give.
    Status {
        /// The status.
        status: u16,
        /// `error.type` and `error.code`.
        code: &'static str,
        /// The `Retry-After` header.
        retry_after: Option<u64>,
        /// Seconds until the quota resets.
        resets_in: Option<i64>,
    },
    /// An answer that ends with `response.failed`.
    Failed {
        /// `error.code`.
        code: &'static str,
        /// "try again in … s".
        wait: Option<f64>,
    },
    /// An answer that ends with `response.incomplete`.
    Incomplete,
    /// The answer begins and breaks off.
    Cut,
    /// No answer, not even its head.
    Hang,
    /// The answer begins and does not go on.
    Stall,
    /// An answer that is no event stream.
    Garbage,
    /// No connection.
    Refuse,
}

/// A mistake in a program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// Line within the block, from 1.
    pub line: usize,
    /// What is wrong.
    pub what: String,
}

/// The text of the first rehearsal block in a task, if there is one.
pub fn block(task: &str) -> Option<String> {
    let mut lines = task.lines();
    let fence = lines.by_ref().find_map(|line| {
        let line = line.trim();
        let ticks = line.bytes().take_while(|b| *b == b'`').count();
        (ticks >= 3 && line.get(ticks..).is_some_and(|rest| rest.trim() == "rehearsal")).then_some(ticks)
    })?;
    let closes = |line: &str| {
        let line = line.trim();
        line.len() >= fence && line.bytes().all(|b| b == b'`')
    };
    Some(lines.take_while(|line| !closes(line)).collect::<Vec<_>>().join("\n"))
}

/// What is played where the task holds no program.
pub fn default_program() -> Program {
    let answers = vec![
        Answer {
            says: vec!["This is the rehearsal model: I play a fixed script and do not think. First I look around.".to_owned()],
            action: Action::Shell("ls -la".to_owned()),
            ..Answer::default()
        },
        Answer {
            action: Action::Shell(
                "printf '%s\\n' 'The rehearsal model was here: a scripted run, no real model was asked.' >> REHEARSAL.md".to_owned(),
            ),
            ..Answer::default()
        },
        Answer {
            action: Action::Message(
                "This was a scripted rehearsal: I listed the files and added a line to REHEARSAL.md. No real model was asked. To script other \
                 steps, put a ```rehearsal block into the task; to use a real model, set model.upstream and an API key."
                    .to_owned(),
            ),
            ..Answer::default()
        },
    ];
    Program { answers, id: *b"default0" }
}

/// Reads a program.
pub fn parse(text: &str) -> Result<Program, Mistake> {
    let mut parser = Parser::default();
    let mut lines = (1..).zip(text.lines());
    let mut last = 1;
    while let Some((number, line)) = lines.next() {
        last = number;
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let fail = |what: String| Mistake { line: number, what };
        let (verb, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let rest = rest.trim();
        let argument = match rest.strip_prefix("<<") {
            Some(mark) if matches!(verb, "shell" | "patch" | "say" | "message") => {
                let mark = mark.trim().trim_matches('\'');
                if mark.is_empty() {
                    return Err(fail("a word must follow <<".to_owned()));
                }
                let mut body = String::new();
                loop {
                    let Some((number, line)) = lines.next() else { return Err(fail(format!("no line {mark:?} ends this text"))) };
                    last = number;
                    if line.trim_end() == mark {
                        break;
                    }
                    body.push_str(line);
                    body.push('\n');
                }
                body
            }
            _ => rest.to_owned(),
        };
        parser.step(verb, &argument).map_err(fail)?;
    }
    let mut program = parser.finish().map_err(|what| Mistake { line: last, what })?;
    program.id.copy_from_slice(Sha256::digest(text.as_bytes()).get(..8).unwrap_or(&[0; 8]));
    Ok(program)
}

#[derive(Default)]
struct Parser {
    answers: Vec<Answer>,
    next: Answer,
    /// Faults with `at=`: the answer's number, from 1.
    placed: Vec<(usize, PlannedFault)>,
    faults: usize,
}

impl Parser {
    fn step(&mut self, verb: &str, argument: &str) -> Result<(), String> {
        if matches!(self.answers.last(), Some(Answer { action: Action::Message(_), .. })) {
            return Err(format!("nothing can follow the final message, but {verb:?} does"));
        }
        let text = || if argument.trim().is_empty() { Err(format!("{verb} needs a text")) } else { Ok(argument.to_owned()) };
        match verb {
            "shell" => self.end(Action::Shell(text()?.trim_end().to_owned()))?,
            "patch" => self.end(Action::Patch(patch(&text()?)))?,
            "message" => self.end(Action::Message(text()?.trim_end().to_owned()))?,
            "say" => self.next.says.push(text()?.trim_end().to_owned()),
            "delay" => {
                self.next.delay = duration(argument).filter(|d| *d <= MAX_DELAY).ok_or("delay needs a time such as 500ms or 2s, at most 1h")?;
            }
            "filler" => {
                let size: crate::config::ByteSize = argument.parse().map_err(|_| "filler needs a size such as 64KiB")?;
                self.next.filler = Some(size.0).filter(|n| *n <= MAX_FILLER).ok_or("filler is at most 64MiB")?;
            }
            "rate" => {
                let rate: crate::config::ByteSize = argument.parse().map_err(|_| "rate needs bytes a second such as 2KiB")?;
                self.next.rate = Some(Some(rate.0).filter(|n| *n > 0).ok_or("rate must be above 0")?);
            }
            "usage" => self.next.usage = Some(usage(argument)?),
            "fault" => self.fault(argument)?,
            _ => {
                return Err(format!(
                    "unknown step {:?}; known are shell, patch, say, message, delay, filler, rate, usage, fault",
                    crate::display::line(verb.as_bytes())
                ));
            }
        }
        Ok(())
    }

    fn end(&mut self, action: Action) -> Result<(), String> {
        if self.answers.len() >= MAX_ANSWERS {
            return Err(format!("a program has at most {MAX_ANSWERS} answers"));
        }
        // Tokens and rate go on until they are set anew; the rest is for one answer.
        let next = Answer { usage: self.next.usage, rate: self.next.rate, ..Answer::default() };
        self.answers.push(Answer { action, ..std::mem::replace(&mut self.next, next) });
        Ok(())
    }

    fn fault(&mut self, argument: &str) -> Result<(), String> {
        let mut words = argument.split_whitespace();
        let kind = words.next().unwrap_or_default();
        let (mut times, mut at, mut retry_after, mut resets_in, mut wait) = (None, None, None, None, None);
        for word in words {
            let (key, value) = word.split_once('=').ok_or_else(|| format!("{word:?} is not of the form key=value"))?;
            let whole = || value.parse::<u64>().map_err(|_| format!("{key} needs a whole number"));
            match key {
                "times" => times = Some(whole()?),
                "at" => at = Some(usize::try_from(whole()?).unwrap_or(usize::MAX)),
                "retry_after" => retry_after = Some(whole()?),
                "resets_in" => resets_in = Some(i64::try_from(whole()?).unwrap_or(i64::MAX)),
                "wait" => wait = Some(duration(value).ok_or("wait needs a time such as 1.5s")?.as_secs_f64()),
                _ => return Err(format!("unknown option {key:?} of a fault; known are times, at, retry_after, resets_in, wait")),
            }
        }
        let status = |status, code| Fault::Status { status, code, retry_after, resets_in };
        let fault = match kind {
            "400" => status(400, "invalid_request_error"),
            "401" => status(401, "invalid_api_key"),
            "403" => status(403, "forbidden"),
            "404" => status(404, "not_found"),
            "model" => status(404, "model_not_found"),
            "429" => status(429, "rate_limit_exceeded"),
            "quota" => status(429, "insufficient_quota"),
            "usage_limit" => Fault::Status { status: 429, code: "usage_limit_reached", retry_after, resets_in: Some(resets_in.unwrap_or(3600)) },
            "500" => status(500, "server_error"),
            "502" => status(502, "server_error"),
            "503" => status(503, "server_error"),
            "overloaded" => status(503, "server_is_overloaded"),
            "failed" => Fault::Failed { code: "server_error", wait: None },
            "context_length" => Fault::Failed { code: "context_length_exceeded", wait: None },
            "failed_quota" => Fault::Failed { code: "insufficient_quota", wait: None },
            "rate_limit" => Fault::Failed { code: "rate_limit_exceeded", wait: Some(wait.unwrap_or(1.5)) },
            "incomplete" => Fault::Incomplete,
            "cut" => Fault::Cut,
            "hang" => Fault::Hang,
            "stall" => Fault::Stall,
            "garbage" => Fault::Garbage,
            "refuse" => Fault::Refuse,
            _ => {
                return Err(format!(
                    "unknown fault {kind:?}; known are 400 401 403 404 429 500 502 503 model quota usage_limit overloaded failed failed_quota context_length \
                     rate_limit incomplete cut hang stall garbage refuse"
                ));
            }
        };
        let planned = PlannedFault { index: self.faults, times, fault };
        self.faults += 1;
        match at {
            Some(at) => self.placed.push((at, planned)),
            None => self.next.faults.push(planned),
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Program, String> {
        if !matches!(self.answers.last(), Some(Answer { action: Action::Message(_), .. })) {
            self.answers.push(self.next);
        }
        for (at, fault) in self.placed {
            let answers = self.answers.len();
            let answer = at.checked_sub(1).and_then(|at| self.answers.get_mut(at));
            answer.ok_or_else(|| format!("at={at} names no answer; there are {answers}"))?.faults.push(fault);
        }
        Ok(Program { answers: self.answers, id: [0; 8] })
    }
}

/// The patch with its first and last line, which may be left out.
fn patch(text: &str) -> String {
    let text = text.trim_matches('\n');
    if text.starts_with("*** Begin Patch") { format!("{text}\n") } else { format!("*** Begin Patch\n{text}\n*** End Patch\n") }
}

fn duration(text: &str) -> Option<Duration> {
    let text = text.trim();
    let (number, factor) = if let Some(n) = text.strip_suffix("ms") {
        (n, 0.001)
    } else if let Some(n) = text.strip_suffix('s') {
        (n, 1.0)
    } else if let Some(n) = text.strip_suffix('m') {
        (n, 60.0)
    } else if let Some(n) = text.strip_suffix('h') {
        (n, 3600.0)
    } else {
        return None;
    };
    let seconds = number.trim().parse::<f64>().ok()? * factor;
    Duration::try_from_secs_f64(seconds).ok()
}

fn usage(text: &str) -> Result<Usage, String> {
    let mut usage = Usage::default();
    for word in text.split_whitespace() {
        let count = |value: &str| value.parse::<u64>().map_err(|_| format!("{word:?} is not a number of tokens"));
        match word.split_once('=') {
            Some(("input", n)) => usage.input_tokens = count(n)?,
            Some(("cached", n)) => usage.cached_input_tokens = count(n)?,
            Some(("output", n)) => usage.output_tokens = count(n)?,
            Some(("reasoning", n)) => usage.reasoning_output_tokens = count(n)?,
            _ => return Err(format!("{word:?} is not one of input=, cached=, output=, reasoning=")),
        }
    }
    Ok(usage)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn actions(program: &Program) -> Vec<&Action> {
        program.answers.iter().map(|a| &a.action).collect()
    }

    #[test]
    fn a_block_is_found_in_a_task() {
        assert_eq!(block("Do it.\n```rehearsal\nshell ls\n```\nThanks\n```\nx\n```"), Some("shell ls".to_owned()));
        assert_eq!(block("````rehearsal\npatch <<E\n+```\nE\n````"), Some("patch <<E\n+```\nE".to_owned()));
        assert_eq!(block("  ``` rehearsal\nshell ls"), Some("shell ls".to_owned()));
        assert_eq!(block("```sh\nrehearsal\n```"), None);
    }

    #[test]
    fn every_step_is_read() {
        let program = parse(
            "# a comment\n\nsay first\ndelay 250ms\nusage input=100 cached=10 output=5 reasoning=1\nshell echo hi\nshell <<END\na\n  b\nEND\n\
             patch <<'END'\n*** Add File: x\n+y\nEND\nrate 2KiB\nfiller 64KiB\nfault 503 times=2\nfault 429 retry_after=7\nmessage <<M\ndone\nM\n",
        )
        .unwrap();
        assert_eq!(
            actions(&program),
            [
                &Action::Shell("echo hi".to_owned()),
                &Action::Shell("a\n  b".to_owned()),
                &Action::Patch("*** Begin Patch\n*** Add File: x\n+y\n*** End Patch\n".to_owned()),
                &Action::Message("done".to_owned())
            ]
        );
        let [first, second, _, last] = program.answers.as_slice() else { panic!() };
        assert_eq!((first.delay, first.says.len()), (Duration::from_millis(250), 1));
        assert_eq!((second.delay, second.says.len()), (Duration::ZERO, 0));
        assert_eq!(second.usage, first.usage);
        assert_eq!(first.usage.unwrap().reasoning_output_tokens, 1);
        assert_eq!((last.rate, last.filler, last.faults.len()), (Some(2048), 65536, 2));
        assert_eq!(last.faults[0].times, Some(2));
    }

    #[test]
    fn a_program_without_a_message_ends_with_one_and_faults_can_be_placed() {
        let program = parse("fault cut at=2 times=1\nshell a").unwrap();
        assert_eq!(program.answers.len(), 2);
        assert!(program.answers[0].faults.is_empty());
        assert_eq!(program.answers[1].faults[0].fault, Fault::Cut);
    }

    #[test]
    fn mistakes_name_their_line() {
        for (text, line, part) in [
            ("shell ls\nfrobnicate", 2, "unknown step"),
            ("shell", 1, "needs a text"),
            ("\n\npatch <<END\nx\n", 3, "no line \"END\""),
            ("shell <<", 1, "a word must follow"),
            ("message a\nshell b", 2, "nothing can follow"),
            ("delay soon", 1, "delay needs"),
            ("delay 2h", 1, "at most 1h"),
            ("delay -1s", 1, "delay needs"),
            ("filler 1GiB", 1, "at most 64MiB"),
            ("rate 0", 1, "above 0"),
            ("usage tokens=3", 1, "input="),
            ("usage input=x", 1, "not a number"),
            ("fault explode", 1, "unknown fault"),
            ("fault 503 often", 1, "key=value"),
            ("fault 503 often=2", 1, "unknown option"),
            ("shell a\nfault 503 at=9", 2, "names no answer"),
            ("fault 503 at=0\nshell a", 2, "names no answer"),
        ] {
            let mistake = parse(text).unwrap_err();
            assert_eq!(mistake.line, line, "{text}: {mistake:?}");
            assert!(mistake.what.contains(part), "{text}: {mistake:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in "(shell|patch|say|fault|usage|delay|rate|filler|message|[a-z=<`# 0-9]){0,4}[ \\n]?.{0,30}\\n.{0,30}") {
            let _ = parse(&text);
            let _ = block(&text);
        }
    }
}
