//! The README's picture, `docs/demo.svg`: the real `anchorhold demo` on the real engine, drawn. `ANCHORHOLD_PICTURE=write` (`make picture`) draws it anew where the demo says
//! something else than the picture; else the picture must say what the demo says now.
//!
//! The job's id is another one in each run, and so are its times: the id becomes the one that the README speaks of, the times are those of the run that was drawn, and a picture that says the same is left as it is.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking, its helpers too")]

mod support;

use std::fmt::Write as _;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use support::TestEnv;

/// What stands in place of the job's id.
const ID: &str = "3f2a9c51d07e4b86a1c3f8e2b6d94705";
/// Columns of the window; longer lines go on in the next row.
const COLUMNS: usize = 104;
const CELL: (f64, f64) = (8.0, 19.0);
const MARGIN: f64 = 18.0;
const BAR: f64 = 34.0;
/// Slower than the run, so that it can be read.
const SLOWER: f64 = 1.5;

fn place() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/demo.svg")
}

/// What the demo writes, both streams as a terminal would show them, with colours.
fn demo() -> String {
    let environment = TestEnv::new();
    let (mut reader, writer) = std::io::pipe().unwrap();
    let mut command = environment.command(environment.home(), &["demo", "--color", "always"]);
    command.env_remove("NO_COLOR").stdin(Stdio::null()).stdout(writer.try_clone().unwrap()).stderr(writer);
    let mut child = command.spawn().unwrap();
    // Its ends of the pipe must be the only ones, else there is no end to read to.
    drop(command);
    let mut bytes = Vec::new();
    reader.read_to_end(&mut bytes).unwrap();
    let text = String::from_utf8(bytes).unwrap();
    assert!(child.wait().unwrap().success(), "{text}");
    with_the_id(&text)
}

/// The job's id and its abbreviation, replaced.
fn with_the_id(text: &str) -> String {
    let at = text.find("job ").map(|at| at + 4).filter(|at| text[*at..].len() > 32).expect("the demo names its job");
    let id = text[at..at + 32].to_owned();
    assert!(id.bytes().all(|b| b.is_ascii_hexdigit()), "{id:?} in {text}");
    text.replace(&id, ID).replace(&id[..12], &ID[..12]).replace(&id[..8], &ID[..8])
}

/// A part of a line in one style.
#[derive(Debug, Clone, PartialEq)]
struct Span {
    class: &'static str,
    text: String,
}

/// A line in its styles, from what a terminal would get.
fn spans(line: &str) -> Vec<Span> {
    let mut spans: Vec<Span> = Vec::new();
    let mut class = "";
    for (n, part) in line.split('\x1b').enumerate() {
        let text = if n == 0 {
            part
        } else {
            let (code, text) = part.strip_prefix('[').and_then(|rest| rest.split_once('m')).expect("only colours");
            class = match code {
                "0" => "",
                "1" => "b",
                "2" => "d",
                "31" => "r",
                "32" => "g",
                "33" => "y",
                "36" => "c",
                other => unreachable!("a colour without a class: {other}"),
            };
            text
        };
        if !text.is_empty() {
            spans.push(Span { class, text: text.to_owned() });
        }
    }
    spans
}

fn plain_of(spans: &[Span]) -> String {
    spans.iter().map(|span| span.text.as_str()).collect()
}

fn plain(line: &str) -> String {
    plain_of(&spans(line))
}

/// The seconds at the beginning of a line of progress, and the rest of it.
fn timed(line: &str) -> Option<(f64, &str)> {
    let (time, rest) = line.strip_prefix('[')?.split_once("s] ")?;
    Some((time.trim().parse().ok()?, rest))
}

/// A line without what differs from run to run; `None` for one that not each run has: what a job does is told twice a second, and what fell between
/// is not told.
fn words(line: &str) -> Option<String> {
    match timed(line) {
        Some((_, rest)) if PHASES.iter().any(|phase| rest.starts_with(phase)) => None,
        Some((_, rest)) => Some(rest.to_owned()),
        None => Some(without_counts(line)),
    }
}

const PHASES: [&str; 4] = ["unpacking", "queued", "running", "sealing"];

/// What a job did at the moment, if the line tells of that: it must be something that the demo's script makes it do.
fn is_scripted(line: &str) -> bool {
    const SCRIPT: &str = include_str!("../src/cli/demo/task.md");
    let Some((_, rest)) = timed(line) else { return true };
    let Some(said) = rest.strip_prefix("running: ") else { return true };
    let done = said.strip_prefix("$ ").map(|command| format!("shell {command}"));
    let edited = said.strip_prefix("editing ").map(|file| format!("*** Update File: {file}"));
    said == "thinking…" || SCRIPT.contains(&done.or(edited).unwrap_or_else(|| said.to_owned()))
}

