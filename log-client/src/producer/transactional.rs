//! Transactions as a program sees them: initialise once, then begin, send, commit or abort (KIP-98, KIP-447, KIP-890).

use std::sync::Arc;
use std::time::Duration;

use log_core::wire::messages::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
use log_core::wire::messages::txn_offset_commit_request::{
    TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
};
use log_core::wire::messages::{
    AddOffsetsToTxnRequest, AddPartitionsToTxnRequest, EndTxnRequest, InitProducerIdRequest,
    TxnOffsetCommitRequest,
};
use log_core::wire::{ErrorCode, message};
use parking_lot::Mutex;

use super::queue::Identity;
use super::transaction::{AtCoordinator, Protocol, Transaction, TransactionError};
use super::{ProduceError, Producer, Shared};
use crate::client::{Client, Coordinates, Role};
use crate::consumer::GroupMember;
use crate::error::ClientError;
use crate::offsets::{CommittedOffset, by_topic};
use crate::topic_partition::TopicPartition;

/// From this level of the feature on, writing adds partitions to transactions (KIP-890).
const IMPLICIT_FROM: i16 = 2;

/// The last versions of a client that adds partitions by itself. Later ones ask for the other way.
const TXN_OFFSET_COMMIT_EXPLICIT_MAX: i16 = 4;
const END_TXN_EXPLICIT_MAX: i16 = 4;

/// A transactional id at its coordinator.
#[derive(Debug)]
pub(super) struct Transactional {
    pub(super) id: Arc<str>,
    timeout: Duration,
    /// Held for looks and for changes, never across an await.
    pub(super) state: Mutex<Transaction>,
    /// Held while partitions are added, and while the transaction is ended: a request to add that came to the
    /// coordinator behind the end would begin a transaction that nobody knows of.
    in_turn: tokio::sync::Mutex<()>,
}

impl Transactional {
    pub(super) fn new(id: &str, timeout: Duration) -> Transactional {
        Transactional {
            id: id.into(),
            timeout,
            state: Mutex::new(Transaction::new()),
            in_turn: tokio::sync::Mutex::default(),
        }
    }

    /// Adds partitions to the transaction of that number, if it is still open.
    pub(super) async fn add_partitions(
        &self,
        client: &Client,
        number: u64,
        partitions: &[TopicPartition],
    ) -> Result<(), ClientError> {
        let _in_turn = self.in_turn.lock().await;
        if self.state.lock().open_number() != Some(number) {
            return Ok(());
        }
        let identity = self.identity();
        self.state.lock().begins();
        let topics: Vec<AddPartitionsToTxnTopic> =
            by_topic(partitions.iter().map(|partition| (partition, ())))
                .into_iter()
                .map(|(name, partitions)| {
                    let partitions = partitions.into_iter().map(|(index, ())| index).collect();
                    message!(AddPartitionsToTxnTopic { name: name.into(), partitions })
                })
                .collect();
        self.at_coordinator(client, |address| {
            let topics = topics.clone();
            async move {
                let request = |_| {
                    message!(AddPartitionsToTxnRequest {
                        v3_and_below_transactional_id: (&*self.id).into(),
                        v3_and_below_producer_id: identity.producer_id,
                        v3_and_below_producer_epoch: identity.epoch,
                        v3_and_below_topics: topics,
                    })
                };
                let response = client.call(&address, Role::Control, Duration::ZERO, request).await?;
                let results = response.results_by_topic_v3_and_below.iter();
                let mut codes = results.flat_map(|topic| &topic.results_by_partition);
                let failed =
                    codes.find_map(|it| ErrorCode::from(it.partition_error_code).into_result().err());
                failed.map_or(Ok(()), |code| Err(self.error("partitions", code)))
            }
        })
        .await
    }

    fn identity(&self) -> Identity {
        self.state.lock().identity().expect("transactions are initialised before anything is asked of them")
    }

    fn error(&self, what: &str, code: ErrorCode) -> ClientError {
        ClientError::broker(format!("{what} of transactional id {}", self.id), code)
    }

    async fn at_coordinator<T, F>(
        &self,
        client: &Client,
        attempt: impl FnMut(Arc<str>) -> F,
    ) -> Result<T, ClientError>
    where
        F: Future<Output = Result<T, ClientError>>,
    {
        client.call_coordinator_of(Coordinates::Transactions, &self.id, attempt).await
    }

    /// Takes the transactional id over, or (`expected`) the next epoch of it.
    async fn init(
        &self,
        client: &Client,
        expected: Option<Identity>,
    ) -> Result<(Identity, Protocol), ClientError> {
        let expected = expected.unwrap_or(Identity { producer_id: -1, epoch: -1 });
        self.at_coordinator(client, |address| async move {
            let connection = client.connection(&address, Role::Control).await?;
            let request = |_| {
                message!(InitProducerIdRequest {
                    transactional_id: Some((&*self.id).into()),
                    transaction_timeout_ms: i32::try_from(self.timeout.as_millis()).unwrap_or(i32::MAX),
                    producer_id: expected.producer_id,
                    producer_epoch: expected.epoch,
                })
            };
            let response = connection.call(Duration::ZERO, request).await?;
            ErrorCode::from(response.error_code)
                .into_result()
                .map_err(|code| self.error("producer id", code))?;
            let protocol = match connection.transaction_version() {
                IMPLICIT_FROM.. => Protocol::Implicit,
                _ => Protocol::Explicit,
            };
            Ok((Identity { producer_id: response.producer_id, epoch: response.producer_epoch }, protocol))
        })
        .await
    }

