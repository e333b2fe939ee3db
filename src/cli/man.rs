//! `man`: manual pages, made from the grammar that reads the command line, so that they cannot say anything else.
//!
//! One page for the whole and one a verb. What the grammar does not know, exit codes, variables and files, is added here.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use clap::CommandFactory as _;
use clap_mangen::Man;
use clap_mangen::roff::{Inline, Roff, bold, italic, roman};
use serde_json::json;

use super::args::Cli;
use super::exit::EXIT_CODES;
use super::output::Output;
use crate::error::{Code, Error, Result};

/// `anchorhold man --output /usr/local/share/man/man1`
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The verb whose page is wanted, such as `delegate` or `image build`; none: the page of the whole
    #[arg(value_name = "VERB", num_args = 0..)]
    verb: Vec<String>,
    /// Write all pages into this directory, which is made where it is missing
    #[arg(long, short, value_name = "DIR", conflicts_with = "verb")]
    output: Option<PathBuf>,
}

pub(super) fn run(out: &Output, args: &Args) -> Result<u8> {
    let pages = pages()?;
    if let Some(dir) = &args.output {
        return write(out, dir, &pages);
    }
    let name = std::iter::once("anchorhold").chain(args.verb.iter().map(String::as_str)).collect::<Vec<_>>().join("-");
    let Some(page) = pages.into_iter().find(|page| page.name == name) else {
        return Err(Error::new(Code::InvalidArguments, "no verb of that name has a manual page").with_hint("see `anchorhold --help` for the verbs"));
    };
    if out.json() {
        out.document(json!({ "page": page.file(), "text": page.text }));
    } else {
        if out.is_terminal() {
            out.note("this is the page's source; read it with `anchorhold man | man -l -`");
        }
        out.text(&page.text);
    }
    Ok(0)
}

fn write(out: &Output, dir: &Path, pages: &[Page]) -> Result<u8> {
    let failed = |e: std::io::Error| {
        Error::new(Code::SetupFailed, format!("write manual pages into {}", dir.display()))
            .with_hint("name a directory that you may write to, such as ~/.local/share/man/man1")
            .with_source(e)
    };
    std::fs::create_dir_all(dir).map_err(failed)?;
    let mut files = Vec::new();
    for page in pages {
        let path = dir.join(page.file());
        std::fs::write(&path, &page.text).map_err(failed)?;
        files.push(path.display().to_string());
    }
    if out.json() {
        out.document(json!({ "files": files }));
    } else {
        out.note(&format!("{} pages in {}; read them with `man anchorhold`", files.len(), dir.display()));
    }
    Ok(0)
}

/// One manual page.
pub(super) struct Page {
    /// `anchorhold-image-build`
    pub(super) name: String,
    /// In roff.
    pub(super) text: String,
}

impl Page {
    /// `anchorhold-image-build.1`
    pub(super) fn file(&self) -> String {
        format!("{}.1", self.name)
    }
}

/// The grammar with everything that clap fills in, such as global options at each verb.
pub(super) fn grammar() -> clap::Command {
    let mut whole = Cli::command().disable_help_subcommand(true);
    whole.build();
    whole
}

/// All pages, the one of the whole first.
pub(super) fn pages() -> Result<Vec<Page>> {
    let mut pages = Vec::new();
    collect(&grammar(), &[], &mut pages)?;
    Ok(pages)
}

fn collect(command: &clap::Command, above: &[String], pages: &mut Vec<Page>) -> Result<()> {
    let name = command.get_display_name().unwrap_or_else(|| command.get_name()).to_owned();
    let verbs: Vec<&clap::Command> = command.get_subcommands().filter(|verb| !verb.is_hide_set()).collect();
    let text = page(command, &name, above).map_err(|e| Error::internal("a manual page could not be made").with_source(e))?;
    pages.push(Page { name: name.clone(), text });
    let above = [above, &[name]].concat();
    verbs.into_iter().try_for_each(|verb| collect(verb, &above, pages))
}

