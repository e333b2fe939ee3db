//! What a request says about where the rehearsal stands: the task, the steps that are done, and the tools there are.

use serde_json::{Value, json};

/// A request, as far as the rehearsal model looks at it.
#[derive(Debug, PartialEq)]
pub struct Conversation {
    /// The text that carries the program.
    pub task: String,
    /// Steps that have their output.
    pub done: usize,
    /// The answer must be JSON of a given form.
    pub structured: bool,
    /// The last tool output since the task.
    pub last_output: String,
    style: Style,
    /// Tool outputs of any kind since the task; makes call ids unique.
    outputs: usize,
    pending: Option<Pending>,
}

/// How Codex wants to be told what to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Style {
    /// Functions only; a patch is a command that Codex catches.
    Functions,
    /// Functions, and `apply_patch` as a tool of its own.
    ApplyPatch,
    /// One tool that runs code, which calls the others.
    Code,
}

/// Something that the last tool output says still runs.
#[derive(Debug, PartialEq)]
enum Pending {
    Session(u64),
    Cell(String),
}

impl Conversation {
    /// Reads a request that the policy has accepted.
    pub fn read(request: &Value) -> Self {
        let nothing = Vec::new();
        let input = request.get("input").and_then(Value::as_array).unwrap_or(&nothing);
        let users: Vec<(usize, String)> =
            input.iter().enumerate().filter(|(_, item)| is(item, "role", "user")).map(|(at, item)| (at, text(item.get("content")))).collect();
        // The task is the last text with a program, else the last that Codex did not write itself.
        let task = users
            .iter()
            .rfind(|(_, text)| super::program::block(text).is_some())
            .or_else(|| users.iter().rfind(|(_, text)| !text.trim_start().starts_with('<')))
            .or_else(|| users.last())
            .cloned();
        let (at, task) = task.unwrap_or_else(|| (0, text(request.get("input"))));
        let (mut done, mut outputs, mut pending, mut last_output) = (0, 0, None, String::new());
        for item in input.iter().skip(at) {
            if !(is(item, "type", "function_call_output") || is(item, "type", "custom_tool_call_output")) {
                continue;
            }
            outputs += 1;
            last_output = text(item.get("output"));
            pending = still_running(&last_output);
            if pending.is_none() {
                done += 1;
            }
        }
        let structured = request.pointer("/text/format/type").and_then(Value::as_str) == Some("json_schema");
        Self { task, done, structured, last_output, style: style(request, input), outputs, pending }
    }

    /// The call that waits for what still runs.
    pub fn wait(&self) -> Option<Value> {
        Some(match self.pending.as_ref()? {
            Pending::Session(id) => self.function("write_stdin", &json!({"session_id": id, "chars": "", "yield_time_ms": 300_000})),
            Pending::Cell(id) => self.function("wait", &json!({"cell_id": id, "yield_time_ms": 300_000})),
        })
    }

    /// The call that runs a command.
    pub fn shell(&self, command: &str) -> Value {
        match self.style {
            Style::Functions | Style::ApplyPatch => self.function("exec_command", &json!({"cmd": command, "yield_time_ms": 30_000})),
            Style::Code => self.custom(
                "exec",
                &format!(
                    "let r = await tools.exec_command({});\nlet output = r.output ?? \"\";\n\
                     while (r.session_id !== undefined && r.session_id !== null) {{\n  \
                     r = await tools.write_stdin({{session_id: r.session_id, chars: \"\", yield_time_ms: 300000}});\n  output += r.output ?? \"\";\n}}\n\
                     text(`exit code ${{r.exit_code}}\\n${{output}}`);",
                    json!({"cmd": command, "yield_time_ms": 30_000})
                ),
            ),
        }
    }

    /// The call that applies a patch.
    pub fn patch(&self, patch: &str) -> Value {
        match self.style {
            // Codex catches this very form and applies the patch itself.
            Style::Functions => {
                let mark = (0..).map(|n| format!("END_OF_PATCH_{n}")).find(|mark| !patch.contains(mark.as_str())).unwrap_or_default();
                self.function("exec_command", &json!({"cmd": format!("apply_patch <<'{mark}'\n{patch}{mark}"), "yield_time_ms": 30_000}))
            }
            Style::ApplyPatch => self.custom("apply_patch", patch),
            Style::Code => self.custom("exec", &format!("const r = await tools.apply_patch({});\ntext(JSON.stringify(r));", json!(patch))),
        }
    }

    fn call_id(&self) -> String {
        format!("call_rehearsal_{}", self.outputs)
    }

    fn function(&self, name: &str, arguments: &Value) -> Value {
        json!({"type": "function_call", "id": format!("fc_rehearsal_{}", self.outputs), "name": name, "arguments": arguments.to_string(), "call_id": self.call_id(), "status": "completed"})
    }

