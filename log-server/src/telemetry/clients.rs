//! Which clients push metrics, by the id that each client instance was given.
//!
//! A client asks what it is to push (GetTelemetrySubscriptions), and then pushes once an interval. It is refused when
//! it comes earlier than that, except for the first push after it has asked, for asking again after an answer that
//! told it to, and for one last push when it ends.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use log_core::wire::Uuid;
use parking_lot::Mutex;

use super::otlp::{self, Malformed, Series};

/// Bytes of a push, compressed as it comes, and what clients are told of it.
pub const TELEMETRY_BYTES_MAX: usize = 1 << 20;

/// Numbers that are kept of one client.
const SERIES_MAX: usize = 1000;

/// Intervals without a word after which a client is forgotten.
const INTERVALS_KEPT: u32 = 3;

/// How early, in parts of the interval, a push may come: clocks and networks are not that exact.
const EARLY_PARTS: u32 = 10;

/// What clients are asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscription {
    /// Identifies it: another one has another id, so that clients notice that they should ask again.
    pub id: i32,
    /// Prefixes of the metrics' names; one empty one stands for all, none for none.
    pub metrics: Vec<String>,
    /// How often they are to be pushed.
    pub interval: Duration,
}

impl Subscription {
    /// From the settings: prefixes separated by commas, `*` for all, nothing for none.
    pub fn new(metrics: &str, interval: Duration) -> Subscription {
        let mut metrics: Vec<String> = metrics
            .split(',')
            .map(str::trim)
            .filter(|prefix| !prefix.is_empty())
            .map(str::to_owned)
            .collect();
        if metrics.iter().any(|prefix| prefix == "*") {
            metrics = vec![String::new()];
        }
        let text = format!("{metrics:?} {}", interval.as_millis());
        // FNV-1a: all that matters is that another subscription most likely has another number.
        let id = text
            .bytes()
            .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
        Subscription { id: id as i32, metrics, interval }
    }
}

/// What a client that asked is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subscribed {
    /// The id of this client instance, given out if it had none.
    pub instance: Uuid,
    /// What its pushes have to name.
    pub subscription_id: i32,
}

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PushError {
    /// It came earlier than the interval allows, or there are too many clients.
    #[error("too early, or too many clients push")]
    Throttled,
    /// What the client was asked for has changed: it has to ask again.
    #[error("not the subscription of this moment")]
    UnknownSubscription,
    /// The client has said that it ends.
    #[error("the client has pushed its last")]
    Ended,
    /// The payload is none.
    #[error(transparent)]
    Malformed(#[from] Malformed),
}

/// What was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pushed {
    /// Numbers that are shown from now on.
    pub series: usize,
}

/// One client instance.
#[derive(Clone, Debug)]
pub struct Client {
    /// What it calls itself.
    pub client_id: String,
    /// What it last pushed.
    pub series: Vec<Series>,
    /// How often it was told to push.
    interval: Duration,
    asked_at: Option<Instant>,
    pushed_at: Option<Instant>,
    /// Whether it may ask again at once, because it was told to.
    may_ask: bool,
    ended: bool,
}

impl Client {
    fn new() -> Client {
        Client {
            client_id: String::new(),
            series: Vec::new(),
            interval: Duration::ZERO,
            asked_at: None,
            pushed_at: None,
            may_ask: false,
            ended: false,
        }
    }

    fn heard_of(&self) -> Option<Instant> {
        self.asked_at.max(self.pushed_at)
    }

    fn is_due(&self, now: Instant) -> bool {
        let interval = self.interval - self.interval / EARLY_PARTS;
        self.heard_of().is_none_or(|last| now.saturating_duration_since(last) >= interval)
    }
}

/// All clients that push.
#[derive(Debug)]
pub struct Clients {
    subscription: Subscription,
    clients_max: usize,
    /// Guards all of them. Held for a look-up and a replacement, and while `/metrics` copies what is shown.
    clients: Mutex<HashMap<Uuid, Client>>,
}

impl Clients {
    /// Nobody yet, and `clients_max` at most.
    pub fn new(subscription: Subscription, clients_max: usize) -> Clients {
        Clients { subscription, clients_max, clients: Mutex::default() }
    }

    /// What every client is asked for, whatever it falls under besides.
    pub fn subscription(&self) -> &Subscription {
        &self.subscription
    }

