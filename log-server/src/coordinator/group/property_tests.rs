//! Random histories: clients that behave and clients that do not, time, restarts and full disks. What must hold after
//! every step is checked by the driver: replaying the log, or the snapshot, gives the live durable state; a settled
//! group is what the log says; every request is answered once or parked; no deadline is missed. Here the answers are
//! checked, too: a generation has one leader and one list of members, and it never goes back within one run.

use super::testing::*;
use super::*;
use proptest::prelude::*;

const SLOTS: usize = 5;

/// What a test does next. `slot` is a client; the last two are static members.
#[derive(Clone, Debug)]
enum Step {
    /// With the id it knows, or without one.
    Join {
        slot: usize,
        fresh: bool,
        known_id_required: bool,
        liking: usize,
    },
    Sync {
        slot: usize,
    },
    Heartbeat {
        slot: usize,
    },
    Leave {
        slot: usize,
    },
    Commit {
        slot: Option<usize>,
        partition: i32,
        retention_ms: Option<i64>,
    },
    DeleteOffset {
        partition: i32,
    },
    DeleteGroup,
    ForgetTopics,
    CommitPending {
        slot: Option<usize>,
        producer_id: i64,
        partition: i32,
        /// The guard of a transaction that has ended since.
        late: bool,
    },
    Complete {
        producer_id: i64,
        outcome: Outcome,
        /// Ends it with the next epoch, as the second version of the protocol does.
        bump: bool,
    },
    FullDisk {
        slot: usize,
        what: usize,
    },
    Advance {
        ms: u64,
    },
    SetClock {
        by_ms: i64,
    },
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let slot = 0..SLOTS;
    prop_oneof![
        6 => (slot.clone(), any::<bool>(), any::<bool>(), 0usize..3)
            .prop_map(|(slot, fresh, known_id_required, liking)| Step::Join { slot, fresh, known_id_required, liking }),
        5 => slot.clone().prop_map(|slot| Step::Sync { slot }),
        3 => slot.clone().prop_map(|slot| Step::Heartbeat { slot }),
        1 => slot.clone().prop_map(|slot| Step::Leave { slot }),
        3 => (proptest::option::of(slot.clone()), 0..3, proptest::option::of(0i64..100_000))
            .prop_map(|(slot, partition, retention_ms)| Step::Commit { slot, partition, retention_ms }),
        3 => (proptest::option::of(slot.clone()), 0i64..2, 0..3, proptest::bool::weighted(0.1)).prop_map(
            |(slot, producer_id, partition, late)| Step::CommitPending { slot, producer_id, partition, late }
        ),
        2 => (0i64..2, prop_oneof![Just(Outcome::Commit), Just(Outcome::Abort)], any::<bool>())
            .prop_map(|(producer_id, outcome, bump)| Step::Complete { producer_id, outcome, bump }),
        1 => (0..3).prop_map(|partition| Step::DeleteOffset { partition }),
        1 => Just(Step::DeleteGroup),
        1 => Just(Step::ForgetTopics),
        1 => (slot, 0usize..5).prop_map(|(slot, what)| Step::FullDisk { slot, what }),
        3 => prop_oneof![0u64..100, 0u64..15_000, 0u64..1_000_000].prop_map(|ms| Step::Advance { ms }),
        1 => (-1_000_000i64..1_000_000).prop_map(|by_ms| Step::SetClock { by_ms }),
        1 => Just(Step::Restart),
    ]
}

/// What a client knows.
#[derive(Clone, Debug, Default)]
struct Client {
    member_id: Arc<str>,
    generation: i32,
}

#[derive(Debug)]
struct World {
    driver: Driver,
    clients: [Client; SLOTS],
    asked: BTreeMap<Token, usize>,
    ids: usize,
    /// Of each transactional producer.
    epochs: [i16; 2],
    /// Leader of each generation of this run, as members were told.
    leaders: BTreeMap<i32, Arc<str>>,
}

impl World {
    fn new(initial_rebalance_delay_ms: i32) -> Self {
        let config = GroupConfig {
            initial_rebalance_delay_ms,
            group_size_max: 4,
            new_member_join_timeout_ms: 30_000,
            offsets_retention_ms: 400_000,
            ..GroupConfig::default()
        };
        World {
            driver: Driver::new(config),
            clients: Default::default(),
            asked: BTreeMap::new(),
            ids: 0,
            epochs: [0; 2],
            leaders: BTreeMap::new(),
        }
    }

    fn identity(&self, slot: usize) -> MemberIdentity {
        let instance_id = (slot >= SLOTS - 2).then(|| format!("instance-{slot}").into());
        MemberIdentity { member_id: self.clients[slot].member_id.clone(), instance_id }
    }

