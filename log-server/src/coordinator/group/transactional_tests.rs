//! Offsets committed within transactions: who may, what readers see meanwhile, and how they end.

use super::testing::*;
use super::*;

const PRODUCER: i64 = 4_000;

fn outcome(reply: Reply) -> Result<Vec<Result<(), GroupError>>, GroupError> {
    match reply {
        Reply::CommitPendingOffsets(outcome) => outcome,
        other => panic!("expected outcomes of pending offsets, got {other:?}"),
    }
}

/// Commits within the present transaction.
fn commit_now(
    driver: &mut Driver,
    epoch: i16,
    offset: i64,
) -> Result<Vec<Result<(), GroupError>>, GroupError> {
    let completions = driver.machine.completions(PRODUCER);
    let commit = CommitPendingOffsets { completions, ..commit_pending(PRODUCER, epoch, offset) };
    outcome(driver.call(Command::CommitPendingOffsets(commit)))
}

fn commit_as(driver: &mut Driver, member_id: &str, generation: i32) -> Result<(), GroupError> {
    let member = identity(member_id);
    let commit = CommitPendingOffsets { member, generation, ..commit_pending(PRODUCER, 0, 1) };
    outcome(driver.call(Command::CommitPendingOffsets(commit))).map(drop)
}

fn is_pending(driver: &Driver) -> bool {
    driver.machine.has_pending_offset(GROUP, "flights", 0)
}

fn end(driver: &mut Driver, epoch: i16, outcome: Outcome) -> Result<(), GroupError> {
    match driver.call(complete(PRODUCER, epoch, outcome)) {
        Reply::CompleteTransaction(outcome) => outcome,
        other => panic!("expected the end of a transaction, got {other:?}"),
    }
}

#[test]
fn an_offset_waits_for_its_transaction_and_counts_once_that_is_committed() {
    let mut driver = Driver::new(GroupConfig::default());
    assert_eq!(commit_now(&mut driver, 0, 42), Ok(vec![Ok(())]));
    assert_eq!((committed(&driver), is_pending(&driver)), (None, true));
    driver.restart();
    assert_eq!((committed(&driver), is_pending(&driver)), (None, true), "a restart keeps it pending");
    assert_eq!(end(&mut driver, 0, Outcome::Commit), Ok(()));
    assert_eq!((committed(&driver), is_pending(&driver)), (Some(42), false));
    let kept = driver.machine.committed(GROUP, "flights", 0).expect("an offset");
    assert_eq!((kept.leader_epoch, &*kept.metadata, kept.expires_at_ms), (3, "note", None));
    driver.restart();
    assert_eq!(committed(&driver), Some(42));
}

#[test]
fn an_aborted_transaction_leaves_the_offset_that_was_there() {
    let mut driver = Driver::new(GroupConfig::default());
    driver.send(commit("", -1, 7));
    commit_now(&mut driver, 0, 42).expect("taken");
    assert_eq!((committed(&driver), is_pending(&driver)), (Some(7), true));
    assert_eq!(end(&mut driver, 1, Outcome::Abort), Ok(()));
    assert_eq!((committed(&driver), is_pending(&driver)), (Some(7), false));
}

#[test]
fn the_end_of_a_transaction_may_be_told_again() {
    let mut driver = Driver::new(GroupConfig::default());
    commit_now(&mut driver, 0, 42).expect("taken");
    for _ in 0..3 {
        assert_eq!(end(&mut driver, 0, Outcome::Commit), Ok(()));
        driver.restart();
    }
    assert_eq!(committed(&driver), Some(42));
}

#[test]
fn a_transaction_that_cannot_be_logged_has_not_ended() {
    let mut driver = Driver::new(GroupConfig::default());
    commit_now(&mut driver, 0, 42).expect("taken");
    driver.send_to_full_disk(complete(PRODUCER, 0, Outcome::Commit));
    assert_eq!((committed(&driver), is_pending(&driver)), (None, true));
}

