use super::*;
use crate::review::Severity;
use crate::review::format::tests::review;

fn code(review: &Review, failure: Option<Code>, fail_on: Option<Severity>) -> u8 {
    outcome(review, failure.map(|code| Error::new(code, "x")), FailOn(fail_on)).map_or(0, |e| e.code.exit_code())
}

#[test]
fn each_outcome_has_its_own_exit_code() {
    let found = review();
    assert_eq!(code(&found, None, Some(Severity::High)), 20);
    assert_eq!(code(&found, None, Some(Severity::Critical)), 0);
    assert_eq!(code(&found, None, None), 0);
    let partial = Review { partial: true, reason: Reason::TokenBudget, ..review() };
    assert_eq!(code(&partial, Some(Code::TokenBudget), Some(Severity::High)), 21, "a partial review is no whole one, whatever it found");
    assert_eq!(code(&partial, Some(Code::TokenBudget), None), 21);
    let empty = Review { findings: Vec::new(), ..partial };
    for (failure, exit) in [
        (Code::TokenBudget, 6),
        (Code::Timeout, 7),
        (Code::ProviderUnreachable, 4),
        (Code::JobCancelled, 8),
        (Code::EngineUnavailable, 3),
        (Code::InvalidConfig, 2),
    ] {
        assert_eq!(code(&empty, Some(failure), Some(Severity::High)), exit);
    }
    assert_eq!(code(&empty, None, Some(Severity::High)), 21, "an answer that could not be used is not a clean review");
    let all = [0, 20, 21, 2, 3, 4, 6, 7];
    assert_eq!(all.iter().collect::<std::collections::HashSet<_>>().len(), all.len());
}

#[test]
fn the_command_that_writes_again_is_one() {
    let id: JobId = "0123456789abcdef0123456789abcdef".parse().unwrap();
    let report = |format, output: Option<&str>| Report { format, output: output.map(PathBuf::from) };
    let command = again_command(&id, &[report(Format::Sarif, Some("a.sarif")), report(Format::Text, None), report(Format::Json, Some("it's $x"))]);
    assert_eq!(command, format!("anchorhold result {id} --format sarif --output a.sarif --format text --format json --output 'it'\\''s $x'"));
}

#[test]
fn a_review_of_nothing_is_clean_and_says_so() {
    let review = nothing(crate::review::sample_facts(), Some("m".to_owned()));
    assert_eq!(code(&review, None, Some(Severity::Nit)), 0);
    assert!(!review.partial && review.summary.contains("nothing to review"));
}
