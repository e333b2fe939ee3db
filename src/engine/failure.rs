//! The one place that turns what bollard and the engine say into our errors.

use bollard::errors::Error as Bollard;

use crate::error::{Code, Error};

/// What an engine's message may add to ours; it is shown, so it is escaped and cut.
const MESSAGE_MAX: usize = 600;

/// The HTTP status of the engine's answer, where there was one.
pub(super) fn status(error: &Bollard) -> Option<u16> {
    match error {
        Bollard::DockerResponseServerError { status_code, .. } => Some(*status_code),
        _ => None,
    }
}

/// Whether the engine said that the thing is not there.
pub(super) fn not_found(error: &Bollard) -> bool {
    status(error) == Some(404)
}

/// Whether the engine's message holds this text (its English is stable where it gives no code).
pub(super) fn says(error: &Bollard, text: &str) -> bool {
    matches!(error, Bollard::DockerResponseServerError { message, .. } if message.contains(text))
}

/// What is known of a call that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// The engine answered, with a refusal or a failure.
    Answered,
    /// It never reached an engine.
    NotSent,
    /// The connection broke: the engine may have carried it out.
    Unknown,
}

/// What is known of a call that failed.
pub(super) fn fate(error: &Bollard) -> Fate {
    use std::io::ErrorKind;
    match error {
        Bollard::SocketNotFoundError(_) | Bollard::CertPathError { .. } | Bollard::CertParseError { .. } | Bollard::CertMultipleKeys { .. } => {
            Fate::NotSent
        }
        Bollard::DockerResponseServerError { .. } | Bollard::DockerStreamError { .. } | Bollard::DockerContainerWaitError { .. } => Fate::Answered,
        other => match system_error(other).map(std::io::Error::kind) {
            Some(ErrorKind::NotFound | ErrorKind::PermissionDenied | ErrorKind::ConnectionRefused) => Fate::NotSent,
            _ => Fate::Unknown,
        },
    }
}

/// Whether a read is worth asking again at once.
pub(super) fn passing(error: &Bollard) -> bool {
    fate(error) == Fate::Unknown || status(error).is_some_and(|status| status >= 500)
}

/// The system's error behind it: bollard, hyper and openssh wrap it.
fn system_error<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a std::io::Error> {
    let mut cause = Some(error);
    while let Some(e) = cause {
        if let Some(io) = e.downcast_ref::<std::io::Error>() {
            return Some(io);
        }
        cause = e.source();
    }
    None
}

/// Our error for a call; `what` completes "failed to …".
pub(super) fn translate(what: &str, host: &str, error: Bollard) -> Error {
    match error {
        Bollard::DockerResponseServerError { status_code, message } => {
            Error::new(Code::EngineError, format!("{what}: the engine answered {status_code}: {}", shown(&message)))
                .with_detail("status", status_code)
                .with_hint(hint_for(status_code, &message))
        }
        Bollard::DockerStreamError { error } | Bollard::DockerContainerWaitError { error, .. } => {
            Error::new(Code::EngineError, format!("{what}: the engine reports: {}", shown(&error)))
        }
        Bollard::RequestTimeoutError => silent(what, host),
        Bollard::SocketNotFoundError(_) => unavailable(what, host, "there is no such socket", Unavailable::Missing),
        Bollard::JsonDataError { message, .. } => {
            Error::new(Code::EngineError, format!("{what}: the engine's answer is malformed: {}", shown(&message)))
        }
        Bollard::CertPathError { path } => Error::new(Code::InvalidConfig, format!("{what}: cannot read the certificate {}", path.display()))
            .with_hint("set DOCKER_CERT_PATH to the directory that holds ca.pem, cert.pem and key.pem"),
        Bollard::CertParseError { path } | Bollard::CertMultipleKeys { path, .. } => {
            Error::new(Code::InvalidConfig, format!("{what}: {} is not one PEM certificate or key", path.display()))
        }
        other => transport(what, host, &other),
    }
}

