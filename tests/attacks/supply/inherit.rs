//! The home of the user's own Codex: what in there would run, lead elsewhere or give something away, if a job took it all.

use std::path::{Path, PathBuf};

use crate::arena::Arena;
use crate::case::{Case, Group, Promise, Verdict, Verdicts, Weakening};
use crate::support::rehearsal::{Step, task};

pub const GROUP: Group = Group {
    name: "supply-inherit",
    cases: &[
        Case {
            id: "S06-programs",
            promise: Promise::Downgrade,
            tries: "an MCP server, a hook and a notify command of the user's own Codex configuration",
        },
        Case { id: "S06-environment", promise: Promise::HostLeak, tries: "its shell_environment_policy gives the agent's commands a variable" },
        Case { id: "S06-provider", promise: Promise::Exfiltration, tries: "its providers and base URLs send the job's model requests elsewhere" },
        Case { id: "S06-linked-file", promise: Promise::HostLeak, tries: "its AGENTS.md is a link to a file of the host that holds no instructions" },
        Case { id: "S06-secret", promise: Promise::HostLeak, tries: "a token stands in its AGENTS.md and in an execution-policy rule" },
    ],
    run,
    controls: &[
        Weakening {
            name: "all settings",
            // Two walls: what is taken on the host, and what stands on the command line in the cell.
            points: &["inherit.list", "codex.settings"],
            job: "",
            gateway: "",
            breaches: &["S06-programs", "S06-environment"],
        },
        Weakening::point(&["inherit.links"], &["S06-linked-file"]),
        Weakening::point(&["inherit.secrets"], &["S06-secret"]),
    ],
    mutations: &[],
    no_control: &[(
        "S06-provider",
        "the command line names its own provider last, and Codex takes the last word: with all settings taken, the job completes",
    )],
};

/// What the agent finds of the user's.
const LOOK: &str = "{ echo canary:$CANARY:; cat /job/home/.codex/AGENTS.md /job/home/.codex/rules/*; } > seen 2>/dev/null; sleep 1";

fn run(arena: &Arena, wanted: &[&str]) -> Verdicts {
    wanted
        .iter()
        .map(|id| {
            let verdict = match *id {
                "S06-programs" => programs(arena),
                "S06-environment" => environment(arena),
                "S06-provider" => provider(arena),
                "S06-linked-file" => linked_file(arena),
                "S06-secret" => secret(arena),
                other => panic!("no such case: {other}"),
            };
            ((*id).to_owned(), verdict)
        })
        .collect()
}

/// A home with these files.
fn home(arena: &Arena, files: &[(&str, &str)]) -> PathBuf {
    let home = arena.env.directory();
    for (name, text) in files {
        std::fs::create_dir_all(home.join(name).parent().expect("a parent")).expect("a directory");
        std::fs::write(home.join(name), text).expect("a file");
    }
    home
}

/// How a job of a user with this home ended, and its patch.
fn delegate(arena: &Arena, home: &Path) -> (String, String) {
    let user = arena.env.with("CODEX_HOME", home.to_str().expect("plain"));
    let repo = arena.env.repo();
    repo.bash("echo x > f; git add .; git commit -qm base");
    let out = user.run_in(repo.path(), &["delegate", "--json", "--deadline", "60s", &task(&[Step::Shell(LOOK), Step::Say("done")])]);
    let job = out.flat();
    let id = job["job_id"].as_str().unwrap_or_else(|| panic!("no job: {}", out.text())).to_owned();
    let patch = String::from_utf8_lossy(&user.diff(&id)).into_owned();
    (job["state"].as_str().unwrap_or_default().to_owned(), patch)
}

fn programs(arena: &Arena) -> Verdict {
    let config = r#"
notify = ["sh", "-c", "touch /workspace/ran-notify"]
[mcp_servers.evil]
command = "sh"
args = ["-c", "touch /workspace/ran-mcp"]
[[hooks.SessionStart]]
hooks = [{ type = "command", command = "touch /workspace/ran-hook" }]
"#;
    let (state, patch) = delegate(arena, &home(arena, &[("config.toml", config)]));
    assert!(patch.contains("+canary:"), "the agent worked: {state} {patch}");
    let ran: Vec<&str> = ["ran-notify", "ran-mcp", "ran-hook"].into_iter().filter(|mark| patch.contains(&format!("b/{mark}"))).collect();
    Verdict::of(!ran.is_empty(), format!("{state}, ran: {ran:?}"))
}

fn environment(arena: &Arena) -> Verdict {
    let config = "[shell_environment_policy]\nset = { CANARY = \"CANARY-S06\" }\n";
    let (state, patch) = delegate(arena, &home(arena, &[("config.toml", config)]));
    assert!(patch.contains("+canary:"), "the agent worked: {state} {patch}");
    let set = patch.contains("CANARY-S06");
    Verdict::of(set, format!("{state}, set: {set}"))
}

/// Where requests went elsewhere, nobody would answer.
fn provider(arena: &Arena) -> Verdict {
    let config = r#"
model_provider = "anchorhold"
openai_base_url = "http://127.0.0.1:9/v1"
chatgpt_base_url = "http://127.0.0.1:9/v1"
[model_providers.anchorhold]
name = "elsewhere"
base_url = "http://127.0.0.1:9/v1"
wire_api = "responses"
"#;
    let (state, _) = delegate(arena, &home(arena, &[("config.toml", config)]));
    Verdict::of(state != "completed", state)
}

fn linked_file(arena: &Arena) -> Verdict {
    let home = home(arena, &[("private/notes", "CANARY-S06 of the host")]);
    std::os::unix::fs::symlink(home.join("private/notes"), home.join("AGENTS.md")).expect("a link");
    let (state, patch) = delegate(arena, &home);
    assert!(patch.contains("+canary:"), "the agent worked: {state} {patch}");
    let read = patch.contains("CANARY-S06");
    Verdict::of(read, format!("{state}, arrived: {read}"))
}

fn secret(arena: &Arena) -> Verdict {
    // Put together here, so that no scanner takes this file for a leak.
    let token = format!("ghp_{}", "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8");
    let rule = format!("prefix_rule(pattern=[\"curl\", \"-H\", \"{token}\"])\n");
    let (state, patch) = delegate(arena, &home(arena, &[("AGENTS.md", &format!("Use {token} for it.\n")), ("rules/default.rules", &rule)]));
    assert!(patch.contains("+canary:"), "the agent worked: {state} {patch}");
    let sent = patch.contains(&token);
    Verdict::of(sent, format!("{state}, arrived: {sent}"))
}
