//! What a request may cost, decided before it is sent: the size of its input, and what of the budget is set aside for it.
//!
//! No vocabulary is at hand, and none is needed for a bound: a token covers at least one byte of the text, so an input never has more tokens than
//! its strings and keys have bytes ([`Size::worst`]). That is four times too much for ordinary text; but a conversation grows at its end, and what
//! the provider counted for its beginning is known from the request before ([`Known`]). So only what is new is counted by bytes, and the bound
//! stays close. A first request on a budget that is smaller than its bytes goes by [`Size::likely`], alone, with all that is left set aside for it:
//! two letters, three digits or one other sign to a token, about twice what ordinary text has. Text that is made to have more tokens than that
//! (letters that no vocabulary joins) can cost more than was set aside, once: then the job is counted by bytes only, and it is charged in full.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, Hasher, RandomState};

use serde_json::Value;

/// Tokens below which no answer is worth asking for; the public interface takes no lower limit.
const MIN_OUTPUT: u64 = 16;
/// Tokens that one image is taken for: above what the public models count for the largest.
const IMAGE: u64 = 12_000;
/// Beginnings of conversations that are kept for a job.
const MAX_KNOWN: usize = 256;
/// Items at the start of a conversation whose counts are kept one by one: another conversation of the job begins with them too.
const OPENING: usize = 8;

/// The tokens of a request's input.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Size {
    /// No more than these.
    pub worst: u64,
    /// Hardly more than these.
    pub likely: u64,
}

impl Size {
    fn add(&mut self, other: Self) {
        self.worst = self.worst.saturating_add(other.worst);
        self.likely = self.likely.saturating_add(other.likely);
    }
}

/// A request's input, measured.
#[derive(Debug, Default)]
pub struct Input {
    /// Its tokens.
    pub size: Size,
    /// The tokens as they would be with nothing known.
    fresh: Size,
    /// Digests of its beginnings: everything but the items, then with one item more each.
    beginnings: Vec<u64>,
}

/// What the provider counted for a job's requests so far.
#[derive(Default)]
pub struct Known {
    keys: RandomState,
    tokens: HashMap<u64, u64>,
    /// The job's text was once denser than [`Size::likely`].
    dense: bool,
}

impl Known {
    /// Measures the input of a request.
    pub fn measure(&self, request: &Value) -> Input {
        let mut hasher = self.keys.build_hasher();
        let mut sizes = Vec::new();
        let mut size = Size::default();
        let items = request.get("input");
        for (key, value) in request.as_object().into_iter().flatten().filter(|(key, _)| *key != "input") {
            word(key, &mut hasher, &mut size);
            walk(value, &mut hasher, &mut size);
        }
        let mut beginnings = vec![hasher.finish()];
        sizes.push(size);
        let one = std::slice::from_ref(items.unwrap_or(&Value::Null));
        for item in items.and_then(Value::as_array).map_or(one, Vec::as_slice) {
            let mut size = Size::default();
            walk(item, &mut hasher, &mut size);
            beginnings.push(hasher.finish());
            sizes.push(size);
        }
        let sum = |from: usize| {
            sizes.iter().skip(from).fold(Size::default(), |mut sum, size| {
                sum.add(*size);
                sum
            })
        };
        let fresh = sum(0);
        let known = beginnings.iter().enumerate().rev().find_map(|(at, digest)| Some((at, *self.tokens.get(digest)?)));
        let mut size = match known {
            Some((at, tokens)) => {
                let mut rest = sum(at + 1);
                rest.add(Size { worst: tokens, likely: tokens });
                Size { worst: rest.worst.min(fresh.worst), likely: rest.likely.min(fresh.likely) }
            }
            None => fresh,
        };
        if self.dense {
            size.likely = size.worst;
        }
        if crate::weaken::off("budget.input") {
            size = Size::default();
        }
        Input { size, fresh, beginnings }
    }

    /// The provider counted this many tokens for that input. Its beginnings have no more than the whole.
    pub fn learn(&mut self, input: &Input, tokens: u64) {
        if self.tokens.len() + OPENING + 1 > MAX_KNOWN {
            self.tokens.clear();
        }
        // A provider that counts nothing has taught nothing.
        if tokens == 0 {
            return;
        }
        self.dense |= tokens > input.fresh.likely;
        for digest in input.beginnings.iter().take(OPENING).chain(input.beginnings.last()) {
            let known = self.tokens.entry(*digest).or_insert(tokens);
            *known = tokens.min(*known);
        }
    }
}

