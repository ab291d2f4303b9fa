//! Random histories of members that behave as clients do, and of some that do not, with topics, time, restarts and full
//! disks. After every step the driver checks that replay equals the live state, and `testing::check` that nothing has
//! two owners. Here it is checked with the clients' own eyes: what two of them believe to hold at epochs that the group
//! acknowledges never overlaps. Commits that arrive late are taken while the member has held its partitions all along,
//! and never once another one has had them. Left alone, every history comes to rest at the target.

use super::testing::*;
use super::*;
use crate::coordinator::group::testing::{Driver, GROUP};
use crate::coordinator::group::{Command, GroupConfig, GroupError, GroupState, Reply};
use proptest::prelude::*;
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

const SLOTS: usize = 5;

#[derive(Clone, Debug)]
enum Step {
    /// A heartbeat, or the first one. `heard` is whether the answer arrives.
    Beat {
        slot: usize,
        heard: bool,
    },
    /// Gives up what it was asked to.
    Revoke {
        slot: usize,
    },
    Subscribe {
        slot: usize,
        to: Subscription,
    },
    Leave {
        slot: usize,
        for_good: bool,
    },
    /// The process is gone, and begins anew.
    Crash {
        slot: usize,
    },
    /// A heartbeat that nobody should send.
    Lie {
        slot: usize,
        epoch: i32,
    },
    /// Sends a commit of all that it works on, which is under way for a while.
    Commit {
        slot: usize,
    },
    /// The oldest commit that is under way arrives.
    Arrive,
    Topics {
        partitions: Vec<i32>,
    },
    Advance {
        ms: u64,
    },
    FullDisk {
        slot: usize,
    },
    DeleteGroup,
    Restart,
}

#[derive(Clone, Debug)]
enum Subscription {
    Names(BTreeSet<u8>),
    Pattern(&'static str),
}

fn step() -> impl Strategy<Value = Step> {
    let slot = 0..SLOTS;
    let names = proptest::collection::btree_set(1..4u8, 0..4).prop_map(Subscription::Names);
    let pattern = prop_oneof![Just("t[12]"), Just(".*"), Just("none")].prop_map(Subscription::Pattern);
    prop_oneof![
        12 => (slot.clone(), prop::bool::weighted(0.9)).prop_map(|(slot, heard)| Step::Beat { slot, heard }),
        8 => slot.clone().prop_map(|slot| Step::Revoke { slot }),
        2 => (slot.clone(), prop_oneof![names, pattern]).prop_map(|(slot, to)| Step::Subscribe { slot, to }),
        1 => (slot.clone(), any::<bool>()).prop_map(|(slot, for_good)| Step::Leave { slot, for_good }),
        1 => slot.clone().prop_map(|slot| Step::Crash { slot }),
        1 => (slot.clone(), 0..9i32).prop_map(|(slot, epoch)| Step::Lie { slot, epoch }),
        4 => slot.clone().prop_map(|slot| Step::Commit { slot }),
        3 => Just(Step::Arrive),
        1 => proptest::collection::vec(0..6i32, 3).prop_map(|partitions| Step::Topics { partitions }),
        2 => prop_oneof![0u64..5_000, 0u64..100_000].prop_map(|ms| Step::Advance { ms }),
        1 => slot.prop_map(|slot| Step::FullDisk { slot }),
        1 => Just(Step::DeleteGroup),
        1 => Just(Step::Restart),
    ]
}

/// What a client knows. The last two slots are static members.
#[derive(Clone, Debug, Default)]
struct Client {
    member_id: Arc<str>,
    epoch: i32,
    /// What it works on.
    owned: Assignment,
    /// What it was told to work on.
    assigned: Assignment,
    subscription: Option<Subscription>,
}

/// A commit that has not arrived.
#[derive(Debug)]
struct UnderWay {
    member_id: Arc<str>,
    epoch: i32,
    partitions: Assignment,
    /// Whether the member has held all of them ever since.
    held: bool,
    /// Whether another one has had one of them since.
    overtaken: bool,
}

#[derive(Debug)]
struct World {
    driver: Driver,
    clients: [Client; SLOTS],
    under_way: VecDeque<UnderWay>,
    ids: usize,
}

impl World {
    fn new() -> Self {
        let config = GroupConfig { consumer_group_size_max: 4, ..GroupConfig::default() };
        let mut world = World {
            driver: driver_with(&[3, 2, 4], config),
            clients: Default::default(),
            under_way: VecDeque::new(),
            ids: 0,
        };
        for slot in 0..SLOTS {
            world.crash(slot);
            world.clients[slot].subscription = Some(Subscription::Names([1, 2].into()));
        }
        world
    }

