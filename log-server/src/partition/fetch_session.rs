//! Incremental fetch sessions (KIP-227): the broker remembers what a consumer reads, so that a request names only
//! what has changed and an answer only what is new.
//!
//! - Epoch -1: no session; one that is named is closed. Epoch 0: a new session with the partitions of the request.
//!   Any other epoch must be the next one of the named session: an unknown session is error 70, another epoch 71.
//! - Session id 0 in an answer means that none was made: always legal, and what a full cache answers.
//! - The answer to a full fetch names every partition that was asked for. That to an incremental one leaves out those
//!   without records, error or changed offsets.
//! - A partition that returned records moves behind those that did not, so that a tight `max_bytes` starves nobody.
//! - Names and ids do not mix: a session is of one kind (error 106).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use log_core::wire::fetch::FetchPartition;
use log_core::wire::fetch_response::FetchPartitionResponse;
use log_core::wire::{FetchRequest, TopicRef};
use parking_lot::Mutex;
use prometheus_client::metrics::gauge::Gauge;

/// A session that was not used for this long may be replaced by a new one when the cache is full.
const EVICTABLE_AFTER: Duration = Duration::from_secs(120);

/// Partitions that one session holds at most; a larger fetch gets none.
const SESSION_PARTITIONS_MAX: usize = 20_000;

const FINAL_EPOCH: i32 = -1;
const INITIAL_EPOCH: i32 = 0;

/// The sessions of all consumers, up to a cap.
pub struct FetchSessions {
    sessions_max: usize,
    /// Guards the cache. Held to look up, insert and evict; each session has its own lock.
    cache: Mutex<HashMap<i32, Cached>>,
    gauge: Gauge,
}

struct Cached {
    session: Arc<Mutex<Session>>,
    used: Instant,
}

#[derive(Debug, Default)]
struct Session {
    /// The epoch of the next request.
    epoch: i32,
    by_id: bool,
    partitions: HashMap<Key, State>,
    /// In which order they are read; each key once.
    order: Vec<Key>,
}

type Key = (TopicRef, i32);

#[derive(Debug)]
struct State {
    wanted: FetchPartition,
    /// High watermark, last stable offset and log start as last told.
    told: Option<(i64, i64, i64)>,
}

/// Why a request's session cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SessionError {
    /// FETCH_SESSION_ID_NOT_FOUND.
    #[error("no such session")]
    UnknownSession,
    /// INVALID_FETCH_SESSION_EPOCH.
    #[error("not the session's next epoch")]
    WrongEpoch,
    /// FETCH_SESSION_TOPIC_ID_ERROR.
    #[error("the session names topics in the other way")]
    MixedNames,
}

/// One partition to read for a fetch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionPartition {
    /// Its topic, as the request named it; a copy, not a slice of the request.
    pub topic: TopicRef,
    /// From where to read, and how much.
    pub wanted: FetchPartition,
}

/// What one request comes to: partitions to read, and the session that the answer belongs to.
pub struct SessionFetch {
    session_id: i32,
    incremental: bool,
    session: Option<Arc<Mutex<Session>>>,
    /// What is to be read, in this order.
    pub partitions: Vec<SessionPartition>,
}

impl FetchSessions {
    /// An empty cache for `sessions_max` sessions; their number shows in `gauge`.
    pub fn new(sessions_max: usize, gauge: Gauge) -> Self {
        FetchSessions { sessions_max, cache: Mutex::default(), gauge }
    }

