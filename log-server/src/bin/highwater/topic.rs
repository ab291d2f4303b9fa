//! `highwater topic`: create, list, describe, change and delete topics.

use std::collections::BTreeMap;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use log_client::admin::{AdminError, ConfigChange, ConfigResource, ConfigSource, NewTopic};
use log_client::{Admin, Client, ErrorCode, OffsetSpec, TopicPartition};

use crate::Outcome;
use crate::connect::{self, Bootstrap, text};
use crate::human;
use crate::place::Place;
use crate::say;
use crate::table::table;

/// Create, list, describe, change and delete topics.
#[derive(Args)]
pub struct TopicCommand {
    #[command(flatten)]
    bootstrap: Bootstrap,
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Create a topic
    Create {
        /// Letters, digits, '.', '_' and '-', 249 at most
        name: String,
        /// How many partitions; the broker's default without it
        #[arg(long, short)]
        partitions: Option<i32>,
        /// How many copies of each partition; the broker's default without it
        #[arg(long, value_name = "N")]
        replication_factor: Option<i16>,
        /// A setting, for example retention.ms=86400000; repeat for several
        #[arg(long, short, value_name = "NAME=VALUE", value_parser = setting)]
        config: Vec<(String, String)>,
        /// It is no error if the topic is there already
        #[arg(long)]
        if_not_exists: bool,
    },
    /// List topics, with how many partitions and records they have
    List {
        /// The cluster's own topics too
        #[arg(long)]
        internal: bool,
        /// One name a line and nothing else
        #[arg(long, short)]
        quiet: bool,
    },
    /// Show a topic's partitions and settings
    Describe {
        /// The topic
        name: String,
        /// All settings, those that nobody has changed too
        #[arg(long)]
        all_configs: bool,
    },
    /// Change a topic's settings
    #[command(alias = "config")]
    Alter {
        /// The topic
        name: String,
        /// A setting's new value; repeat for several
        #[arg(long, short, value_name = "NAME=VALUE", value_parser = setting)]
        set: Vec<(String, String)>,
        /// A setting to put back to its default; repeat for several
        #[arg(long, value_name = "NAME", required_unless_present = "set")]
        reset: Vec<String>,
    },
    /// Give a topic more partitions. Keys go to other partitions from then on
    AddPartitions {
        /// The topic
        name: String,
        /// How many there are to be in all
        total: i32,
    },
    /// Delete topics with all their records
    Delete {
        /// The topics
        #[arg(required = true)]
        names: Vec<String>,
    },
    /// Delete a topic's oldest records
    DeleteRecords {
        /// The topic
        name: String,
        /// Delete what lies before: an offset, a time, how long ago (7d), or last for everything
        #[arg(long, value_name = "PLACE")]
        before: Place,
        /// In these partitions only; repeat for several
        #[arg(long, short, value_name = "N")]
        partition: Vec<i32>,
    },
}

fn setting(word: &str) -> Result<(String, String), String> {
    let (name, value) = word.split_once('=').ok_or_else(|| format!("'{word}' is not NAME=VALUE"))?;
    Ok((name.to_owned(), value.to_owned()))
}

impl TopicCommand {
    /// Carries the action out.
    pub fn run(self) -> Outcome {
        connect::run(async move {
            let client = self.bootstrap.connect().await?;
            let admin = Admin::new(&client);
            self.action.run(&client, &admin).await.map_err(explain)?;
            Ok(ExitCode::SUCCESS)
        })
    }
}

/// What to do about a refusal that has a remedy.
fn explain(error: AdminError) -> String {
    let hint = match error.code() {
        Some(ErrorCode::UnknownTopicOrPartition) => "`highwater topic list` shows the topics that there are.",
        Some(ErrorCode::TopicAlreadyExists) => "--if-not-exists makes that no error.",
        Some(ErrorCode::InvalidPartitions) => "Partitions can be added, never taken away.",
        _ => return text(error),
    };
    format!("{error}\n  {hint}")
}

impl Action {
    async fn run(self, client: &Client, admin: &Admin) -> Result<(), AdminError> {
        match self {
            Action::Create { name, partitions, replication_factor, config, if_not_exists } => {
                let topic = NewTopic { name, partitions, replication_factor, configs: config };
                match admin.create_topic(&topic, false).await {
                    Ok(created) => {
                        say!("Created topic {} with {} partitions.", topic.name, created.partitions)
                    }
                    Err(error) if if_not_exists && error.code() == Some(ErrorCode::TopicAlreadyExists) => {
                        say!("Topic {} exists.", topic.name);
                    }
                    Err(error) => return Err(error),
                }
            }
            Action::List { internal, quiet } => list(admin, internal, quiet).await?,
            Action::Describe { name, all_configs } => describe(client, admin, &name, all_configs).await?,
            Action::Alter { name, set, reset } => {
                let changes = set.into_iter().map(|(name, value)| (name, ConfigChange::Set(value)));
                let changes: Vec<_> =
                    changes.chain(reset.into_iter().map(|name| (name, ConfigChange::Reset))).collect();
                admin.alter_configs(&ConfigResource::Topic(name.clone()), &changes).await?;
                say!("Changed {} settings of topic {name}.", changes.len());
            }
            Action::AddPartitions { name, total } => {
                admin.create_partitions(&name, total).await?;
                say!("Topic {name} has {total} partitions now.");
            }
            Action::Delete { names } => {
                for name in names {
                    admin.delete_topic(&name).await?;
                    say!("Deleted topic {name}.");
                }
            }
            Action::DeleteRecords { name, before, partition } => {
                delete_records(admin, &name, before, &partition).await?;
            }
        }
        Ok(())
    }
}

