//! Tasks that carry a program for the rehearsal model (`docs/REHEARSAL.md`).

/// One step of a program.
#[derive(Debug, Clone, Copy)]
pub enum Step<'a> {
    /// Codex runs a command.
    Shell(&'a str),
    /// The model thinks for so long, in seconds, before its next step.
    Delay(u64),
    /// The turn ends with this message; nothing can follow.
    Say(&'a str),
}

/// A task with these steps.
pub fn task(steps: &[Step<'_>]) -> String {
    let mut text = String::from("Rehearse this.\n````rehearsal\n");
    for step in steps {
        text.push_str(&match step {
            Step::Shell(command) => format!("shell <<END_OF_STEP\n{command}\nEND_OF_STEP\n"),
            Step::Delay(seconds) => format!("delay {seconds}s\n"),
            Step::Say(words) => format!("message <<END_OF_STEP\n{words}\nEND_OF_STEP\n"),
        });
    }
    text.push_str("````\n");
    text
}
