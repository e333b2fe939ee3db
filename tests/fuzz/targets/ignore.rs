//! Ignore rules of a hostile base: each becomes an expression that compiles within its bound or is refused, and it excludes what git's own
//! matcher (rewritten here, naively, from its documentation and source) would exclude.

use anchorhold::init::rules::pattern::{Rule, lines};
use regex::bytes::RegexBuilder;

/// Bytes of one rule's automaton.
const AUTOMATON: usize = 1 << 20;

/// First line: a path. The rest: rules.
pub fn run(data: &[u8]) {
    let end = data.iter().position(|b| *b == b'\n').unwrap_or(data.len());
    let (path, rules) = data.split_at(end);
    let path = path.get(..path.len().min(24)).unwrap_or_default();
    for line in lines(rules.get(1..).unwrap_or_default()).take(12) {
        let rule = super::within(line.len(), 4096, 3000, || Rule::parse(line));
        let Some(rule) = rule else { continue };
        assert!(rule.regex.is_ascii() && !rule.regex.contains('\0'));
        let built = RegexBuilder::new(&rule.regex).unicode(false).dot_matches_new_line(true).size_limit(AUTOMATON).dfa_size_limit(AUTOMATON).build();
        let regex = match built {
            Ok(regex) => regex,
            Err(regex::Error::CompiledTooBig(_)) => continue,
            Err(e) => panic!("{:?} became {:?}: {e}", line.escape_ascii().to_string(), rule.regex),
        };
        if path.is_empty() || path.contains(&0) || path.starts_with(b"/") || path.ends_with(b"/") || path.windows(2).any(|w| w == b"//") {
            continue;
        }
        let Some(pattern) = plain(line) else { continue };
        let anchored = pattern.contains(&b'/');
        let text = pattern.strip_prefix(b"/").unwrap_or(pattern);
        let subject = if anchored { path } else { path.rsplit(|b| *b == b'/').next().unwrap_or(path) };
        let expected = wild(text, subject);
        assert_eq!(
            regex.is_match(path),
            expected,
            "{:?} on {:?}: {:?}",
            line.escape_ascii().to_string(),
            path.escape_ascii().to_string(),
            rule.regex
        );
    }
}

/// The pattern of a line in the part of the dialect that the matcher below knows: no brackets, no backslash, few stars, no spaces at its end.
fn plain(line: &[u8]) -> Option<&[u8]> {
    let pattern = line.strip_prefix(b"!").unwrap_or(line);
    let pattern = pattern.strip_suffix(b"/").unwrap_or(pattern);
    let known = !pattern.iter().any(|b| matches!(b, b'[' | b'\\' | 0)) && !pattern.ends_with(b" ") && !line.ends_with(b" ");
    (known && pattern.iter().filter(|b| **b == b'*').count() <= 5 && pattern.len() <= 24).then_some(pattern)
}

/// Whether a pattern matches all of a text: `?` and `*` stop at a slash; `**` between slashes or at an end does not.
fn wild(pattern: &[u8], text: &[u8]) -> bool {
    wild_at(pattern, pattern, text)
}

fn wild_at(whole: &[u8], pattern: &[u8], text: &[u8]) -> bool {
    let Some((first, rest)) = pattern.split_first() else { return text.is_empty() };
    match first {
        b'?' => text.split_first().is_some_and(|(c, after)| *c != b'/' && wild_at(whole, rest, after)),
        b'*' => {
            let at = whole.len() - pattern.len();
            let stars = pattern.iter().take_while(|b| **b == b'*').count();
            let after = &pattern[stars..];
            // Everything before the first special character is compared first, so that a `**` there stands at the start.
            let plain = whole.iter().position(|b| matches!(b, b'*' | b'?')).unwrap_or(whole.len());
            let begins = at == plain || whole[at - 1] == b'/';
            let slashes = whole.contains(&b'/') || text.contains(&b'/');
            if stars > 1 && begins && slashes && (after.is_empty() || after[0] == b'/') {
                if after.is_empty() {
                    return true;
                }
                return (0..=text.len()).any(|skip| wild_at(whole, after, &text[skip..])) || wild_at(whole, &after[1..], text);
            }
            (0..=text.iter().position(|b| *b == b'/').unwrap_or(text.len())).any(|skip| wild_at(whole, after, &text[skip..]))
        }
        other => text.split_first().is_some_and(|(c, after)| c == other && wild_at(whole, rest, after)),
    }
}

pub fn seeds() -> Vec<Vec<u8>> {
    let texts: [&[u8]; 6] = [
        b"a/b/c.o\n*.o\n/a\na/\n!b\n# c\n\\#d\n",
        b"a/b/c\n**/c\na/**\na/**/c\na**/c\n/*/b\n",
        b"x1\n[a-z][!0-9]\n[[:digit:]]*\n[]-]\n[^a\\]]\n[z-a]\n",
        b"t  \nt  \nt\\ \nt\\  \n",
        b"d/f\n\xef\xbb\xbfd\nd/f\r\n?/f\n*\n**\n",
        b"foo/bar\nfoo**bar\nf*/b?r\nfoo/**/bar\n**/foo/**\n",
    ];
    texts.map(<[u8]>::to_vec).into()
}
