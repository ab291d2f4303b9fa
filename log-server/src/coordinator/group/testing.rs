//! A driver without a runtime for tests: it keeps the log in memory, hands out tokens, moves the clock by hand, and
//! after every step checks that replaying the log gives the live durable state and that no request is lost.

use super::subscription;
use super::*;
use std::collections::BTreeMap;

pub(super) const GROUP: &str = "readers";

/// Durable state in a form that can be compared: for each group its record, what it is as a consumer group, and its
/// offsets; and the transactional producers.
type Durable = (
    BTreeMap<Arc<str>, (Option<GroupRecord>, Option<ConsumerGroup>, Vec<(Arc<str>, i32, CommittedOffset)>)>,
    Producers,
);

/// Of each transactional producer its last completion and its pending offsets.
type Producers = BTreeMap<i64, (Option<Completion>, BTreeMap<pending::Place, PendingOffset>)>;

#[derive(Debug)]
pub(super) struct Driver {
    pub(super) machine: GroupCoordinator,
    pub(super) now: Now,
    config: GroupConfig,
    log: Vec<LogEntry>,
    next_token: u64,
    unanswered: BTreeSet<Token>,
    replies: BTreeMap<Token, Reply>,
}

impl Driver {
    pub(super) fn new(config: GroupConfig) -> Self {
        let now = Now { monotonic_ms: 1_000_000, wall_ms: 1_700_000_000_000 };
        let mut machine = GroupCoordinator::new(config.clone());
        machine.loaded(now);
        Driver {
            machine,
            now,
            config,
            log: Vec::new(),
            next_token: 0,
            unanswered: BTreeSet::new(),
            replies: BTreeMap::new(),
        }
    }

    /// Sends a command; its answer, or a later one, is fetched with [`answer`](Self::answer).
    pub(super) fn send(&mut self, command: Command) -> Token {
        let token = self.token();
        let decision = self.machine.handle(self.now, token, command);
        self.take(decision);
        token
    }

    /// A command whose decision cannot be logged, as on a full disk: nothing of it happens.
    pub(super) fn send_to_full_disk(&mut self, command: Command) {
        let token = self.token();
        let decision = self.machine.handle(self.now, token, command);
        self.unanswered.remove(&token);
        let durable = decision.events.iter().any(|event| GroupCoordinator::encode(event).is_some());
        if !durable {
            self.unanswered.insert(token);
            self.take(decision);
        }
    }

    fn token(&mut self) -> Token {
        self.next_token += 1;
        let token = Token(self.next_token);
        self.unanswered.insert(token);
        token
    }

    fn take(&mut self, decision: Decision) {
        self.log.extend(decision.events.iter().filter_map(GroupCoordinator::encode));
        for event in decision.events {
            self.machine.apply(event);
        }
        for (token, reply) in decision.replies {
            assert!(self.unanswered.remove(&token), "{token:?} was answered before or never asked");
            self.replies.insert(token, reply);
        }
        self.check();
    }

    /// Lets time pass, stopping at each deadline on the way.
    pub(super) fn advance(&mut self, ms: u64) {
        let end = self.now.monotonic_ms + ms;
        let mut stuck = 0;
        while let Some(at) = self.machine.poll_timeout().filter(|at| *at <= end) {
            stuck = if at <= self.now.monotonic_ms { stuck + 1 } else { 0 };
            assert!(stuck < 1_000, "a deadline stays due though it was handled: {:?}", self.machine);
            let step = at.max(self.now.monotonic_ms) - self.now.monotonic_ms;
            self.now.monotonic_ms += step;
            self.now.wall_ms += i64::try_from(step).expect("short");
            let decision = self.machine.handle_timeout(self.now);
            self.take(decision);
        }
        self.now.wall_ms += i64::try_from(end - self.now.monotonic_ms).expect("short");
        self.now.monotonic_ms = end;
    }

    /// The broker stops and starts: parked requests are gone with their connections.
    pub(super) fn restart(&mut self) {
        let topics = self.machine.topics.clone();
        self.machine = self.replayed().with_topics(topics);
        self.machine.loaded(self.now);
        self.unanswered.clear();
        self.check();
    }

    fn replayed(&self) -> GroupCoordinator {
        replay(&self.config, self.log.iter())
    }

    /// The answer that came for `token`, once.
    pub(super) fn answer(&mut self, token: Token) -> Option<Reply> {
        self.replies.remove(&token)
    }

    /// All answers that came since this was last called.
    pub(super) fn answers(&mut self) -> BTreeMap<Token, Reply> {
        std::mem::take(&mut self.replies)
    }

    pub(super) fn call(&mut self, command: Command) -> Reply {
        let token = self.send(command);
        self.answer(token).expect("an answer at once")
    }

    pub(super) fn joined(&mut self, token: Token) -> Joined {
        match self.answer(token) {
            Some(Reply::Join(Ok(joined))) => joined,
            other => panic!("expected a generation, got {other:?}"),
        }
    }