    /// Finds, makes or closes the session of a request, and says what is to be read.
    ///
    /// # Errors
    /// See [`SessionError`].
    pub fn begin(&self, request: &FetchRequest) -> Result<SessionFetch, SessionError> {
        if request.session_epoch == FINAL_EPOCH || request.session_epoch == INITIAL_EPOCH {
            if request.session_id != 0 {
                self.remove(request.session_id);
            }
            let partitions: Vec<SessionPartition> = wanted(request).collect();
            if request.session_epoch == FINAL_EPOCH {
                return Ok(SessionFetch { session_id: 0, incremental: false, session: None, partitions });
            }
            return Ok(self.start(partitions));
        }
        let session = self.find(request.session_id).ok_or(SessionError::UnknownSession)?;
        let mut state = session.lock();
        if state.epoch != request.session_epoch {
            return Err(SessionError::WrongEpoch);
        }
        let names = request.topics.iter().map(|topic| &topic.topic);
        let forgotten = request.forgotten_topics.iter().map(|topic| &topic.topic);
        if names.chain(forgotten).any(|topic| topic.id().is_some() != state.by_id) {
            return Err(SessionError::MixedNames);
        }
        state.epoch = next_epoch(state.epoch);
        state.change(request);
        let partitions = state.plan();
        drop(state);
        Ok(SessionFetch {
            session_id: request.session_id,
            incremental: true,
            session: Some(session),
            partitions,
        })
    }

    fn start(&self, partitions: Vec<SessionPartition>) -> SessionFetch {
        let none = |partitions| SessionFetch { session_id: 0, incremental: false, session: None, partitions };
        if partitions.is_empty() || partitions.len() > SESSION_PARTITIONS_MAX {
            return none(partitions);
        }
        let mut cache = self.cache.lock();
        if cache.len() >= self.sessions_max && !evict(&mut cache) {
            return none(partitions);
        }
        let id = loop {
            let id = random_id();
            if !cache.contains_key(&id) {
                break id;
            }
        };
        let mut session = Session {
            epoch: next_epoch(INITIAL_EPOCH),
            by_id: partitions[0].topic.id().is_some(),
            ..Session::default()
        };
        for partition in &partitions {
            session.put((partition.topic.clone(), partition.wanted.index), partition.wanted.clone());
        }
        let session = Arc::new(Mutex::new(session));
        cache.insert(id, Cached { session: session.clone(), used: Instant::now() });
        self.gauge.set(cache.len() as i64);
        SessionFetch { session_id: id, incremental: false, session: Some(session), partitions }
    }

    /// Gives up a fetch whose answer has to be empty, and returns the session's id for it: 0 after a full fetch, whose
    /// client begins anew. An incremental session goes on as if nothing had been read.
    pub fn abandon(&self, fetch: SessionFetch) -> i32 {
        if !fetch.incremental && fetch.session_id != 0 {
            self.remove(fetch.session_id);
            return 0;
        }
        fetch.session_id
    }

    fn find(&self, id: i32) -> Option<Arc<Mutex<Session>>> {
        let mut cache = self.cache.lock();
        let cached = cache.get_mut(&id)?;
        cached.used = Instant::now();
        Some(cached.session.clone())
    }

    fn remove(&self, id: i32) {
        let mut cache = self.cache.lock();
        cache.remove(&id);
        self.gauge.set(cache.len() as i64);
    }
}

/// Makes room by dropping the session that was unused for longest, if that is long enough.
fn evict(cache: &mut HashMap<i32, Cached>) -> bool {
    let oldest = cache.iter().min_by_key(|(_, cached)| cached.used).map(|(&id, cached)| (id, cached.used));
    match oldest {
        Some((id, used)) if used.elapsed() >= EVICTABLE_AFTER => cache.remove(&id).is_some(),
        _ => false,
    }
}

impl Session {
    fn change(&mut self, request: &FetchRequest) {
        for topic in &request.forgotten_topics {
            for &index in &topic.partitions {
                let key = (topic.topic.clone(), index);
                if self.partitions.remove(&key).is_some() {
                    self.order.retain(|kept| *kept != key);
                }
            }
        }
        for partition in wanted(request) {
            let full = self.order.len() >= SESSION_PARTITIONS_MAX;
            let key = (partition.topic, partition.wanted.index);
            if !full || self.partitions.contains_key(&key) {
                self.put(key, partition.wanted);
            }
        }
    }

    fn put(&mut self, key: Key, wanted: FetchPartition) {
        match self.partitions.get_mut(&key) {
            Some(state) => state.wanted = wanted,
            None => {
                self.order.push(key.clone());
                self.partitions.insert(key, State { wanted, told: None });
            }
        }
    }

    fn plan(&self) -> Vec<SessionPartition> {
        let partition = |key: &Key| SessionPartition {
            topic: key.0.clone(),
            wanted: self.partitions[key].wanted.clone(),
        };
        self.order.iter().map(partition).collect()
    }
}

