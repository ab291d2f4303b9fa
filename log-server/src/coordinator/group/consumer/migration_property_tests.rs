//! Random histories of a group whose members change their protocol, one by one and back again, as programs do that are
//! started anew with another setting. Some say good-bye and some do not; some classic members give everything up before
//! they join and some go on with what they have. The broker restarts, its disk is full, answers get lost.
//!
//! What two clients believe to hold, in the generation that the group knows them by, never overlaps; the driver and
//! `testing::check` look at the group itself after every step. Left alone, every history comes to rest with all
//! partitions at work, in a group of the kind that its members make it.

use super::testing::*;
use super::*;
use crate::coordinator::group::testing::{Driver, GROUP, identity, join, leave};
use crate::coordinator::group::{
    Command, GroupConfig, GroupError, GroupState, Heartbeat, JoinGroup, JoinRefused, JoinedMember, Reply,
    SyncGroup, Synced, subscription,
};
use crate::coordinator::machine::Token;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;

const SLOTS: usize = 4;
const PARTITIONS: i32 = 5;

#[derive(Clone, Debug)]
enum Step {
    /// Whatever is next for a client.
    Act {
        slot: usize,
        heard: bool,
    },
    /// The process ends and begins anew, with the other protocol or the same.
    Restart {
        slot: usize,
        other_protocol: bool,
        says_good_bye: bool,
    },
    /// A heartbeat of the newer protocol that cannot be logged.
    FullDisk {
        slot: usize,
    },
    Advance {
        ms: u64,
    },
    RestartBroker,
}

fn step() -> impl Strategy<Value = Step> {
    let slot = 0..SLOTS;
    prop_oneof![
        20 => (slot.clone(), prop::bool::weighted(0.9)).prop_map(|(slot, heard)| Step::Act { slot, heard }),
        2 => (slot.clone(), prop::bool::weighted(0.8), any::<bool>()).prop_map(
            |(slot, other_protocol, says_good_bye)| Step::Restart { slot, other_protocol, says_good_bye }
        ),
        1 => slot.prop_map(|slot| Step::FullDisk { slot }),
        2 => prop_oneof![0u64..3_000, 0u64..100_000].prop_map(|ms| Step::Advance { ms }),
        1 => Just(Step::RestartBroker),
    ]
}

/// How far a classic client has come.
#[derive(Clone, Debug, Default)]
enum Phase {
    #[default]
    Outside,
    /// Its JoinGroup waits for the others'.
    Joining(Token),
    /// With everybody, if it leads.
    Joined(Vec<JoinedMember>),
    Syncing(Token),
    Stable,
}

/// What a client knows. Those in odd slots keep what they have while they join.
#[derive(Clone, Debug, Default)]
struct Client {
    is_classic: bool,
    /// Of a classic client empty until it has joined.
    member_id: Arc<str>,
    /// The generation, or the epoch.
    generation: i32,
    /// What it works on.
    owned: Assignment,
    phase: Phase,
}

#[derive(Debug)]
struct World {
    driver: Driver,
    clients: [Client; SLOTS],
    ids: usize,
}

