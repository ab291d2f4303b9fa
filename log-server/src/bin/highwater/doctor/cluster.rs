//! A running broker, seen by Kafka's protocol: whether clients reach it, and what of its contents will surprise somebody.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use log_client::admin::{AdminError, ConfigResource};
use log_client::{Admin, Client, IsolationLevel, ListedOffset, OffsetSpec, Topic, TopicPartition};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::check::{Check, Status};
use crate::human;

/// How long a connection to an advertised address may take.
const CONNECT_MAX: Duration = Duration::from_secs(2);

/// A round trip above this is felt by everybody who waits for acknowledgements.
const ROUND_TRIP_MAX: Duration = Duration::from_millis(50);

/// Times further ahead than this are no matter of clocks that differ a little.
const FUTURE_MAX_MS: i64 = 3_600_000;

/// The longest that brokers let a transaction be open by default. One that is older hangs.
const TRANSACTION_MAX_MS: i64 = 15 * 60 * 1000;

/// A topic with at least so many records and partitions has a huge partition if one holds this share of it.
const HUGE_RECORDS_MIN: i64 = 100_000;
const HUGE_PARTITIONS_MIN: usize = 3;
const HUGE_SHARE: f64 = 0.8;

/// Groups that are looked at.
const GROUPS_MAX: usize = 200;

/// Names that one finding has at most.
const NAMED_MAX: usize = 5;

/// What the logs of all partitions say.
struct Logs {
    topics: Vec<std::sync::Arc<Topic>>,
    first: BTreeMap<TopicPartition, i64>,
    end: BTreeMap<TopicPartition, i64>,
    stable: BTreeMap<TopicPartition, i64>,
    /// The latest time of any record.
    newest_ms: BTreeMap<TopicPartition, i64>,
}

/// All of them, added to `checks` one by one.
///
/// # Errors
/// The broker does not answer any more; what was found until then is there.
pub async fn checks(client: &Client, checks: &mut Vec<Check>) -> Result<(), AdminError> {
    let admin = Admin::new(client);
    checks.push(round_trip(client).await?);
    checks.extend(advertised(client).await);
    let topics = admin.list_topics().await?;
    let logs = Logs::of(&admin, topics.into_iter().filter(|topic| !topic.is_internal).collect()).await;
    checks.push(leaders(&logs.topics));
    checks.push(times(&admin, &logs).await?);
    checks.push(huge_partitions(&logs));
    checks.push(stuck_transactions(client, &logs).await);
    checks.push(abandoned_groups(&admin, &logs).await?);
    Ok(())
}

impl Logs {
    async fn of(admin: &Admin, topics: Vec<std::sync::Arc<Topic>>) -> Logs {
        let partitions: Vec<TopicPartition> = topics
            .iter()
            .flat_map(|topic| {
                (0..topic.partitions.len() as i32).map(|it| TopicPartition::new(topic.name.clone(), it))
            })
            .collect();
        let ask = async |spec, isolation, pick: fn(ListedOffset) -> Option<i64>| {
            let asked: Vec<_> = partitions.iter().map(|partition| (partition.clone(), spec)).collect();
            let answers = admin.list_offsets_as(&asked, isolation).await.into_iter();
            answers
                .filter_map(|(partition, answer)| Some((partition, pick(answer.ok()?)?)))
                .collect::<BTreeMap<_, _>>()
        };
        use IsolationLevel::{ReadCommitted, ReadUncommitted};
        Logs {
            first: ask(OffsetSpec::Earliest, ReadUncommitted, |it| it.offset).await,
            end: ask(OffsetSpec::Latest, ReadUncommitted, |it| it.offset).await,
            stable: ask(OffsetSpec::Latest, ReadCommitted, |it| it.offset).await,
            newest_ms: ask(OffsetSpec::MaxTimestamp, ReadUncommitted, |it| it.timestamp_ms).await,
            topics,
        }
    }

    fn records(&self, partition: &TopicPartition) -> i64 {
        let at = |offsets: &BTreeMap<TopicPartition, i64>| offsets.get(partition).copied().unwrap_or(0);
        (at(&self.end) - at(&self.first)).max(0)
    }
}

/// Names, and how many more there are.
fn named(mut names: Vec<String>) -> String {
    let more = names.len().saturating_sub(NAMED_MAX);
    names.truncate(NAMED_MAX);
    match more {
        0 => names.join(", "),
        more => format!("{} and {more} more", names.join(", ")),
    }
}

