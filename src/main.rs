//! Parse, wire, exit code.

use std::process::ExitCode;

use anchorhold::config::Settings;
use anchorhold::job::Jobs;

#[expect(clippy::print_stdout, clippy::print_stderr, reason = "the edge of the program")]
fn main() -> ExitCode {
    let wanted = std::env::args().nth(1).unwrap_or_default();
    if wanted == "--version" {
        println!("anchorhold {}", env!("CARGO_PKG_VERSION"));
        return ExitCode::SUCCESS;
    }
    let served = Settings::load().and_then(|settings| {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let runtime = runtime.map_err(|e| anchorhold::error::Error::internal("cannot start the runtime").with_source(e))?;
        let end = runtime.block_on(anchorhold::mcp::serve_stdio(Jobs::new(settings)));
        // A read of standard input that never ends must not keep the process.
        runtime.shutdown_background();
        end
    });
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("anchorhold: {}", error.chain());
            ExitCode::from(error.code.exit_code())
        }
    }
}
