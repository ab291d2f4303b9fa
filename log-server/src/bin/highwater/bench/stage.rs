//! Where a bench plays: a topic, its own or one that is there, and a group of its own. What it made it takes away.

use std::sync::Arc;
use std::time::Duration;

use log_client::admin::{AdminError, NewTopic};
use log_client::{Admin, Client, CommittedOffset, ErrorCode, OffsetSpec, TopicPartition};

use crate::connect::text;

/// How long members that have left may still be counted by the group.
const LEAVING_PATIENCE: Duration = Duration::from_secs(5);

/// A topic and the name of a group.
pub struct Stage {
    admin: Admin,
    pub topic: Arc<str>,
    pub partitions: usize,
    pub group: String,
    is_own: bool,
}

impl Stage {
    /// A topic of its own, named by the run.
    ///
    /// # Errors
    /// It could not be created.
    pub async fn create(client: &Client, run: &str, topic: NewTopic) -> Result<Stage, String> {
        let admin = Admin::new(client);
        let created = admin.create_topic(&topic, false).await.map_err(text)?;
        let stage = Stage {
            admin,
            topic: topic.name.as_str().into(),
            partitions: created.partitions.max(1) as usize,
            group: group(run),
            is_own: true,
        };
        // Also has every broker know of it before it is written to.
        match stage.admin.describe_topic(&stage.topic).await {
            Ok(described) => Ok(Stage { partitions: described.partitions.len(), ..stage }),
            Err(error) => {
                stage.clear(false).await;
                Err(text(error))
            }
        }
    }

    /// On a topic that is there.
    ///
    /// # Errors
    /// It is not, or no broker answered.
    pub async fn on(client: &Client, run: &str, topic: &str) -> Result<Stage, String> {
        let admin = Admin::new(client);
        let described = admin.describe_topic(topic).await.map_err(|error| match error.code() {
            Some(ErrorCode::UnknownTopicOrPartition) => format!(
                "{error}\n  Create it first (highwater topic create {topic}), or leave --topic out for one that lasts as long as the bench."
            ),
            _ => text(error),
        })?;
        Ok(Stage {
            admin,
            topic: described.name.clone(),
            partitions: described.partitions.len(),
            group: group(run),
            is_own: false,
        })
    }

    /// Has the group begin behind what is in the topic now.
    ///
    /// # Errors
    /// Of the first partition that has one.
    pub async fn place_group(&self) -> Result<(), String> {
        let partitions = (0..self.partitions as i32).map(|it| TopicPartition::new(self.topic.clone(), it));
        let asked: Vec<_> = partitions.map(|partition| (partition, OffsetSpec::Latest)).collect();
        let mut ends = Vec::with_capacity(asked.len());
        for (partition, end) in self.admin.list_offsets(&asked).await {
            let end = end.map_err(text)?.offset.unwrap_or(0);
            ends.push((partition, CommittedOffset::at(end)));
        }
        self.admin.reset_group_offsets(&self.group, &ends).await.map_err(text)
    }

    /// Deletes the group, and the topic if that is its own and not to be kept. What stays is said on standard error.
    pub async fn clear(&self, keep_topic: bool) {
        match self.delete_group().await {
            Ok(()) => {}
            Err(error) if error.code() == Some(ErrorCode::GroupIdNotFound) => {}
            Err(error) => {
                eprintln!("highwater: {error}\n  Later: highwater group delete {}", self.group);
            }
        }
        if keep_topic && self.is_own {
            eprintln!("topic {} stays", self.topic);
        } else if self.is_own
            && let Err(error) = self.admin.delete_topic(&self.topic).await
        {
            eprintln!("highwater: {error}\n  Later: highwater topic delete {}", self.topic);
        }
    }

    async fn delete_group(&self) -> Result<(), AdminError> {
        let started = std::time::Instant::now();
        loop {
            match self.admin.delete_group(&self.group).await {
                Err(error)
                    if error.code() == Some(ErrorCode::NonEmptyGroup)
                        && started.elapsed() < LEAVING_PATIENCE =>
                {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                done => return done,
            }
        }
    }
}

fn group(run: &str) -> String {
    format!("highwater-bench-{run}")
}