    fn crash(&mut self, slot: usize) {
        self.ids += 1;
        let subscription = self.clients[slot].subscription.take();
        let member_id = format!("member-{}", self.ids).into();
        self.clients[slot] = Client { member_id, subscription, ..Client::default() };
    }

    fn heartbeat(&self, slot: usize) -> ConsumerHeartbeat {
        let client = &self.clients[slot];
        let mut heartbeat = holding(&client.member_id, client.epoch, &client.owned);
        heartbeat.instance_id = (slot >= SLOTS - 2).then(|| format!("instance-{slot}").into());
        heartbeat.rebalance_timeout_ms = Some(30_000);
        if slot == 1 {
            heartbeat.assignor = Some("range".into());
        }
        match client.subscription.as_ref().expect("a subscription") {
            Subscription::Names(names) => {
                heartbeat.topic_names = Some(names.iter().map(|topic| format!("t{topic}").into()).collect());
                heartbeat.topic_regex = Some("".into());
            }
            Subscription::Pattern(pattern) => {
                heartbeat.topic_names = Some(BTreeSet::new());
                heartbeat.topic_regex = Some((*pattern).into());
            }
        }
        heartbeat
    }

    fn beat(&mut self, slot: usize, heard: bool) {
        let heartbeat = self.heartbeat(slot);
        let answer = send(&mut self.driver, heartbeat);
        let client = &mut self.clients[slot];
        match answer {
            Ok(_) if !heard => {}
            Ok(answer) => {
                client.epoch = answer.epoch;
                if let Some(assigned) = answer.assignment {
                    client.assigned = assigned;
                }
                // What is new it may begin with; what it is to give up it has until it revokes.
                client.owned.extend(client.assigned.clone().iter());
            }
            Err(GroupError::FencedMemberEpoch | GroupError::UnknownMemberId) => {
                (client.epoch, client.owned, client.assigned) = Default::default();
            }
            Err(GroupError::UnreleasedInstanceId | GroupError::FencedInstanceId) => self.crash(slot),
            Err(GroupError::GroupMaxSizeReached) => {}
            Err(error) => panic!("{error}"),
        }
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Beat { slot, heard } => self.beat(slot, heard),
            Step::Revoke { slot } => {
                let client = &mut self.clients[slot];
                client.owned = client.owned.intersection(&client.assigned);
            }
            Step::Subscribe { slot, to } => self.clients[slot].subscription = Some(to),
            Step::Leave { slot, for_good } => {
                let is_static = slot >= SLOTS - 2;
                let mut heartbeat = self.heartbeat(slot);
                heartbeat.epoch = if for_good || !is_static { LEAVE_EPOCH } else { LEAVE_STATIC_EPOCH };
                drop(send(&mut self.driver, heartbeat));
                self.crash(slot);
            }
            Step::Crash { slot } => self.crash(slot),
            Step::Lie { slot, epoch } => {
                let mut heartbeat = self.heartbeat(slot);
                heartbeat.epoch = epoch;
                heartbeat.owned = Some([(id(1), 0), (id(2), 1)].into_iter().collect());
                // An imposter that enters takes the member's place; the member itself is fenced later.
                if epoch != 0 && epoch != self.clients[slot].epoch {
                    drop(send(&mut self.driver, heartbeat));
                }
            }
            Step::Commit { slot } => {
                let Client { member_id, epoch, owned, .. } = self.clients[slot].clone();
                if epoch > 0 && !owned.is_empty() {
                    self.under_way.push_back(UnderWay {
                        member_id,
                        epoch,
                        partitions: owned,
                        held: true,
                        overtaken: false,
                    });
                }
            }
            Step::Arrive => self.arrive(),
            Step::Topics { partitions } => {
                // Nobody commits in a topic that is gone, whatever comes under its name.
                for commit in &mut self.under_way {
                    let is_there = |topic: TopicId| partitions[usize::from(topic.0[0]) - 1] > 0;
                    commit.held &= commit.partitions.iter().all(|(topic, _)| is_there(topic));
                }
                self.driver.call(Command::SetTopics(image(&partitions)));
            }
            Step::Advance { ms } => self.driver.advance(ms),
            Step::FullDisk { slot } => {
                let heartbeat = self.heartbeat(slot);
                self.driver.send_to_full_disk(Command::ConsumerHeartbeat(Box::new(heartbeat)));
                self.driver.answers();
            }
            Step::DeleteGroup => drop(self.driver.call(Command::DeleteGroup(GROUP.into()))),
            Step::Restart => self.driver.restart(),
        }
        self.check();
        self.watch();
    }

