//! `highwater group`: list, describe and delete consumer groups, and move what they have committed.

mod plan;
mod reset;

use std::collections::BTreeMap;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use log_client::admin::AdminError;
use log_client::{Admin, ErrorCode};

use self::reset::Reset;
use crate::Outcome;
use crate::connect::{self, Bootstrap, text};
use crate::human;
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
    Reset(Box<Reset>),
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
            let admin = Admin::new(&client);
            let done = match self.action {
                Action::Reset(reset) => return reset.run(&admin).await,
                Action::List => list(&admin).await,
                Action::Describe { group } => describe(&admin, &group).await,
                Action::Offsets { group } => offsets(&admin, &group).await,
                Action::Delete { group, topic: None } => delete(&admin, &group).await,
                Action::Delete { group, topic: Some(topic) } => delete_offsets(&admin, &group, &topic).await,
            };
            done.map_err(explain)?;
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

async fn list(admin: &Admin) -> Result<(), AdminError> {
    let mut rows = table(&["GROUP", "STATE", "PROTOCOL"]);
    for group in admin.list_groups().await? {
        rows.add_row([group.id, group.state, group.protocol_type]);
    }
    say!("{rows}");
    Ok(())
}

async fn offsets(admin: &Admin, group: &str) -> Result<(), AdminError> {
    let mut rows = table(&["TOPIC", "#PARTITION", "#COMMITTED", "NOTE"]);
    for (partition, committed) in admin.group_offsets(group).await? {
        rows.add_row([
            partition.topic.to_string(),
            partition.partition.to_string(),
            human::count(committed.offset),
            committed.metadata.unwrap_or_default(),
        ]);
    }
    say!("{rows}");
    Ok(())
}

async fn delete(admin: &Admin, group: &str) -> Result<(), AdminError> {
    admin.delete_group(group).await?;
    say!("Deleted group {group}.");
    Ok(())
}

async fn delete_offsets(admin: &Admin, group: &str, topic: &str) -> Result<(), AdminError> {
    let committed = admin.group_offsets(group).await?;
    let partitions: Vec<_> =
        committed.into_iter().map(|(partition, _)| partition).filter(|p| *p.topic == *topic).collect();
    admin.delete_group_offsets(group, &partitions).await?;
    say!("Deleted what group {group} had committed for {} partitions of {topic}.", partitions.len());
    Ok(())
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