    fn custom(&self, name: &str, input: &str) -> Value {
        json!({"type": "custom_tool_call", "id": format!("ctc_rehearsal_{}", self.outputs), "name": name, "input": input, "call_id": self.call_id(), "status": "completed"})
    }
}

fn is(value: &Value, key: &str, word: &str) -> bool {
    value.get(key).and_then(Value::as_str) == Some(word)
}

/// Plain text, or the texts of a list of parts.
fn text(value: Option<&Value>) -> String {
    match value {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(parts)) => parts.iter().filter_map(|part| part.get("text")?.as_str()).collect::<Vec<_>>().join("\n"),
        _ => String::new(),
    }
}

/// What Codex 0.169 writes ahead of a command's own output.
fn still_running(output: &str) -> Option<Pending> {
    if let Some(rest) = output.strip_prefix("Script running with cell ID ") {
        let id: String = rest.chars().take_while(|c| !c.is_whitespace()).collect();
        return Some(Pending::Cell(id));
    }
    let head = output.split_once("\nOutput:").map_or(output, |(head, _)| head);
    let id = head.lines().find_map(|line| line.strip_prefix("Process running with session ID "))?;
    id.trim().parse().ok().map(Pending::Session)
}

fn style(request: &Value, input: &[Value]) -> Style {
    let declares = |tools: Option<&Value>, name: &str| {
        tools.and_then(Value::as_array).is_some_and(|tools| tools.iter().any(|tool| is(tool, "type", "custom") && is(tool, "name", name)))
    };
    let code = input.iter().filter(|item| is(item, "type", "additional_tools")).any(|item| {
        let namespaces = item.get("tools").and_then(Value::as_array);
        declares(item.get("tools"), "exec") || namespaces.is_some_and(|list| list.iter().any(|namespace| declares(namespace.get("tools"), "exec")))
    });
    if code || declares(request.get("tools"), "exec") {
        Style::Code
    } else if declares(request.get("tools"), "apply_patch") {
        Style::ApplyPatch
    } else {
        Style::Functions
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(text: &str) -> Value {
        json!({"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]})
    }
    fn output(text: &str) -> Value {
        json!({"type": "function_call_output", "call_id": "c", "output": text})
    }

    #[test]
    fn the_steps_since_the_last_task_are_counted() {
        let input = json!([
            user("<environment_context>\n</environment_context>"),
            user("first task"),
            output("Process exited with code 0\nOutput:\nx"),
            user("second task"),
            user("<turn_aborted>"),
            output("Chunk ID: 1\nProcess running with session ID 7\nOutput:\n"),
            output("Process exited with code 0\nOutput:\nProcess running with session ID 9"),
        ]);
        let c = Conversation::read(&json!({ "input": input }));
        assert_eq!((c.task.as_str(), c.done, c.outputs, &c.pending), ("second task", 1, 2, &None));
    }

    #[test]
    fn what_still_runs_is_waited_for() {
        let c = Conversation::read(&json!({"input": [user("t"), output("Wall time: 30\nProcess running with session ID 7\nOutput:\nx")]}));
        assert_eq!((c.done, c.wait().unwrap()["arguments"].as_str().unwrap().contains("7")), (0, true));
        let cell =
            json!({"type": "custom_tool_call_output", "output": [{"type": "input_text", "text": "Script running with cell ID c3\nWall time"}]});
        let c = Conversation::read(&json!({"input": [user("t"), cell]}));
        assert!(c.wait().unwrap()["arguments"].as_str().unwrap().contains("\"c3\""));
    }

    #[test]
    fn the_declared_tools_say_how_a_step_is_written() {
        let plain = Conversation::read(&json!({"input": [user("t")], "tools": [{"type": "function", "name": "exec_command"}]}));
        assert_eq!(plain.shell("ls")["name"], "exec_command");
        assert!(plain.patch("P\n")["arguments"].as_str().unwrap().contains("apply_patch <<'END_OF_PATCH_0'"));
        let custom = Conversation::read(&json!({"input": [user("t")], "tools": [{"type": "custom", "name": "apply_patch"}]}));
        assert_eq!((&custom.shell("ls")["name"], &custom.patch("P")["name"]), (&json!("exec_command"), &json!("apply_patch")));
        let tools =
            json!({"type": "additional_tools", "tools": [{"type": "namespace", "name": "functions", "tools": [{"type": "custom", "name": "exec"}]}]});
        let code = Conversation::read(&json!({"input": [tools, user("t")]}));
        assert_eq!((&code.shell("ls")["name"], &code.patch("P")["name"]), (&json!("exec"), &json!("exec")));
        assert!(code.shell("echo \"`$x`\"")["input"].as_str().unwrap().contains(r#""cmd":"echo \"`$x`\"""#));
    }

    #[test]
    fn a_request_without_a_list_is_a_task() {
        assert_eq!(Conversation::read(&json!({"input": "just text"})).task, "just text");
    }
}
