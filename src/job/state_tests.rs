use super::super::labels::Ended;
use super::super::labels::tests::sample;
use super::*;
use crate::engine::ContainerId;
use crate::error::Code;

/// The sample's `prepare_by` is 2,000 s; it was made at 1,000 s.
const NOW: u64 = 1_500_000;

fn facts(state: ContainerState, exit_code: Option<i64>) -> ContainerFacts {
    ContainerFacts {
        id: ContainerId::parse(&"a".repeat(64)).unwrap(),
        name: "anchorhold-x".into(),
        labels: Default::default(),
        state,
        exit_code,
        oom_killed: false,
        created_unix_ms: 1_000_000,
        started_unix_ms: (state != ContainerState::Created).then_some(1_100_000),
        finished_unix_ms: exit_code.map(|_| 1_400_000),
        image_id: "sha256:0".into(),
    }
}

fn record(phase: Phase) -> Progress {
    Progress { ms: 1_200_000, phase, message: None, events: 0, answers: 0, position: None, reason: None }
}

fn check(facts: &ContainerFacts, last: Option<Phase>, now: u64) -> (JobState, Option<Reason>) {
    let derived = derive(facts, &sample(), last.map(record).as_ref(), now, 0, Life::Unknown);
    assert!(derived.detail.ends_with('.'), "{}", derived.detail);
    assert!(!derived.gone);
    assert_eq!(derived.state.is_final(), derived.reason.is_some());
    (derived.state, derived.reason)
}

#[test]
fn a_created_container_is_preparing_until_its_delivery_is_overdue() {
    let created = facts(ContainerState::Created, None);
    assert_eq!(check(&created, None, NOW), (JobState::Preparing, None));
    assert_eq!(check(&created, None, 2_000_999), (JobState::Preparing, None));
    assert_eq!(check(&created, None, 2_001_000), (JobState::Interrupted, Some(Reason::Interrupted)));
    assert_eq!(derive(&created, &sample(), None, 3_000_000, 0, Life::Unknown).ended_ms, Some(2_000_000));
}

#[test]
fn a_created_container_is_interrupted_once_its_deliverer_is_known_to_be_gone() {
    let created = facts(ContainerState::Created, None);
    for (life, state) in [(Life::Alive, JobState::Preparing), (Life::Unknown, JobState::Preparing), (Life::Gone, JobState::Interrupted)] {
        let derived = derive(&created, &sample(), None, NOW, 0, life);
        assert_eq!((derived.state, derived.ended_ms), (state, None), "{life:?}");
    }
    // Once it has started, who delivered it counts no more; a tombstone says itself how it ended.
    let running = facts(ContainerState::Running, None);
    assert_eq!(derive(&running, &sample(), None, NOW, 0, Life::Gone).state, JobState::Preparing);
    assert!(!derive(&facts(ContainerState::Exited, Some(137)), &sample(), None, NOW, 0, Life::Gone).state.is_final());
}

#[test]
fn a_second_start_only_seals_whatever_the_log_of_the_first_said() {
    let again = ContainerFacts { finished_unix_ms: Some(1_090_000), ..facts(ContainerState::Running, None) };
    for last in [None, Some(Phase::Queued), Some(Phase::Running), Some(Phase::Sealing)] {
        assert_eq!(check(&again, last, NOW), (JobState::Sealing, None), "{last:?}");
    }
}

#[test]
fn a_living_container_stands_where_its_last_record_says() {
    for state in [ContainerState::Running, ContainerState::Restarting, ContainerState::Paused] {
        let living = facts(state, None);
        for (last, expected) in [
            (None, JobState::Preparing),
            (Some(Phase::Unpacking), JobState::Preparing),
            (Some(Phase::Queued), JobState::Queued),
            (Some(Phase::Running), JobState::Running),
            (Some(Phase::Sealing), JobState::Sealing),
            (Some(Phase::Sealed), JobState::Sealing),
        ] {
            assert_eq!(check(&living, last, NOW), (expected, None), "{state:?} {last:?}");
            assert!(!derive(&living, &sample(), last.map(record).as_ref(), NOW, 0, Life::Unknown).needs_seal);
        }
    }
}

