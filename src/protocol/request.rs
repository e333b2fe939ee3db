//! `/job/in/request.json`: what a job is to do, written by the host, read by `init` alone (it holds the pass).

use serde::{Deserialize, Serialize};

/// What kind of work a job does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobKind {
    /// Changes files; the result is a patch.
    Delegate,
    /// Answers a question; the result is text.
    Consult,
    /// Looks at a change; the result is findings.
    Review,
}

impl JobKind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Delegate, Self::Consult, Self::Review];

    /// The stable text form (label, JSON).
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Delegate => "delegate",
            Self::Consult => "consult",
            Self::Review => "review",
        }
    }

    /// Parses the stable text form.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text)
    }

    /// Whether what the agent changed in the workspace is the result.
    pub fn makes_patch(self) -> bool {
        self == Self::Delegate
    }
}

/// How Codex is to be run; turned into a command line by [`crate::codex::command`].
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CodexSettings {
    /// Model slug; `None` is Codex's own default.
    pub model: Option<String>,
    /// `model_reasoning_effort`.
    pub reasoning_effort: Option<String>,
    /// Further allow-listed `-c key=value` settings, values in TOML syntax.
    pub config: Vec<(String, String)>,
    /// Text for `AGENTS.md` in the private CODEX_HOME.
    pub instructions: Option<String>,
    /// Files for `rules/` in the private CODEX_HOME.
    pub rules: Vec<RulesFile>,
    /// Passes `--ignore-rules`.
    pub ignore_rules: bool,
    /// Passes `--output-schema`: the answer must have the form that `init` writes to [`super::paths::SCHEMA`].
    pub output_schema: bool,
    /// The conversation that Codex goes on with, by its id ([`is_conversation`]); its file is delivered to [`super::paths::DELIVERED_SESSION`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conversation: Option<String>,
}

/// Whether a text is the id of a conversation of Codex: a UUID in lower case. It becomes part of a file's name and of a command line.
pub fn is_conversation(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(at, b)| match at {
            8 | 13 | 18 | 23 => b == b'-',
            _ => matches!(b, b'0'..=b'9' | b'a'..=b'f'),
        })
}

/// A file of execution-policy rules.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RulesFile {
    /// See [`Self::is_name`].
    pub name: String,
    /// As the user wrote it.
    pub text: String,
}

impl RulesFile {
    /// Whether a file may be called so: a plain name that ends with `.rules`, of which Codex reads every one.
    pub fn is_name(name: &str) -> bool {
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
        name.len() <= 64 && !name.starts_with('.') && name.bytes().all(plain) && name.strip_suffix(".rules").is_some_and(|stem| !stem.is_empty())
    }
}

/// What a job is to do.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JobRequest {
    /// [`super::PROTOCOL_VERSION`].
    pub version: u32,
    /// 32 hex digits.
    pub job_id: String,
    /// What kind of work.
    pub kind: JobKind,
    /// The whole prompt, framing included; goes to Codex by standard input.
    pub prompt: String,
    /// How Codex is run.
    pub codex: CodexSettings,
    /// Where below `/workspace` Codex starts; `None` is the top.
    pub subdirectory: Option<super::repo_path::RepoPath>,
    /// The agent's uid and gid.
    pub agent_uid: u32,
    /// Seconds from the granted slot to the deadline.
    pub deadline_seconds: u64,
    /// Seconds that a job may wait for its slot.
    pub queue_seconds: u64,
    /// Seconds without a sign of life after which the job ends; 0: never.
    pub idle_seconds: u64,
    /// Seconds without one successful model answer after which the provider counts as unreachable.
    pub unreachable_seconds: u64,
    /// Seconds for which a gateway that is gone, or hangs, is waited for.
    pub gateway_seconds: u64,
    /// Bytes that the agent may add to its volumes before the job ends with reason `disk`.
    pub disk_bytes: u64,
    /// Files, directories and links that the agent may add to its volumes before the job ends with reason `disk`.
    pub inodes: u64,
    /// The pass: 64 hex digits. Never printed, never in the agent's reach.
    pub pass: String,
    /// SHA-256 of the manifest, hex; `init` refuses another.
    pub manifest_sha256: String,
    /// Subject line of the synthetic commit, from the real HEAD where there is one.
    pub commit_subject: String,
    /// The changes of the job that this one goes on with lie in [`super::paths::PREVIOUS`], and are made before Codex starts.
    #[serde(default)]
    pub previous: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_conversation_is_a_plain_uuid() {
        assert!(is_conversation("01a21d3d-bd04-7e02-a49f-e0f5a4e29b3d"));
        for other in [
            "",
            "--last",
            "01a21d3d-bd04-7e02-a49f-e0f5a4e29b3",
            "01A21D3D-bd04-7e02-a49f-e0f5a4e29b3d",
            "01a21d3d/bd04-7e02-a49f-e0f5a4e29b3d",
            "../../../../../../../etc/passwd-----",
        ] {
            assert!(!is_conversation(other), "{other}");
        }
    }
}
