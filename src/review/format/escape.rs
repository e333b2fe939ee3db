//! Makes an agent's words safe for the place where they stand.
//!
//! All of it begins with [`crate::display`], so that nothing unseen is left; each form then has its own rules. Logs of runners are a form of
//! their own: GitHub's takes `::command::` at the start of a line, and `##[command]` anywhere in one, others `##vso[…]` or `##teamcity[…]`.

use crate::display;

/// Words of several lines: nothing unseen, and no command to a runner that reads logs, provided that something of ours begins each line.
pub fn words(raw: &str) -> String {
    inert(&display::text(raw.replace("\r\n", "\n").as_bytes()))
}

/// [`words`] for lines that nothing of ours begins: one that a runner would take for a command gets a backslash before it.
pub fn lines(raw: &str) -> String {
    let shown = words(raw);
    let marked = shown.split('\n').map(|line| {
        let text = line.trim_start();
        if text.starts_with("::") { format!("{}\\{text}", line.get(..line.len() - text.len()).unwrap_or_default()) } else { line.to_owned() }
    });
    marked.collect::<Vec<_>>().join("\n")
}

/// [`words`] in one line; line ends become spaces.
pub fn line(raw: &str) -> String {
    let flat: Vec<&str> = raw.split_whitespace().collect();
    inert(&display::line(flat.join(" ").as_bytes()))
}

/// [`line`], at most `max` characters of it, with a mark where it was cut.
pub fn clip(raw: &str, max: usize) -> String {
    cut(&line(raw), max)
}

/// At most `max` characters, with a mark where something was cut.
pub fn cut(text: &str, max: usize) -> String {
    match text.char_indices().nth(max) {
        Some((at, _)) => format!("{} …[cut]", text.get(..at).unwrap_or_default()),
        None => text.to_owned(),
    }
}

/// Breaks `##name[` up, which runners take for a command wherever it stands in a line.
pub fn inert(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut after_hash = false;
    for (at, c) in text.char_indices() {
        if c == '#' && after_hash && opens_command(text.get(at + 1..).unwrap_or_default()) {
            out.push('\\');
        }
        out.push(c);
        after_hash = c == '#';
    }
    out
}

fn opens_command(rest: &str) -> bool {
    rest.trim_start_matches(|c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_').starts_with('[')
}

/// A JSON document whose strings hold nothing unseen and no command to a runner; what it means is the same.
pub fn json(document: &str) -> String {
    hashes(&display::json(document), "\\u0023")
}

/// Text for an XML document's content or an attribute in double quotes: nothing unseen, nothing that XML 1.0 cannot hold.
pub fn xml(raw: &str) -> String {
    let mut out = String::new();
    for c in display::text(raw.replace("\r\n", "\n").as_bytes()).chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&apos;"),
            // An attribute would turn them into spaces; and a line of ours begins each line of the document.
            '\n' => out.push_str("&#10;"),
            '\t' => out.push_str("&#9;"),
            c => out.push(c),
        }
    }
    hashes(&out, "&#35;")
}

/// Writes each `#` that follows another one as its escape.
fn hashes(text: &str, escape: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut after_hash = false;
    for c in text.chars() {
        if c == '#' && after_hash {
            out.push_str(escape);
        } else {
            out.push(c);
        }
        after_hash = c == '#';
    }
    out
}