    /// Ends the open transaction. Returns who the producer is from now on, where that changes.
    async fn end(&self, client: &Client, committed: bool) -> Result<Option<Identity>, ClientError> {
        let _in_turn = self.in_turn.lock().await;
        let (identity, protocol) = (self.identity(), self.state.lock().protocol());
        let cap = if protocol == Protocol::Implicit { i16::MAX } else { END_TXN_EXPLICIT_MAX };
        self.at_coordinator(client, |address| async move {
            let connection = client.connection(&address, Role::Control).await?;
            let request = |_| {
                message!(EndTxnRequest {
                    transactional_id: (&*self.id).into(),
                    producer_id: identity.producer_id,
                    producer_epoch: identity.epoch,
                    committed,
                })
            };
            let response = connection.call_up_to(cap, Duration::ZERO, request).await?;
            ErrorCode::from(response.error_code).into_result().map_err(|code| self.error("end", code))?;
            let next = Identity { producer_id: response.producer_id, epoch: response.producer_epoch };
            Ok(Some(next).filter(|next| protocol == Protocol::Implicit && next.producer_id >= 0))
        })
        .await
    }

    /// Aborts the open transaction, as [`end`](Transactional::end) does, if there is one.
    async fn abort(&self, client: &Client) -> Result<Option<Identity>, ClientError> {
        let protocol = self.state.lock().protocol();
        match self.end(client, false).await {
            // The coordinator has refused all that would have begun it.
            Err(error)
                if protocol == Protocol::Explicit && error.code() == Some(ErrorCode::InvalidTxnState) =>
            {
                Ok(None)
            }
            outcome => outcome,
        }
    }

    async fn send_offsets(
        &self,
        client: &Client,
        offsets: &[(TopicPartition, CommittedOffset)],
        member: &GroupMember,
    ) -> Result<(), ClientError> {
        let (identity, protocol) = (self.identity(), self.state.lock().protocol());
        self.state.lock().begins();
        if protocol == Protocol::Explicit {
            self.add_offsets(client, identity, &member.group).await?;
        }
        let cap = if protocol == Protocol::Implicit { i16::MAX } else { TXN_OFFSET_COMMIT_EXPLICIT_MAX };
        let topics: Vec<TxnOffsetCommitRequestTopic> =
            by_topic(offsets.iter().map(|(at, offset)| (at, offset)))
                .into_iter()
                .map(|(name, partitions)| {
                    let partitions = partitions.into_iter().map(|(partition_index, offset)| {
                        message!(TxnOffsetCommitRequestPartition {
                            partition_index,
                            committed_offset: offset.offset,
                            committed_leader_epoch: -1,
                            committed_metadata: Some(offset.metadata.as_deref().unwrap_or_default().into()),
                        })
                    });
                    message!(TxnOffsetCommitRequestTopic {
                        name: name.into(),
                        partitions: partitions.collect()
                    })
                })
                .collect();
        client
            .call_coordinator(&member.group, |address| {
                let topics = topics.clone();
                async move {
                    let connection = client.connection(&address, Role::Control).await?;
                    let request = |_| {
                        message!(TxnOffsetCommitRequest {
                            transactional_id: (&*self.id).into(),
                            group_id: member.group.as_str().into(),
                            producer_id: identity.producer_id,
                            producer_epoch: identity.epoch,
                            generation_id_or_member_epoch: member.generation,
                            member_id: member.member_id.as_str().into(),
                            group_instance_id: member.instance_id.as_deref().map(Into::into),
                            topics,
                        })
                    };
                    let response = connection.call_up_to(cap, Duration::ZERO, request).await?;
                    let mut codes = response.topics.iter().flat_map(|topic| &topic.partitions);
                    let failed = codes.find_map(|it| ErrorCode::from(it.error_code).into_result().err());
                    failed.map_or(Ok(()), |code| Err(self.error("offsets", code)))
                }
            })
            .await
    }

    async fn add_offsets(&self, client: &Client, identity: Identity, group: &str) -> Result<(), ClientError> {
        self.at_coordinator(client, |address| async move {
            let request = |_| {
                message!(AddOffsetsToTxnRequest {
                    transactional_id: (&*self.id).into(),
                    producer_id: identity.producer_id,
                    producer_epoch: identity.epoch,
                    group_id: group.into(),
                })
            };
            let response = client.call(&address, Role::Control, Duration::ZERO, request).await?;
            ErrorCode::from(response.error_code).into_result().map_err(|code| self.error("offsets", code))
        })
        .await
    }
}

