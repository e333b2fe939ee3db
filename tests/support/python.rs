//! A Python interpreter with the `mcp` client library, made once below the build directory.

use std::path::Path;
use std::sync::OnceLock;

/// The client library's version; the tests are written against its second generation.
const REQUIREMENT: &str = "mcp>=2.3,<3";

/// `$ANCHORHOLD_TEST_PYTHON`, else one in a virtual environment of our own.
pub fn interpreter() -> String {
    static MADE: OnceLock<String> = OnceLock::new();
    MADE.get_or_init(|| match std::env::var("ANCHORHOLD_TEST_PYTHON") {
        Ok(python) if !python.is_empty() => python,
        _ => make(Path::new(env!("CARGO_TARGET_TMPDIR"))),
    })
    .clone()
}

fn make(below: &Path) -> String {
    let home = below.join("mcp-python");
    let python = home.join("bin/python");
    let text = python.to_str().expect("the build directory has a plain name").to_owned();
    if imports(&python) {
        return text;
    }
    let run = |program: &str, arguments: &[&str]| {
        // pip takes its index and its proxy from the user's environment and configuration.
        let mut command = anchorhold::process::command(program, below);
        for name in
            ["HOME", "HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY", "https_proxy", "http_proxy", "no_proxy", "PIP_INDEX_URL", "PIP_CERT", "SSL_CERT_FILE"]
        {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        let output = command.args(arguments).output().unwrap_or_else(|e| panic!("{program}: {e}; install python3 and python3-venv"));
        assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    };
    run("python3", &["-m", "venv", home.to_str().expect("a plain name")]);
    run(&text, &["-m", "pip", "install", "--quiet", "--disable-pip-version-check", REQUIREMENT]);
    assert!(imports(&python), "the mcp package was installed and cannot be imported");
    text
}

fn imports(python: &Path) -> bool {
    python.exists()
        && anchorhold::process::command(python.to_str().unwrap_or_default(), Path::new("/"))
            .args(["-c", "from mcp import Client"])
            .output()
            .is_ok_and(|output| output.status.success())
}
