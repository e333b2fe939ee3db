//! `[model] ca_file`: the certificates of the authorities to trust for an https upstream, read and reduced to what may leave the machine.

use std::path::Path;

use base64::Engine as _;

use crate::config::ModelSettings;
use crate::error::{Code, Error, Result};
use crate::protocol::admin::{MAX_AUTHORITIES, Upstream};

/// Largest file that is read; bundles carry comments and more.
const MAX_FILE: u64 = 1 << 20;
const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
const END: &str = "-----END CERTIFICATE-----";

/// The upstream with its authorities, where the settings name a file and the upstream is https. Blocking. Errors: [`Code::InvalidConfig`].
pub(super) fn with_authorities(settings: &ModelSettings, upstream: Upstream) -> Result<Upstream> {
    match upstream {
        Upstream::Http { base_url, .. } if base_url.starts_with("https://") && !settings.ca_file.is_empty() => {
            let pem = certificates(&read(Path::new(&settings.ca_file))?).map_err(|why| invalid(&settings.ca_file, why))?;
            Ok(Upstream::Http { base_url, authorities: Some(pem) })
        }
        other => Ok(other),
    }
}

fn read(path: &Path) -> Result<Vec<u8>> {
    use std::io::Read as _;
    let place = path.display().to_string();
    // Asked before opening: opening a pipe would wait for its writer.
    match std::fs::metadata(path) {
        Ok(facts) if facts.is_file() && facts.len() <= MAX_FILE => {}
        Ok(_) => return Err(invalid(&place, "is not a regular file of at most 1 MiB")),
        Err(e) => return Err(invalid(&place, "cannot be read").with_source(e)),
    }
    let mut bytes = Vec::new();
    let read = std::fs::File::open(path).and_then(|file| file.take(MAX_FILE).read_to_end(&mut bytes));
    read.map_err(|e| invalid(&place, "cannot be read").with_source(e))?;
    Ok(bytes)
}

/// The certificates of a PEM file written anew, without anything else that stands in it: a private key beside them stays here.
fn certificates(file: &[u8]) -> Result<String, &'static str> {
    let text = std::str::from_utf8(file).map_err(|_| "is not a PEM file")?;
    let mut pem = String::new();
    let mut rest = text;
    while let Some((_, after)) = rest.split_once(BEGIN) {
        let (body, next) = after.split_once(END).ok_or("holds a certificate without its end")?;
        let digits: String = body.split_ascii_whitespace().collect();
        let der = base64::engine::general_purpose::STANDARD.decode(&digits).map_err(|_| "holds a certificate that is not base64")?;
        // Every certificate is a DER sequence; whether it is one that can be used is for the gateway to say.
        if der.first() != Some(&0x30) || der.len() < 64 {
            return Err("holds something that is not a certificate");
        }
        pem.push_str(BEGIN);
        for line in digits.as_bytes().chunks(64) {
            pem.push('\n');
            pem.push_str(std::str::from_utf8(line).unwrap_or_default());
        }
        pem.push('\n');
        pem.push_str(END);
        pem.push('\n');
        if pem.len() > MAX_AUTHORITIES {
            return Err("holds more than 64 KiB of certificates: name only the authorities of this upstream");
        }
        rest = next;
    }
    if pem.is_empty() { Err("holds no certificate") } else { Ok(pem) }
}

fn invalid(place: &str, why: &str) -> Error {
    Error::new(Code::InvalidConfig, format!("start the job: the file {} (`[model] ca_file`) {why}", crate::display::line(place.as_bytes())))
        .with_hint("name a PEM file with the certificates of the authorities to trust, or unset `[model] ca_file`")
        .with_detail("field", "model.ca_file")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(der: &[u8]) -> String {
        format!("{BEGIN}\r\n{}\r\n{END}\r\n", base64::engine::general_purpose::STANDARD.encode(der))
    }

    fn der(first: u8) -> Vec<u8> {
        let mut der = vec![first; 100];
        der[1] = 98;
        der
    }

    #[test]
    fn only_certificates_leave() {
        let key = "-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n";
        let file = format!("# ours\n{}{key}{}rest", block(&der(0x30)), block(&der(0x30)));
        let pem = certificates(file.as_bytes()).unwrap();
        assert_eq!(pem.matches(BEGIN).count(), 2);
        assert!(!pem.contains("PRIVATE") && !pem.contains("c2VjcmV0") && !pem.contains("ours") && !pem.contains("rest"), "{pem}");
        assert_eq!(certificates(pem.as_bytes()).unwrap(), pem);
    }

    #[test]
    fn what_is_none_is_refused() {
        let many = block(&[0x30; 6000]).repeat(10);
        for bad in ["", "hello", BEGIN, &format!("{BEGIN}\n!\n{END}"), &block(&der(0x31)), &block(&[0x30, 0]), &many] {
            assert!(certificates(bad.as_bytes()).is_err(), "{bad:.60}");
        }
        assert!(certificates(b"\xff").is_err());
    }

    #[test]
    fn the_file_counts_for_https_only() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("ca.pem");
        std::fs::write(&file, block(&der(0x30))).unwrap();
        let settings = |path: &Path| ModelSettings { ca_file: path.display().to_string(), ..ModelSettings::default() };
        let http = |url: &str| Upstream::Http { base_url: url.to_owned(), authorities: None };
        let tls = with_authorities(&settings(&file), http("https://example.org/v1")).unwrap();
        assert!(matches!(tls, Upstream::Http { authorities: Some(_), .. }));
        for other in [http("http://127.0.0.1:1/v1"), Upstream::Rehearsal] {
            assert_eq!(with_authorities(&settings(Path::new("/nonexistent")), other.clone()).unwrap(), other);
        }
        for bad in [Path::new("/nonexistent"), dir.path()] {
            let error = with_authorities(&settings(bad), http("https://example.org/v1")).unwrap_err();
            assert_eq!((error.code, &error.details["field"]), (Code::InvalidConfig, &"model.ca_file".into()));
        }
    }
}