fn walk(value: &Value, hasher: &mut impl Hasher, size: &mut Size) {
    match value {
        Value::String(text) => word(text, hasher, size),
        Value::Array(list) => {
            hasher.write_u8(b'[');
            list.iter().for_each(|value| walk(value, hasher, size));
            hasher.write_u8(b']');
        }
        Value::Object(map) => {
            hasher.write_u8(b'{');
            let image = map.get("type").is_some_and(|kind| kind == "input_image");
            for (key, value) in map {
                word(key, hasher, size);
                if image && key == "image_url" {
                    word(value.as_str().unwrap_or_default(), hasher, &mut Size::default());
                    size.add(Size { worst: IMAGE, likely: IMAGE });
                } else {
                    walk(value, hasher, size);
                }
            }
            hasher.write_u8(b'}');
        }
        other => word(&other.to_string(), hasher, size),
    }
}

/// One string: its bytes, and two more for what holds it.
fn word(text: &str, hasher: &mut impl Hasher, size: &mut Size) {
    hasher.write(text.as_bytes());
    hasher.write_u8(0xff);
    size.add(Size { worst: text.len() as u64 + 2, likely: likely(text.as_bytes()).min(text.len() as u64) + 2 });
}

fn likely(text: &[u8]) -> u64 {
    let (mut tokens, mut rest) = (0u64, text);
    while let Some(first) = rest.first() {
        let class = |b: &u8| match b {
            b'a'..=b'z' | b'A'..=b'Z' => 2,
            b'0'..=b'9' => 3,
            b' ' | b'\t' => 8,
            _ => 1,
        };
        let per_token = class(first);
        let run = rest.iter().take_while(|b| class(b) == per_token).count();
        let (head, tail) = rest.split_at(run);
        rest = tail;
        // One space belongs to the word behind it.
        let joined = head == b" " && tail.first().is_some_and(u8::is_ascii_alphabetic);
        tokens += if joined { 0 } else { (run as u64).div_ceil(per_token) };
    }
    tokens
}

/// A ceiling on tokens: a job's budget, or the day's over all jobs.
#[derive(Debug, Clone, Copy)]
pub struct Purse {
    /// Tokens there are.
    pub limit: u64,
    /// Tokens that are spent.
    pub charged: u64,
    /// Tokens set aside for what is under way.
    pub reserved: u64,
}

/// What becomes of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// It may be sent, with so much set aside, of which so much is for the answer.
    Go {
        /// Input and output together.
        reserve: u64,
        /// The answer's limit.
        output: u64,
    },
    /// What is under way may leave enough when it ends.
    Wait,
    /// The purse of this index cannot pay for it.
    Over(usize),
}

/// Decides over a request whose answer may have up to `output` tokens. What it sets aside is never more than what any purse has left.
pub fn decide(purses: &[Purse], size: Size, output: u64) -> Decision {
    let least = output.min(MIN_OUTPUT);
    let (mut wait, mut output, mut left) = (false, output, u64::MAX);
    for (index, purse) in purses.iter().enumerate() {
        let unspent = purse.limit.saturating_sub(purse.charged);
        let reserved = if crate::weaken::off("budget.reserve") { 0 } else { purse.reserved };
        let free = unspent.saturating_sub(reserved);
        // By its likely size it goes alone: all that is left is set aside for it, and it cannot add up with another one.
        let input = if size.worst.saturating_add(least) <= free || reserved > 0 { size.worst } else { size.likely };
        if input.saturating_add(least) <= free {
            output = output.min(free - input);
            left = left.min(free);
        } else if reserved > 0 && size.likely.saturating_add(least) <= unspent {
            wait = true;
        } else {
            return Decision::Over(index);
        }
    }
    if wait {
        return Decision::Wait;
    }
    Decision::Go { reserve: size.worst.min(left.saturating_sub(output)).saturating_add(output), output }
}

#[cfg(test)]
#[path = "budget_tests.rs"]
mod tests;
