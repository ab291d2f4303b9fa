//! The client as the compatibility matrix drives it: takes one call a line, as JSON, and answers each with one line.
//! `tests/compat/client.py` is the other end.

use std::collections::{BTreeMap, HashMap};
use std::error::Error;
use std::io::BufRead;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use log_client::admin::{ConfigResource, NewTopic};
use log_client::consumer::{GroupConfig, GroupProtocol, OffsetReset, OffsetSpec, StartAt};
use log_client::{
    Admin, Client, ClientConfig, CommittedOffset, Consumer, ConsumerConfig, ConsumerRecord, GroupMember,
    IsolationLevel, Producer, ProducerConfig, ProducerRecord, TopicPartition,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

type Failure = Box<dyn Error>;

/// How long a read waits for all that it was told to read.
const READ_PATIENCE: Duration = Duration::from_secs(15);

#[derive(Deserialize, Default)]
#[serde(default)]
struct Call {
    call: String,
    topic: String,
    bootstrap: String,
    codec: String,
    idempotent: bool,
    messages: Vec<Message>,
    count: usize,
    committed: bool,
    since: i64,
    member: String,
    group: String,
    protocol: String,
    partitions: i32,
    config: BTreeMap<String, String>,
    name: String,
    producer: String,
    values: Vec<String>,
    outcome: String,
    id: String,
    consumed: Option<Consumed>,
}

/// How far a group has come in partition 0 of a topic.
#[derive(Deserialize)]
struct Consumed {
    group: String,
    topic: String,
    offset: i64,
}

#[derive(Deserialize, Serialize)]
struct Message {
    key: Option<String>,
    value: Option<String>,
    timestamp: i64,
    headers: Vec<(String, String)>,
    #[serde(default)]
    partition: i32,
}

struct Driver {
    bootstrap: String,
    client: Client,
    producers: HashMap<(String, String, bool), Producer>,
    transactional: HashMap<String, Producer>,
    members: HashMap<String, Consumer>,
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let bootstrap = std::env::args().nth(1).ok_or("usage: compat BOOTSTRAP")?;
    let client = Client::connect(&bootstrap).await?;
    let mut driver = Driver {
        bootstrap,
        client,
        producers: HashMap::new(),
        transactional: HashMap::new(),
        members: HashMap::new(),
    };
    let mut lines = std::io::stdin().lock().lines();
    while let Some(line) = tokio::task::block_in_place(|| lines.next()) {
        let call: Call = serde_json::from_str(&line?)?;
        let answer = match driver.answer(call).await {
            Ok(result) => json!({ "result": result }),
            Err(error) => json!({ "error": error.to_string() }),
        };
        println!("{answer}");
    }
    Ok(())
}

impl Driver {
    async fn answer(&mut self, call: Call) -> Result<Value, Failure> {
        let admin = Admin::new(&self.client);
        match call.call.as_str() {
            "produce" => self.produce(call).await?,
            "read" => return Ok(serde_json::to_value(self.read(call).await?)?),
            "join" => self.join(call)?,
            "poll" => {
                let member = self.members.get_mut(&call.member).ok_or("no such member")?;
                let records = member.poll(Duration::from_millis(200)).await?;
                let values: Vec<_> = records.iter().map(|record| encode(record.value.as_deref())).collect();
                return Ok(json!({ "values": values, "assigned": member.assignment().len() }));
            }
            "commit" => self.members.get_mut(&call.member).ok_or("no such member")?.commit().await?,
            "leave" => self.members.remove(&call.member).ok_or("no such member")?.close().await?,
            "createTopic" => {
                let topic = NewTopic::new(call.topic, call.partitions);
                let topic =
                    call.config.into_iter().fold(topic, |topic, (name, value)| topic.config(name, value));
                admin.create_topic(&topic, false).await?;
            }
            "topicConfig" => {
                let entries = admin.describe_configs(&ConfigResource::Topic(call.topic)).await?;
                return Ok(json!(
                    entries.into_iter().find(|entry| entry.name == call.name).and_then(|e| e.value)
                ));
            }
            "growTopic" => admin.create_partitions(&call.topic, call.partitions).await?,
            "topics" => {
                let topics = admin.list_topics().await?;
                let topics: BTreeMap<String, usize> =
                    topics.iter().map(|topic| (topic.name.to_string(), topic.partitions.len())).collect();
                return Ok(json!(topics));
            }
            "transact" => self.transact(call).await?,
            "deleteTopic" => admin.delete_topic(&call.topic).await?,
            other => return Err(format!("no call {other}").into()),
        }
        Ok(Value::Null)
    }

    async fn produce(&mut self, call: Call) -> Result<(), Failure> {
        let key = (call.bootstrap, call.codec, call.idempotent);
        if !self.producers.contains_key(&key) {
            let client = ClientConfig { client_id: "log-client".to_owned(), ..ClientConfig::new(&key.0) };
            let config = ProducerConfig {
                compression: key.1.parse()?,
                idempotence: key.2,
                ..ProducerConfig::default()
            };
            self.producers.insert(key.clone(), Producer::new(&Client::new(client)?, config));
        }
        let mut deliveries = Vec::new();
        for message in call.messages {
            let record = ProducerRecord {
                partition: Some(message.partition),
                key: decode(message.key)?,
                value: decode(message.value)?,
                timestamp_ms: Some(message.timestamp),
                ..ProducerRecord::to(call.topic.as_str())
            };
            let record = message.headers.into_iter().try_fold(record, |record, (name, value)| {
                Ok::<_, Failure>(record.header(name, BASE64_STANDARD.decode(value)?))
            })?;
            deliveries.push(self.producers[&key].send(record).await?);
        }
        for delivery in deliveries {
            delivery.await?;
        }
        Ok(())
    }

    async fn transact(&mut self, call: Call) -> Result<(), Failure> {
        if !self.transactional.contains_key(&call.producer) {
            let config = ProducerConfig { transactional_id: Some(call.id), ..ProducerConfig::default() };
            let producer = Producer::new(&self.client, config);
            producer.init_transactions().await?;
            self.transactional.insert(call.producer.clone(), producer);
        }
        let producer = &self.transactional[&call.producer];
        producer.begin_transaction()?;
        let mut deliveries = Vec::new();
        for value in call.values {
            let record =
                ProducerRecord { value: decode(Some(value))?, ..ProducerRecord::to(call.topic.as_str()) };
            deliveries.push(producer.send(record.partition(0)).await?);
        }
        for delivery in deliveries {
            delivery.await?;
        }
        if let Some(Consumed { group, topic, offset }) = call.consumed {
            let offsets = [(TopicPartition::new(topic, 0), CommittedOffset::at(offset))];
            producer.send_offsets(&offsets, &GroupMember::outsider(group)).await?;
        }
        match call.outcome.as_str() {
            "commit" => producer.commit_transaction().await?,
            _ => producer.abort_transaction().await?,
        }
        Ok(())
    }

    async fn read(&self, call: Call) -> Result<Vec<Message>, Failure> {
        let isolation = match call.committed {
            true => IsolationLevel::ReadCommitted,
            false => IsolationLevel::ReadUncommitted,
        };
        let mut consumer =
            Consumer::new(&self.client, ConsumerConfig { isolation, ..ConsumerConfig::default() });
        let start = if call.since < 0 { OffsetSpec::Earliest } else { OffsetSpec::Time(call.since) };
        consumer.assign([(TopicPartition::new(call.topic, 0), StartAt::Log(start))]);
        let mut read = Vec::new();
        let deadline = tokio::time::Instant::now() + READ_PATIENCE;
        while read.len() < call.count && tokio::time::Instant::now() < deadline {
            read.extend(consumer.poll(Duration::from_millis(500)).await?.iter().map(message));
        }
        consumer.close().await?;
        Ok(read)
    }

    fn join(&mut self, call: Call) -> Result<(), Failure> {
        let protocol = match call.protocol.as_str() {
            "consumer" => GroupProtocol::Consumer { assignor: None },
            _ => GroupProtocol::Classic,
        };
        let group = GroupConfig {
            protocol,
            auto_commit: None,
            heartbeat_interval: Duration::from_millis(300),
            ..GroupConfig::new(call.group)
        };
        let config = ConsumerConfig {
            group: Some(group),
            offset_reset: OffsetReset::Earliest,
            ..ConsumerConfig::default()
        };
        let client = Client::new(ClientConfig::new(&self.bootstrap))?;
        let mut consumer = Consumer::new(&client, config);
        consumer.subscribe([call.topic])?;
        self.members.insert(call.member, consumer);
        Ok(())
    }
}

fn message(record: &ConsumerRecord) -> Message {
    let headers = record.headers.iter().map(|header| {
        let name = String::from_utf8_lossy(&header.key).into_owned();
        (name, BASE64_STANDARD.encode(header.value.as_deref().unwrap_or_default()))
    });
    Message {
        key: encode(record.key.as_deref()),
        value: encode(record.value.as_deref()),
        timestamp: record.timestamp_ms,
        headers: headers.collect(),
        partition: record.partition,
    }
}

fn encode(bytes: Option<&[u8]>) -> Option<String> {
    bytes.map(|bytes| BASE64_STANDARD.encode(bytes))
}

fn decode(text: Option<String>) -> Result<Option<bytes::Bytes>, Failure> {
    Ok(text.map(|text| BASE64_STANDARD.decode(text)).transpose()?.map(Into::into))
}
