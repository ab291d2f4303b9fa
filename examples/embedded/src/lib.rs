//! What is to be tested: a service that reads payments and keeps the balance of each account. It knows librdkafka, and
//! nothing of Highwater.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::KafkaResult;
use rdkafka::message::Message;

/// Amounts in cents by account.
pub type Balances = BTreeMap<String, i64>;

/// A member of the group `balances`.
pub struct Ledger {
    consumer: BaseConsumer,
    balances: Balances,
}

impl Ledger {
    /// Joins the group, which goes on where it has committed.
    ///
    /// # Errors
    /// librdkafka's, for settings that it does not take.
    pub fn join(bootstrap_servers: &str) -> KafkaResult<Ledger> {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", bootstrap_servers)
            .set("group.id", "balances")
            .set("auto.offset.reset", "earliest")
            .set("enable.auto.commit", "false")
            .create()?;
        consumer.subscribe(&["payments"])?;
        Ok(Ledger { consumer, balances: Balances::new() })
    }

    /// Waits for a payment, for as long as `timeout`, and books it. `false` if none has come.
    ///
    /// # Errors
    /// librdkafka's.
    pub fn book_next(&mut self, timeout: Duration) -> KafkaResult<bool> {
        let Some(message) = self.consumer.poll(timeout).transpose()? else { return Ok(false) };
        let account = message.key().map(String::from_utf8_lossy).unwrap_or_default();
        let cents =
            message.payload().and_then(|payload| std::str::from_utf8(payload).ok()?.parse::<i64>().ok());
        *self.balances.entry(account.into_owned()).or_default() += cents.unwrap_or(0);
        self.consumer.commit_message(&message, CommitMode::Sync)?;
        Ok(true)
    }

    /// What has been booked by this member.
    pub fn balances(&self) -> &Balances {
        &self.balances
    }
}