    fn arrive(&mut self) {
        let Some(commit) = self.under_way.pop_front() else { return };
        let request = commit_in(&commit.member_id, commit.epoch, &commit.partitions);
        let Reply::CommitOffsets(outcome) = self.driver.call(Command::CommitOffsets(request)) else {
            panic!()
        };
        if commit.held {
            assert!(outcome.is_ok(), "{outcome:?} for {commit:?}: {self:?}");
        }
        assert!(!commit.overtaken || outcome.is_err(), "{commit:?} was taken: {self:?}");
    }

    /// Sees what becomes of the partitions of commits that are under way.
    fn watch(&mut self) {
        let group = self.driver.machine.groups.get(GROUP).and_then(|it| it.consumers.as_deref());
        let Some(group) = group else {
            // The next group of this name begins with the same epochs.
            return self.under_way.clear();
        };
        for commit in &mut self.under_way {
            for (id, member) in &group.members {
                let held: Assignment = member.current.held().collect();
                commit.overtaken |= *id != commit.member_id && held.intersects(&commit.partitions);
            }
            commit.held &= group.members.get(&commit.member_id).is_some_and(|member| {
                let held: Assignment = member.current.held().collect();
                member.current.epoch >= commit.epoch && commit.partitions.is_subset_of(&held)
            });
        }
    }

    /// What clients hold at the epoch that the group knows them by does not overlap.
    fn check(&self) {
        let Some(group) = self.driver.machine.groups.get(GROUP).and_then(|it| it.consumers.as_ref()) else {
            return;
        };
        let mut held = Assignment::default();
        for client in &self.clients {
            let Some(member) = group.members.get(&client.member_id) else { continue };
            if member.current.epoch == client.epoch {
                assert!(!client.owned.intersects(&held), "two clients work on one partition: {self:?}");
                held.extend(client.owned.iter());
            }
        }
    }

    /// Everybody beats and gives up until nothing changes.
    fn come_to_rest(&mut self) {
        for _ in 0..20 {
            for slot in 0..SLOTS {
                self.driver.advance(1_000);
                self.beat(slot, true);
                self.take(Step::Revoke { slot });
            }
        }
        // A static member that crashed without a word keeps its place until its session ends.
        for _ in 0..60 {
            for slot in 0..SLOTS {
                self.driver.advance(300);
                self.beat(slot, true);
                self.take(Step::Revoke { slot });
            }
        }
        let group = group(&self.driver);
        assert_eq!(group.state(), GroupState::Stable, "{self:?}");
        for (id, member) in &group.members {
            let client = self.clients.iter().find(|it| it.member_id == *id).expect("no strangers");
            let target = group.target_of(id).expect("a target");
            assert_eq!((&member.current.assigned, &client.owned), (&**target, &**target));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    #[test]
    fn nothing_has_two_owners_and_everything_comes_to_rest(steps in proptest::collection::vec(step(), 1..80)) {
        let mut world = World::new();
        for step in steps {
            world.take(step);
        }
        world.come_to_rest();
    }
}