async fn round_trip(client: &Client) -> Result<Check, AdminError> {
    const NAME: &str = "round trip";
    let started = Instant::now();
    client.refresh(&[], false).await?;
    let took = started.elapsed();
    let found = format!("{:.1} ms", took.as_secs_f64() * 1e3);
    Ok(match took <= ROUND_TRIP_MAX {
        true => Check::ok(NAME, found),
        false => {
            Check::warn(NAME, found, "every acknowledgement takes as long: put producers near the broker")
        }
    })
}

/// Clients connect to what the broker says of itself, not to what they were given.
async fn advertised(client: &Client) -> Vec<Check> {
    const NAME: &str = "advertised address";
    const ADVICE: &str =
        "clients connect there after the first answer: say what they can reach with --advertise HOST:PORT";
    let metadata = client.metadata();
    let mut checks = Vec::new();
    for broker in metadata.brokers.values() {
        let address = &broker.address;
        checks.push(match timeout(CONNECT_MAX, TcpStream::connect(&**address)).await {
            Ok(Ok(_)) => Check::ok(NAME, format!("broker {} is reached at {address}", broker.id)),
            Ok(Err(error)) => {
                Check::fail(NAME, format!("broker {} at {address}: {error}", broker.id), ADVICE)
            }
            Err(_) => Check::fail(NAME, format!("broker {} at {address} does not answer", broker.id), ADVICE),
        });
    }
    checks
}

fn leaders(topics: &[std::sync::Arc<Topic>]) -> Check {
    const NAME: &str = "partitions";
    let mut without = Vec::new();
    let mut lacking = Vec::new();
    for topic in topics {
        for (partition, number) in topic.partitions.iter().zip(0..) {
            let place = TopicPartition::new(topic.name.clone(), number).to_string();
            if partition.leader.is_none() {
                without.push(place);
            } else if partition.in_sync.len() < partition.replicas.len() {
                lacking.push(place);
            }
        }
    }
    if !without.is_empty() {
        let found = format!("without a leader: {}", named(without));
        return Check::fail(
            NAME,
            found,
            "look into the broker's log: its directory is offline, or another broker is away",
        );
    }
    if !lacking.is_empty() {
        let found = format!("with replicas that lag behind: {}", named(lacking));
        return Check::warn(NAME, found, "look for brokers that are away or overloaded");
    }
    let count: usize = topics.iter().map(|topic| topic.partitions.len()).sum();
    Check::ok(NAME, format!("{count} partitions of {} topics, all with a leader", topics.len()))
}

/// Retention goes by the records' own times. Times in the future are never old enough; those of the past may be too
/// old from the start.
async fn times(admin: &Admin, logs: &Logs) -> Result<Check, AdminError> {
    const NAME: &str = "record times";
    let now_ms = Timestamp::now().as_millisecond();
    let mut newest_by_topic: BTreeMap<&str, i64> = BTreeMap::new();
    for (partition, &newest_ms) in &logs.newest_ms {
        let newest = newest_by_topic.entry(&partition.topic).or_insert(i64::MIN);
        *newest = newest_ms.max(*newest);
    }
    let (mut future, mut expired) = (Vec::new(), Vec::new());
    for (topic, newest_ms) in newest_by_topic {
        if newest_ms > now_ms.saturating_add(FUTURE_MAX_MS) {
            future.push(format!("{topic} (until {})", human::time(newest_ms)));
            continue;
        }
        let configs = admin.describe_configs(&ConfigResource::Topic(topic.to_owned())).await?;
        let value = |name: &str| configs.iter().find(|entry| entry.name == name)?.value.clone();
        let retention_ms: i64 = value("retention.ms").and_then(|text| text.parse().ok()).unwrap_or(-1);
        let deletes = value("cleanup.policy").is_none_or(|policy| policy.contains("delete"));
        if deletes && retention_ms >= 0 && now_ms.saturating_sub(newest_ms) > retention_ms {
            expired.push(topic.to_owned());
        }
    }
    Ok(if !future.is_empty() {
        Check::warn(
            NAME,
            format!("in the future: {}", named(future)),
            "retention does not delete them before their time comes: correct the producers' clocks, or set \
             message.timestamp.type=LogAppendTime or message.timestamp.after.max.ms for the topic",
        )
    } else if !expired.is_empty() {
        Check::warn(
            NAME,
            format!("older than their topic keeps records: {}", named(expired)),
            "retention deletes them by their own times: set retention.ms=-1 for history that is loaded again",
        )
    } else {
        Check::ok(NAME, "within what their topics keep, and not in the future")
    })
}