    /// A client asks what to push and is told `subscription`. A zero id stands for a client that has none yet.
    ///
    /// # Errors
    /// [`PushError::Throttled`].
    pub fn subscribe(
        &self,
        instance: Uuid,
        subscription: &Subscription,
        now: Instant,
    ) -> Result<Subscribed, PushError> {
        let instance = match instance == Uuid::ZERO {
            true => Uuid::from_bytes(uuid::Uuid::new_v4().into_bytes()),
            false => instance,
        };
        let mut clients = self.clients.lock();
        let client = self.client(&mut clients, instance, now)?;
        if !client.may_ask && !client.is_due(now) {
            return Err(PushError::Throttled);
        }
        client.may_ask = false;
        client.ended = false;
        client.interval = subscription.interval;
        client.asked_at = Some(now);
        Ok(Subscribed { instance, subscription_id: subscription.id })
    }

    /// Whether a client may push now under the subscription that it names; if so, it has. `wanted` is the one that it is
    /// to have.
    ///
    /// # Errors
    /// See [`PushError`].
    pub fn admit(
        &self,
        instance: Uuid,
        subscription_id: i32,
        wanted: &Subscription,
        terminating: bool,
        now: Instant,
    ) -> Result<(), PushError> {
        let mut clients = self.clients.lock();
        let client = self.client(&mut clients, instance, now)?;
        if client.ended {
            return Err(PushError::Ended);
        }
        let just_asked = client.asked_at > client.pushed_at;
        if !terminating && !just_asked && !client.is_due(now) {
            return Err(PushError::Throttled);
        }
        client.pushed_at = Some(now);
        if subscription_id != wanted.id {
            client.may_ask = true;
            return Err(PushError::UnknownSubscription);
        }
        client.ended = terminating;
        Ok(())
    }

    /// Lets a client ask again at once: it was told that what it sent is not understood.
    pub fn may_ask_again(&self, instance: Uuid) {
        if let Some(client) = self.clients.lock().get_mut(&instance) {
            client.may_ask = true;
        }
    }

    /// Takes what an admitted client has pushed, in place of what it pushed before.
    ///
    /// # Errors
    /// [`PushError::Malformed`]; what was shown stays.
    pub fn take(&self, instance: Uuid, client_id: &str, payload: &[u8]) -> Result<Pushed, PushError> {
        let series = otlp::decode(payload, SERIES_MAX)?;
        let pushed = Pushed { series: series.len() };
        if let Some(client) = self.clients.lock().get_mut(&instance) {
            client.client_id = client_id.to_owned();
            // The last push of a client may be empty, which takes nothing back.
            if !series.is_empty() {
                client.series = series;
            }
        }
        Ok(pushed)
    }

    /// Admits a push and takes it.
    ///
    /// # Errors
    /// See [`PushError`].
    pub fn push(
        &self,
        instance: Uuid,
        client_id: &str,
        subscription_id: i32,
        terminating: bool,
        payload: &[u8],
        now: Instant,
    ) -> Result<Pushed, PushError> {
        self.admit(instance, subscription_id, &self.subscription, terminating, now)?;
        self.take(instance, client_id, payload)
    }

    /// Forgets clients that have not been heard of for a while.
    pub fn expire(&self, now: Instant) {
        self.expire_in(&mut self.clients.lock(), now);
    }

    /// Visits every client with its instance's id, by that id.
    pub fn each(&self, mut visit: impl FnMut(&Client, uuid::Uuid)) {
        let clients = self.clients.lock();
        let mut ids: Vec<&Uuid> = clients.keys().collect();
        ids.sort_by_key(|id| id.to_bytes());
        for id in ids {
            visit(&clients[id], uuid::Uuid::from_bytes(id.to_bytes()));
        }
    }

