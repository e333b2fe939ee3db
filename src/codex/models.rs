//! The models that the pinned Codex CLI has in its own catalogue (`codex debug models --bundled`), those that it offers to people. Advice, no more: which of them
//! an account may use is for the provider to say, and it may know others.

/// The version whose catalogue this is.
pub const VERSION: &str = "0.169.0";

/// One model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Model {
    /// What a caller passes.
    pub slug: &'static str,
    /// What people see.
    pub display_name: &'static str,
    /// The effort where nobody names one.
    pub default_effort: &'static str,
    /// Efforts that it takes, least first.
    pub efforts: &'static [&'static str],
}

const UP_TO_XHIGH: &[&str] = &["low", "medium", "high", "xhigh"];
const UP_TO_MAX: &[&str] = &["low", "medium", "high", "xhigh", "max"];
const UP_TO_ULTRA: &[&str] = &["low", "medium", "high", "xhigh", "max", "ultra"];

const fn model(slug: &'static str, display_name: &'static str, default_effort: &'static str, efforts: &'static [&'static str]) -> Model {
    Model { slug, display_name, default_effort, efforts }
}

/// All of them, in the catalogue's order.
pub const KNOWN: [Model; 9] = [
    model("gpt-6-astra", "GPT-6-Astra", "low", UP_TO_ULTRA),
    model("gpt-6.1-sol", "GPT-6.1-Sol", "low", UP_TO_ULTRA),
    model("gpt-6.1-terra", "GPT-6.1 Terra", "low", UP_TO_ULTRA),
    model("gpt-6-sol", "GPT-6-Sol", "medium", UP_TO_ULTRA),
    model("gpt-6-luna", "GPT-6-Luna", "medium", UP_TO_MAX),
    model("gpt-5.6-sol", "GPT-5.6-Sol", "low", UP_TO_ULTRA),
    model("gpt-5.6-terra", "GPT-5.6-Terra", "medium", UP_TO_ULTRA),
    model("gpt-5.6-luna", "GPT-5.6-Luna", "medium", UP_TO_MAX),
    model("gpt-5.5", "GPT-5.5", "medium", UP_TO_XHIGH),
];