impl Producer {
    /// Takes the transactional id over: whoever had it is fenced, and the transaction that it left open is aborted.
    /// Once, before the first transaction.
    ///
    /// # Errors
    /// As each [`TransactionError`] says.
    pub async fn init_transactions(&self) -> Result<(), TransactionError> {
        let transactional = self.transactional()?;
        transactional.state.lock().check_init()?;
        let client = &self.shared.client;
        let (identity, protocol) = transactional.init(client, None).await.map_err(|error| {
            // Nothing has happened yet that would have to be aborted.
            if error.is_retriable() { TransactionError::Undecided(error) } else { self.note(error) }
        })?;
        self.shared.accumulator.lock().restart(identity);
        transactional.state.lock().initialised(identity, protocol);
        Ok(())
    }

    /// Begins a transaction. What is sent from now on belongs to it.
    ///
    /// # Errors
    /// [`TransactionError::Misplaced`], or what the producer suffers from since before.
    pub fn begin_transaction(&self) -> Result<(), TransactionError> {
        self.transactional()?.state.lock().begin()
    }

    /// Makes offsets part of the transaction, each that of the next record to be consumed: the group goes on from
    /// there if, and only if, the transaction is committed. `member` is [`Consumer::group_member`]'s answer, by which
    /// a consumer that has lost its partitions is told apart. The consumer must not commit by itself.
    ///
    /// [`Consumer::group_member`]: crate::Consumer::group_member
    ///
    /// # Errors
    /// As each [`TransactionError`] says.
    pub async fn send_offsets(
        &self,
        offsets: &[(TopicPartition, CommittedOffset)],
        member: &GroupMember,
    ) -> Result<(), TransactionError> {
        let transactional = self.transactional()?;
        transactional.state.lock().check_open("send offsets")?;
        if offsets.is_empty() {
            return Ok(());
        }
        let sent = transactional.send_offsets(&self.shared.client, offsets, member).await;
        sent.map_err(|error| self.note(error))
    }

    /// Waits for everything that was sent, and commits the transaction. When this returns, all of it counts.
    ///
    /// # Errors
    /// [`TransactionError::Abortable`] if a record could not be delivered; else as each [`TransactionError`] says.
    pub async fn commit_transaction(&self) -> Result<(), TransactionError> {
        let transactional = self.transactional()?;
        transactional.state.lock().commit()?;
        if let Err(error) = self.flush().await {
            transactional.state.lock().failed(&error);
        }
        // A delivery that nobody waited for may have failed, too.
        transactional.state.lock().commit()?;
        let at_coordinator = transactional.state.lock().at_coordinator();
        let mut next = None;
        if at_coordinator != AtCoordinator::Nothing {
            let ended = transactional.end(&self.shared.client, true).await;
            next = ended.map_err(|error| self.note_end(error))?;
        }
        self.go_on(transactional, next);
        Ok(())
    }

    /// Gives up what was not sent yet, and aborts the transaction: nothing of it counts.
    ///
    /// # Errors
    /// As each [`TransactionError`] says.
    pub async fn abort_transaction(&self) -> Result<(), TransactionError> {
        let transactional = self.transactional()?;
        transactional.state.lock().abort()?;
        let waiting = self.shared.accumulator.lock().discard();
        waiting.into_iter().for_each(|batch| self.shared.resolve(batch, Err(ProduceError::Aborted)));
        // What is on its way comes back one way or the other, and is not sent again.
        self.flush().await.ok();
        drop(transactional.in_turn.lock().await);
        let at_coordinator = transactional.state.lock().at_coordinator();
        let client = &self.shared.client;
        let mut next = None;
        if at_coordinator == AtCoordinator::Begun {
            next = transactional.abort(client).await.map_err(|error| self.note_end(error))?;
            transactional.state.lock().aborted();
        }
        if at_coordinator != AtCoordinator::Nothing && next.is_none() {
            // Records that were given up have left holes in the sequence: begin it anew (KIP-360).
            let renewed = transactional.init(client, Some(transactional.identity())).await;
            next = Some(renewed.map_err(|error| self.note_end(error))?.0);
        }
        self.go_on(transactional, next);
        Ok(())
    }

    fn transactional(&self) -> Result<&Transactional, TransactionError> {
        self.shared.transactional.as_ref().ok_or(TransactionError::NotTransactional)
    }

    /// Ready for the next transaction: as another epoch, or, since the broker goes on counting through all of an epoch's
    /// transactions, in the same sequence.
    fn go_on(&self, transactional: &Transactional, next: Option<Identity>) {
        if let Some(identity) = next {
            self.shared.accumulator.lock().restart(identity);
        }
        transactional.state.lock().ended(next);
    }

    fn note(&self, error: ClientError) -> TransactionError {
        self.shared.note(TransactionError::of_coordinator(error))
    }

    fn note_end(&self, error: ClientError) -> TransactionError {
        self.shared.note(TransactionError::of_end(error))
    }
}

impl Shared {
    /// Takes note of what has become of the transaction.
    pub(super) fn note(&self, error: TransactionError) -> TransactionError {
        if let Some(transactional) = &self.transactional {
            transactional.state.lock().refused(&error);
        }
        error
    }
}