impl World {
    /// Of classic clients, all of them.
    fn new() -> Self {
        let driver = driver_with(&[PARTITIONS], GroupConfig::default());
        let clients = std::array::from_fn(|_| Client { is_classic: true, ..Client::default() });
        World { driver, clients, ids: 0 }
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Act { slot, heard } => self.act(slot, heard),
            Step::Restart { slot, other_protocol, says_good_bye } => {
                if says_good_bye {
                    self.say_good_bye(slot);
                }
                let is_classic = self.clients[slot].is_classic != other_protocol;
                self.clients[slot] = Client { is_classic, ..Client::default() };
            }
            Step::FullDisk { slot } => {
                if !self.clients[slot].is_classic {
                    let heartbeat = self.heartbeat(slot);
                    self.driver.send_to_full_disk(Command::ConsumerHeartbeat(Box::new(heartbeat)));
                }
            }
            Step::Advance { ms } => self.driver.advance(ms),
            Step::RestartBroker => {
                self.driver.restart();
                // What waited is gone with its connection, and is asked for again.
                for client in &mut self.clients {
                    if matches!(client.phase, Phase::Joining(_) | Phase::Syncing(_)) {
                        client.phase = Phase::Outside;
                    }
                }
            }
        }
        self.learn();
        self.check();
    }

    fn say_good_bye(&mut self, slot: usize) {
        let client = &self.clients[slot];
        if client.member_id.is_empty() {
            return;
        }
        if client.is_classic {
            let member_id = client.member_id.clone();
            self.driver.call(leave(&[identity(&member_id)]));
        } else {
            let good_bye = alive(&client.member_id, LEAVE_EPOCH);
            drop(send(&mut self.driver, good_bye));
        }
    }

    fn act(&mut self, slot: usize, heard: bool) {
        if self.clients[slot].is_classic { self.act_classic(slot) } else { self.beat(slot, heard) }
    }

    fn fresh_id(&mut self) -> Arc<str> {
        self.ids += 1;
        format!("member-{}", self.ids).into()
    }

    fn heartbeat(&mut self, slot: usize) -> ConsumerHeartbeat {
        if self.clients[slot].member_id.is_empty() {
            self.clients[slot].member_id = self.fresh_id();
        }
        let client = &self.clients[slot];
        ConsumerHeartbeat {
            owned: Some(client.owned.clone()),
            ..ConsumerHeartbeat { epoch: client.generation, ..entering(&client.member_id, &["t1"]) }
        }
    }

    /// A heartbeat of the newer protocol. Whatever it is told to give up is given up before the next.
    fn beat(&mut self, slot: usize, heard: bool) {
        let heartbeat = self.heartbeat(slot);
        let answer = send(&mut self.driver, heartbeat);
        let client = &mut self.clients[slot];
        match answer {
            Ok(_) if !heard => {}
            Ok(answer) => {
                client.generation = answer.epoch;
                client.owned = answer.assignment.expect("everything was said");
            }
            Err(GroupError::FencedMemberEpoch | GroupError::UnknownMemberId) => {
                (client.generation, client.owned) = Default::default();
            }
            Err(error) => panic!("{error}: {self:?}"),
        }
    }

    fn act_classic(&mut self, slot: usize) {
        let keeps = slot % 2 == 1;
        let new_member_id = self.fresh_id();
        let client = &mut self.clients[slot];
        let (member, generation) = (identity(&client.member_id), client.generation);
        match std::mem::take(&mut client.phase) {
            Phase::Outside => {
                if !keeps {
                    client.owned = Assignment::default();
                }
                let owned: Vec<i32> = client.owned.iter().map(|(_, index)| index).collect();
                let join = JoinGroup {
                    member,
                    new_member_id,
                    protocols: vec![("sticky".into(), said(&owned))],
                    ..join()
                };
                client.phase = Phase::Joining(self.driver.send(Command::Join(join)));
            }
            Phase::Joined(everybody) => {
                let sync = SyncGroup {
                    group_id: GROUP.into(),
                    member,
                    generation,
                    protocol_type: None,
                    protocol: None,
                    assignments: shared_out(&everybody),
                };
                client.phase = Phase::Syncing(self.driver.send(Command::Sync(sync)));
            }
            Phase::Stable => {
                let beat = Heartbeat { group_id: GROUP.into(), member, generation };
                let Reply::Heartbeat(answer) = self.driver.call(Command::Heartbeat(beat)) else {
                    unreachable!()
                };
                match answer {
                    Ok(()) => self.clients[slot].phase = Phase::Stable,
                    Err(error) => self.refused(slot, error),
                }
            }
            waiting => client.phase = waiting,
        }
    }

    /// Takes the answers that have come for those who waited.
    fn learn(&mut self) {
        let mut answers = self.driver.answers();
        for slot in 0..SLOTS {
            let client = &mut self.clients[slot];
            let (Phase::Joining(token) | Phase::Syncing(token)) = client.phase else { continue };
            match answers.remove(&token) {
                None => {}
                Some(Reply::Join(Ok(joined))) => {
                    (client.member_id, client.generation) = (joined.member_id, joined.generation);
                    client.phase = Phase::Joined(joined.members);
                }
                Some(Reply::Join(Err(JoinRefused { error, member_id }))) => {
                    client.member_id = member_id;
                    self.refused(slot, error);
                }
                Some(Reply::Sync(Ok(Synced { assignment, .. }))) => {
                    let indexes = subscription::assigned(&assignment).unwrap_or_default();
                    let assigned = indexes.into_iter().map(|(_, index)| (id(1), index)).collect();
                    let before = std::mem::replace(&mut client.owned, assigned);
                    let gives_up = !before.is_subset_of(&client.owned);
                    client.phase = if gives_up { Phase::Outside } else { Phase::Stable };
                }
                Some(Reply::Sync(Err(error))) => self.refused(slot, error),
                Some(other) => panic!("{other:?}"),
            }
        }
    }

    /// A classic client joins anew; unless it was only called to, without what it had.
    fn refused(&mut self, slot: usize, error: GroupError) {
        let client = &mut self.clients[slot];
        client.phase = Phase::Outside;
        match error {
            GroupError::RebalanceInProgress => {}
            GroupError::IllegalGeneration => client.owned = Assignment::default(),
            GroupError::UnknownMemberId => {
                *client = Client { is_classic: true, ..Client::default() };
            }
            error => panic!("{error}: {self:?}"),
        }
    }

    /// What clients hold in the generation that the group knows them by does not overlap.
    fn check(&self) {
        let Some(group) = self.driver.machine.groups.get(GROUP) else { return };
        let known = |client: &Client| match &group.consumers {
            Some(group) => group.members.get(&client.member_id).map(|it| it.current.epoch),
            None => {
                let it = &group.membership;
                it.members.contains_key(&client.member_id).then_some(it.generation)
            }
        };
        let mut held = Assignment::default();
        for client in self.clients.iter().filter(|client| known(client) == Some(client.generation)) {
            assert!(!client.owned.intersects(&held), "two clients work on one partition: {self:?}");
            held.extend(client.owned.iter());
        }
    }

    fn is_at_rest(&self) -> bool {
        // A broker that stopped before anything was assigned knows of nobody.
        let Some(group) = self.driver.machine.groups.get(GROUP) else { return false };
        let partitions: usize = self.clients.iter().map(|client| client.owned.len()).sum();
        let is_settled = |client: &Client| !client.is_classic || matches!(client.phase, Phase::Stable);
        let (state, members) = match &group.consumers {
            Some(group) => (group.state(), group.members.len()),
            None => (self.driver.state(), group.membership.members.len()),
        };
        partitions == PARTITIONS as usize
            && self.clients.iter().all(is_settled)
            && (state, members) == (GroupState::Stable, SLOTS)
    }

    /// Everybody does what is next until there is nothing but heartbeats.
    fn come_to_rest(&mut self) {
        for _ in 0..200 {
            for slot in 0..SLOTS {
                self.take(Step::Act { slot, heard: true });
            }
            self.take(Step::Advance { ms: 1_000 });
            if self.is_at_rest() {
                let is_classic = self.clients.iter().all(|client| client.is_classic);
                assert_eq!(self.driver.machine.groups[GROUP].consumers.is_none(), is_classic, "{self:?}");
                return;
            }
        }
        panic!("it does not come to rest: {self:?}");
    }
}

/// A leader's work: an equal share for everybody, of which nobody gets what another has not given up.
fn shared_out(members: &[JoinedMember]) -> Vec<(Arc<str>, bytes::Bytes)> {
    let mut claims: BTreeMap<i32, Vec<usize>> = BTreeMap::new();
    for (at, member) in members.iter().enumerate() {
        let said = subscription::parse(&member.subscription).expect("a subscription");
        said.owned.iter().for_each(|(_, index)| claims.entry(*index).or_default().push(at));
    }
    let share = |at: usize| -> Vec<i32> {
        let wanted = (0..PARTITIONS).filter(|index| *index as usize % members.len() == at);
        wanted.filter(|index| claims.get(index).is_none_or(|by| *by == [at])).collect()
    };
    let shares = (0..members.len()).map(|at| subscription::encode_assigned(&[("t1".into(), share(at))]));
    members.iter().map(|member| member.member_id.clone()).zip(shares).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    #[test]
    fn members_change_their_protocol_and_no_partition_has_two_owners(
        steps in proptest::collection::vec(step(), 1..80),
    ) {
        let mut world = World::new();
        for step in steps {
            world.take(step);
        }
        world.come_to_rest();
    }
}