    fn client<'a>(
        &self,
        clients: &'a mut HashMap<Uuid, Client>,
        instance: Uuid,
        now: Instant,
    ) -> Result<&'a mut Client, PushError> {
        if !clients.contains_key(&instance) {
            if clients.len() >= self.clients_max {
                self.expire_in(clients, now);
            }
            if clients.len() >= self.clients_max {
                return Err(PushError::Throttled);
            }
        }
        Ok(clients.entry(instance).or_insert_with(Client::new))
    }

    fn expire_in(&self, clients: &mut HashMap<Uuid, Client>, now: Instant) {
        clients.retain(|_, client| {
            let kept = client.interval.max(self.subscription.interval) * INTERVALS_KEPT;
            client.heard_of().is_some_and(|last| now.saturating_duration_since(last) < kept)
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::otlp::tests::{gauge, metrics_data};

    const INTERVAL: Duration = Duration::from_secs(60);

    fn clients() -> (Clients, Instant) {
        (Clients::new(Subscription::new("*", INTERVAL), 2), Instant::now())
    }

    fn payload() -> Vec<u8> {
        metrics_data(&[gauge("m", 1.0, &[])])
    }

    #[test]
    fn a_client_asks_pushes_at_once_and_then_once_an_interval() {
        let (clients, now) = clients();
        let asked = clients.subscribe(Uuid::ZERO, clients.subscription(), now).unwrap();
        assert_ne!(asked.instance, Uuid::ZERO);
        let (me, id) = (asked.instance, asked.subscription_id);
        assert_eq!(clients.subscribe(me, clients.subscription(), now), Err(PushError::Throttled));
        let push = |seconds| clients.push(me, "c", id, false, &payload(), now + Duration::from_secs(seconds));
        assert_eq!(push(1), Ok(Pushed { series: 1 }));
        assert_eq!(push(2), Err(PushError::Throttled));
        assert_eq!(push(61), Ok(Pushed { series: 1 }));
        assert_eq!(push(100), Err(PushError::Throttled));
    }

    #[test]
    fn an_old_subscription_sends_a_client_to_ask_again() {
        let (clients, now) = clients();
        let asked = clients.subscribe(Uuid::ZERO, clients.subscription(), now).unwrap();
        let old = clients.push(asked.instance, "c", asked.subscription_id ^ 1, false, &payload(), now);
        assert_eq!(old, Err(PushError::UnknownSubscription));
        assert_eq!(
            clients.subscribe(asked.instance, clients.subscription(), now),
            Ok(asked),
            "before the interval is over"
        );
        let (all, some) = (Subscription::new("*", INTERVAL), Subscription::new("a, b", INTERVAL));
        assert!(all.id != some.id && all.metrics == [""] && some.metrics == ["a", "b"]);
        assert!(Subscription::new("", INTERVAL).metrics.is_empty());
    }

    #[test]
    fn a_client_that_ends_pushes_once_more_and_never_again() {
        let (clients, now) = clients();
        let asked = clients.subscribe(Uuid::ZERO, clients.subscription(), now).unwrap();
        let push = |ends| clients.push(asked.instance, "c", asked.subscription_id, ends, &payload(), now);
        assert!(push(false).is_ok());
        assert!(push(true).is_ok(), "the last one need not wait");
        assert_eq!(push(true), Err(PushError::Ended));
        let mut shown = 0;
        clients.each(|client, _| shown += client.series.len());
        assert_eq!(shown, 1);
    }

    #[test]
    fn their_number_is_bounded_and_the_silent_are_forgotten() {
        let (clients, now) = clients();
        clients.subscribe(Uuid::from_bytes([1; 16]), clients.subscription(), now).unwrap();
        clients.subscribe(Uuid::from_bytes([2; 16]), clients.subscription(), now + INTERVAL).unwrap();
        let third = Uuid::from_bytes([3; 16]);
        assert_eq!(
            clients.subscribe(third, clients.subscription(), now + INTERVAL),
            Err(PushError::Throttled)
        );
        assert!(
            clients.subscribe(third, clients.subscription(), now + INTERVAL * 3).is_ok(),
            "the first is forgotten by then"
        );
        clients.expire(now + INTERVAL * 6);
        clients.each(|_, id| panic!("{id} is still there"));
    }

    #[test]
    fn what_cannot_be_read_changes_nothing() {
        let (clients, now) = clients();
        let asked = clients.subscribe(Uuid::ZERO, clients.subscription(), now).unwrap();
        let (me, id) = (asked.instance, asked.subscription_id);
        clients.push(me, "c", id, false, &payload(), now).unwrap();
        let malformed = clients.push(me, "c", id, false, b"\xff", now + INTERVAL);
        assert_eq!(malformed, Err(PushError::Malformed(Malformed)));
        clients.each(|client, _| assert_eq!(client.series.len(), 1));
    }
}