#[test]
fn a_later_commit_of_a_transaction_replaces_its_earlier_one() {
    let mut driver = Driver::new(GroupConfig::default());
    commit_now(&mut driver, 0, 42).expect("taken");
    commit_now(&mut driver, 0, 50).expect("taken");
    end(&mut driver, 0, Outcome::Commit).expect("ended");
    assert_eq!(committed(&driver), Some(50));
}

#[test]
fn an_ordinary_commit_overtakes_what_is_pending() {
    let mut driver = Driver::new(GroupConfig::default());
    commit_now(&mut driver, 0, 42).expect("taken");
    driver.send(commit("", -1, 9));
    assert_eq!((committed(&driver), is_pending(&driver)), (Some(9), true), "the transaction is still open");
    driver.restart();
    end(&mut driver, 0, Outcome::Commit).expect("ended");
    assert_eq!((committed(&driver), is_pending(&driver)), (Some(9), false));
}

#[test]
fn of_two_transactions_the_one_that_committed_the_offset_later_wins_whichever_ends_first() {
    let mut driver = Driver::new(GroupConfig::default());
    commit_now(&mut driver, 0, 1).expect("taken");
    let other = commit_pending(PRODUCER + 1, 0, 2);
    outcome(driver.call(Command::CommitPendingOffsets(other))).expect("taken");
    driver.call(complete(PRODUCER + 1, 0, Outcome::Commit));
    assert_eq!((committed(&driver), is_pending(&driver)), (Some(2), true));
    driver.restart();
    end(&mut driver, 0, Outcome::Commit).expect("ended");
    assert_eq!((committed(&driver), is_pending(&driver)), (Some(2), false));
}

#[test]
fn an_older_epoch_of_the_producer_is_fenced() {
    let mut driver = Driver::new(GroupConfig::default());
    commit_now(&mut driver, 3, 1).expect("taken");
    assert_eq!(commit_now(&mut driver, 2, 2), Err(GroupError::ProducerFenced));
    assert_eq!(end(&mut driver, 2, Outcome::Commit), Err(GroupError::ProducerFenced));
    assert!(is_pending(&driver));
    end(&mut driver, 4, Outcome::Abort).expect("ended");
    driver.restart();
    assert_eq!(commit_now(&mut driver, 3, 2), Err(GroupError::ProducerFenced), "after a restart, too");
    assert_eq!(commit_now(&mut driver, 4, 2), Ok(vec![Ok(())]));
}

#[test]
fn a_commit_that_was_checked_before_its_transaction_ended_is_refused() {
    let mut driver = Driver::new(GroupConfig::default());
    let checked = driver.machine.completions(PRODUCER);
    end(&mut driver, 0, Outcome::Abort).expect("ended");
    let late = CommitPendingOffsets { completions: checked, ..commit_pending(PRODUCER, 0, 1) };
    let answer = outcome(driver.call(Command::CommitPendingOffsets(late)));
    assert_eq!(answer, Err(GroupError::TransactionEnded));
    assert!(!is_pending(&driver), "nothing would ever end it");
}

#[test]
fn a_member_commits_in_its_generation_only_but_even_while_the_leader_assigns() {
    let mut driver = Driver::stable(GroupConfig::default(), &["m1"]);
    assert_eq!(commit_as(&mut driver, "m1", 1), Ok(()));
    assert_eq!(commit_as(&mut driver, "m1", 0), Err(GroupError::IllegalGeneration));
    assert_eq!(commit_as(&mut driver, "stranger", 1), Err(GroupError::UnknownMemberId));
    assert_eq!(commit_as(&mut driver, "", -1), Ok(()), "who does not say is fenced by its producer alone");
    driver.send(newcomer("m2"));
    driver.send(rejoin("m1"));
    assert_eq!(driver.state(), GroupState::CompletingRebalance);
    assert_eq!(commit_as(&mut driver, "m1", 2), Ok(()));
    assert_eq!(commit_as(&mut driver, "m1", 1), Err(GroupError::IllegalGeneration));
}