    pub(super) fn join_error(&mut self, command: Command) -> GroupError {
        match self.call(command) {
            Reply::Join(Err(refused)) => refused.error,
            other => panic!("expected a refusal, got {other:?}"),
        }
    }

    pub(super) fn state(&self) -> GroupState {
        self.machine.describe(GROUP).map_or(GroupState::Dead, |group| group.state)
    }

    pub(super) fn membership(&self) -> &Membership {
        &self.machine.groups[GROUP].membership
    }

    /// A stable group of these members (by member id), the first of them leading; each is assigned its own name.
    pub(super) fn stable(config: GroupConfig, members: &[&str]) -> Driver {
        let mut driver = Driver::new(config);
        let tokens: Vec<Token> = (members.iter())
            .map(|member| driver.send(Command::Join(JoinGroup { new_member_id: (*member).into(), ..join() })))
            .collect();
        for member in members.iter().take(members.len() - 1) {
            driver.send(rejoin(member));
        }
        drop(tokens);
        driver.answers();
        let generation = driver.membership().generation;
        let leader = driver.membership().leader.clone().expect("a leader");
        assert_eq!(&*leader, members[0]);
        let assignments: Vec<_> = members.iter().map(|member| (Arc::from(*member), bytes(member))).collect();
        for member in members.iter().rev() {
            let assignments = if **member == *leader { assignments.clone() } else { Vec::new() };
            driver.send(sync(member, generation, assignments));
        }
        driver.answers();
        assert_eq!(driver.state(), GroupState::Stable);
        assert!(driver.membership().unsynced.is_empty());
        driver
    }

    fn check(&self) {
        let live = durable(&self.machine);
        assert_eq!(durable(&self.replayed()), live, "replaying the log gives another state");
        let snapshot: Vec<LogEntry> = self.machine.snapshot().collect();
        assert_eq!(durable(&replay(&self.config, snapshot.iter())), live, "the snapshot gives another state");
        let mut parked = BTreeSet::new();
        for group in self.machine.groups.values() {
            check_group(group, &mut parked);
            let due = group.next_deadline_ms();
            let noted = group.deadline_ms;
            assert!(
                due.is_none() || noted.is_some_and(|noted| Some(noted) <= due),
                "{noted:?} is after {due:?}"
            );
            let entry = noted.map(|at| (at, group.membership.group_id.clone()));
            assert!(entry.is_none_or(|entry| self.machine.deadlines.contains(&entry)));
        }
        let indexed = self.machine.groups.iter().flat_map(|(group_id, group)| {
            let places = group.pending.iter();
            places.flat_map(move |((topic, partition), producers)| {
                producers.iter().map(move |id| (*id, (group_id.clone(), topic.clone(), *partition)))
            })
        });
        let indexed: BTreeSet<(i64, pending::Place)> = indexed.collect();
        let pending = self.machine.producers.iter();
        let pending =
            pending.flat_map(|(id, it)| it.pending.keys().map(|place| (*id, place.clone()))).collect();
        assert_eq!(indexed, pending, "the groups' index is not what the producers have");
        assert!(self.machine.deadlines.len() <= self.machine.groups.len());
        assert_eq!(parked, self.unanswered, "a request is neither answered nor parked, or it is both");
    }
}

fn replay<'a>(config: &GroupConfig, log: impl Iterator<Item = &'a LogEntry>) -> GroupCoordinator {
    let mut machine = GroupCoordinator::new(config.clone());
    for entry in log {
        if let Some(event) = GroupCoordinator::decode(entry).expect("what was encoded can be decoded") {
            machine.apply(event);
        }
    }
    machine
}

fn durable(machine: &GroupCoordinator) -> Durable {
    let kept = machine.groups.values().filter(|group| group.is_remembered());
    let groups = kept.map(|group| {
        let offsets = group.offsets().map(|(topic, partition, at)| (topic.clone(), partition, at.clone()));
        let consumers = group.consumers.as_deref().map(without_deadlines);
        (group.membership.group_id.clone(), (group.stored.clone(), consumers, offsets.collect()))
    });
    let producers = machine.producers.iter();
    let producers = producers.map(|(id, it)| (*id, (it.completion, it.pending.clone())));
    (groups.collect(), producers.collect())
}

fn without_deadlines(group: &ConsumerGroup) -> ConsumerGroup {
    let mut group = group.clone();
    for member in group.members.values_mut() {
        let member = Arc::make_mut(member);
        member.session_deadline_ms = 0;
        member.rebalance_deadline_ms = None;
    }
    group
}

