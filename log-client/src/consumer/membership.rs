//! Being a member of a consumer group: joining, and staying alive. What is here is the classic protocol; of the newer
//! one is `epoch_member.rs`.
//!
//! [`join`] is one rebalance from the member's side: JoinGroup, for the leader the sharing out, SyncGroup.
//! [`Heartbeat`] is the task that says "alive" until it is dropped and reports what the coordinator
//! answers. Deciding what follows is the consumer's affair.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

use log_core::wire::messages::join_group_request::JoinGroupRequestProtocol;
use log_core::wire::messages::leave_group_request::MemberIdentity;
use log_core::wire::messages::sync_group_request::SyncGroupRequestAssignment;
use log_core::wire::messages::{
    HeartbeatRequest, JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest, SyncGroupRequest,
};
use log_core::wire::{ApiKey, ErrorCode, message};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::assignor::{Assignor, Member};
use super::config::GroupConfig;
use super::epoch_member;
use super::protocol::{self, Subscription};
use crate::client::{Client, Role};
use crate::error::ClientError;
use crate::topic_partition::TopicPartition;

/// How long a leader waits for the metadata of the topics it shares out. One that does not exist is
/// left out after that.
const TOPIC_PATIENCE: Duration = Duration::from_millis(500);

/// What a member says of itself: in a rebalance, and in the heartbeats after it.
#[derive(Clone, Debug)]
pub(super) struct Join {
    pub(super) config: Arc<GroupConfig>,
    /// The member's own connection.
    pub(super) role: Role,
    /// Empty the first time.
    pub(super) member_id: String,
    /// Where the id is noted once the member has one: whoever gives up the rebalance before it has come to
    /// anything has to leave with it, or the coordinator waits for the member until its session has timed out.
    pub(super) noted_id: Arc<Mutex<String>>,
    pub(super) subscription: Subscription,
}

impl Join {
    /// From now on the group knows the member by this id.
    pub(super) fn be(&mut self, member_id: String) {
        self.noted_id.lock().clone_from(&member_id);
        self.member_id = member_id;
    }
}

/// What a rebalance came to.
#[derive(Clone, Debug)]
pub(super) struct Joined {
    pub(super) member_id: String,
    pub(super) generation: i32,
    pub(super) assignment: Vec<TopicPartition>,
    /// For the leader: how many partitions each topic had when they were shared out.
    pub(super) partition_counts: Option<BTreeMap<Arc<str>, usize>>,
    /// How often the member is to say that it is alive.
    pub(super) heartbeat_interval: Duration,
}

/// A rebalance that came to nothing.
#[derive(Clone, Debug)]
pub(super) struct JoinError {
    /// The id that the member has by now. Joining again without it would leave the coordinator waiting for
    /// the one that had it.
    pub(super) member_id: String,
    pub(super) error: ClientError,
}

/// Joins, and returns with the member's share. Gives up the future: drop it.
pub(super) async fn join(client: &Client, mut join: Join) -> Result<Joined, JoinError> {
    let joined = match join.config.is_epochal() {
        true => epoch_member::join(client, &mut join).await,
        false => try_join(client, &mut join).await,
    };
    joined.map_err(|error| JoinError { member_id: join.member_id, error })
}

async fn try_join(client: &Client, join: &mut Join) -> Result<Joined, ClientError> {
    loop {
        let group = join.config.id.clone();
        let address = client.coordinator(&group).await?;
        let response = join_once(client, &address, join).await?;
        match ErrorCode::from(response.error_code) {
            ErrorCode::None => {
                join.be(response.member_id.as_str().to_owned());
                return sync(client, &address, join, response).await;
            }
            // KIP-394: the id comes first, so that a lost answer leaves no ghost in the group.
            ErrorCode::MemberIdRequired if join.member_id.is_empty() => {
                join.be(response.member_id.into_string())
            }
            code => return Err(ClientError::broker(format!("join group {group}"), code)),
        }
    }
}

