//! `highwater group`: list, describe and delete consumer groups, and move what they have committed.

use std::collections::BTreeMap;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use log_client::admin::AdminError;
use log_client::{Admin, CommittedOffset, ErrorCode, OffsetSpec, TopicPartition};

use crate::Outcome;
use crate::connect::{self, Bootstrap, text};
use crate::human;
use crate::place::Place;
use crate::say;
use crate::table::table;

/// List, describe and delete consumer groups, and move what they have committed.
#[derive(Args)]
pub struct GroupCommand {
    #[command(flatten)]
    bootstrap: Bootstrap,
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// List groups and their states
    List,
    /// Show a group's members and which partitions each has
    Describe {
        /// The group
        group: String,
    },
    /// Show what a group has committed
    Offsets {
        /// The group
        group: String,
    },
    /// Move what a group has committed. The group must have no members at the time
    Reset {
        /// The group
        group: String,
        /// The topic
        #[arg(long, short)]
        topic: String,
        /// In these partitions only; repeat for several
        #[arg(long, short, value_name = "N")]
        partition: Vec<i32>,
        /// Where to: first, last, an offset, a time (RFC 3339, or @ and ms since the epoch), or how long ago (10m)
        #[arg(long, value_name = "PLACE")]
        to: Place,
        /// Show what would be committed, and commit nothing
        #[arg(long)]
        dry_run: bool,
    },
    /// Delete a group with all it has committed
    Delete {
        /// The group
        group: String,
        /// Only what it has committed for this topic
        #[arg(long, short)]
        topic: Option<String>,
    },
}

impl GroupCommand {
    /// Carries the action out.
    pub fn run(self) -> Outcome {
        connect::run(async move {
            let client = self.bootstrap.connect().await?;
            self.action.run(&Admin::new(&client)).await.map_err(explain)?;
            Ok(ExitCode::SUCCESS)
        })
    }
}

/// What to do about a refusal that has a remedy.
fn explain(error: AdminError) -> String {
    let hint = match error.code() {
        Some(ErrorCode::GroupIdNotFound) => "`highwater group list` shows the groups that there are.",
        Some(ErrorCode::NonEmptyGroup | ErrorCode::UnknownMemberId | ErrorCode::GroupSubscribedToTopic) => {
            "The group has members: stop its consumers first (`highwater group describe` shows them)."
        }
        _ => return text(error),
    };
    format!("{error}\n  {hint}")
}

impl Action {
    async fn run(self, admin: &Admin) -> Result<(), AdminError> {
        match self {
            Action::List => {
                let mut rows = table(&["GROUP", "STATE", "PROTOCOL"]);
                for group in admin.list_groups().await? {
                    rows.add_row([group.id, group.state, group.protocol_type]);
                }
                say!("{rows}");
            }
            Action::Describe { group } => describe(admin, &group).await?,
            Action::Offsets { group } => {
                let mut rows = table(&["TOPIC", "#PARTITION", "#COMMITTED", "NOTE"]);
                for (partition, committed) in admin.group_offsets(&group).await? {
                    rows.add_row([
                        partition.topic.to_string(),
                        partition.partition.to_string(),
                        human::count(committed.offset),
                        committed.metadata.unwrap_or_default(),
                    ]);
                }
                say!("{rows}");
            }
            Action::Reset { group, topic, partition, to, dry_run } => {
                reset(admin, &group, &topic, &partition, to, dry_run).await?;
            }
            Action::Delete { group, topic: None } => {
                admin.delete_group(&group).await?;
                say!("Deleted group {group}.");
            }
            Action::Delete { group, topic: Some(topic) } => {
                let committed = admin.group_offsets(&group).await?;
                let partitions: Vec<_> = committed
                    .into_iter()
                    .map(|(partition, _)| partition)
                    .filter(|p| *p.topic == *topic)
                    .collect();
                admin.delete_group_offsets(&group, &partitions).await?;
                say!(
                    "Deleted what group {group} had committed for {} partitions of {topic}.",
                    partitions.len()
                );
            }
        }
        Ok(())
    }
}

async fn describe(admin: &Admin, group: &str) -> Result<(), AdminError> {
    let described = admin.describe_group(group).await?;
    say!(
        "Group {group}, {}, {} members, assignor {}, coordinated by {}\n",
        described.state,
        described.members.len(),
        if described.assignor.is_empty() { "none" } else { &described.assignor },
        described.coordinator
    );
    let mut rows = table(&["MEMBER", "INSTANCE", "CLIENT", "HOST", "PARTITIONS"]);
    for member in described.members {
        let mut by_topic: BTreeMap<_, Vec<String>> = BTreeMap::new();
        for partition in member.assignment {
            by_topic.entry(partition.topic).or_default().push(partition.partition.to_string());
        }
        let shares: Vec<_> =
            by_topic.iter().map(|(topic, numbers)| format!("{topic}: {}", numbers.join(","))).collect();
        let instance = member.instance_id.unwrap_or_else(|| "-".to_owned());
        rows.add_row([member.id, instance, member.client_id, member.host, shares.join("; ")]);
    }
    say!("{rows}");
    Ok(())
}

async fn reset(
    admin: &Admin,
    group: &str,
    topic: &str,
    only: &[i32],
    to: Place,
    dry_run: bool,
) -> Result<(), AdminError> {
    let described = admin.describe_topic(topic).await?;
    let partitions: Vec<TopicPartition> = (0..described.partitions.len() as i32)
        .filter(|number| only.is_empty() || only.contains(number))
        .map(|number| TopicPartition::new(described.name.clone(), number))
        .collect();
    let look_up = async |spec| -> Result<BTreeMap<TopicPartition, Option<i64>>, AdminError> {
        let asked: Vec<_> = partitions.iter().map(|partition| (partition.clone(), spec)).collect();
        let answers = admin.list_offsets(&asked).await.into_iter();
        answers.map(|(partition, answer)| Ok((partition, answer?.offset))).collect()
    };
    let (first, end) = (look_up(OffsetSpec::Earliest).await?, look_up(OffsetSpec::Latest).await?);
    let at = match to {
        Place::Offset(offset) => partitions.iter().map(|p| (p.clone(), Some(offset))).collect(),
        Place::Log(spec) => look_up(spec).await?,
    };
    let mut rows = table(&["TOPIC", "#PARTITION", "#NEW OFFSET"]);
    let mut offsets = Vec::new();
    for partition in partitions {
        let bound = |offsets: &BTreeMap<_, Option<i64>>| offsets.get(&partition).copied().flatten();
        let (first, end) = (bound(&first).unwrap_or(0), bound(&end).unwrap_or(0));
        // No record is as late as that: the end. And an offset that is not in the log would be reset by
        // the consumers, each as it is configured.
        let offset = bound(&at).unwrap_or(end).clamp(first, end.max(first));
        rows.add_row([topic.to_owned(), partition.partition.to_string(), human::count(offset)]);
        offsets.push((partition, CommittedOffset::at(offset)));
    }
    if !dry_run {
        admin.reset_group_offsets(group, &offsets).await?;
    }
    say!("{rows}");
    if dry_run {
        say!("\nNothing was committed, because of --dry-run.");
    }
    Ok(())
}
