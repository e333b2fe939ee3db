//! Parse, wire, exit code.

fn main() -> std::process::ExitCode {
    let args: Vec<std::ffi::OsString> = std::env::args_os().skip(1).collect();
    match args.split_first() {
        Some((verb, rest)) if verb == "init" => anchorhold::init::run(rest).into(),
        _ => 2.into(),
    }
}