/// `above` are the pages to which this one belongs; those beneath it stand among its verbs.
fn page(command: &clap::Command, name: &str, above: &[String]) -> std::io::Result<String> {
    let man = Man::new(command.clone());
    let mut bytes = Vec::new();
    // Written here, because an empty date has to be there as such. No date: the same sources make the same page.
    writeln!(bytes, ".TH {name} 1 \"\" \"anchorhold {}\" \"Anchorhold\"", env!("CARGO_PKG_VERSION"))?;
    man.render_name_section(&mut bytes)?;
    synopsis(command).to_writer(&mut bytes)?;
    man.render_description_section(&mut bytes)?;
    explanation(command).to_writer(&mut bytes)?;
    man.render_options_section(&mut bytes)?;
    if command.has_subcommands() {
        man.render_subcommands_section(&mut bytes)?;
    }
    common(above).to_writer(&mut bytes)?;
    // Each part brings the same two lines about apostrophes; once is enough.
    let text = String::from_utf8(bytes).map_err(std::io::Error::other)?;
    let preamble = Roff::new().render();
    Ok(format!("{preamble}{}", text.replace(&preamble, "")))
}

/// The usage as the help has it: a list of all options would bury what must be there.
fn synopsis(command: &clap::Command) -> Roff {
    let usage = command.clone().render_usage().to_string();
    let usage = usage.trim_start_matches("Usage:").trim();
    let name = command.get_bin_name().unwrap_or_else(|| command.get_name());
    let mut roff = Roff::new();
    roff.control("SH", ["SYNOPSIS"]).text([bold(name), roman(usage.strip_prefix(name).unwrap_or(usage))]);
    roff
}

/// What a verb's help says at its end; the whole page has sections of its own for that.
fn explanation(command: &clap::Command) -> Roff {
    let mut roff = Roff::new();
    let text = command.get_after_long_help().or_else(|| command.get_after_help()).filter(|_| command.get_name() != "anchorhold");
    for paragraph in text.map(ToString::to_string).unwrap_or_default().split("\n\n").filter(|paragraph| !paragraph.is_empty()) {
        roff.control("PP", []).text([roman(paragraph)]);
    }
    roff
}

/// Exit codes, variables, files, and where more stands.
fn common(see: &[String]) -> Roff {
    let mut roff = Roff::new();
    roff.control("SH", ["EXIT STATUS"]);
    for (code, meaning) in EXIT_CODES {
        roff.control("TP", []).text([bold(code.to_string())]).text(marked(meaning));
    }
    roff.control("SH", ["ENVIRONMENT"]);
    for (name, meaning) in VARIABLES {
        roff.control("TP", []).text([bold(*name)]).text(marked(meaning));
    }
    roff.control("SH", ["FILES"]);
    roff.control("TP", []).text([italic("~/.config/anchorhold/config.toml")]).text(marked(FILE));
    if !see.is_empty() {
        roff.control("SH", ["SEE ALSO"]);
        let last = see.len() - 1;
        let names = see.iter().enumerate().flat_map(|(n, name)| [bold(name), roman(if n < last { "(1), " } else { "(1)" })]);
        roff.text(names.collect::<Vec<Inline>>());
    }
    roff
}

const FILE: &str = "The settings, unless `ANCHORHOLD_CONFIG` or `--config` names another file; beneath `$XDG_CONFIG_HOME` where that is set.";