/// The message of a workflow command.
pub fn command_data(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

/// A property of a workflow command.
pub fn command_property(text: &str) -> String {
    command_data(text).replace(':', "%3A").replace(',', "%2C")
}

/// Words as Markdown in one line, as people wrote them: a code span stays one, everything else is shown as it is.
///
/// What a forge makes a link, a mention or a reference of (`@user`, `#123`, addresses, commits, `:name:`, …) becomes a code span, in which it
/// does not; a backslash alone would not help against those, since they are looked for in the rendered text.
pub fn markdown_line(raw: &str) -> String {
    inline(&line(raw))
}

/// Words as Markdown blocks, each line after `prefix` (such as `> `). Fenced code stays fenced, without its language: some are drawn, not shown.
pub fn markdown_blocks(raw: &str, prefix: &str, max: usize) -> String {
    let shown = cut(&words(raw), max);
    let mut out = String::new();
    let mut put = |text: &str| {
        out.push_str(prefix.trim_end());
        if !text.is_empty() {
            out.push_str(prefix.get(prefix.trim_end().len()..).unwrap_or_default());
            out.push_str(text);
        }
        out.push('\n');
    };
    let mut lines = shown.trim_matches('\n').lines().peekable();
    while let Some(line) = lines.next() {
        if let Some(info) = fence_info(line) {
            // A language is left out: some are drawn instead of shown. Anything else that was said there is not.
            let language = info.len() <= 20 && info.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-_".contains(&b));
            let mut code: Vec<&str> = if language { Vec::new() } else { vec![info] };
            for inside in lines.by_ref() {
                let inside_trimmed = inside.trim();
                if inside_trimmed.len() >= 3 && inside_trimmed.bytes().all(|b| b == b'`') {
                    break;
                }
                code.push(inside);
            }
            let fence = "`".repeat(longest_run(&code.join("\n")).max(2) + 1);
            put(&fence);
            for inside in &code {
                put(inside);
            }
            put(&fence);
            continue;
        }
        let text = line.trim_end();
        if text.is_empty() {
            put("");
            continue;
        }
        let indent: usize = text.chars().take_while(|c| c.is_whitespace()).map(|c| if c == '\t' { 4 } else { 1 }).sum();
        let mut shown = format!("{}{}", "&nbsp;".repeat(indent.min(40)), inline(text.trim_start()));
        let goes_on = lines.peek().is_some_and(|next| !next.trim().is_empty() && fence_info(next).is_none());
        if goes_on {
            shown.push('\\');
        }
        put(&shown);
    }
    out
}

/// What stands behind the opening of fenced code; `None`: the line opens none.
fn fence_info(line: &str) -> Option<&str> {
    let info = line.trim().strip_prefix("```")?.trim_start_matches('`').trim();
    (!info.contains('`')).then_some(info)
}

/// A code span that holds exactly this line.
pub fn code_span(text: &str) -> String {
    let fence = "`".repeat(longest_run(text) + 1);
    let pad = text.starts_with('`') || text.ends_with('`') || (text.starts_with(' ') && text.ends_with(' ')) || text.trim().is_empty();
    let pad = if pad { " " } else { "" };
    format!("{fence}{pad}{text}{pad}{fence}")
}

fn longest_run(text: &str) -> usize {
    text.split(|c| c != '`').map(str::len).max().unwrap_or_default()
}

/// One line of escaped words as Markdown.
fn inline(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 16);
    let mut rest = text;
    while !rest.is_empty() {
        let plain_len = rest.find('`').unwrap_or(rest.len());
        let (plain, after) = rest.split_at(plain_len);
        push_plain(&mut out, plain);
        let run = after.len() - after.trim_start_matches('`').len();
        let (ticks, after) = after.split_at(run);
        match closing(after, run) {
            Some(end) if run > 0 => {
                let (code, after) = after.split_at(end);
                push_code(&mut out, code);
                rest = after.get(run..).unwrap_or_default();
            }
            _ => {
                ticks.chars().for_each(|c| out.extend(['\\', c]));
                rest = after;
            }
        }
    }
    out
}

/// Where a run of exactly so many backticks begins.
fn closing(text: &str, run: usize) -> Option<usize> {
    let mut at = 0;
    while let Some(found) = text.get(at..)?.find('`') {
        let begin = at + found;
        let rest = text.get(begin..)?;
        let len = rest.len() - rest.trim_start_matches('`').len();
        if len == run {
            return Some(begin);
        }
        at = begin + len;
    }
    None
}

fn push_code(out: &mut String, code: &str) {
    if code.trim().is_empty() {
        return;
    }
    // Two spans that touch would be one.
    if out.ends_with('`') {
        out.push(' ');
    }
    out.push_str(&code_span(code.trim()));
}

/// Text between code spans.
fn push_plain(out: &mut String, text: &str) {
    for (number, token) in text.split(char::is_whitespace).enumerate() {
        if number > 0 && !out.is_empty() && !out.ends_with(' ') {
            out.push(' ');
        }
        if is_reference(token) {
            push_code(out, token);
        } else {
            push_escaped(out, token);
        }
    }
}

fn push_escaped(out: &mut String, token: &str) {
    let at_start = out.is_empty();
    let digits = token.len() - token.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    for (at, c) in token.char_indices() {
        let opens_block = at_start && ((at == 0 && matches!(c, '-' | '+' | '=' | ':')) || (at == digits && digits > 0 && matches!(c, '.' | ')')));
        if opens_block || matches!(c, '\\' | '*' | '_' | '{' | '}' | '[' | ']' | '<' | '>' | '#' | '|' | '~' | '&' | '!' | '$' | '^') {
            out.push('\\');
        }
        out.push(c);
    }
}

/// Whether a forge may make something else of a word than text.
fn is_reference(token: &str) -> bool {
    let lower = token.to_ascii_lowercase();
    let sigil = |sigil: char, next: fn(char) -> bool| {
        lower.match_indices(sigil).any(|(at, s)| lower.get(at + s.len()..).is_some_and(|rest| rest.starts_with(next)))
    };
    let word = |c: char| c.is_alphanumeric() || c == '"' || c == '_';
    lower.contains(['@', '#', '$', '~', '^'])
        || lower.contains("://")
        || lower.contains("www.")
        || ["gh-", "mailto:", "xmpp:"].iter().any(|mark| lower.contains(mark))
        || sigil('!', |c| c.is_ascii_digit())
        || sigil('&', word)
        || sigil('%', word)
        || has_hex_run(&lower)
        || has_emoji_name(&lower)
}

/// The name of a commit: seven hexadecimal digits or more.
fn has_hex_run(lower: &str) -> bool {
    lower.split(|c: char| !c.is_alphanumeric()).any(|part| (7..=64).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_hexdigit()))
}

fn has_emoji_name(lower: &str) -> bool {
    let parts: Vec<&str> = lower.split(':').collect();
    let inner = parts.get(1..parts.len().saturating_sub(1)).unwrap_or_default();
    inner.iter().any(|name| !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_+-".contains(&b)))
}
