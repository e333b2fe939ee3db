//! Bad input: a stable code, a hint, nothing left behind.

use crate::support::TestEnv;

#[track_caller]
fn refused(env: &TestEnv, dir: &std::path::Path, args: &[&str], code: &str, exit: i32) -> serde_json::Value {
    let out = env.run_in(dir, args);
    let json = out.json();
    assert_eq!(json["error"]["code"], code, "{out:?}");
    assert_eq!(out.code, exit, "{out:?}");
    assert!(json["error"]["message"].as_str().is_some_and(|m| !m.is_empty()));
    assert!(json["error"]["hint"].as_str().is_some_and(|h| !h.is_empty()), "no hint: {json:#}");
    assert_eq!(env.leftovers(), Vec::<String>::new());
    json
}

#[test]
fn workspaces_that_are_none() {
    let env = TestEnv::new();
    let plain = env.directory();
    refused(&env, &plain, &["delegate", "--json", "do it"], "not_a_git_repo", 2);
    let repo = env.repo();
    refused(&env, repo.path(), &["delegate", "--json", "do it"], "worktree_error", 2);
    repo.bash("echo x > f; git add .; git commit -qm base");
    refused(&env, repo.path(), &["delegate", "--json", "--workspace", "/nonexistent/anchorhold", "do it"], "invalid_workspace_root", 2);
    let file = repo.path().join("f");
    refused(&env, repo.path(), &["delegate", "--json", "--workspace", file.to_str().expect("path"), "do it"], "invalid_workspace_root", 2);
}

#[test]
fn tasks_that_are_none() {
    let env = TestEnv::new();
    let repo = env.repo();
    repo.bash("echo x > f; git add .; git commit -qm base");
    refused(&env, repo.path(), &["delegate", "--json", "  \n\t "], "invalid_arguments", 2);
    repo.bash("head -c 200001 /dev/zero | tr '\\0' a > ../task");
    let task = format!("@{}", repo.path().join("../task").display());
    let json = refused(&env, repo.path(), &["delegate", "--json", &task], "input_too_large", 2);
    assert_eq!(json["error"]["details"]["limit_bytes"], 200_000);
}

#[test]
fn models_and_efforts() {
    let env = TestEnv::new();
    let repo = env.repo();
    repo.bash("echo x > f; git add .; git commit -qm base");
    refused(&env, repo.path(), &["delegate", "--json", "--model", "--config=x", "do it"], "invalid_arguments", 2);
    refused(&env, repo.path(), &["delegate", "--json", "--model=--config=x", "do it"], "invalid_model", 2);
    refused(&env, repo.path(), &["delegate", "--json", "--model=gpt 5", "do it"], "invalid_model", 2);
    refused(&env, repo.path(), &["delegate", "--json", "--effort=a\nb", "do it"], "invalid_reasoning_effort", 2);
    let strict = env.with("ANCHORHOLD_MODEL_ALLOWED_MODELS", "gpt-5.5");
    refused(&strict, repo.path(), &["delegate", "--json", "--model=gpt-5.6", "do it"], "invalid_model", 2);
}

#[test]
fn job_ids_that_are_none() {
    let env = TestEnv::new();
    let dir = env.directory();
    for id in ["0123456789abcdef0123456789abcdef", "../../containers", "", "x"] {
        for verb in ["status", "result", "diff", "cancel", "consume", "apply", "logs"] {
            refused(&env, &dir, &[verb, "--json", id], "job_not_found", 9);
        }
    }
}

#[test]
fn engine_image_and_key() {
    let env = TestEnv::new();
    let repo = env.repo();
    repo.bash("echo x > f; git add .; git commit -qm base");
    let dead = env.with("DOCKER_HOST", "unix:///nonexistent/docker.sock");
    let out = dead.run_in(repo.path(), &["delegate", "--json", "do it"]);
    assert_eq!((out.code, &out.json()["error"]["code"]), (3, &"engine_unavailable".into()), "{out:?}");
    let imageless = env.with("ANCHORHOLD_IMAGE_NAME", "anchorhold/none:0");
    refused(&imageless, repo.path(), &["delegate", "--json", "do it"], "image_missing", 3);
    let keyless = env.with("ANCHORHOLD_MODEL_UPSTREAM", "https://api.openai.com/v1");
    refused(&keyless, repo.path(), &["delegate", "--json", "do it"], "codex_auth_required", 4);
    let plain = env.with("ANCHORHOLD_MODEL_UPSTREAM", "http://example.com/v1");
    refused(&plain, repo.path(), &["delegate", "--json", "do it"], "invalid_config", 2);
}

#[test]
fn too_large_is_refused_before_anything_is_created() {
    let env = TestEnv::new();
    let repo = env.repo();
    repo.bash("seq 1000 > f; echo g > g; git add .; git commit -qm base");
    let few = env.with("ANCHORHOLD_WORKSPACE_MAX_FILES", "1");
    refused(&few, repo.path(), &["delegate", "--json", "do it"], "workspace_too_large", 2);
    let small = env.with("ANCHORHOLD_WORKSPACE_MAX_FILE", "1000");
    refused(&small, repo.path(), &["delegate", "--json", "do it"], "workspace_too_large", 2);
    let bytes = env.with("ANCHORHOLD_WORKSPACE_MAX_BYTES", "1000");
    refused(&bytes, repo.path(), &["delegate", "--json", "do it"], "workspace_too_large", 2);
}

#[test]
fn roots_are_walls() {
    let env = TestEnv::new();
    let repo = env.repo();
    repo.bash("echo x > f; git add .; git commit -qm base; ln -s $PWD ../allowed-link");
    let elsewhere = env.directory();
    let walled = env.with("ANCHORHOLD_ROOTS_ALLOW", elsewhere.to_str().expect("path"));
    refused(&walled, repo.path(), &["delegate", "--json", "do it"], "workspace_outside_roots", 2);
    // A link inside the allowed root does not lead out of it.
    std::os::unix::fs::symlink(repo.path(), elsewhere.join("link")).expect("link");
    let link = elsewhere.join("link");
    refused(&walled, &elsewhere, &["delegate", "--json", "--workspace", link.to_str().expect("path"), "do it"], "workspace_outside_roots", 2);
}
