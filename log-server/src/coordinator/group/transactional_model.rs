//! Random histories of ordinary and transactional commits against the rule as Kafka has it: every commit has a place
//! in the log, and of all that count for a partition, the one with the last place is the group's offset.

use super::testing::*;
use super::*;
use proptest::prelude::*;

const PRODUCERS: i64 = 3;
const PARTITIONS: i32 = 2;

#[derive(Clone, Debug)]
enum Step {
    Commit { partition: i32 },
    CommitPending { producer_id: i64, partition: i32 },
    End { producer_id: i64, outcome: Outcome },
    Delete { partition: i32 },
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let (producer, partition) = (0..PRODUCERS, 0..PARTITIONS);
    let outcome = prop_oneof![Just(Outcome::Commit), Just(Outcome::Abort)];
    prop_oneof![
        2 => partition.clone().prop_map(|partition| Step::Commit { partition }),
        4 => (producer.clone(), partition.clone())
            .prop_map(|(producer_id, partition)| Step::CommitPending { producer_id, partition }),
        3 => (producer, outcome).prop_map(|(producer_id, outcome)| Step::End { producer_id, outcome }),
        1 => partition.prop_map(|partition| Step::Delete { partition }),
        1 => Just(Step::Restart),
    ]
}

/// The place in the log is the offset that is committed there, too.
#[derive(Default)]
struct Model {
    place: i64,
    committed: BTreeMap<i32, i64>,
    pending: BTreeMap<(i64, i32), i64>,
}

impl Model {
    fn end(&mut self, producer_id: i64, outcome: Outcome) {
        for partition in 0..PARTITIONS {
            if let Some(place) = self.pending.remove(&(producer_id, partition))
                && outcome == Outcome::Commit
            {
                let committed = self.committed.entry(partition).or_insert(place);
                *committed = (*committed).max(place);
            }
        }
    }
}

fn take(driver: &mut Driver, model: &mut Model, step: Step) {
    model.place += 1;
    match step {
        Step::Commit { partition } => {
            let mut commit = commit_offsets("", -1, model.place);
            commit.offsets[0].partition = partition;
            driver.send(Command::CommitOffsets(commit));
            model.committed.insert(partition, model.place);
        }
        Step::CommitPending { producer_id, partition } => {
            let completions = driver.machine.completions(producer_id);
            let mut commit =
                CommitPendingOffsets { completions, ..commit_pending(producer_id, 0, model.place) };
            commit.offsets[0].partition = partition;
            driver.send(Command::CommitPendingOffsets(commit));
            model.pending.insert((producer_id, partition), model.place);
        }
        Step::End { producer_id, outcome } => {
            driver.send(complete(producer_id, 0, outcome));
            model.end(producer_id, outcome);
        }
        Step::Delete { partition } => {
            let partitions = vec![("flights".into(), partition)];
            let delete = DeleteOffsets { group_id: GROUP.into(), partitions };
            driver.send(Command::DeleteOffsets(delete));
            model.committed.remove(&partition);
            model.pending.retain(|(_, at), _| *at != partition);
        }
        Step::Restart => driver.restart(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    #[test]
    fn the_last_commit_that_counts_is_the_groups_offset(steps in proptest::collection::vec(step(), 1..40)) {
        let mut driver = Driver::new(GroupConfig::default());
        let mut model = Model::default();
        for step in steps {
            take(&mut driver, &mut model, step.clone());
            for partition in 0..PARTITIONS {
                let committed = driver.machine.committed(GROUP, "flights", partition).map(|it| it.offset);
                prop_assert_eq!(committed, model.committed.get(&partition).copied(), "{:?}", step);
                let pending = model.pending.keys().any(|(_, at)| *at == partition);
                prop_assert_eq!(driver.machine.has_pending_offset(GROUP, "flights", partition), pending);
            }
        }
    }
}
