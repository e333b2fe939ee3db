//! Where the provider is: base URLs, a provider that comes late, a gateway that goes away and comes back.

use std::net::TcpListener;

use super::{User, wait_until};
use crate::support::provider::{Provider, Reply};

#[test]
fn a_base_url_may_have_a_path() {
    let provider = Provider::start(vec![Reply::say("fine")]);
    let user = User::new(&provider.url("/proxy/openai/v1/"));
    let run = user.delegate();
    assert_eq!(run.code, 0, "{}", run.text);
    assert_eq!(provider.seen()[0].line, "POST /proxy/openai/v1/responses HTTP/1.1");
}

#[test]
fn localhost_is_loopback_whatever_a_resolver_says() {
    let provider = Provider::start(vec![Reply::say("fine")]);
    let user = User::new(&format!("http://localhost:{}/v1", provider.port()));
    let run = user.delegate();
    assert_eq!(run.code, 0, "{}", run.text);
    assert_eq!(provider.seen()[0].header("host"), format!("localhost:{}", provider.port()));
}

#[test]
fn plain_http_goes_to_loopback_only() {
    for bad in ["http://198.51.100.7/v1", "http://localhost.example.com/v1", "http://127.0.0.1.example.com/v1", "http://0.0.0.0:80/v1"] {
        let user = User::new(bad);
        let run = user.run(&["delegate", "--json", "change the file"]);
        assert_eq!((run.code, &run.json["error"]["code"]), (2, &"invalid_config".into()), "{bad}: {}", run.text);
        assert!(run.json["error"]["hint"].as_str().is_some_and(|hint| hint.contains("https://")), "{}", run.text);
        assert_eq!(user.env.leftovers(), Vec::<String>::new());
        user.clean("the output", run.text.as_bytes());
    }
}

#[test]
fn a_provider_that_comes_late_is_waited_for() {
    // The port is ours, and nobody listens on it yet.
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    drop(listener);
    let user = User::new(&format!("http://{address}/v1"));
    let job = user.detach();
    wait_until("Codex was refused", || {
        let log = user.env.anchorhold(&["logs", &job]).output().expect("it runs");
        user.run(&["status", "--json", &job]).json["state"] == "running" && !log.stdout.is_empty()
    });
    std::thread::sleep(std::time::Duration::from_secs(2));
    let provider = Provider::start_on(TcpListener::bind(address).expect("the port again"), vec![Reply::shell("echo late > p"), Reply::say("done")]);
    let run = user.end_of(&job);
    assert_eq!(run.json["state"], "completed", "{}", run.text);
    assert_eq!(provider.seen().len(), 2);
    assert!(user.patch(&run.json).contains("+late"));
}

#[test]
fn a_job_survives_a_restart_of_its_gateway() {
    let provider = Provider::start(vec![Reply::shell("echo first > p"), Reply::Stall, Reply::shell("echo second >> p"), Reply::say("done")]);
    let user = User::of(&provider);
    let job = user.detach();
    // One answer is under way, which the restart breaks off.
    wait_until("the provider stalls", || provider.seen().len() == 2);
    user.env.docker(&["restart", &user.gateway()]);
    let run = user.end_of(&job);
    assert_eq!(run.json["state"], "completed", "{}", run.text);
    let patch = user.patch(&run.json);
    assert!(patch.contains("+first\n+second\n"), "{patch}");
    // The key came back from the gateway's own file, and the counts from its ledger.
    assert!(provider.seen().iter().all(|request| request.header("authorization") == format!("Bearer {}", user.key)));
    assert!(run.json["usage"]["input_tokens"].as_u64().is_some_and(|n| n >= 3000), "{:#}", run.json["usage"]);
    assert_eq!(run.json["manifest_verified"], true, "{:#}", run.json);
}

#[test]
fn a_gateway_that_is_killed_while_codex_works_is_missed_by_nobody() {
    let provider = Provider::start(vec![Reply::shell("sleep 3; echo worked > p"), Reply::say("done")]);
    let user = User::of(&provider);
    let job = user.detach();
    wait_until("Codex runs its command", || provider.seen().len() == 1);
    user.env.docker(&["kill", &user.gateway()]);
    user.env.docker(&["start", &user.gateway()]);
    let run = user.end_of(&job);
    assert_eq!(run.json["state"], "completed", "{}", run.text);
    assert!(user.patch(&run.json).contains("+worked"));
}