/// Variables that are read beside the settings' own.
const VARIABLES: &[(&str, &str)] = &[
    ("ANCHORHOLD_TABLE_KEY", "The setting `table.key`, such as `ANCHORHOLD_MODEL_UPSTREAM`; goes over the file, and `--set` over both."),
    ("ANCHORHOLD_CONFIG", "The settings file."),
    ("ANCHORHOLD_LOG", "What is logged on standard error: a level, or a filter such as `anchorhold::job=trace`."),
    ("ANCHORHOLD_TOKEN", "The token that clients of `anchorhold serve` must send, unless `server.token_file` names a file."),
    ("OPENAI_API_KEY", "The provider's key, unless `model.api_key_file` or `model.api_key_env` names another place."),
    ("DOCKER_HOST", "The engine, unless `engine.host` names one; with `DOCKER_CONTEXT`, `DOCKER_CERT_PATH` and `DOCKER_TLS_VERIFY` as for docker."),
    ("NO_COLOR", "No colours; so does `TERM=dumb`."),
    ("TRACEPARENT", "With `TRACESTATE`, the trace that a delegation is part of."),
];

/// What stands in backticks is set in bold.
fn marked(text: &str) -> Vec<Inline> {
    text.split('`').enumerate().filter(|(_, part)| !part.is_empty()).map(|(n, part)| if n % 2 == 1 { bold(part) } else { roman(part) }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_verb_has_a_page_and_pages_name_each_other() {
        let pages = pages().unwrap();
        let names: Vec<&str> = pages.iter().map(|page| page.name.as_str()).collect();
        assert_eq!(names[0], "anchorhold");
        for verb in grammar().get_subcommands() {
            let name = format!("anchorhold-{}", verb.get_name());
            assert!(names.contains(&name.as_str()), "{names:?} lacks {name}");
            assert!(pages[0].text.contains(&format!("{}(1)", name.replace('-', "\\-"))), "the first page does not name {name}");
        }
        assert!(names.contains(&"anchorhold-image-build"));
        assert!(pages.iter().skip(1).all(|page| page.text.contains("\\fBanchorhold\\fR(1)")));
    }

    #[test]
    fn a_page_says_what_the_grammar_says_and_what_it_does_not_know() {
        let pages = pages().unwrap();
        let text = &pages.iter().find(|page| page.name == "anchorhold-review").unwrap().text;
        for part in [
            "\\fBanchorhold review\\fR [OPTIONS]",
            "\\-\\-fail\\-on",
            "\\-\\-json",
            "GLOBAL OPTIONS",
            "EXIT STATUS",
            "\\fB21\\fR",
            "ANCHORHOLD_LOG",
            "config.toml",
        ] {
            assert!(text.contains(part), "no {part:?} in {text}");
        }
    }

    /// Where a formatter is to be had it must have nothing to say.
    #[test]
    fn pages_are_sound() {
        let dir = tempfile::tempdir().unwrap();
        for page in pages().unwrap() {
            let lines: Vec<&str> = page.text.lines().collect();
            let title = format!("\n.TH {} 1 \"\" \"anchorhold {}\" \"Anchorhold\"\n", page.name, env!("CARGO_PKG_VERSION"));
            assert_eq!((page.text.matches("\n.TH ").count(), page.text.matches(&title).count()), (1, 1), "{}", page.name);
            let sections: Vec<&str> = lines.iter().filter_map(|line| line.strip_prefix(".SH ")).collect();
            assert_eq!(sections[..2], ["NAME", "SYNOPSIS"], "{}", page.name);
            let known = [".SH", ".TH", ".TP", ".PP", ".RS", ".RE", ".IP", ".br", ".ie", ".el"];
            for line in lines.iter().filter(|line| line.starts_with(['.', '\''])) {
                assert!(known.iter().any(|request| line.split(' ').next() == Some(request)), "{}: {line}", page.name);
            }
            assert!(page.text.is_ascii() || page.text.chars().all(|c| !crate::display::is_deceptive(c) || c == '\n'), "{}", page.name);
            let file = dir.path().join(page.file());
            std::fs::write(&file, &page.text).unwrap();
            let groff = crate::process::command("groff", dir.path()).args(["-man", "-Tutf8", "-Kutf8", "-ww", "-z"]).arg(&file).output();
            if let Ok(said) = groff {
                assert!(said.status.success() && said.stderr.is_empty(), "{}: {}", page.name, String::from_utf8_lossy(&said.stderr));
            }
        }
    }
}
