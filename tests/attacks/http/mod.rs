//! Those who reach the port: without a token, by way of a web page or a name of their own, or with the wish to keep others out.

mod crowd;

use serde_json::{Value, json};

use crate::arena::Arena;
use crate::case::{Case, Group, Promise, Verdict, Verdicts, Weakening};
use crate::support::http::{Remote, Served, read};

pub const GROUPS: &[Group] = &[GROUP];

/// Of the server's, where it has one.
const TOKEN: &str = "a-token-of-the-attack-suite-0123456789";

const GROUP: Group = Group {
    name: "http",
    cases: &[
        Case { id: "H01-no-token", promise: Promise::Spend, tries: "calls and metrics without the token, and with tokens that are almost right" },
        Case { id: "H01-open", promise: Promise::Spend, tries: "a server beyond loopback for which nobody set a token" },
        Case { id: "H02-foreign-host", promise: Promise::Spend, tries: "a web page whose own name was made to point at the server" },
        Case { id: "H02-foreign-origin", promise: Promise::Spend, tries: "a web page of another origin, and of none" },
        Case { id: "H03-any-repository", promise: Promise::HostLeak, tries: "a server beyond loopback for which nobody set roots" },
        Case {
            id: "H03-jobs-beyond-roots",
            promise: Promise::HostLeak,
            tries: "status, result, patch, task and removal of a job of another directory than the roots",
        },
        Case { id: "H04-strangers", promise: Promise::DenialOfService, tries: "three hundred connections that say nothing" },
        Case { id: "H04-clients", promise: Promise::DenialOfService, tries: "more clients at once than there may be" },
        Case { id: "H04-slow-heads", promise: Promise::DenialOfService, tries: "a head that never ends, letter by letter" },
        Case { id: "H04-slow-bodies", promise: Promise::DenialOfService, tries: "a body that never comes" },
        Case { id: "H04-huge-bodies", promise: Promise::DenialOfService, tries: "a body over the bound, announced and in pieces" },
        Case { id: "H04-never-reads", promise: Promise::DenialOfService, tries: "many requests and no answer taken" },
    ],
    run,
    controls: &[
        Weakening::point(&["http.token"], &["H01-no-token"]),
        Weakening::point(&["http.open"], &["H01-open"]),
        Weakening::point(&["http.host"], &["H02-foreign-host"]),
        Weakening::point(&["http.origin"], &["H02-foreign-origin"]),
        Weakening::point(&["http.any_root"], &["H03-any-repository"]),
        Weakening::point(&["http.reach"], &["H03-jobs-beyond-roots"]),
        Weakening::point(&["http.strangers"], &["H04-strangers"]),
        Weakening::point(&["http.connections"], &["H04-clients"]),
        Weakening::point(&["http.head_time"], &["H04-slow-heads"]),
        Weakening::point(&["http.body_time"], &["H04-slow-bodies"]),
        Weakening::point(&["http.body"], &["H04-huge-bodies"]),
        Weakening::point(&["http.client_time"], &["H04-never-reads"]),
    ],
    mutations: &[],
    no_control: &[],
};

fn run(arena: &Arena, wanted: &[&str]) -> Verdicts {
    wanted
        .iter()
        .map(|id| {
            let effect = match *id {
                "H01-no-token" => no_token(arena),
                "H01-open" => begins_open(arena, &[("ANCHORHOLD_ROOTS_ALLOW", "/srv")]),
                "H02-foreign-host" => foreign_host(arena),
                "H02-foreign-origin" => foreign_origin(arena),
                "H03-any-repository" => begins_open(arena, &[("ANCHORHOLD_TOKEN", TOKEN)]),
                "H03-jobs-beyond-roots" => jobs_beyond_roots(arena),
                "H04-strangers" => crowd::strangers(arena),
                "H04-clients" => crowd::clients(arena),
                "H04-slow-heads" => crowd::slow_heads(arena),
                "H04-slow-bodies" => crowd::slow_bodies(arena),
                "H04-huge-bodies" => crowd::huge_bodies(arena),
                "H04-never-reads" => crowd::never_reads(arena),
                other => panic!("no such case: {other}"),
            };
            ((*id).to_owned(), effect.map_or_else(|| Verdict::Blocked("refused".to_owned()), Verdict::Breached))
        })
        .collect()
}

/// A server on loopback with these variables.
fn serve(arena: &Arena, variables: &[(&str, &str)], token: Option<&str>) -> Served {
    let mut command = arena.env.command(arena.env.home(), &["serve", "--json", "--listen", "127.0.0.1:0"]);
    command.envs(variables.iter().copied());
    command.envs(token.map(|token| ("ANCHORHOLD_TOKEN", token)));
    Served::start(command, token).expect("the server begins")
}

/// Asks for the tools with one more header.
fn list(remote: &Remote, more: &[(&str, &str)]) -> u16 {
    let fixed = [("Content-Type", "application/json"), ("Accept", "application/json, text/event-stream")];
    let message = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}});
    remote.request("POST /mcp", &[&fixed[..], more].concat(), message.to_string().as_bytes()).status
}

