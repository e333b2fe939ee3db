//! What costs nothing: lists, readiness, previews, schemas. No engine is asked.

use serde_json::{Value, json};

use super::table::{TOOLS, complete, tool};
use super::wire::Client;
use super::{repository, without_engine};

#[test]
fn every_tool_is_there_with_the_contracts_hints_and_parameters() {
    let environment = without_engine();
    let mut client = Client::open(&environment);
    let list = client.request("tools/list", &json!({}));
    let tools = list["result"]["tools"].as_array().unwrap();
    assert!(list["result"].to_string().len() < 40_000, "{} bytes", list["result"].to_string().len());
    for expected in &TOOLS {
        let there = tools.iter().find(|there| there["name"] == expected.name).unwrap_or_else(|| panic!("no {}", expected.name));
        let hints = &there["annotations"];
        for (hint, value) in ["readOnlyHint", "destructiveHint", "idempotentHint", "openWorldHint"].into_iter().zip(expected.hints) {
            assert_eq!(hints[hint].as_bool(), value, "{} {hint}", expected.name);
        }
        let input = &there["inputSchema"];
        let required = input["required"].as_array().cloned().unwrap_or_default();
        for parameter in expected.parameters {
            let name = parameter.trim_end_matches('*');
            assert!(input["properties"][name].is_object(), "{} lacks {name}", expected.name);
            assert_eq!(required.contains(&json!(name)), parameter.ends_with('*'), "{} {name}", expected.name);
        }
        assert_eq!(input["additionalProperties"], false);
        assert_eq!(there["outputSchema"]["anyOf"].as_array().map(Vec::len), Some(2), "{}", expected.name);
    }
    // Nothing that a client of the contract would have to fill in was added.
    for there in tools {
        let known = tool(there["name"].as_str().unwrap());
        for name in there["inputSchema"]["required"].as_array().into_iter().flatten() {
            assert!(known.parameters.contains(&format!("{}*", name.as_str().unwrap()).as_str()), "{} wants {name}", known.name);
        }
    }
}

#[test]
fn status_models_and_capabilities_have_every_field() {
    let environment = without_engine();
    let mut client = Client::open(&environment);
    let status = client.ok("codex_status", &json!({}));
    complete("codex_status", &status);
    assert_eq!((&status["ready"], &status["extra_args_configured"]), (&json!(false), &json!(false)));
    for defaults in ["raw_defaults", "resolved_defaults"] {
        assert_eq!((&status[defaults]["isolation"], &status[defaults]["timeout_seconds"]), (&json!("inherit"), &json!(300)));
    }
    assert_eq!(status["resolved_defaults"]["timeout_bounds"], json!([10, 600]));
    assert_eq!(status["rate_limit"]["status"], "unavailable");

    let models = client.ok("codex_models", &json!({}));
    complete("codex_models", &models);
    assert!(models["models"].as_array().unwrap().iter().all(|model| model["slug"].is_string() && model["supported_reasoning_efforts"].is_array()));
    assert_eq!(client.resource("codex://models").0, models, "the resource says the same");

    let summary = client.ok("codex_capabilities", &json!({}));
    complete("codex_capabilities", &summary);
    let names = |list: &Value| -> Vec<String> { list.as_array().unwrap().iter().map(|name| name.as_str().unwrap().to_owned()).collect() };
    let mut all = [names(&summary["active_tools"]), names(&summary["free_tools"])].concat();
    all.sort();
    let mut expected: Vec<String> = TOOLS.iter().map(|tool| tool.name.to_owned()).collect();
    expected.sort();
    assert_eq!(all, expected);
    for row in summary["tool_details"].as_array().unwrap() {
        let active = names(&summary["active_tools"]).contains(&row["name"].as_str().unwrap().to_owned());
        assert_eq!(row["cost"], if active { "active" } else { "free" });
        assert!(!row["error_codes"].as_array().unwrap().is_empty());
        assert_eq!(row["async_lifecycle"]["poll_tool"] == "codex_job_status", row["name"].as_str().unwrap().ends_with("_async"));
    }
    let full = client.ok("codex_capabilities", &json!({"detail": "full", "include_schemas": ["error-envelope", "parameter-contracts"]}));
    let delegate = full["tool_details"].as_array().unwrap().iter().find(|row| row["name"] == "codex_delegate").unwrap();
    assert_eq!(delegate["required_params"], json!(["task"]));
    assert_eq!(full["schemas"].as_object().unwrap().keys().collect::<Vec<_>>(), ["error-envelope", "parameter-contracts"]);
    assert_eq!(full["schemas"]["error-envelope"], client.resource("codex://error-envelope").0);
    assert!(client.ok("codex_capabilities", &json!({"detail": "contracts"})).get("tool_details").is_none());
}

