//! A provider behind a private authority: trusted where `[model] ca_file` says so, for that upstream, and nowhere else.

use std::path::{Path, PathBuf};

use super::{User, ended};
use crate::support::provider::{Provider, Reply};

/// An authority made for one test, and a server's certificate that it signed.
struct Authority {
    _directory: tempfile::TempDir,
    root: PathBuf,
    certificate: PathBuf,
    key: PathBuf,
}

fn openssl(directory: &Path, args: &[&str]) {
    let mut command = anchorhold::process::command("openssl", directory);
    let out = command.args(args).output().expect("the tests need openssl");
    assert!(out.status.success(), "openssl {args:?}: {}", String::from_utf8_lossy(&out.stderr));
}

impl Authority {
    /// For a server at this address.
    fn new(address: &str) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let at = |name: &str| directory.path().join(name);
        let new = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"];
        let root = ["-keyout", "root.key", "-out", "root.pem", "-subj", "/CN=A test's authority", "-addext", "basicConstraints=critical,CA:TRUE"];
        openssl(directory.path(), &[&new[..], &root].concat());
        let names = format!("subjectAltName=IP:{address}\nbasicConstraints=CA:FALSE\nextendedKeyUsage=serverAuth\n");
        std::fs::write(at("names"), names).expect("a file");
        let request = ["req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", "/CN=server"];
        openssl(directory.path(), &[&request[..], &["-keyout", "server.key", "-out", "server.csr"]].concat());
        let sign = ["x509", "-req", "-in", "server.csr", "-CA", "root.pem", "-CAkey", "root.key", "-CAcreateserial", "-days", "2"];
        openssl(directory.path(), &[&sign[..], &["-extfile", "names", "-out", "server.pem"]].concat());
        Self { root: at("root.pem"), certificate: at("server.pem"), key: at("server.key"), _directory: directory }
    }

    fn serve(&self, replies: Vec<Reply>) -> Provider {
        Provider::start_tls(&self.certificate, &self.key, replies)
    }
}

/// A user who does not wait long for a provider.
fn user(provider: &Provider, ca_file: Option<&Path>) -> User {
    let mut user = User::of(provider);
    user.env.set("ANCHORHOLD_MODEL_UNREACHABLE_SECONDS", "8");
    if let Some(file) = ca_file {
        user.env.set("ANCHORHOLD_MODEL_CA_FILE", file.to_str().expect("a plain name"));
    }
    user
}

#[test]
fn a_private_authority_is_trusted_where_the_settings_name_it() {
    let authority = Authority::new("127.0.0.1");
    let provider = authority.serve(vec![Reply::shell("echo over-tls > p"), Reply::say("done")]);
    // A careless bundle: the authority's own key stays on this machine.
    let bundle = authority.root.with_file_name("bundle.pem");
    let both = [std::fs::read(authority.root.with_file_name("root.key")).expect("a key"), std::fs::read(&authority.root).expect("a certificate")];
    std::fs::write(&bundle, both.concat()).expect("a file");
    let user = user(&provider, Some(&bundle));
    let run = user.delegate();
    assert_eq!((run.code, &run.json["state"]), (0, &"completed".into()), "{}", run.text);
    assert!(user.patch(&run.json).contains("+over-tls"));
    assert!(provider.seen().iter().all(|request| request.header("authorization") == format!("Bearer {}", user.key)));
    let state = user.env.docker(&["exec", &user.gateway(), "sh", "-c", "cat /var/lib/anchorhold/jobs/*.json"]).concat();
    assert!(state.contains("BEGIN CERTIFICATE") && !state.contains("PRIVATE"), "{state}");

    // The same upstream without the file: what one job trusts, another does not.
    let mut other = user;
    other.env.set("ANCHORHOLD_MODEL_CA_FILE", "");
    let run = other.delegate();
    not_trusted(&other, &run, &provider, 2);
}

#[track_caller]
fn not_trusted(user: &User, run: &super::Run, provider: &Provider, seen: usize) {
    ended(user, run, "provider_unreachable", 4, false);
    let error = &run.json["error"];
    assert!(error["message"].as_str().is_some_and(|m| m.contains("certificate")), "{error:#}");
    assert!(error["hint"].as_str().is_some_and(|hint| hint.contains("ca_file")), "{error:#}");
    assert_eq!(provider.seen().len(), seen, "nothing is sent before the certificate is checked");
}

#[test]
fn an_unknown_authority_and_another_name_are_refused() {
    let authority = Authority::new("127.0.0.1");
    let provider = authority.serve(vec![Reply::say("never")]);
    let stranger = Authority::new("127.0.0.1");
    let user_of_stranger = user(&provider, Some(&stranger.root));
    not_trusted(&user_of_stranger, &user_of_stranger.delegate(), &provider, 0);

    let elsewhere = Authority::new("127.0.0.2");
    let provider = elsewhere.serve(vec![Reply::say("never")]);
    let user_of_elsewhere = user(&provider, Some(&elsewhere.root));
    let run = user_of_elsewhere.delegate();
    not_trusted(&user_of_elsewhere, &run, &provider, 0);
    assert!(run.json["error"]["message"].as_str().is_some_and(|m| m.contains("another name")), "{:#}", run.json);
}

#[test]
fn a_file_without_certificates_is_refused_before_anything_is_made() {
    let mut user = User::new("https://127.0.0.1:9/v1");
    let file = user.env.path().join("ca.pem");
    std::fs::write(&file, "-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n").expect("a file");
    for path in [file.as_path(), Path::new("/nonexistent/ca.pem")] {
        user.env.set("ANCHORHOLD_MODEL_CA_FILE", path.to_str().expect("a plain name"));
        let run = user.run(&["delegate", "--json", "change the file"]);
        assert_eq!((run.code, &run.json["error"]["code"]), (2, &"invalid_config".into()), "{}", run.text);
        assert_eq!(run.json["error"]["details"]["field"], "model.ca_file", "{}", run.text);
        assert_eq!(user.env.leftovers(), Vec::<String>::new());
    }
}
