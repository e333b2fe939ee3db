//! A rehearsal program in a task: what is taken keeps the limits that `docs/REHEARSAL.md` states; a mistake names a line that is there.

use std::time::Duration;

use anchorhold::gateway::readers::program::{Action, block, default_program, parse};

pub fn run(data: &[u8]) {
    let task = String::from_utf8_lossy(data);
    if let Some(program) = block(&task) {
        assert!(program.len() <= task.len() && program.lines().all(|line| task.contains(line)));
    }
    match super::within(task.len(), 64 << 10, 64, || parse(&task)) {
        Ok(program) => {
            let default = default_program();
            assert!(!default.answers.is_empty());
            assert!(program.answers.len() <= task.lines().count() + 1);
            let said: usize = program.answers.iter().flat_map(|a| &a.says).map(String::len).sum();
            assert!(said <= task.len());
            for answer in &program.answers {
                assert!(answer.delay <= Duration::from_secs(3600) && answer.filler <= 64 << 20 && answer.rate != Some(0));
            }
            let messages = program.answers.iter().filter(|a| matches!(a.action, Action::Message(_))).count();
            assert!(messages <= 1 || !matches!(program.answers[0].action, Action::Message(_)), "nothing follows a message");
            let again = parse(&task).expect("as before");
            assert_eq!(again.id, program.id);
        }
        Err(mistake) => {
            assert!(mistake.line >= 1 && mistake.line <= task.lines().count().max(1), "line {} of {}", mistake.line, task.lines().count());
            assert!(!mistake.what.is_empty());
        }
    }
}

pub fn seeds() -> Vec<Vec<u8>> {
    vec![
        b"task\n```rehearsal\nshell ls -la\nsay one\ndelay 20ms\nmessage done\n```\n".to_vec(),
        b"# steps\nsay a\nfiller 64KiB\nrate 2KiB\nusage input=10 output=5\nshell <<END\nls\nEND\npatch <<'X'\n*** Begin Patch\n*** Add File: a\n+b\n*** End Patch\nX\nmessage end".to_vec(),
        b"fault 429 times=2 retry_after=3 at=1\nshell a\nfault cut\nshell b\nfault hang times=1\nfault rate_limit wait=1.5s\nmessage c\n".to_vec(),
        include_bytes!("../../../docs/REHEARSAL.md").to_vec(),
    ]
}