async fn join_once(
    client: &Client,
    address: &Arc<str>,
    join: &Join,
) -> Result<JoinGroupResponse, ClientError> {
    let config = &*join.config;
    let metadata = protocol::encode_subscription(&join.subscription)
        .map_err(|error| ClientError::encode(ApiKey::JoinGroup, error))?;
    let protocols = config.assignors.iter().map(|assignor| {
        message!(JoinGroupRequestProtocol { name: assignor.name().into(), metadata: metadata.clone() })
    });
    let request = message!(JoinGroupRequest {
        group_id: config.id.as_str().into(),
        session_timeout_ms: millis(config.session_timeout),
        rebalance_timeout_ms: millis(config.poll_interval_max),
        member_id: join.member_id.as_str().into(),
        group_instance_id: config.instance_id.as_deref().map(Into::into),
        protocol_type: protocol::TYPE.into(),
        protocols: protocols.collect(),
    });
    // The coordinator waits for the others, for as long as the longest of their rebalance timeouts.
    let answer = client.call(address, join.role, config.poll_interval_max, |_| request).await;
    answer.inspect_err(|_| client.forget_coordinator(&config.id))
}

async fn sync(
    client: &Client,
    address: &Arc<str>,
    join: &Join,
    joined: JoinGroupResponse,
) -> Result<Joined, ClientError> {
    let config = &*join.config;
    let (mut assignments, mut partition_counts) = (Vec::new(), None);
    if joined.leader == joined.member_id && !joined.skip_assignment {
        let (shares, counts) = share_out(client, &joined).await?;
        assignments = shares;
        partition_counts = Some(counts);
    }
    let request = message!(SyncGroupRequest {
        group_id: config.id.as_str().into(),
        generation_id: joined.generation_id,
        member_id: joined.member_id.clone(),
        group_instance_id: config.instance_id.as_deref().map(Into::into),
        assignments,
    });
    let (protocol_type, protocol_name) = (joined.protocol_type, joined.protocol_name);
    let request = move |version: i16| {
        let mut request = request;
        if version >= 5 {
            request.protocol_type = protocol_type.or_else(|| Some(protocol::TYPE.into()));
            request.protocol_name = protocol_name;
        }
        request
    };
    let response = client.call(address, join.role, config.poll_interval_max, request).await;
    let response = response.inspect_err(|_| client.forget_coordinator(&config.id))?;
    let context = || format!("sync with group {}", config.id);
    ErrorCode::from(response.error_code)
        .into_result()
        .map_err(|code| ClientError::broker(context(), code))?;
    let assignment = protocol::decode_assignment(response.assignment)
        .map_err(|error| ClientError::decode(ApiKey::SyncGroup, address, error))?;
    Ok(Joined {
        member_id: joined.member_id.into_string(),
        generation: joined.generation_id,
        assignment,
        partition_counts,
        heartbeat_interval: config.heartbeat_interval,
    })
}

/// The leader's part: everybody's share by the strategy that the coordinator has chosen.
async fn share_out(
    client: &Client,
    joined: &JoinGroupResponse,
) -> Result<(Vec<SyncGroupRequestAssignment>, BTreeMap<Arc<str>, usize>), ClientError> {
    let name = joined.protocol_name.as_deref().unwrap_or_default();
    let assignor: Assignor = name
        .parse()
        .map_err(|_| ClientError::broker("strategy of the group", ErrorCode::UnsupportedAssignor))?;
    let members: Vec<Member> = joined
        .members
        .iter()
        .map(|member| Member {
            id: member.member_id.as_str().to_owned(),
            instance_id: member.group_instance_id.as_deref().map(str::to_owned),
            // A member that cannot be understood gets nothing, instead of nobody getting anything.
            subscription: protocol::decode_subscription(member.metadata.clone()).unwrap_or_default(),
        })
        .collect();
    let mut partition_counts = BTreeMap::new();
    for topic in members.iter().flat_map(|member| &member.subscription.topics) {
        if partition_counts.contains_key(topic) {
            continue;
        }
        match client.fetch_topic(topic, TOPIC_PATIENCE, false).await {
            Ok(known) => {
                partition_counts.insert(topic.clone(), known.partitions.len());
            }
            Err(error) if error.code().is_some() => {}
            Err(error) => return Err(error),
        }
    }
    let shares = assignor.assign(&members, &partition_counts);
    let assignments = shares.into_iter().map(|(member_id, share)| {
        let assignment = protocol::encode_assignment(&share)
            .map_err(|error| ClientError::encode(ApiKey::SyncGroup, error))?;
        Ok(message!(SyncGroupRequestAssignment { member_id: member_id.into(), assignment }))
    });
    Ok((assignments.collect::<Result<_, ClientError>>()?, partition_counts))
}