impl SessionFetch {
    /// Takes what was read, one answer for each of `partitions` in their order, and keeps what the answer has to
    /// say. Returns the session's id with it.
    pub fn finish(self, read: Vec<FetchPartitionResponse>) -> (i32, Vec<(TopicRef, FetchPartitionResponse)>) {
        debug_assert_eq!(read.len(), self.partitions.len());
        let mut answer = Vec::with_capacity(read.len());
        let Some(session) = self.session else {
            answer.extend(self.partitions.into_iter().map(|partition| partition.topic).zip(read));
            return (self.session_id, answer);
        };
        let mut session = session.lock();
        let mut rotated = Vec::new();
        for (partition, response) in self.partitions.into_iter().zip(read) {
            let key = (partition.topic, response.index);
            let has_records = !response.records.is_empty();
            let mut news = has_records || response.error_code != 0;
            // A partition that was forgotten by a later request has no state any more.
            if let Some(state) = session.partitions.get_mut(&key) {
                let now = (response.high_watermark, response.last_stable_offset, response.log_start_offset);
                news |= state.told != Some(now);
                state.told = (response.error_code == 0).then_some(now);
            }
            if has_records {
                rotated.push(key.clone());
            }
            if news || !self.incremental {
                answer.push((key.0, response));
            }
        }
        // With all or none of them rotated the order would be the same.
        if !rotated.is_empty() && rotated.len() < session.order.len() {
            let moved: std::collections::HashSet<&Key> = rotated.iter().collect();
            session.order.retain(|key| !moved.contains(key));
            drop(moved);
            let Session { order, partitions, .. } = &mut *session;
            order.extend(rotated.into_iter().filter(|key| partitions.contains_key(key)));
        }
        (self.session_id, answer)
    }
}

/// The partitions of a request, with names of their own: slices would keep the receive buffer.
fn wanted(request: &FetchRequest) -> impl Iterator<Item = SessionPartition> {
    request.topics.iter().flat_map(|topic| {
        let name = topic.topic.detached();
        let partition =
            move |wanted: &FetchPartition| SessionPartition { topic: name.clone(), wanted: wanted.clone() };
        topic.partitions.iter().map(partition)
    })
}

/// Epochs run from 1 on; after the largest comes 1 again, since 0 starts a session.
fn next_epoch(epoch: i32) -> i32 {
    if epoch == i32::MAX { 1 } else { epoch + 1 }
}