fn huge_partitions(logs: &Logs) -> Check {
    const NAME: &str = "balance";
    let mut huge = Vec::new();
    for topic in &logs.topics {
        let records: Vec<i64> = (0..topic.partitions.len() as i32)
            .map(|number| logs.records(&TopicPartition::new(topic.name.clone(), number)))
            .collect();
        if let Some((number, share)) = huge_partition(&records) {
            huge.push(format!("{}-{number} ({:.0} %)", topic.name, share * 100.0));
        }
    }
    match huge.is_empty() {
        true => Check::ok(NAME, "no partition holds most of its topic"),
        false => Check::warn(
            NAME,
            format!("partitions that hold most of their topic: {}", named(huge)),
            "one consumer has to do the work of all: look for a key that most records have, or for records without key \
             that are all sent to one partition",
        ),
    }
}

/// The partition that holds most of a topic, and its share.
fn huge_partition(records: &[i64]) -> Option<(usize, f64)> {
    let total: i64 = records.iter().sum();
    if records.len() < HUGE_PARTITIONS_MIN || total < HUGE_RECORDS_MIN {
        return None;
    }
    let (number, &most) = records.iter().enumerate().max_by_key(|(_, records)| **records)?;
    let share = most as f64 / total as f64;
    (share >= HUGE_SHARE).then_some((number, share))
}

/// What is committed is shown up to the first transaction that is open: one that nobody ends hides all that follows.
async fn stuck_transactions(client: &Client, logs: &Logs) -> Check {
    const NAME: &str = "transactions";
    let open: BTreeMap<TopicPartition, i64> = logs
        .stable
        .iter()
        .filter(|(partition, stable)| logs.end.get(*partition).is_some_and(|end| *stable < end))
        .map(|(partition, &stable)| (partition.clone(), stable))
        .collect();
    if open.is_empty() {
        return Check::ok(NAME, "none is open");
    }
    let begun = match crate::lag::timestamps(client, &open).await {
        Ok(begun) => begun,
        Err(error) => return Check::skipped(NAME, error.to_string()),
    };
    let now_ms = Timestamp::now().as_millisecond();
    let stuck: Vec<String> = begun
        .iter()
        .filter(|(_, timestamp_ms)| now_ms.saturating_sub(**timestamp_ms) > TRANSACTION_MAX_MS)
        .map(|(partition, &timestamp_ms)| format!("{partition} since {}", human::time(timestamp_ms)))
        .collect();
    match stuck.is_empty() {
        true => Check::ok(NAME, format!("open in {} partitions, none for long", open.len())),
        false => Check::warn(
            NAME,
            format!("open for more than 15 minutes, by the records' times: {}", named(stuck)),
            "readers of committed records wait there: look for the producer (`kafka-transactions.sh find-hanging`) and \
             abort what it left; where records carry times of the past this may be a false alarm",
        ),
    }
}

async fn abandoned_groups(admin: &Admin, logs: &Logs) -> Result<Check, AdminError> {
    const NAME: &str = "groups";
    let groups = admin.list_groups().await?;
    let empty = groups.iter().filter(|group| group.state == "Empty").take(GROUPS_MAX);
    let mut abandoned = Vec::new();
    for group in empty {
        let committed = admin.group_offsets(&group.id).await?;
        let lag = committed.iter().map(|(partition, committed)| {
            let first = logs.first.get(partition).copied().unwrap_or(0);
            logs.end.get(partition).map_or(0, |end| (end - committed.offset.max(first)).max(0))
        });
        let lag: i64 = lag.sum();
        if lag > 0 {
            abandoned.push(format!("{} ({} records)", group.id, human::count(lag)));
        }
    }
    Ok(match abandoned.is_empty() {
        true => Check::ok(NAME, format!("{} groups, none left behind without members", groups.len())),
        false => Check {
            name: NAME,
            status: Status::Warn,
            found: format!("behind, and without members: {}", named(abandoned)),
            advice: Some(
                "start their consumers, or delete what nobody needs: highwater group delete GROUP".to_owned(),
            ),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_that_holds_most_of_its_topic_is_found() {
        assert_eq!(huge_partition(&[10, 180_000, 10]).map(|(number, _)| number), Some(1));
        assert_eq!(huge_partition(&[60_000, 60_000, 60_000]), None);
        assert_eq!(huge_partition(&[0, 100, 0]), None);
        assert_eq!(huge_partition(&[0, 200_000]), None);
        assert_eq!(huge_partition(&[]), None);
    }

    #[test]
    fn of_many_names_the_first_are_said() {
        let names = |count: usize| (0..count).map(|n| n.to_string()).collect::<Vec<_>>();
        assert_eq!(named(names(2)), "0, 1");
        assert_eq!(named(names(7)), "0, 1, 2, 3, 4 and 2 more");
    }
}