#[test]
fn a_static_member_that_was_replaced_is_fenced() {
    let mut driver = Driver::new(GroupConfig::default());
    let member = static_identity("", "one");
    driver.send(Command::Join(JoinGroup { member, new_member_id: "old".into(), ..join() }));
    driver.send(sync("old", 1, vec![("old".into(), bytes("x"))]));
    let member = static_identity("", "one");
    driver.send(Command::Join(JoinGroup { member, new_member_id: "new".into(), ..join() }));
    driver.answers();
    let generation = driver.membership().generation;
    let member = static_identity("old", "one");
    let commit = CommitPendingOffsets { member, generation, ..commit_pending(PRODUCER, 0, 1) };
    let answer = outcome(driver.call(Command::CommitPendingOffsets(commit)));
    assert_eq!(answer, Err(GroupError::FencedInstanceId));
}

#[test]
fn a_generation_of_a_group_that_is_not_there_and_a_group_without_a_name_are_refused() {
    let mut driver = Driver::new(GroupConfig::default());
    assert_eq!(commit_as(&mut driver, "m1", 1), Err(GroupError::IllegalGeneration));
    let nameless = CommitPendingOffsets { group_id: "".into(), ..commit_pending(PRODUCER, 0, 1) };
    let answer = outcome(driver.call(Command::CommitPendingOffsets(nameless)));
    assert_eq!(answer, Err(GroupError::InvalidGroupId));
}

#[test]
fn metadata_over_the_limit_is_refused_for_its_partition_alone() {
    let mut driver = Driver::new(GroupConfig::default());
    let mut commit = commit_pending(PRODUCER, 0, 1);
    let long =
        OffsetToCommit { partition: 1, metadata: "x".repeat(4_097).into(), ..commit.offsets[0].clone() };
    commit.offsets.insert(0, long);
    let answer = outcome(driver.call(Command::CommitPendingOffsets(commit)));
    assert_eq!(answer, Ok(vec![Err(GroupError::OffsetMetadataTooLarge), Ok(())]));
    assert!(!driver.machine.has_pending_offset(GROUP, "flights", 1) && is_pending(&driver));
}

#[test]
fn deleting_the_offset_the_group_or_the_topic_takes_what_is_pending_along() {
    let deletions = [
        Command::DeleteOffsets(DeleteOffsets {
            group_id: GROUP.into(),
            partitions: vec![("flights".into(), 0)],
        }),
        Command::DeleteGroup(GROUP.into()),
        Command::ForgetTopics(vec!["flights".into()]),
    ];
    for deletion in deletions {
        let mut driver = Driver::new(GroupConfig::default());
        driver.send(commit("", -1, 7));
        commit_now(&mut driver, 0, 42).expect("taken");
        driver.send(deletion);
        assert_eq!((committed(&driver), is_pending(&driver)), (None, false));
        end(&mut driver, 0, Outcome::Commit).expect("ended");
        assert_eq!(committed(&driver), None, "it does not come back");
    }
}

#[test]
fn neither_the_offset_nor_the_group_lapses_while_a_transaction_is_open() {
    const DAY_MS: u64 = 24 * 60 * 60 * 1_000;
    let mut driver = Driver::new(GroupConfig::default());
    driver.send(commit("", -1, 7));
    commit_now(&mut driver, 0, 42).expect("taken");
    driver.advance(9 * DAY_MS);
    assert_eq!((committed(&driver), is_pending(&driver)), (Some(7), true));
    end(&mut driver, 0, Outcome::Abort).expect("ended");
    driver.advance(DAY_MS / 24);
    assert_eq!((committed(&driver), driver.state()), (None, GroupState::Dead));
}

#[test]
fn a_producer_is_forgotten_a_day_after_its_last_transaction() {
    const DAY_MS: u64 = 24 * 60 * 60 * 1_000;
    let mut driver = Driver::new(GroupConfig::default());
    end(&mut driver, 3, Outcome::Abort).expect("ended");
    driver.advance(DAY_MS - 1_000_000);
    assert_eq!(commit_now(&mut driver, 2, 1), Err(GroupError::ProducerFenced));
    driver.advance(2_000_000);
    assert!(driver.machine.producers.is_empty());
    driver.restart();
    assert_eq!(commit_now(&mut driver, 2, 1), Ok(vec![Ok(())]));
}