#[test]
fn the_contracts_resources_are_what_the_server_serves() {
    let environment = without_engine();
    let mut client = Client::open(&environment);
    let listed = client.request("resources/list", &json!({}));
    let uris: Vec<&str> = listed["result"]["resources"].as_array().unwrap().iter().map(|resource| resource["uri"].as_str().unwrap()).collect();
    let expected =
        ["models", "error-envelope", "result-meta", "capabilities-result", "status-result", "params"].map(|name| format!("codex://{name}"));
    assert_eq!(uris, expected);
    let tools = client.request("tools/list", &json!({}))["result"]["tools"].clone();
    let listed = |name: &str| tools.as_array().unwrap().iter().find(|tool| tool["name"] == name).unwrap().clone();
    for (uri, name) in [("codex://status-result", "codex_status"), ("codex://capabilities-result", "codex_capabilities")] {
        let (schema, kind) = client.resource(uri);
        assert_eq!((&schema["anyOf"], kind.as_str()), (&listed(name)["outputSchema"]["anyOf"], "application/schema+json"));
    }
    let (params, _) = client.resource("codex://params");
    for tool in tools.as_array().unwrap() {
        for (name, schema) in tool["inputSchema"]["properties"].as_object().unwrap() {
            let forms = params["params"][name].as_array().unwrap();
            assert!(forms.iter().any(|form| form["schema"] == *schema && form["tools"].as_array().unwrap().contains(&tool["name"])), "{name}");
        }
    }
    // What errors really have is what their schema says.
    let (envelope, _) = client.resource("codex://error-envelope");
    let (meta, _) = client.resource("codex://result-meta");
    assert_eq!(envelope["properties"]["meta"]["properties"], meta["properties"]);
    let error = &envelope["properties"]["error"];
    for arguments in [json!({}), json!({"task": "x", "workspace_root": "/nonexistent"}), json!({"task": "x".repeat(200_001)}), json!({"nope": 1})] {
        let content = client.tool("codex_delegate", &arguments);
        for (field, _) in content["error"].as_object().unwrap() {
            assert!(error["properties"][field].is_object(), "{field}");
        }
        for (field, _) in content["meta"].as_object().unwrap() {
            assert!(meta["properties"][field].is_object(), "{field}");
        }
        let code = &content["error"]["code"];
        assert!(error["properties"]["code"]["enum"].as_array().unwrap().contains(code));
        let row = &envelope["x-codes"][code.as_str().unwrap()];
        assert_eq!((&row["temporary"], &row["next_step"]), (&content["error"]["temporary"], &content["error"]["repair"]["next_step"]));
    }
    let unknown = client.request("resources/read", &json!({"uri": "codex://nope"}));
    assert_eq!((&unknown["error"]["code"], &unknown["error"]["data"]["code"]), (&json!(-32002), &json!("resource_not_found")), "{unknown:#}");
    assert_eq!(unknown["error"]["data"]["repair"]["next_step"], "list_resources");
}