/// Says good-bye, so that the group need not wait for the session to end. Static members do not: they
/// mean to come back.
pub(super) async fn leave(
    client: &Client,
    role: Role,
    config: &GroupConfig,
    member_id: &str,
) -> Result<(), ClientError> {
    if member_id.is_empty() {
        return Ok(());
    }
    if config.is_epochal() {
        return epoch_member::leave(client, role, config, member_id).await;
    }
    if config.instance_id.is_some() {
        return Ok(());
    }
    let address = client.coordinator(&config.id).await?;
    let request = |version| {
        let identity = message!(MemberIdentity { member_id: member_id.into() });
        debug_assert!(version >= 3, "older ones have a single member, outside the list");
        message!(LeaveGroupRequest { group_id: config.id.as_str().into(), members: vec![identity] })
    };
    client.call(&address, role, Duration::ZERO, request).await.map(drop)
}

/// What the coordinator thinks of the member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Signal {
    /// All is well.
    Alive,
    /// The group is rebalancing: join again, and keep nothing that is then not assigned.
    Rebalance,
    /// The member has been put out of the group; its partitions are others' by now.
    Lost(ErrorCode),
    /// The member may not come back.
    Fatal(ErrorCode),
}

/// The task that keeps a member alive. Ends when dropped.
#[derive(Debug)]
pub(super) struct Heartbeat {
    pub(super) signal: watch::Receiver<Signal>,
    /// The member itself wants a rebalance.
    pub(super) is_overruled: bool,
    /// As the coordinator's last answer has it.
    generation: Arc<AtomicI32>,
    _end: DropGuard,
}

impl Heartbeat {
    /// Starts for the generation that `member` is in. `last_poll` is when the application last asked for records: if
    /// that is too long ago, the member leaves.
    pub(super) fn start(
        client: &Client,
        member: Join,
        interval: Duration,
        last_poll: Arc<Mutex<Instant>>,
    ) -> Heartbeat {
        let (signals, signal) = watch::channel(Signal::Alive);
        let ended = CancellationToken::new();
        let generation = Arc::new(AtomicI32::new(member.subscription.generation));
        let published = Published { generation: generation.clone(), signals };
        let task = beat(client.clone(), member, interval, last_poll, published);
        tokio::spawn(ended.clone().run_until_cancelled_owned(task));
        Heartbeat { signal, is_overruled: false, generation, _end: ended.drop_guard() }
    }

    /// The member's generation: for a classic one that which it joined, else the epoch that it has by now.
    pub(super) fn generation(&self) -> i32 {
        self.generation.load(Ordering::Acquire)
    }
}

/// What the task tells.
struct Published {
    generation: Arc<AtomicI32>,
    signals: watch::Sender<Signal>,
}