    fn command(&mut self, slot: usize, what: usize) -> Command {
        let member = self.identity(slot);
        let generation = self.clients[slot].generation;
        match what {
            0 => {
                self.ids += 1;
                let new_member_id = format!("member-{}", self.ids).into();
                Command::Join(JoinGroup { member, new_member_id, ..join() })
            }
            1 => {
                let members =
                    self.driver.machine.describe(GROUP).map(|group| group.members).unwrap_or_default();
                let assignments =
                    members.iter().map(|m| (m.member_id.clone(), bytes(&m.member_id))).collect();
                Command::Sync(SyncGroup {
                    group_id: GROUP.into(),
                    member,
                    generation,
                    protocol_type: None,
                    protocol: None,
                    assignments,
                })
            }
            2 => Command::Leave(LeaveGroup { group_id: GROUP.into(), members: vec![member] }),
            3 => Command::CommitOffsets(CommitOffsets { member, ..commit_offsets("", generation, 7) }),
            _ => complete(0, self.epochs[0], Outcome::Commit),
        }
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Join { slot, fresh, known_id_required, liking } => {
                if fresh {
                    self.clients[slot].member_id = "".into();
                }
                let Command::Join(join) = self.command(slot, 0) else { unreachable!() };
                let likes: [&[&str]; 3] = [&["range", "sticky"], &["sticky", "range"], &["range"]];
                self.ask(
                    slot,
                    Command::Join(JoinGroup {
                        require_known_member_id: known_id_required,
                        supports_skip_assignment: liking == 0,
                        protocols: protocols(likes[liking]),
                        ..join
                    }),
                );
            }
            Step::Sync { slot } => {
                let command = self.command(slot, 1);
                self.ask(slot, command);
            }
            Step::Heartbeat { slot } => {
                let (member, generation) = (self.identity(slot), self.clients[slot].generation);
                self.ask(slot, Command::Heartbeat(Heartbeat { group_id: GROUP.into(), member, generation }));
            }
            Step::Leave { slot } => {
                let command = self.command(slot, 2);
                self.ask(slot, command);
            }
            Step::Commit { slot, partition, retention_ms } => {
                let (member, generation) = match slot {
                    Some(slot) => (self.identity(slot), self.clients[slot].generation),
                    None => (MemberIdentity::default(), -1),
                };
                let mut commit = CommitOffsets { member, retention_ms, ..commit_offsets("", generation, 1) };
                commit.offsets[0].partition = partition;
                self.driver.send(Command::CommitOffsets(commit));
            }
            Step::CommitPending { slot, producer_id, partition, late } => {
                let (member, generation) = match slot {
                    Some(slot) => (self.identity(slot), self.clients[slot].generation),
                    None => (MemberIdentity::default(), -1),
                };
                let completions = self.driver.machine.completions(producer_id) + u64::from(late);
                let epoch = self.epochs[usize::try_from(producer_id).expect("small")];
                let base = commit_pending(producer_id, epoch, 3);
                let mut commit = CommitPendingOffsets { member, generation, completions, ..base };
                commit.offsets[0].partition = partition;
                let before = self.driver.machine.has_pending_offset(GROUP, "flights", partition);
                let reply = self.driver.call(Command::CommitPendingOffsets(commit));
                let taken = matches!(reply, Reply::CommitPendingOffsets(Ok(_)));
                assert!(!(late && taken), "a commit after the end of its transaction was taken");
                let after = self.driver.machine.has_pending_offset(GROUP, "flights", partition);
                assert_eq!(after, before || taken);
            }
            Step::Complete { producer_id, outcome, bump } => {
                let epoch = &mut self.epochs[usize::try_from(producer_id).expect("small")];
                *epoch += i16::from(bump);
                let complete = complete(producer_id, *epoch, outcome);
                assert_eq!(self.driver.call(complete), Reply::CompleteTransaction(Ok(())));
            }
            Step::DeleteOffset { partition } => {
                let partitions = vec![("flights".into(), partition)];
                self.driver
                    .send(Command::DeleteOffsets(DeleteOffsets { group_id: GROUP.into(), partitions }));
            }
            Step::DeleteGroup => {
                self.driver.send(Command::DeleteGroup(GROUP.into()));
            }
            Step::ForgetTopics => {
                self.driver.send(Command::ForgetTopics(vec!["flights".into()]));
            }
            Step::FullDisk { slot, what } => {
                let command = self.command(slot, what);
                self.driver.send_to_full_disk(command);
            }
            Step::Advance { ms } => self.driver.advance(ms),
            Step::SetClock { by_ms } => self.driver.now.wall_ms += by_ms,
            Step::Restart => {
                self.driver.restart();
                self.asked.clear();
                self.leaders.clear();
            }
        }
        self.learn();
    }

    fn ask(&mut self, slot: usize, command: Command) {
        let token = self.driver.send(command);
        self.asked.insert(token, slot);
    }

    fn learn(&mut self) {
        for (token, reply) in self.driver.answers() {
            let Some(slot) = self.asked.remove(&token) else { continue };
            match reply {
                Reply::Join(Ok(joined)) => {
                    assert!(
                        !joined.member_id.is_empty() && joined.generation > 0 && joined.protocol.is_some()
                    );
                    if joined.leader == joined.member_id {
                        assert!(joined.members.iter().any(|member| member.member_id == joined.member_id));
                    }
                    self.clients[slot] =
                        Client { member_id: joined.member_id, generation: joined.generation };
                }
                Reply::Join(Err(JoinRefused { error: GroupError::MemberIdRequired, member_id })) => {
                    self.clients[slot].member_id = member_id;
                }
                _ => {}
            }
        }
        // A generation that was made keeps its leader, unless a static leader came back under another id.
        if let Some(group) = self.driver.machine.groups.get(GROUP) {
            let it = &group.membership;
            if let (GroupState::CompletingRebalance, Some(leader)) = (it.state(), &it.leader) {
                let known = self.leaders.entry(it.generation).or_insert_with(|| leader.clone());
                assert_eq!(known, leader, "generation {} has two leaders", it.generation);
            }
        } else {
            self.leaders.clear();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn replay_equals_live_state(
        delay_ms in prop_oneof![Just(0), Just(3_000)],
        steps in proptest::collection::vec(step(), 1..60),
    ) {
        let mut world = World::new(delay_ms);
        for step in steps {
            world.take(step);
        }
    }
}
