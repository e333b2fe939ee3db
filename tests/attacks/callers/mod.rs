//! Those who call: arguments, roots, ids and messages that want to be more than data.

pub mod client;

use std::path::Path;

use serde_json::{Value, json};

use self::client::Client;
use crate::arena::Arena;
use crate::case::{Case, Group, Promise, Verdict, Verdicts, Weakening};

pub const GROUPS: &[Group] = &[GROUP];

const GROUP: Group = Group {
    name: "callers",
    cases: &[
        Case {
            id: "M01-configured-roots",
            promise: Promise::HostLeak,
            tries: "a workspace outside of the configured roots: .., a link, a link swapped in",
        },
        Case { id: "M01-client-roots", promise: Promise::HostLeak, tries: "the same against the roots that the client names" },
        Case { id: "M01-whole-home", promise: Promise::HostLeak, tries: "/ and the home directory as a workspace" },
        Case {
            id: "M02-job-ids",
            promise: Promise::Lateral,
            tries: "ids that are foreign, unknown, old, malformed, with paths and control characters",
        },
        Case {
            id: "M04-arguments",
            promise: Promise::Escape,
            tries: "task and model that begin with -, hold NUL, line breaks, shell characters, 64 KiB",
        },
        Case {
            id: "M05-client",
            promise: Promise::DenialOfService,
            tries: "a message of 64 MB, broken JSON, a request id twice, a connection that breaks",
        },
        Case { id: "M06-log", promise: Promise::Deception, tries: "line breaks and escapes in what becomes a log" },
    ],
    run,
    controls: &[
        Weakening::point(&["callers.roots"], &["M01-configured-roots"]),
        Weakening::point(&["mcp.roots"], &["M01-client-roots"]),
        Weakening::point(&["callers.home"], &["M01-whole-home"]),
        Weakening::point(&["callers.instance"], &["M02-job-ids"]),
        Weakening::point(&["callers.model"], &["M04-arguments"]),
        Weakening::point(&["display.escape"], &["M06-log"]),
    ],
    mutations: &[],
    no_control: &[("M05-client", "the bound of a message (16 MiB) is the protocol library's: nothing of ours can be taken away")],
};

fn run(arena: &Arena, wanted: &[&str]) -> Verdicts {
    wanted
        .iter()
        .map(|id| {
            let effect = match *id {
                "M01-configured-roots" => roots(arena, true),
                "M01-client-roots" => roots(arena, false),
                "M01-whole-home" => whole_home(arena),
                "M02-job-ids" => ids(arena),
                "M04-arguments" => arguments(arena),
                "M05-client" => rude_client(arena),
                "M06-log" => log(arena),
                other => panic!("no such case: {other}"),
            };
            ((*id).to_owned(), effect.map_or_else(|| Verdict::Blocked("refused".to_owned()), Verdict::Breached))
        })
        .collect()
}

fn start(client: &mut Client, root: &str) -> Value {
    client.tool("codex_delegate_async", json!({"task": "x", "workspace_root": root}))["structuredContent"].clone()
}