fn check_group(group: &Group, parked: &mut BTreeSet<Token>) {
    if let Some(consumers) = &group.consumers {
        consumer::testing::check(consumers);
        assert!(group.stored.is_none() && group.membership.members.is_empty());
    }
    let it = &group.membership;
    let state = it.state();
    if matches!(state, GroupState::Stable | GroupState::Empty)
        && let Some(stored) = &group.stored
    {
        assert_eq!(*stored, it.to_record(), "a settled group differs from what the log says");
    }
    assert!(state != GroupState::Stable || group.stored.is_some());
    assert_eq!(state == GroupState::Empty, it.members.is_empty() && state != GroupState::PreparingRebalance);
    let leads = |leader| it.members.contains_key(leader);
    let is_led = it.leader.as_ref().map_or(state == GroupState::PreparingRebalance, leads);
    assert!(it.members.is_empty() || is_led);
    let statics: BTreeMap<_, _> = (it.members.values())
        .filter_map(|member| Some((member.instance_id.clone()?, member.member_id.clone())))
        .collect();
    assert_eq!(statics, it.static_members);
    assert!(it.unsynced.iter().all(|id| it.members.contains_key(id)));
    assert!(it.pending.keys().all(|id| !it.members.contains_key(id)));
    for (id, member) in &it.members {
        assert_eq!(*id, member.member_id);
        assert!(member.awaiting_join.is_none() || state == GroupState::PreparingRebalance);
        assert!(member.awaiting_sync.is_none() || state == GroupState::CompletingRebalance);
        for token in [member.awaiting_join, member.awaiting_sync].into_iter().flatten() {
            assert!(parked.insert(token), "{token:?} is parked twice");
        }
    }
}

/// A newcomer's request of version 3: a member at once.
pub(super) fn join() -> JoinGroup {
    JoinGroup {
        group_id: GROUP.into(),
        member: MemberIdentity::default(),
        new_member_id: "m1".into(),
        require_known_member_id: false,
        supports_skip_assignment: false,
        client_id: "test".into(),
        client_host: "/127.0.0.1".into(),
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: 60_000,
        protocol_type: "consumer".into(),
        protocols: protocols(&["range", "roundrobin"]),
    }
}

pub(super) fn protocols(names: &[&str]) -> Vec<(Arc<str>, bytes::Bytes)> {
    names.iter().map(|name| (Arc::from(*name), subscription::encode(&["flights"]))).collect()
}

pub(super) fn newcomer(new_member_id: &str) -> Command {
    Command::Join(JoinGroup { new_member_id: new_member_id.into(), ..join() })
}

pub(super) fn rejoin(member_id: &str) -> Command {
    Command::Join(JoinGroup { member: identity(member_id), ..join() })
}

pub(super) fn identity(member_id: &str) -> MemberIdentity {
    MemberIdentity { member_id: member_id.into(), instance_id: None }
}

pub(super) fn static_identity(member_id: &str, instance_id: &str) -> MemberIdentity {
    MemberIdentity { member_id: member_id.into(), instance_id: Some(instance_id.into()) }
}

pub(super) fn bytes(text: &str) -> bytes::Bytes {
    bytes::Bytes::copy_from_slice(text.as_bytes())
}

pub(super) fn sync(member_id: &str, generation: i32, assignments: Vec<(Arc<str>, bytes::Bytes)>) -> Command {
    Command::Sync(SyncGroup {
        group_id: GROUP.into(),
        member: identity(member_id),
        generation,
        protocol_type: Some("consumer".into()),
        protocol: None,
        assignments,
    })
}

pub(super) fn heartbeat(member_id: &str, generation: i32) -> Command {
    Command::Heartbeat(Heartbeat { group_id: GROUP.into(), member: identity(member_id), generation })
}

pub(super) fn leave(members: &[MemberIdentity]) -> Command {
    Command::Leave(LeaveGroup { group_id: GROUP.into(), members: members.to_vec() })
}

pub(super) fn commit(member_id: &str, generation: i32, offset: i64) -> Command {
    Command::CommitOffsets(commit_offsets(member_id, generation, offset))
}

pub(super) fn commit_offsets(member_id: &str, generation: i32, offset: i64) -> CommitOffsets {
    CommitOffsets {
        group_id: GROUP.into(),
        member: identity(member_id),
        generation,
        knows_group_not_found: false,
        retention_ms: None,
        offsets: vec![OffsetToCommit {
            topic: "flights".into(),
            partition: 0,
            offset,
            leader_epoch: 3,
            metadata: "note".into(),
        }],
    }
}

/// An offset of a producer that does not say who it is in the group.
pub(super) fn commit_pending(producer_id: i64, producer_epoch: i16, offset: i64) -> CommitPendingOffsets {
    CommitPendingOffsets {
        group_id: GROUP.into(),
        member: MemberIdentity::default(),
        generation: -1,
        producer_id,
        producer_epoch,
        completions: 0,
        offsets: commit_offsets("", -1, offset).offsets,
    }
}

pub(super) fn complete(producer_id: i64, producer_epoch: i16, outcome: Outcome) -> Command {
    Command::CompleteTransaction(CompleteTransaction { producer_id, producer_epoch, outcome })
}

pub(super) fn committed(driver: &Driver) -> Option<i64> {
    driver.machine.committed(GROUP, "flights", 0).map(|committed| committed.offset)
}