/// A session id, never 0. Random, so that a client that restarts or a stale one cannot guess another's by counting.
fn random_id() -> i32 {
    let bytes = uuid::Uuid::new_v4().into_bytes();
    (i32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]) & i32::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use log_core::wire::fetch::{FetchTopic, ForgottenTopic};

    fn name() -> TopicRef {
        TopicRef::Name("t".into())
    }

    fn partition(index: i32, fetch_offset: i64) -> FetchPartition {
        FetchPartition {
            index,
            current_leader_epoch: -1,
            fetch_offset,
            last_fetched_epoch: -1,
            log_start_offset: -1,
            max_bytes: 1 << 20,
        }
    }

    fn request(session_id: i32, session_epoch: i32, partitions: Vec<FetchPartition>) -> FetchRequest {
        let topics = match partitions.is_empty() {
            true => Vec::new(),
            false => vec![FetchTopic { topic: name(), partitions }],
        };
        FetchRequest { session_id, session_epoch, topics, ..FetchRequest::default() }
    }

    fn read(fetch: &SessionFetch, high_watermark: i64, with_records: &[i32]) -> Vec<FetchPartitionResponse> {
        let answer = |partition: &SessionPartition| FetchPartitionResponse {
            high_watermark,
            last_stable_offset: high_watermark,
            log_start_offset: 0,
            records: if with_records.contains(&partition.wanted.index) {
                vec![Bytes::from_static(b"batch")]
            } else {
                Vec::new()
            },
            ..FetchPartitionResponse::error(partition.wanted.index, 0)
        };
        fetch.partitions.iter().map(answer).collect()
    }

    fn indexes(answer: &[(TopicRef, FetchPartitionResponse)]) -> Vec<i32> {
        answer.iter().map(|(_, partition)| partition.index).collect()
    }

    fn start(sessions: &FetchSessions, partitions: i32) -> i32 {
        let fetch = sessions
            .begin(&request(0, 0, (0..partitions).map(|index| partition(index, 0)).collect()))
            .unwrap();
        let responses = read(&fetch, 5, &[]);
        let (id, answer) = fetch.finish(responses);
        assert_eq!(answer.len(), partitions as usize, "a full answer names every partition");
        id
    }

    #[test]
    fn an_incremental_answer_holds_what_is_new() {
        let sessions = FetchSessions::new(10, Gauge::default());
        let id = start(&sessions, 3);
        assert_ne!(id, 0);
        let fetch = sessions.begin(&request(id, 1, vec![])).unwrap();
        assert_eq!(fetch.partitions.len(), 3, "the session remembers them");
        let responses = read(&fetch, 5, &[1]);
        assert_eq!(indexes(&fetch.finish(responses).1), [1], "records are news");
        let fetch = sessions.begin(&request(id, 2, vec![])).unwrap();
        let responses = read(&fetch, 6, &[]);
        assert_eq!(indexes(&fetch.finish(responses).1), [0, 2, 1], "so is a moved high watermark");
    }

    #[test]
    fn a_partition_that_returned_records_goes_to_the_back() {
        let sessions = FetchSessions::new(10, Gauge::default());
        let id = start(&sessions, 3);
        let fetch = sessions.begin(&request(id, 1, vec![])).unwrap();
        let responses = read(&fetch, 5, &[0]);
        fetch.finish(responses);
        let fetch = sessions.begin(&request(id, 2, vec![])).unwrap();
        let order: Vec<i32> = fetch.partitions.iter().map(|partition| partition.wanted.index).collect();
        assert_eq!(order, [1, 2, 0]);
    }

    #[test]
    fn requests_update_and_forget_partitions() {
        let sessions = FetchSessions::new(10, Gauge::default());
        let id = start(&sessions, 2);
        let mut change = request(id, 1, vec![partition(1, 7), partition(9, 1)]);
        change.forgotten_topics = vec![ForgottenTopic { topic: name(), partitions: vec![0] }];
        let fetch = sessions.begin(&change).unwrap();
        let wanted: Vec<(i32, i64)> =
            fetch.partitions.iter().map(|p| (p.wanted.index, p.wanted.fetch_offset)).collect();
        assert_eq!(wanted, [(1, 7), (9, 1)]);
    }

    #[test]
    fn wrong_sessions_and_epochs_are_refused() {
        let sessions = FetchSessions::new(10, Gauge::default());
        let id = start(&sessions, 1);
        let error = |request: &FetchRequest| sessions.begin(request).err();
        assert_eq!(error(&request(id ^ 1, 1, vec![])), Some(SessionError::UnknownSession));
        assert_eq!(error(&request(id, 2, vec![])), Some(SessionError::WrongEpoch));
        assert_eq!(error(&request(0, 1, vec![])), Some(SessionError::UnknownSession));
        let mut by_id = request(id, 1, vec![]);
        let topic = TopicRef::Id(log_core::wire::Uuid::from_bytes([1; 16]));
        by_id.topics = vec![FetchTopic { topic, partitions: vec![] }];
        assert_eq!(error(&by_id), Some(SessionError::MixedNames));
        assert_eq!(error(&request(id, 1, vec![])), None, "an error does not advance the epoch");
        assert!(sessions.begin(&request(id, -1, vec![])).is_ok(), "closes it");
        assert_eq!(error(&request(id, 2, vec![])), Some(SessionError::UnknownSession));
    }

    #[test]
    fn a_full_cache_serves_without_a_session() {
        let sessions = FetchSessions::new(1, Gauge::default());
        assert_ne!(start(&sessions, 1), 0);
        assert_eq!(start(&sessions, 1), 0);
    }

    #[test]
    fn epochs_wrap_to_one() {
        assert_eq!((next_epoch(0), next_epoch(1), next_epoch(i32::MAX)), (1, 2, 1));
    }
}