/// How long the job took, and how many tokens: a command that was waited for takes a request more.
fn without_counts(line: &str) -> String {
    let bare = |word: &str| word.trim_matches(['(', ')', ',']).to_owned();
    let time = |word: &str| bare(word).strip_suffix('s').is_some_and(|number| number.parse::<f64>().is_ok());
    let count = |word: &str| bare(word).parse::<u64>().is_ok_and(|number| number >= 100);
    line.split(' ').map(|word| if time(word) || count(word) { "…" } else { word }).collect::<Vec<_>>().join(" ")
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// A line in rows of the window, broken after a space where there is one. The rows one after another are the line.
fn rows(line: &[Span]) -> Vec<Vec<Span>> {
    let cells: Vec<(&'static str, char)> = line.iter().flat_map(|span| span.text.chars().map(|c| (span.class, c))).collect();
    let mut rows = Vec::new();
    let mut rest = &cells[..];
    loop {
        let fits = rest.len().min(COLUMNS);
        let end = if rest.len() > COLUMNS { rest[..fits].iter().rposition(|(_, c)| *c == ' ').map_or(fits, |at| at + 1) } else { fits };
        let mut row: Vec<Span> = Vec::new();
        for (class, c) in &rest[..end] {
            match row.last_mut().filter(|span| span.class == *class) {
                Some(span) => span.text.push(*c),
                None => row.push(Span { class, text: c.to_string() }),
            }
        }
        rows.push(row);
        rest = &rest[end..];
        if rest.is_empty() {
            return rows;
        }
    }
}

const STYLE: &str = "text{font:13.3px ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono',monospace;fill:#d6dbe1;white-space:pre}\
.b{font-weight:700;fill:#fff}.d{fill:#98a2ad}.r{fill:#ff8f87}.g{fill:#79d18b}.y{fill:#e8c06a}.c{fill:#6cc7d9}\
@media(prefers-reduced-motion:no-preference){.l{animation:s .01s both}}@keyframes s{from{opacity:0}to{opacity:1}}";

/// The picture. Each line appears when it did in the run; where nothing moves, all are there.
fn draw(text: &str) -> String {
    let mut body = String::new();
    let mut row = 0_u32;
    let mut now = 0.0;
    for line in std::iter::once("\x1b[32m$\x1b[0m anchorhold demo").chain(text.lines()) {
        now = timed(&plain(line)).map_or(now, |(seconds, _)| (seconds * SLOWER).max(now)) + 0.05;
        let _ = writeln!(body, "<g class=\"l\" style=\"animation-delay:{now:.2}s\">");
        let mut line = spans(line);
        if timed(&plain_of(&line)).is_some() {
            // As on a terminal, where what went by is dim.
            line.iter_mut().for_each(|span| span.class = "d");
        }
        for spans in rows(&line) {
            let y = BAR + MARGIN + f64::from(row) * CELL.1;
            row += 1;
            let length: usize = spans.iter().map(|span| span.text.chars().count()).sum();
            if length == 0 {
                continue;
            }
            let parts: String = spans
                .iter()
                .map(|span| match span.class {
                    "" => escape(&span.text),
                    class => format!("<tspan class=\"{class}\">{}</tspan>", escape(&span.text)),
                })
                .collect();
            // A given length, so that lines stand beneath each other in whatever font there is.
            let _ = writeln!(
                body,
                "<text x=\"{MARGIN}\" y=\"{y:.0}\" textLength=\"{:.0}\" xml:space=\"preserve\">{parts}</text>",
                length as f64 * CELL.0
            );
        }
        body.push_str("</g>\n");
    }
    let (width, height) = (2.0 * MARGIN + COLUMNS as f64 * CELL.0, BAR + 2.0 * MARGIN + f64::from(row) * CELL.1 - 8.0);
    let dots: String = ["#ff6159", "#ffbd2e", "#28c941"]
        .iter()
        .zip(1_u8..)
        .map(|(colour, n)| format!("<circle cx=\"{}\" cy=\"17\" r=\"5.5\" fill=\"{colour}\"/>", u32::from(n) * 20))
        .collect();
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" width=\"{width:.0}\" height=\"{height:.0}\" role=\"img\" aria-labelledby=\"title desc\">\n\
         <title id=\"title\">A run of anchorhold demo in a terminal</title>\n\
         <desc id=\"desc\">A repository with a failing test is copied into a container without a network; the Codex CLI, its model played by a script, runs the test, corrects the function \
         and runs the test again; the patch comes back, with what changed, what to look at, and whether it applies.</desc>\n\
         <style>{STYLE}</style>\n<rect width=\"100%\" height=\"100%\" rx=\"9\" fill=\"#14181d\"/>\n{dots}\n{body}</svg>\n"
    )
}

/// The lines that a picture shows: rows that belong to one line are joined again.
fn shown(picture: &str) -> Vec<String> {
    let document = roxmltree::Document::parse(picture).expect("well-formed");
    let lines = document.descendants().filter(|node| node.attribute("class") == Some("l"));
    let text = |node: roxmltree::Node<'_, '_>| {
        node.descendants()
            .filter(roxmltree::Node::is_text)
            .filter(|text| text.parent_element().is_some_and(|p| p.tag_name().name() != "g"))
            .filter_map(|text| text.text().map(str::to_owned))
            .collect::<String>()
    };
    lines.map(text).collect()
}

#[test]
fn the_picture_shows_what_the_demo_says() {
    let text = demo();
    let now: Vec<String> = text.lines().map(plain).collect();
    let picture = std::fs::read_to_string(place()).unwrap_or_default();
    let same = |picture: &str| {
        let (drawn, said): (Vec<String>, Vec<String>) =
            (shown(picture).iter().skip(1).filter_map(|line| words(line)).collect(), now.iter().filter_map(|line| words(line)).collect());
        (drawn == said, drawn, said)
    };
    if std::env::var_os("ANCHORHOLD_PICTURE").is_some_and(|word| word == "write")
        && (picture.is_empty() || !same(&picture).0 || !shown(&picture).iter().all(|line| is_scripted(line)))
    {
        std::fs::write(place(), draw(&text)).unwrap();
        return;
    }
    let (is, drawn, said) = same(&picture);
    assert!(
        shown(&picture).iter().all(|line| is_scripted(line)),
        "docs/demo.svg shows what the demo's script does not do; run `make picture`: {:#?}",
        shown(&picture)
    );
    assert!(is, "docs/demo.svg shows something else than the demo; run `make picture`\ndrawn: {drawn:#?}\nsaid: {said:#?}");
}

#[test]
fn the_picture_stands_for_itself() {
    let picture = std::fs::read_to_string(place()).unwrap();
    assert!(picture.len() < 100_000, "{} bytes", picture.len());
    let document = roxmltree::Document::parse(&picture).unwrap();
    let root = document.root_element();
    let named =
        root.attribute("aria-labelledby").unwrap().split(' ').map(|id| document.descendants().find(|node| node.attribute("id") == Some(id)).unwrap());
    assert_eq!(root.attribute("role"), Some("img"));
    assert!(named.map(|node| node.text().unwrap_or_default().len()).all(|length| length > 20), "it says what it shows");
    for outside in ["href", "url(", "@import", "@font-face", "<script", "<image", "<foreignObject"] {
        assert!(!picture.contains(outside), "nothing is taken from elsewhere: {outside}");
    }
    assert!(picture.matches("http").count() == 1, "the name of its own language alone");
    let readme = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    assert!(readme.contains("](docs/demo.svg)"), "the README shows it");
}

#[test]
fn lines_are_taken_apart_and_wrapped() {
    let line = "a \x1b[1mb\x1b[0m c";
    let span = |class, text: &str| Span { class, text: text.to_owned() };
    assert_eq!(spans(line), [span("", "a "), span("b", "b"), span("", " c")]);
    assert_eq!(plain(line), "a b c");
    let long = "x".repeat(COLUMNS + 1);
    assert_eq!(rows(&spans(&long)), [vec![span("", &"x".repeat(COLUMNS))], vec![span("", "x")]]);
    let sentence = format!("{} \x1b[1mword\x1b[0m", "x".repeat(COLUMNS - 2));
    assert_eq!(rows(&spans(&sentence)), [vec![span("", &format!("{} ", "x".repeat(COLUMNS - 2)))], vec![span("b", "word")]]);
    assert_eq!(words("[  1.2s] removing the job").as_deref(), Some("removing the job"));
    assert_eq!(words("[  1.2s] queued: place 3"), None);
    assert!(is_scripted("[  1.2s] running: $ python3 -B -m unittest -q") && is_scripted("[  1.2s] running: editing greet.py"));
    assert!(!is_scripted("[  1.2s] running: $ rm -r /") && !is_scripted("[  1.2s] running: something else"));
    assert_eq!(words("job x, 3.1s (Codex 2.4s), 7200 tokens, +1 -1").as_deref(), Some("job x, … (Codex … … tokens, +1 -1"));
    let picture = draw(&format!("[  0.4s] first\n{long}\n\n\x1b[1m<&>\x1b[0m"));
    assert_eq!(shown(&picture), ["$ anchorhold demo", "[  0.4s] first", &long, "", "<&>"]);
}
