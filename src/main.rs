//! Parse, wire, exit code. Only what is needed to build the image, until the command line is there.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "the command line prints")]

use anchorhold::{config::Settings, engine::Engine, error::Error, image};

async fn build(force: bool) -> Result<(), Error> {
    let settings = Settings::load()?;
    let engine = Engine::connect(&settings.engine).await?;
    let options = image::BuildOptions { force, ..Default::default() };
    image::build(&engine, &settings, &options, &mut |line| println!("{line}")).await?;
    Ok(())
}

#[tokio::main]
async fn main() -> std::process::ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if args.first().map(String::as_str) != Some("image") || args.get(1).map(String::as_str) != Some("build") {
        println!("anchorhold {}", env!("CARGO_PKG_VERSION"));
        return std::process::ExitCode::SUCCESS;
    }
    match build(args.iter().any(|a| a == "--force")).await {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("error[{}]: {}\nhint: {}", e.code, e.chain(), e.hint.unwrap_or_default());
            std::process::ExitCode::from(e.code.exit_code())
        }
    }
}
