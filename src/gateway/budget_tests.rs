//! The bounds hold whatever is asked.

use proptest::prelude::*;
use serde_json::json;

use super::*;

fn purse(limit: u64, charged: u64, reserved: u64) -> Purse {
    Purse { limit, charged, reserved }
}

fn size(worst: u64, likely: u64) -> Size {
    Size { worst, likely }
}

#[test]
fn what_is_left_bounds_the_answer() {
    let all = u64::MAX;
    for (purse, size, output, expected) in [
        (purse(1000, 0, 0), size(100, 40), 200, Decision::Go { reserve: 300, output: 200 }),
        (purse(1000, 0, 0), size(100, 40), all, Decision::Go { reserve: 1000, output: 900 }),
        (purse(1000, 500, 0), size(100, 40), all, Decision::Go { reserve: 500, output: 400 }),
        // By bytes it does not fit: alone, everything is set aside.
        (purse(1000, 0, 0), size(2000, 600), all, Decision::Go { reserve: 1000, output: 400 }),
        (purse(1000, 0, 0), size(2000, 600), 100, Decision::Go { reserve: 1000, output: 100 }),
        // Beside another one it waits, and so does what fits only later.
        (purse(3000, 0, 2000), size(2000, 600), all, Decision::Wait),
        (purse(1000, 0, 1000), size(100, 40), all, Decision::Wait),
        // Nothing under way can free what is spent.
        (purse(1000, 1000, 0), size(1, 1), all, Decision::Over(0)),
        (purse(1000, 970, 10), size(40, 20), all, Decision::Over(0)),
        (purse(1000, 2000, 0), size(1, 1), all, Decision::Over(0)),
        (purse(1000, 0, 0), size(9000, 990), all, Decision::Over(0)),
        // An answer of nothing needs no room.
        (purse(100, 0, 0), size(100, 40), 0, Decision::Go { reserve: 100, output: 0 }),
    ] {
        assert_eq!(decide(&[purse], size, output), expected, "{purse:?} {size:?} {output}");
    }
    let two = [purse(1000, 0, 0), purse(500, 450, 0)];
    assert_eq!(decide(&two, size(10, 5), all), Decision::Go { reserve: 50, output: 40 });
    assert_eq!(decide(&two, size(60, 50), all), Decision::Over(1));
}

proptest! {
    #[test]
    fn nothing_is_ever_set_aside_that_is_not_there(
        limits in proptest::collection::vec((1u64..2000, 0u64..2000, 0u64..2000), 1..3), worst in 0u64..3000, part in 0u64..100, output in 0u64..3000
    ) {
        let purses: Vec<Purse> = limits.iter().map(|(l, c, r)| purse(*l, *c, *r)).collect();
        let size = size(worst, worst * part / 100);
        if let Decision::Go { reserve, output: granted } = decide(&purses, size, output) {
            prop_assert!(granted <= output && granted <= reserve);
            for p in &purses {
                prop_assert!(p.charged + p.reserved + reserve <= p.limit);
                // Beside others the whole input is covered.
                prop_assert!(p.reserved == 0 || reserve >= worst + granted || purses.iter().any(|p| p.reserved == 0));
            }
        }
    }

    #[test]
    fn no_string_has_more_likely_tokens_than_bytes(text in ".{0,200}") {
        let input = Known::default().measure(&json!({ "input": text.as_str() }));
        prop_assert!(input.size.likely <= input.size.worst);
        prop_assert!(input.size.worst >= text.len() as u64);
    }
}

#[test]
fn ordinary_text_is_likely_about_half_its_bytes() {
    let prose = "The quick brown fox jumps over the lazy dog, and then it goes home to have some soup. ".repeat(100);
    let code = "fn main() {\n    let total: u64 = items.iter().map(|item| item.price).sum();\n    log(\"{total}\", 7);\n}\n".repeat(100);
    for text in [prose, code] {
        let likely = super::likely(text.as_bytes());
        assert!((text.len() as u64 / 4..text.len() as u64 * 7 / 10).contains(&likely), "{likely} of {}", text.len());
    }
    // Dense ones are not taken for less than they are.
    assert_eq!(super::likely("日本".as_bytes()), 6);
    assert_eq!(super::likely(b"1 2 3 4"), 7);
    assert_eq!(super::likely(b"{[!?]}"), 6);
}

#[test]
fn what_was_counted_before_is_not_counted_by_bytes_again() {
    let mut known = Known::default();
    let message = |text: &str| json!({"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]});
    let mut request = json!({"model": "m", "instructions": "x".repeat(10_000), "input": [message("first")]});
    let first = known.measure(&request);
    assert!(first.size.worst > 10_000);
    known.learn(&first, 2_500);
    assert_eq!(known.measure(&request).size, size(2_500, 2_500));
    request["input"].as_array_mut().unwrap().push(message(&"y".repeat(400)));
    let grown = known.measure(&request);
    assert!((2_900..3_000).contains(&grown.size.worst), "{:?}", grown.size);
    known.learn(&grown, 2_700);
    // Another conversation with the same opening, and one with another.
    request["input"] = json!([message("first"), message("elsewhere")]);
    assert!((2_500..2_650).contains(&known.measure(&request).size.worst));
    request["instructions"] = json!("z".repeat(10_000));
    assert!(known.measure(&request).size.worst > 10_000);
    // A change anywhere before the end is new text.
    request["instructions"] = json!("x".repeat(10_000));
    request["tools"] = json!([{"type": "local_shell"}]);
    assert!(known.measure(&request).size.worst > 10_000);
}

#[test]
fn dense_text_ends_the_likely_size() {
    let mut known = Known::default();
    let request = json!({"model": "m", "input": "ab ".repeat(1000)});
    let first = known.measure(&request);
    assert!(first.size.likely < first.size.worst / 2);
    known.learn(&first, 2_500);
    let next = known.measure(&json!({"model": "m", "input": "cd ".repeat(1000)}));
    assert_eq!(next.size.likely, next.size.worst);
}

#[test]
fn an_image_counts_as_one_and_its_words_do_not_hide_text() {
    let known = Known::default();
    let part = |kind: &str| json!({"model": "m", "input": [{"role": "user", "content": [{"type": kind, "image_url": format!("data:image/png;base64,{}", "A".repeat(100_000))}]}]});
    let image = known.measure(&part("input_image")).size;
    assert!((IMAGE..IMAGE + 200).contains(&image.worst));
    assert!(known.measure(&part("input_text")).size.worst > 100_000);
}

#[test]
fn what_is_known_is_bounded() {
    let mut known = Known::default();
    for n in 0..2000 {
        let input = known.measure(&json!({"model": "m", "input": format!("{n}")}));
        known.learn(&input, 10);
    }
    assert!(known.tokens.len() <= MAX_KNOWN);
}