#[test]
fn a_container_past_every_limit_is_overdue_and_still_not_final() {
    let running = facts(ContainerState::Running, None);
    // Started at 1,100 s, may wait 600 s and run 1,800 s, and has 120 s to stop by itself.
    let end = (1_100 + 600 + 1_800 + OVERDUE_SECONDS) * 1000;
    assert!(!derive(&running, &sample(), None, end, 0, Life::Unknown).overdue);
    let late = derive(&running, &sample(), Some(&record(Phase::Running)), end + 1, 0, Life::Unknown);
    assert!(late.overdue && !late.state.is_final());
    // A list does not tell the start: then the latest possible one counts.
    let listed = ContainerFacts { started_unix_ms: None, ..running };
    assert!(!derive(&listed, &sample(), None, end + 1, 0, Life::Unknown).overdue);
    assert!(derive(&listed, &sample(), None, (2_000 + 600 + 1_800 + OVERDUE_SECONDS) * 1000 + 1, 0, Life::Unknown).overdue);
}

#[test]
fn each_reason_code_is_its_end() {
    for (reason, state, word) in [
        (Reason::Completed, JobState::Completed, "done"),
        (Reason::Failed, JobState::Failed, "failed"),
        (Reason::Cancelled, JobState::Cancelled, "cancelled"),
        (Reason::Deadline, JobState::Timeout, "timeout"),
        (Reason::QueueTimeout, JobState::Timeout, "timeout"),
        (Reason::Idle, JobState::Timeout, "timeout"),
        (Reason::TokenBudget, JobState::Failed, "failed"),
        (Reason::Memory, JobState::Failed, "failed"),
        (Reason::Disk, JobState::Failed, "failed"),
        (Reason::ProviderUnreachable, JobState::Failed, "failed"),
        (Reason::Interrupted, JobState::Interrupted, "failed"),
        (Reason::Lost, JobState::Lost, "failed"),
    ] {
        let exited = facts(ContainerState::Exited, Some(i64::from(reason.exit_code())));
        assert_eq!(check(&exited, Some(Phase::Sealed), NOW), (state, Some(reason)));
        assert_eq!(state.status_word(), word);
        assert_eq!(derive(&exited, &sample(), None, NOW, 9, Life::Unknown).ended_ms, Some(1_400_000), "attempts do not unseal");
    }
}

#[test]
fn other_codes_need_a_second_start_and_are_lost_after_it_failed() {
    for code in [None, Some(1), Some(2), Some(126), Some(127), Some(134), Some(137), Some(139), Some(255), Some(-1)] {
        let exited = facts(ContainerState::Exited, code);
        for attempts in 0..MAX_SEAL_ATTEMPTS {
            let derived = derive(&exited, &sample(), Some(&record(Phase::Running)), NOW, attempts, Life::Unknown);
            assert_eq!((derived.state, derived.reason, derived.needs_seal), (JobState::Sealing, None, true), "{code:?}");
        }
        let derived = derive(&exited, &sample(), None, NOW, MAX_SEAL_ATTEMPTS, Life::Unknown);
        assert_eq!((derived.state, derived.reason, derived.needs_seal), (JobState::Lost, Some(Reason::Lost), false), "{code:?}");
    }
}

#[test]
fn dead_is_lost_and_removing_is_gone() {
    assert_eq!(check(&facts(ContainerState::Dead, None), None, NOW), (JobState::Lost, Some(Reason::Lost)));
    assert!(derive(&facts(ContainerState::Removing, Some(0)), &sample(), None, NOW, 0, Life::Unknown).gone);
}

#[test]
fn a_tombstone_says_how_a_job_ended_that_never_started() {
    for (reason, state) in [(Reason::Cancelled, JobState::Cancelled), (Reason::Failed, JobState::Failed)] {
        let ended = Ended { reason, code: Code::EngineError, detail: "failed to upload.".into(), at_ms: 7 };
        let labels = JobLabels { ended: Some(ended), ..sample() };
        let derived = derive(&facts(ContainerState::Created, None), &labels, None, u64::MAX, 0, Life::Unknown);
        assert_eq!((derived.state, derived.reason, derived.ended_ms), (state, Some(reason), Some(7)));
        assert_eq!(derived.detail, "failed to upload.");
    }
}

#[test]
fn a_second_start_only_seals_whatever_the_first_one_logged_last() {
    for state in [ContainerState::Running, ContainerState::Paused] {
        let again = ContainerFacts { finished_unix_ms: Some(1_050_000), ..facts(state, None) };
        assert_eq!(check(&again, Some(Phase::Running), NOW), (JobState::Sealing, None));
        assert_eq!(check(&facts(state, None), Some(Phase::Running), NOW), (JobState::Running, None));
    }
}
