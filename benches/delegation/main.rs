//! `make bench`: how long a delegation takes and what it costs, each figure as a ratio to a baseline taken in the same run.
//!
//! Absolutes are printed beside the ratios but mean little on a shared machine. `BENCH_RUNS` (default 9) sets the runs behind each median,
//! `BENCH_ONLY` a comma-separated choice of sections (startup, handle, tiny, large, memory, gateway).

#![expect(clippy::print_stdout, clippy::expect_used, clippy::panic, reason = "a bench prints, and stops where it cannot measure")]

mod by_hand;
mod figures;
mod gateway;
mod mcp;
mod repository;
mod world;

use figures::{Figure, median, timed};
use world::World;

fn main() {
    let runs: usize = std::env::var("BENCH_RUNS").ok().and_then(|v| v.parse().ok()).unwrap_or(9);
    let only = std::env::var("BENCH_ONLY").unwrap_or_default();
    let wanted = |section: &str| only.is_empty() || only.split(',').any(|o| o == section);
    let world = World::new();
    let mut figures = Vec::new();
    if wanted("startup") {
        figures.push(startup(&world, runs));
    }
    if wanted("handle") {
        figures.push(handle(&world, runs));
    }
    if wanted("tiny") {
        figures.push(tiny(&world, runs));
    }
    if wanted("large") {
        figures.extend(large(&world, runs));
    }
    if wanted("memory") {
        figures.extend(memory(&world));
    }
    if wanted("gateway") {
        figures.extend(gateway::figures(&world, runs));
    }
    figures::print(&figures, runs);
}

/// Process start → `tools/list` answered, against `anchorhold --version`.
fn startup(world: &World, runs: usize) -> Figure {
    let baseline = median(runs, || timed(|| assert!(world.anchorhold(&["--version"]).status().expect("runs").success())));
    let value = median(runs, || {
        timed(|| {
            let mut client = mcp::Client::start(world);
            client.request("tools/list", &serde_json::json!({}));
        })
    });
    Figure::ratio("process start → tools/list answered", value, "anchorhold --version", baseline, 5.0)
}

/// `docker create` of the bare image, removed again outside of the measured time.
fn docker_create(world: &World) -> f64 {
    let mut id = String::new();
    let seconds = timed(|| id = world.docker(&["create", "--network", "none", "--entrypoint", "true", &world.image]));
    world.docker(&["rm", "-f", &id]);
    seconds
}

/// Call → `job_id`, tiny repository.
fn handle(world: &World, runs: usize) -> Figure {
    let repo = repository::tiny(world);
    let mut client = mcp::Client::start(world);
    client.delegate_async(&repo, "warm up");
    let baseline = median(runs, || docker_create(world));
    let value = median(runs, || {
        let mut job = String::new();
        let seconds = timed(|| job = client.delegate_async(&repo, repository::ONE_STEP));
        client.finish(&job);
        seconds
    });
    Figure::ratio("call → job_id, tiny repository", value, "docker create", baseline, 3.0)
}

/// A whole delegation of a tiny repository against the bare parts of it.
fn tiny(world: &World, runs: usize) -> Figure {
    let repo = repository::tiny(world);
    let mut client = mcp::Client::start(world);
    client.delegate(&repo, repository::ONE_STEP);
    let by_hand = by_hand::ByHand::new(world);
    let mut runs_true = Vec::new();
    let mut codex = Vec::new();
    let mut whole = Vec::new();
    // In turn, so that a change of the machine's mood hits all three.
    for _ in 0..runs {
        runs_true.push(timed(|| drop(world.docker(&["run", "--rm", "--network", "none", "--entrypoint", "true", &world.image]))));
        codex.push(by_hand.run(&repo));
        whole.push(timed(|| drop(client.delegate(&repo, repository::ONE_STEP))));
    }
    let baseline = figures::middle(&mut runs_true) + figures::middle(&mut codex);
    Figure::ratio("whole delegation, tiny repository, one shell step", figures::middle(&mut whole), "docker run true + codex by hand", baseline, 1.3)
}

/// The same with 50,000 tracked files.
fn large(world: &World, runs: usize) -> Vec<Figure> {
    let repo = repository::large(world);
    let create = median(runs, || docker_create(world));
    let status = median(runs, || timed(|| drop(world.git(&repo, &["status", "--porcelain"]))));
    let worktree = median(runs.min(5), || repository::worktree_add(world, &repo));
    let mut client = mcp::Client::start(world);
    let (mut handle, mut started, mut patched) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..runs {
        let begin = figures::unix_ms();
        let mut job = String::new();
        handle.push(timed(|| job = client.delegate_async(&repo, repository::TEN_FILES)));
        let result = client.result_when_done(&job);
        let end = figures::unix_ms();
        let at = |field: &str| result.result["timings"][field].as_f64().unwrap_or_else(|| panic!("no timing {field} in {:#}", result.result));
        started.push((at("codex_started_unix_ms") - begin) / 1000.0);
        patched.push((end - at("codex_ended_unix_ms") - result.poll_waste_ms) / 1000.0);
        client.finish(&job);
    }
    vec![
        Figure::ratio(
            "call → job_id, 50,000 files",
            figures::middle(&mut handle),
            "2 × git status + 3 × docker create",
            2.0 * status + 3.0 * create,
            1.0,
        ),
        Figure::ratio("call → Codex started, 50,000 files", figures::middle(&mut started), "git worktree add", worktree, 0.6),
        Figure::ratio("Codex exit → patch of 10 files in hand, 50,000 files", figures::middle(&mut patched), "git worktree add", worktree, 0.1),
    ]
}

/// Resident memory of the long-lived parts, in MB.
fn memory(world: &World) -> Vec<Figure> {
    let repo = repository::tiny(world);
    let mut client = mcp::Client::start(world);
    client.request("tools/list", &serde_json::json!({}));
    let idle = figures::rss_mb(client.pid());
    let job = client.delegate_async(&repo, repository::SLEEP);
    client.wait_running(&job);
    let init = figures::rss_mb(world.container_pid(&format!("anchorhold-{job}")));
    client.cancel(&job);
    client.finish(&job);
    vec![Figure::absolute("memory: anchorhold mcp idle", idle, "MB", 25.0), Figure::absolute("memory: init while Codex runs", init, "MB", 6.0)]
}
