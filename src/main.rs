//! Parse, wire, exit code.

#[tokio::main(flavor = "current_thread")]
async fn main() -> std::process::ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let ended = match args.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["gateway", "run"] => anchorhold::gateway::run().await,
        ["gateway", "admin"] => anchorhold::gateway::admin_relay().await,
        _ => Ok(()),
    };
    if let Err(e) = ended {
        use std::io::Write as _;
        let _ = writeln!(std::io::stderr(), "{}", e.chain());
        return std::process::ExitCode::from(e.code.exit_code());
    }
    std::process::ExitCode::SUCCESS
}