#[test]
fn a_delegation_is_previewed_and_nothing_is_made() {
    let environment = without_engine();
    let repository = repository(&environment);
    let before = repository.fingerprint();
    let mut client = Client::open(&environment);
    let arguments = json!({
        "task": "Make it so", "workspace_root": repository.text(), "model": "gpt-5.5", "reasoning_effort": "high", "isolation": "ignore-config"
    });
    let preview = client.ok("codex_delegate_dry_run", &arguments);
    complete("codex_delegate_dry_run", &preview);
    assert_eq!((&preview["tier"], &preview["sandbox"], &preview["model"]), (&json!("propose"), &json!("container"), &json!("gpt-5.5")));
    assert_eq!((&preview["workspace_source"], &preview["roots_source"]), (&json!("param"), &json!("not_negotiated")));
    assert!(preview["prompt_bytes"].as_u64().unwrap() > 500 && preview["max_input_bytes"] == 200_000);
    assert!(preview["deadline_advisory"].as_str().unwrap().contains("codex_delegate_async"), "{preview:#}");
    let plan = &preview["worktree_plan"];
    assert_eq!(plan["head_subject"], "second");
    assert_eq!((&plan["tracked_files"], &plan["uncommitted_tracked_files"], &plan["untracked_files"]), (&json!(5), &json!(1), &json!(1)), "{plan:#}");
    let manifest = &preview["manifest"];
    let sent: Vec<&str> = manifest["entries"].as_array().unwrap().iter().map(|entry| entry["path"].as_str().unwrap()).collect();
    assert_eq!(sent, [".gitignore", ".worktreeinclude", "AGENTS.md", "hello.txt", "src/a.rs"]);
    let edited = manifest["entries"].as_array().unwrap().iter().find(|entry| entry["path"] == "hello.txt").unwrap();
    assert_eq!(edited["bytes"], "hello, edited\n".len(), "as it lies in the working tree");
    assert_eq!(plan["tracked_bytes"], manifest["bytes"]);
    assert_eq!(manifest["instruction_files"][0]["path"], "AGENTS.md");
    assert_eq!((&preview["truncated"], &preview["blocked"]), (&json!(false), &Value::Null));

    // With ignored inputs: those that are named, listed by themselves, and warned about.
    let with = json!({"task": "Make it so", "workspace_root": repository.text(), "include_ignored": true});
    let preview = client.ok("codex_delegate_dry_run", &with);
    let included: Vec<&str> = preview["manifest"]["included"].as_array().unwrap().iter().map(|path| path["path"].as_str().unwrap()).collect();
    assert_eq!(included, [".env", "build/cache.txt"], "{preview:#}");
    assert_eq!(preview["manifest"]["secret_looking"][0]["path"], ".env");
    assert_eq!(preview["worktree_plan"]["tracked_files"], 5);
    assert_eq!(preview["manifest"]["files"], 7);
    let warnings = preview["security_warnings"].as_array().unwrap();
    assert!(warnings.iter().any(|warning| warning.as_str().unwrap().contains(".worktreeinclude")) && warnings.len() == 2, "{warnings:?}");

    // The command line shows the same, to people and as a document.
    let run = |arguments: &[&str]| {
        let output = environment.anchorhold(arguments).current_dir(repository.path()).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let document: Value = serde_json::from_str(&run(&["delegate", "--dry-run", "--include-ignored", "--json", "Make it so"])).unwrap();
    assert_eq!(document["preview"]["manifest"], preview["manifest"]);
    let text = run(&["delegate", "--dry-run", "--include-ignored", "Make it so"]);
    assert!(text.contains("would send 7 files") && text.contains("  .env (a file of this name usually holds a secret, not tracked)"), "{text}");
    assert!(run(&["consult", "--dry-run", "Why?"]).contains("would send 5 files"));
    let reviewed: Value = serde_json::from_str(&run(&["review", "--dry-run", "--base", "base", "--include-ignored", "--json"])).unwrap();
    assert_eq!((&reviewed["preview"]["manifest"]["included_count"], &reviewed["preview"]["change"]["omitted_count"]), (&json!(2), &json!(0)));
    assert_eq!(repository.fingerprint(), before);
    assert_eq!(environment.leftovers(), Vec::<String>::new());
}

#[test]
fn a_review_is_previewed_in_every_scope() {
    let environment = without_engine();
    let repository = repository(&environment);
    let mut client = Client::open(&environment);
    let root = repository.text();
    let tree = client.ok(
        "codex_dry_run",
        &json!({"scope": "working_tree", "base": null, "commit": null, "paths": ["hello.txt", "notes.txt"], "untracked": "explicit_only",
            "workspace_root": root, "extra_context": "ticket 7", "model": null, "reasoning_effort": null, "isolation": null}),
    );
    complete("codex_dry_run", &tree);
    assert_eq!(
        (&tree["scope"], &tree["would_call_model"], &tree["paths"]),
        (&json!("working_tree"), &json!(true), &json!(["hello.txt", "notes.txt"]))
    );
    assert_eq!(tree["context_summary"], json!({"files_changed": 2, "lines_added": 2, "lines_removed": 1}));
    assert_eq!((&tree["coverage"]["status"], &tree["coverage"]["untracked_files_included"]), (&json!("complete"), &json!(1)), "{tree:#}");
    let left = client.ok("codex_dry_run", &json!({"workspace_root": root}));
    assert_eq!((&left["coverage"]["status"], &left["coverage"]["omission_reasons"]), (&json!("partial"), &json!(["untracked_omitted"])));

    let branch = client.ok("codex_dry_run", &json!({"scope": "branch", "base": "base", "workspace_root": root, "include_ignored": true}));
    assert_eq!((&branch["base"], &branch["files"][0]["path"], &branch["tier"]), (&json!("base"), &json!("src/a.rs"), &json!("consult")));
    let origins: Vec<&str> = branch["manifest"]["entries"].as_array().unwrap().iter().map(|entry| entry["origin"].as_str().unwrap()).collect();
    assert_eq!(origins, ["included", "commit", "commit", "commit", "included", "commit", "commit"], "{branch:#}");
    let commit = client.ok("codex_dry_run", &json!({"scope": "commit", "commit": "HEAD", "workspace_root": root}));
    assert_eq!((&commit["commit"], &commit["context_summary"]["files_changed"]), (&json!("HEAD"), &json!(1)));

    let nothing = client.ok("codex_dry_run", &json!({"scope": "branch", "base": "HEAD", "workspace_root": root}));
    complete("codex_dry_run", &nothing);
    assert_eq!((&nothing["would_call_model"], &nothing["prompt_bytes"], &nothing["manifest"]["files"]), (&json!(false), &json!(0), &json!(0)));
    assert_eq!(nothing["coverage"]["status"], "complete");
}

#[test]
fn long_lists_are_cut_and_say_so() {
    let environment = without_engine();
    let repository = repository(&environment);
    for n in 0..150 {
        repository.write(&format!("many/{n:03}.txt"), b"x\n");
    }
    repository.git(&["add", "many"]);
    let mut client = Client::open(&environment);
    let preview = client.ok("codex_delegate_dry_run", &json!({"task": "x", "workspace_root": repository.text()}));
    assert_eq!((preview["manifest"]["entries"].as_array().unwrap().len(), &preview["manifest"]["entry_count"]), (100, &json!(155)));
    assert!(preview["truncated"] == true && preview["truncation_hint"].as_str().unwrap().contains("--dry-run --json"));
    let review = client.ok("codex_dry_run", &json!({"workspace_root": repository.text()}));
    assert_eq!((review["files"].as_array().unwrap().len(), &review["context_summary"]["files_changed"]), (100, &json!(151)));
    assert!(review.to_string().len() < 100_000);
}

#[test]
fn without_a_key_the_preview_says_what_would_be_missing() {
    let mut environment = without_engine();
    environment.set("ANCHORHOLD_MODEL_UPSTREAM", "https://model.invalid/v1");
    let repository = repository(&environment);
    let mut client = Client::in_directory(&environment, repository.path());
    let preview = client.ok("codex_delegate_dry_run", &json!({"task": "x"}));
    assert_eq!((&preview["workspace_source"], &preview["blocked"]["code"]), (&json!("cwd"), &json!("codex_auth_required")));
    assert!(preview["workspace_warning"].is_string() && preview["manifest"]["files"] == 5);
}

#[test]
fn nothing_is_ever_transferred() {
    let environment = without_engine();
    let mut client = Client::open(&environment);
    let path = "/home/somebody/.claude/projects/x/secret-session.jsonl";
    let error = client.error("codex_transfer", &json!({"transcript_path": path, "workspace_root": environment.path()}));
    assert_eq!((&error["code"], &error["temporary"]), (&json!("transfer_unsupported"), &json!(false)));
    assert!(error["message"].as_str().unwrap().contains("transcripts") && !error.to_string().contains("secret-session"));
    assert_eq!(error["repair"]["next_step"], "use_alternative");
    assert_eq!(client.error("codex_transfer", &json!({}))["code"], "invalid_arguments");
    let elsewhere = client.error("codex_transfer", &json!({"transcript_path": path, "workspace_root": "relative"}));
    assert_eq!(elsewhere["code"], "invalid_workspace_root");
}