/// No repository lies outside, so what gets past the roots ends with another error.
fn roots(arena: &Arena, configured: bool) -> Option<String> {
    let top = arena.env.directory();
    let (inside, outside) = (top.join("in"), top.join("out"));
    std::fs::create_dir_all(&inside).expect("directory");
    std::fs::create_dir(&outside).expect("directory");
    std::os::unix::fs::symlink(&outside, inside.join("link")).expect("link");
    let env = if configured { arena.env.with("ANCHORHOLD_ROOTS_ALLOW", inside.to_str().expect("plain")) } else { arena.env.with("X", "") };
    let given = [inside.as_path()];
    let mut client = Client::open(&env, &inside, if configured { &[] } else { &given });
    let mut try_path = |path: &Path| {
        let path = path.to_str().expect("plain");
        let started = start(&mut client, path);
        // What would be sent is as little a stranger's business as what is.
        let mut preview = |tool: &str, more: Value| {
            let mut arguments = json!({"workspace_root": path, "include_ignored": true});
            arguments.as_object_mut().expect("object").extend(more.as_object().expect("object").clone());
            client.tool(tool, arguments)["structuredContent"].clone()
        };
        let answers = [started, preview("codex_delegate_dry_run", json!({"task": "x"})), preview("codex_dry_run", json!({}))];
        let codes = answers.map(|answer| answer["error"]["code"].as_str().unwrap_or("none").to_owned());
        codes.into_iter().find(|code| code != "workspace_outside_roots").map(|code| format!("{path} was taken: {code}"))
    };
    let swapped = inside.join("swapped");
    std::fs::create_dir(&swapped).expect("directory");
    let honest = try_path(&swapped);
    assert!(honest.as_ref().is_some_and(|code| code.contains("not_a_git_repo")), "what lies inside is taken: {honest:?}");
    std::fs::remove_dir(&swapped).expect("removed");
    std::os::unix::fs::symlink(&outside, &swapped).expect("link");
    [outside.clone(), inside.join("../out"), inside.join("link"), swapped, "/etc".into()].iter().find_map(|path| try_path(path))
}

fn whole_home(arena: &Arena) -> Option<String> {
    let home = arena.env.home().to_str().expect("plain");
    let mut client = Client::open(&arena.env, arena.env.home(), &[]);
    ["/", home, &format!("{home}/.")].iter().find_map(|root| {
        let answer = start(&mut client, root);
        (answer["error"]["code"] != "invalid_workspace_root").then(|| format!("{root} was taken: {}", answer["error"]["code"]))
    })
}

fn ids(arena: &Arena) -> Option<String> {
    let repo = arena.env.repo();
    let result = arena.env.delegate(&repo, "x\n```rehearsal\nmessage done\n```\n");
    let job = result["job_id"].as_str().expect("job id").to_owned();
    let stranger = arena.env.with("ANCHORHOLD_ENGINE_INSTANCE", &format!("{}-other", arena.env.instance()));
    let mut client = Client::open(&stranger, repo.path(), &[]);
    let unknown = "0".repeat(32);
    let mut ask = |tool: &str, id: &str| client.tool(tool, json!({"job_id": id}))["structuredContent"]["error"].clone();
    for tool in ["codex_job_status", "codex_job_result", "codex_job_cancel", "codex_job_consume_result"] {
        let expected = ask(tool, &unknown);
        assert_eq!(expected["code"], "job_not_found", "{expected:#}");
        let hostile = [job.as_str(), &job.to_uppercase(), "../../etc", "a/b", &format!("{job}/.."), &"f".repeat(5000), "--all"];
        for id in hostile {
            let said = ask(tool, id);
            // A form that no id has may be told as a broken argument, in the same words for all of them.
            if said != expected && said["code"] != "invalid_arguments" {
                return Some(format!("{tool} tells {} apart: {said}", &id[..id.len().min(40)]));
            }
        }
    }
    let mine = arena.env.run(&["status", "--json", &job]).json();
    assert_eq!(mine["ok"], true, "the job is still there for its owner: {mine:#}");
    None
}