async fn beat(
    client: Client,
    mut member: Join,
    interval: Duration,
    last_poll: Arc<Mutex<Instant>>,
    Published { generation, signals }: Published,
) {
    let config = member.config.clone();
    let mut last_answer = Instant::now();
    let mut has_failed = false;
    loop {
        sleep(interval).await;
        let silence = last_poll.lock().elapsed();
        if silence > config.poll_interval_max {
            tracing::warn!(group = config.id, ?silence, "not polled for too long: leaving the group");
            leave(&client, member.role, &config, &member.member_id).await.ok();
            signals.send_replace(Signal::Lost(ErrorCode::UnknownMemberId));
            return;
        }
        let outcome = beat_once(&client, &mut member, has_failed).await;
        has_failed = !matches!(outcome, Ok(ErrorCode::None | ErrorCode::RebalanceInProgress));
        let code = match outcome {
            Ok(code) => {
                // Before the signal: whoever heeds it goes on from there.
                generation.store(member.subscription.generation, Ordering::Release);
                code
            }
            Err(error) => {
                tracing::debug!(group = config.id, %error, "heartbeat failed");
                client.forget_coordinator(&config.id);
                if last_answer.elapsed() > config.session_timeout {
                    signals.send_replace(Signal::Lost(ErrorCode::CoordinatorNotAvailable));
                    return;
                }
                continue;
            }
        };
        let signal = match code {
            ErrorCode::None => Signal::Alive,
            ErrorCode::RebalanceInProgress => Signal::Rebalance,
            ErrorCode::NotCoordinator | ErrorCode::CoordinatorNotAvailable => {
                client.forget_coordinator(&config.id);
                continue;
            }
            code if code.is_retriable() => continue,
            ErrorCode::IllegalGeneration | ErrorCode::UnknownMemberId | ErrorCode::FencedMemberEpoch => {
                Signal::Lost(code)
            }
            code => Signal::Fatal(code),
        };
        last_answer = Instant::now();
        // Joining again is decided once: a rebalance that ends without this member must not undo it.
        signals.send_if_modified(|current| {
            let changes = *current != signal && signal != Signal::Alive;
            if changes {
                *current = signal;
            }
            changes
        });
        if matches!(signal, Signal::Lost(_) | Signal::Fatal(_)) {
            return;
        }
    }
}

async fn beat_once(client: &Client, member: &mut Join, has_failed: bool) -> Result<ErrorCode, ClientError> {
    if member.config.is_epochal() {
        return epoch_member::beat(client, member, has_failed).await;
    }
    let config = &*member.config;
    let address = client.coordinator(&config.id).await?;
    let request = |_| {
        message!(HeartbeatRequest {
            group_id: config.id.as_str().into(),
            generation_id: member.subscription.generation,
            member_id: member.member_id.as_str().into(),
            group_instance_id: config.instance_id.as_deref().map(Into::into),
        })
    };
    let response = client.call(&address, member.role, Duration::ZERO, request).await?;
    Ok(response.error_code.into())
}

pub(super) fn millis(duration: Duration) -> i32 {
    i32::try_from(duration.as_millis()).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use log_core::wire::ApiKey;
    use log_core::wire::messages::LeaveGroupResponse;
    use tokio::sync::mpsc;

    use super::super::{Consumer, ConsumerConfig};
    use super::*;
    use crate::fake_broker::{TOPIC, client_of};

    #[tokio::test]
    async fn who_gives_up_a_rebalance_leaves_with_the_id_that_it_was_given() {
        let (heard, mut said) = mpsc::unbounded_channel();
        let client = client_of(0, move |asked| match asked.api {
            ApiKey::JoinGroup => {
                let request: JoinGroupRequest = asked.decode();
                let is_known = !request.member_id.is_empty();
                heard.send(format!("join {}", request.member_id.as_str())).ok();
                // The coordinator waits for the others.
                if is_known {
                    return asked.answer_never();
                }
                let error_code = ErrorCode::MemberIdRequired.code();
                asked.answer(&message!(JoinGroupResponse { error_code, member_id: "me".into() }))
            }
            ApiKey::LeaveGroup => {
                let request: LeaveGroupRequest = asked.decode();
                heard.send(format!("leave {}", request.members[0].member_id.as_str())).ok();
                asked.answer(&LeaveGroupResponse::default())
            }
            _ => Vec::new(),
        })
        .await;
        let mut consumer = Consumer::new(&client, ConsumerConfig::in_group("group"));
        consumer.subscribe([TOPIC]).unwrap();
        for expected in ["join ", "join me"] {
            let said = loop {
                consumer.poll(Duration::from_millis(1)).await.unwrap();
                if let Ok(said) = said.try_recv() {
                    break said;
                }
            };
            assert_eq!(said, expected);
        }
        consumer.close().await.ok();
        assert_eq!(said.recv().await.as_deref(), Some("leave me"));
    }
}
