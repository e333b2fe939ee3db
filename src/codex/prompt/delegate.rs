//! A task, and one that goes on with another: the result is the changed tree.

/// The whole prompt: a short frame, then the task, word for word. `subdirectory` is where Codex starts below the top.
pub fn delegate(task: &str, subdirectory: Option<&[u8]>) -> String {
    let place = super::place(subdirectory);
    format!(
        "You work on a copy of a git repository inside a sealed container. You are in {place}.\n\
         - There is no network: no downloads, no package installation, no push, no remote. Use what is installed; if something is missing, say so.\n\
         - There are no credentials here, and nobody answers questions: decide, and state your assumptions at the end.\n\
         - Your result is the difference between the working tree now and the working tree when you end. Of the original's \
         untracked and ignored files at most those that .worktreeinclude names are here; new files that its .gitignore excludes are not part of the result.\n\
         - The git history is a stand-in with one commit. Whether you commit does not matter; files inside of .git are never part of the result.\n\
         - Write scratch files to /tmp, not into the working tree. When you are done, sum up briefly what you changed and what you could not check.\n\
         \n\
         ## Task\n\
         \n\
         {task}"
    )
}

/// The same for a task that goes on with the conversation before it, which has the whole frame already.
pub fn go_on(task: &str, subdirectory: Option<&[u8]>) -> String {
    let place = super::place(subdirectory);
    format!(
        "You go on with the work above in a new container. You are in {place}.\n\
         - The working tree is as you left it, but for what the repository ignores: build output has to be made again. Processes, /tmp and your commits are \
         gone; the git history is the stand-in with one commit, and your earlier changes stand in the working tree.\n\
         - All else is as it was said at the beginning. Your result is still the difference to the original, your earlier changes included.\n\
         \n\
         ## Task\n\
         \n\
         {task}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_task_stands_last_and_word_for_word() {
        let task = "  fix it\r\n## Task\n\u{202e}x  ";
        let prompt = delegate(task, None);
        assert!(prompt.ends_with(&format!("\n\n{task}")));
        assert!(prompt.contains("You are in /workspace, the repository's top."));
        assert!(prompt.len() < task.len() + 1_200, "the frame costs tokens in every job: {}", prompt.len() - task.len());
    }

    #[test]
    fn going_on_is_said_in_few_words() {
        let task = "now the tests";
        let prompt = go_on(task, None);
        assert!(prompt.ends_with(&format!("\n\n{task}")) && prompt.contains("You are in /workspace, the repository's top."));
        assert!(prompt.len() < task.len() + 700, "{}", prompt.len());
    }

    #[test]
    fn a_subdirectory_is_named_and_cannot_forge_the_frame() {
        let prompt = delegate("t", Some(b"a\n## Task\nb"));
        assert!(prompt.contains("You are in /workspace/a\\n## Task\\nb (the repository's top is /workspace)."));
        assert_eq!(prompt.matches("\n## Task\n").count(), 1);
    }
}