fn no_token(arena: &Arena) -> Option<String> {
    let server = serve(arena, &[], Some(TOKEN));
    assert_eq!(list(&server.remote, &[]), 200, "with the token it is served");
    let stranger = Remote { token: None, ..server.remote.clone() };
    let almost = |text: &str| format!("Bearer {text}");
    let mut tries: Vec<Vec<(&str, String)>> = vec![vec![], vec![("Cookie", format!("token={TOKEN}"))], vec![("X-Token", TOKEN.to_owned())]];
    let values = [
        almost(""),
        almost(&TOKEN[1..]),
        almost(&TOKEN[..TOKEN.len() - 1]),
        almost(&format!("{TOKEN}0")),
        almost(&TOKEN.to_uppercase()),
        almost(&format!("{TOKEN},{TOKEN}")),
        almost(&"a".repeat(20_000)),
        TOKEN.to_owned(),
        format!("Basic {TOKEN}"),
        format!("Token {TOKEN}"),
    ];
    tries.extend(values.map(|value| vec![("Authorization", value)]));
    tries.push(vec![("Authorization", almost(TOKEN)), ("Authorization", almost("x"))]);
    for headers in &tries {
        let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        for status in [list(&stranger, &headers), stranger.request("GET /metrics", &headers, b"").status] {
            if status == 200 {
                return Some(format!("served with {:.60}", format!("{headers:?}")));
            }
            assert_eq!(status, 401, "{headers:?}");
        }
    }
    let in_the_path = stranger.request(&format!("GET /metrics?token={TOKEN}&access_token={TOKEN}"), &[], b"").status;
    (in_the_path != 401).then(|| format!("a token in the address gives {in_the_path}"))
}

fn begins_open(arena: &Arena, variables: &[(&str, &str)]) -> Option<String> {
    for address in ["0.0.0.0:0", "[::]:0"] {
        let mut command = arena.env.command(arena.env.home(), &["serve", "--json", "--listen", address]);
        command.envs(variables.iter().copied());
        match Served::start(command, None) {
            Ok(_) => return Some(format!("it listens on {address}")),
            // A machine without the newer protocol cannot listen there whatever is set.
            Err(said) => assert_eq!(said["error"]["code"], "invalid_config", "{said:#}"),
        }
    }
    None
}

/// On loopback without a token, where a page that got through could do everything.
fn foreign_host(arena: &Arena) -> Option<String> {
    let server = serve(arena, &[], None);
    assert_eq!(list(&server.remote, &[("Host", "localhost:7411")]), 200);
    ["evil.example", "evil.example:7411", "localhost.evil.example", "127.0.0.1.evil.example", "localhost@evil.example", "192.0.2.7", ""]
        .iter()
        .find(|host| list(&server.remote, &[("Host", host)]) == 200)
        .map(|host| format!("served as {host:?}"))
}

fn foreign_origin(arena: &Arena) -> Option<String> {
    let server = serve(arena, &[("ANCHORHOLD_SERVER_ALLOWED_ORIGINS", "https://app.example")], None);
    assert_eq!(list(&server.remote, &[("Origin", "https://app.example")]), 200);
    ["https://evil.example", "http://app.example", "https://app.example.evil.example", "http://localhost:8000", "null", ""]
        .iter()
        .find(|origin| list(&server.remote, &[("Origin", origin)]) == 200)
        .map(|origin| format!("a page of {origin:?} was served"))
}

/// The user's own job, started on the command line, in a directory that no client was given.
fn jobs_beyond_roots(arena: &Arena) -> Option<String> {
    let repo = arena.env.repo();
    let result = arena.env.delegate(&repo, "x\n```rehearsal\nshell <<END\necho private > private.txt\nEND\nmessage done\n```\n");
    assert_eq!(result["state"], "completed", "{result:#}");
    let job = result["job_id"].as_str().expect("job id").to_owned();
    let given = arena.env.directory();
    let server = serve(arena, &[("ANCHORHOLD_ROOTS_ALLOW", given.to_str().expect("plain"))], Some(TOKEN));
    let remote = &server.remote;
    let unknown = "0".repeat(32);
    let listed = remote.tool("codex_job_list", json!({}));
    if listed["jobs"].as_array().is_some_and(|jobs| !jobs.is_empty()) {
        return Some(format!("it is listed: {}", listed["jobs"]));
    }
    for tool in ["codex_job_status", "codex_job_result", "codex_job_cancel", "codex_job_consume_result"] {
        let ask = |id: &str| remote.tool(tool, json!({"job_id": id}))["error"].clone();
        if ask(&job) != ask(&unknown) {
            return Some(format!("{tool} tells it apart"));
        }
    }
    let ask = |method: &str, params: Value| read(remote.send(method, params)).json()["error"].clone();
    for part in ["status", "diff", "events", "report"] {
        let of = |id: &str| ask("resources/read", json!({"uri": format!("anchorhold://jobs/{id}/{part}")}));
        if of(&job)["code"] != of(&unknown)["code"] {
            return Some(format!("its {part} is read"));
        }
    }
    let of = |id: &str| ask("tasks/get", json!({"taskId": id}))["message"].clone();
    let told = of(&job) != of(&unknown);
    let mine = arena.env.run(&["status", "--json", &job]).json();
    assert_eq!(mine["ok"], true, "the job is still there for its owner: {mine:#}");
    told.then(|| "it is a task".to_owned())
}