async fn list(admin: &Admin, internal: bool, quiet: bool) -> Result<(), AdminError> {
    let topics = admin.list_topics().await?;
    let topics: Vec<_> = topics.into_iter().filter(|topic| internal || !topic.is_internal).collect();
    if quiet {
        topics.iter().for_each(|topic| say!("{}", topic.name));
        return Ok(());
    }
    let partitions: Vec<TopicPartition> = topics
        .iter()
        .flat_map(|topic| {
            (0..topic.partitions.len() as i32).map(|number| TopicPartition::new(topic.name.clone(), number))
        })
        .collect();
    let ends = ends(admin, &partitions).await;
    let mut table = table(&["TOPIC", "#PARTITIONS", "#RECORDS"]);
    for topic in &topics {
        let of_topic = ends.iter().filter(|(partition, _)| partition.topic == topic.name);
        let records: i64 = of_topic.map(|(_, (first, end))| end - first).sum();
        table.add_row([topic.name.to_string(), topic.partitions.len().to_string(), human::count(records)]);
    }
    say!("{table}");
    Ok(())
}

/// First and end offset of each partition that answers.
async fn ends(admin: &Admin, partitions: &[TopicPartition]) -> BTreeMap<TopicPartition, (i64, i64)> {
    let ask = async |spec| {
        let asked: Vec<_> = partitions.iter().map(|partition| (partition.clone(), spec)).collect();
        let answers = admin.list_offsets(&asked).await.into_iter();
        answers
            .filter_map(|(partition, answer)| Some((partition, answer.ok()?.offset?)))
            .collect::<BTreeMap<_, _>>()
    };
    let (first, latest) = (ask(OffsetSpec::Earliest).await, ask(OffsetSpec::Latest).await);
    let both = latest.into_iter().filter_map(|(partition, end)| {
        let first = *first.get(&partition)?;
        Some((partition, (first, end)))
    });
    both.collect()
}

async fn describe(client: &Client, admin: &Admin, name: &str, all_configs: bool) -> Result<(), AdminError> {
    let topic = admin.describe_topic(name).await?;
    let partitions: Vec<TopicPartition> = (0..topic.partitions.len() as i32)
        .map(|number| TopicPartition::new(topic.name.clone(), number))
        .collect();
    let ends = ends(admin, &partitions).await;
    let id: String = topic.id.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    say!("Topic {name}, id {id}, {} partitions\n", partitions.len());
    let mut rows = table(&["#PARTITION", "LEADER", "#FIRST", "#END", "#RECORDS"]);
    let metadata = client.metadata();
    for (partition, described) in partitions.iter().zip(&topic.partitions) {
        let leader = described.leader.and_then(|id| metadata.brokers.get(&id));
        let leader = leader.map_or("none".to_owned(), |broker| format!("{} ({})", broker.id, broker.address));
        let (first, end) = match ends.get(partition) {
            Some((first, end)) => (Some(*first), Some(*end)),
            None => (None, None),
        };
        let shown = |offset: Option<i64>| offset.map_or("?".to_owned(), human::count);
        let records = first.zip(end).map(|(first, end)| end - first);
        rows.add_row([partition.partition.to_string(), leader, shown(first), shown(end), shown(records)]);
    }
    say!("{rows}\n");
    let mut rows = table(&["SETTING", "VALUE", "SET FOR"]);
    for entry in admin.describe_configs(&ConfigResource::Topic(name.to_owned())).await? {
        if all_configs || entry.source == ConfigSource::Topic {
            rows.add_row([entry.name, entry.value.unwrap_or_default(), entry.source.to_string()]);
        }
    }
    if rows.is_empty() {
        say!("All settings are the broker's; --all-configs shows them.");
    } else {
        say!("{rows}");
    }
    Ok(())
}

async fn delete_records(admin: &Admin, name: &str, before: Place, only: &[i32]) -> Result<(), AdminError> {
    let topic = admin.describe_topic(name).await?;
    let all = (0..topic.partitions.len() as i32).filter(|number| only.is_empty() || only.contains(number));
    for partition in all.map(|number| TopicPartition::new(topic.name.clone(), number)) {
        let offset = match before {
            Place::Offset(offset) => offset,
            Place::Log(OffsetSpec::Latest) => -1,
            Place::Log(spec) => {
                let mut answers = admin.list_offsets(&[(partition.clone(), spec)]).await;
                let listed = answers.pop().map(|(_, answer)| answer).transpose()?;
                // Every record is older: up to the end.
                listed.and_then(|listed| listed.offset).unwrap_or(-1)
            }
        };
        let first = admin.delete_records(&partition, offset).await?;
        say!("{partition} begins at offset {} now.", human::count(first));
    }
    Ok(())
}
