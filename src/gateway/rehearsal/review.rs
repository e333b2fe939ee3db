//! What is played where the answer must have a form and the task holds no program: a review with one finding, which says that it was scripted.
//!
//! The finding stands on the first line that the change adds, so that everything which puts findings on lines can be tried. Where that is, the first
//! step finds out in the cell; the second reads it from the step's output.

use serde_json::json;

use super::program::{Action, Answer, Program};
use crate::protocol::paths::{DIFF, NOTES};

const TITLE: &str = "Scripted finding of the rehearsal model: nobody has looked at this change";
/// Stands before the line and the file.
const MARK: &str = "REHEARSAL_AT ";

/// The program.
pub fn program() -> Program {
    let answers = vec![
        Answer {
            says: vec![
                "This is the rehearsal model: I play a fixed script and do not think. I look where the change adds its first line.".to_owned(),
            ],
            action: Action::Shell(look()),
            ..Answer::default()
        },
        Answer { action: Action::Review, ..Answer::default() },
    ];
    Program { answers, id: *b"review00" }
}

/// Prints the place, and notes the finding as a reviewer is told to.
fn look() -> String {
    let awk = r#"/^\+\+\+ b\//{f=substr($0,7);sub(/\t$/,"",f)} /^@@ /{split($3,n,",");l=substr(n[1],2)+0;next} f!=""&&/^\+/&&!/^\+\+\+ /{print l" "f;exit} /^ /{l++}"#;
    let at = |place: &str| format!(r#"{{\"severity\": \"low\", \"title\": \"{TITLE}\", {place}}}"#);
    format!(
        "read -r line file < <(awk '{awk}' {DIFF})\necho \"{MARK}$line $file\"\ncase \"$file\" in\n  '' | *[!A-Za-z0-9._/-]*) echo \"{}\" ;;\n  *) echo \"{}\" ;;\n\
         esac >> {NOTES}",
        at(r#"\"file\": null"#),
        at(r#"\"file\": \"$file\", \"line\": $line, \"line_end\": $line"#),
    )
}

/// The answer, in the form of a review.
pub fn answer(output: &str) -> String {
    let place = output.lines().find_map(|line| line.split_once(MARK)?.1.split_once(' '));
    let place = place.and_then(|(line, file)| Some((line.parse::<u32>().ok()?, file)));
    let (line, file) = place.unzip();
    json!({
        "verdict": "concerns",
        "confidence": 0,
        "summary": "This was a scripted rehearsal: no model looked at the change. The one finding shows how findings look. To script other answers, put a ```rehearsal \
                    block into extra_context; to use a real model, set model.upstream and an API key.",
        "findings": [{
            "severity": "low",
            "title": TITLE,
            "file": file,
            "line": line,
            "line_end": line,
            "evidence": "This is the first line that the change adds.",
            "risk": "None: no model was asked.",
            "recommendation": "Use a real model for a real review.",
        }],
        "questions": [],
        "assumptions": ["That somebody wants to see how a review looks."],
        "next_steps": ["Set model.upstream and an API key."],
    })
    .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::review::answer::{parse, parse_notes};

    #[test]
    fn the_scripted_answer_has_the_form_and_names_the_place() {
        let read = parse(answer("exit code 0\nREHEARSAL_AT 7 src/a b.rs\n").as_bytes()).unwrap();
        assert_eq!(read.findings[0].file.as_deref(), Some("src/a b.rs"));
        assert_eq!(read.findings[0].lines.map(|lines| (lines.start, lines.end)), Some((7, 7)));
        assert!(read.findings[0].title.contains("Scripted"));
        for nothing in ["", "REHEARSAL_AT  ", "REHEARSAL_AT x y"] {
            assert_eq!(parse(answer(nothing).as_bytes()).unwrap().findings[0].file, None);
        }
    }

    /// The step itself, run by the shell that runs it in a cell.
    #[test]
    fn the_first_added_line_is_found_and_noted() {
        let dir = tempfile::tempdir().unwrap();
        let (diff, notes) = (dir.path().join("diff"), dir.path().join("notes"));
        let run = |text: &str| {
            std::fs::write(&diff, text).unwrap();
            std::fs::write(&notes, "").unwrap();
            let script = look().replace(DIFF, diff.to_str().unwrap()).replace(NOTES, notes.to_str().unwrap());
            let out = crate::process::command("bash", dir.path()).args(["-c", &script]).output().unwrap();
            let noted = parse_notes(&std::fs::read(&notes).unwrap());
            assert_eq!((out.status.success(), noted.unreadable, noted.findings.len()), (true, 0, 1), "{out:?}");
            let answered = parse(answer(&String::from_utf8(out.stdout).unwrap()).as_bytes()).unwrap().findings.remove(0);
            (answered.file, answered.lines.map(|lines| lines.start), noted.findings[0].file.clone())
        };
        let head = "diff --git a/a.rs b/a.rs\n--- a/a.rs\n+++ b/a.rs\n";
        assert_eq!(run(&format!("{head}@@ -3,3 +5,4 @@ fn x\n same\n-old\n+new\n same\n")), (Some("a.rs".into()), Some(6), Some("a.rs".into())));
        assert_eq!(run("--- /dev/null\n+++ b/a b\t\n@@ -0,0 +1 @@\n+x\n"), (Some("a b".into()), Some(1), None));
        assert_eq!(run(&format!("{head}@@ -1,2 +1 @@\n-gone\n same\n")), (None, None, None));
    }
}