fn arguments(arena: &Arena) -> Option<String> {
    // In no repository: what passes the check of arguments ends with that.
    let nowhere = arena.env.directory();
    let model = |name: &str| arena.env.run_in(&nowhere, &["delegate", "--json", &format!("--model={name}"), "x"]).json()["error"]["code"].clone();
    assert_eq!(model("gpt-5.5"), "not_a_git_repo");
    let hostile = ["--config=x", "-c", "a b", "a\nb", "$(touch marker)", "../x", "A", "\u{202e}a", &"m".repeat(64 << 10)];
    if let Some(name) = hostile.iter().find(|name| model(name) != "invalid_model") {
        return Some(format!("the model {:?} was taken", &name[..name.len().min(30)]));
    }
    // A task is data, whatever it looks like.
    let repo = arena.env.repo();
    repo.bash("echo a > a; git add .; git commit -qm base");
    let before = repo.hash_everything();
    let marker = repo.path().parent().expect("parent").join("marker");
    let task = format!(
        "--help --config=x -c \"$(touch {0})\" `touch {0}` ; touch {0}\n\r\u{1b}[2K\u{202e} {1}\n```rehearsal\nmessage done\n```\n",
        marker.display(),
        "y".repeat(64 << 10)
    );
    let out = arena.env.run_in(repo.path(), &["delegate", "--json", "--", &task]);
    let result = out.flat();
    assert_eq!(result["state"], "completed", "{result:#}");
    let mut client = Client::open(&arena.env, repo.path(), &[]);
    let nul = client.tool("codex_delegate_async", json!({"task": "a\0b", "workspace_root": repo.path()}))["structuredContent"].clone();
    assert_eq!(repo.hash_everything(), before);
    (!repo.markers().is_empty() || nul["error"]["code"] != "invalid_arguments").then(|| format!("a task did something, or NUL was taken: {nul}"))
}

fn rude_client(arena: &Arena) -> Option<String> {
    let repo = arena.env.repo();
    repo.bash("echo a > a; git add .; git commit -qm base");
    let mut client = Client::open(&arena.env, repo.path(), &[]);
    client.send_bytes(br#"{"jsonrpc":"2.0","id":900,"method":"tools/call","params":{"name":"codex_delegate","arguments":{"task":""#);
    let piece = vec![b'x'; 1 << 20];
    (0..64).for_each(|_| client.send_bytes(&piece));
    client.send_bytes(b"\"}}}\n");
    let list = client.request("tools/list", json!({}));
    assert!(list["result"]["tools"].as_array().is_some_and(|tools| !tools.is_empty()), "the server goes on");
    let status = std::fs::read_to_string(format!("/proc/{}/status", client.pid())).expect("its status");
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
    let peak = peak.expect("a peak");
    if peak > 60_000 {
        return Some(format!("one message took {peak} kB"));
    }
    // The same id twice at once, and then a broken connection: the jobs are there, and nothing else is.
    let call = json!({"jsonrpc": "2.0", "id": 77, "method": "tools/call", "params": {"name": "codex_delegate_async", "arguments": {
        "task": "x\n```rehearsal\nmessage done\n```\n", "workspace_root": repo.path(), "idempotency_key": "twice"}}});
    client.send(&call);
    client.send(&call);
    client.request("tools/list", json!({}));
    drop(client);
    let jobs = arena.env.run(&["jobs", "--json"]).json()["jobs"].as_array().cloned().unwrap_or_default();
    let here = jobs.iter().filter(|job| job["workspace"].as_str() == repo.path().to_str()).count();
    (here > 1).then(|| format!("{here} jobs of one key"))
}

fn log(arena: &Arena) -> Option<String> {
    let repo = arena.env.repo();
    // What Codex says that it runs becomes a record of the log.
    let forged = r#"{"ms":1,"phase":"sealed","message":"forged"}"#;
    let command = format!(": 'a \u{202e}\u{1b}[2K\u{9b}31m\n{forged}\n'; sleep 1; true");
    let result = arena.env.delegate(&repo, &format!("x\n```rehearsal\nshell <<END_OF_STEP\n{command}\nEND_OF_STEP\nmessage done\n```\n"));
    assert_eq!(result["state"], "completed", "{result:#}");
    let job = result["job_id"].as_str().expect("job id");
    let records = arena.env.run(&["logs", "--json", job]).json()["records"].as_array().cloned().unwrap_or_default();
    let forged = records.iter().any(|record| record["message"] == "forged");
    let shown = arena.env.run(&["logs", job]);
    let text = String::from_utf8_lossy(&shown.stdout).into_owned();
    if forged || text.lines().count() != records.len() {
        return Some(format!("{} records are shown as {} lines", records.len(), text.lines().count()));
    }
    super::review::show::unseen(&text).map(|c| format!("the log shows U+{:04X}", u32::from(c)))
}