/// Our error when the connection itself failed, or broke.
fn transport(what: &str, host: &str, error: &(dyn std::error::Error + 'static)) -> Error {
    // bollard, hyper and openssh wrap the system's error; it says most.
    let mut cause = Some(error);
    let mut innermost = error.to_string();
    while let Some(e) = cause {
        if let Some(io) = e.downcast_ref::<std::io::Error>() {
            return io_failure(what, host, io);
        }
        innermost = e.to_string();
        cause = e.source();
    }
    unavailable(what, host, &shown(&innermost), Unavailable::Other)
}

/// Our error for a failed connection attempt.
pub(super) fn io_failure(what: &str, host: &str, error: &std::io::Error) -> Error {
    use std::io::ErrorKind;
    let kind = match error.kind() {
        ErrorKind::NotFound => Unavailable::Missing,
        ErrorKind::PermissionDenied => Unavailable::Denied,
        ErrorKind::ConnectionRefused => Unavailable::Refused,
        _ => Unavailable::Other,
    };
    let text = match kind {
        Unavailable::Missing => "there is no such socket".to_owned(),
        Unavailable::Denied => "permission denied".to_owned(),
        Unavailable::Refused => "the connection is refused".to_owned(),
        Unavailable::Other => shown(&error.to_string()),
    };
    unavailable(what, host, &text, kind)
}

/// Our error when the engine does not answer in time.
pub(super) fn silent(what: &str, host: &str) -> Error {
    unavailable(what, host, "no answer in time", Unavailable::Other)
}

#[derive(Clone, Copy)]
enum Unavailable {
    Missing,
    Denied,
    Refused,
    Other,
}

fn unavailable(what: &str, host: &str, why: &str, kind: Unavailable) -> Error {
    let local = host.starts_with("unix://");
    let hint = match kind {
        Unavailable::Denied if local => {
            "add yourself to the group that owns the socket (`sudo usermod -aG docker $USER`, then log in again), or use a rootless engine"
        }
        Unavailable::Missing if local => {
            "start Docker (`systemctl start docker`), install and start it with `make engine`, or point DOCKER_HOST or engine.host at an engine"
        }
        Unavailable::Refused if local => "the socket is there but no engine listens: start Docker (`systemctl start docker`, or `make engine`)",
        _ if host.starts_with("ssh://") => "check that `ssh` reaches that host without a prompt and that the docker client is installed there",
        _ if local => "check the engine with `docker version`, and start or restart it (`systemctl restart docker`)",
        _ => "check that host and its port, DOCKER_HOST, DOCKER_TLS_VERIFY, DOCKER_CERT_PATH and `docker context ls`",
    };
    Error::new(Code::EngineUnavailable, format!("{what}: no container engine answers at {host}: {why}")).with_detail("host", host).with_hint(hint)
}

/// Hints for the engine's own refusals.
fn hint_for(status: u16, message: &str) -> &'static str {
    if message.to_ascii_lowercase().contains("unknown") && message.contains("runtime") {
        "engine.runtime names a runtime that this engine does not have; `docker info` lists its runtimes"
    } else if message.contains("too new") || message.contains("too old") {
        "use Docker Engine 20.10 (API 1.41) or newer"
    } else if message.contains("no space left") {
        "free disk space on the engine's host"
    } else if status >= 500 {
        "look at the engine's log (`journalctl -u docker`), and run `anchorhold doctor`"
    } else {
        "run `anchorhold doctor`"
    }
}

fn shown(message: &str) -> String {
    crate::display::bounded(message.trim().as_bytes(), MESSAGE_MAX).replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_systems_error_decides_the_hint() {
        let error = io_failure("connect", "unix:///x.sock", &std::io::Error::from(std::io::ErrorKind::PermissionDenied));
        assert_eq!(error.code, Code::EngineUnavailable);
        assert!(error.hint.as_deref().is_some_and(|h| h.contains("usermod -aG docker")), "{error:?}");
        let error = io_failure("connect", "unix:///x.sock", &std::io::Error::from(std::io::ErrorKind::NotFound));
        assert!(error.hint.as_deref().is_some_and(|h| h.contains("make engine")), "{error:?}");
        let error = io_failure("connect", "tcp://h:2376", &std::io::Error::from(std::io::ErrorKind::ConnectionRefused));
        assert!(error.hint.as_deref().is_some_and(|h| h.contains("DOCKER_TLS_VERIFY")), "{error:?}");
    }

    #[test]
    fn a_wrapped_system_error_is_found() {
        let inner = Bollard::IOError { err: std::io::Error::from(std::io::ErrorKind::PermissionDenied) };
        let error = translate("list containers", "unix:///x.sock", inner);
        assert_eq!(error.message, "list containers: no container engine answers at unix:///x.sock: permission denied");
    }

    #[test]
    fn the_engines_words_are_escaped_and_cut() {
        let message = format!("bad \u{1b}[31m thing\n{}", "x".repeat(5000));
        let error = translate("start it", "unix:///x.sock", Bollard::DockerResponseServerError { status_code: 500, message });
        assert_eq!(error.code, Code::EngineError);
        assert_eq!(error.details.get("status"), Some(&500.into()));
        assert!(error.message.contains("\\u{1b}[31m thing x"), "{}", error.message);
        assert!(error.message.len() < 800 && !error.message.contains('\n'));
    }
}
