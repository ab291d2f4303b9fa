//! Topics and partitions as they are written on the command line: `orders`, or `orders:0,2` for two of its partitions.

use std::str::FromStr;

use log_client::admin::AdminError;
use log_client::{Admin, TopicPartition};

/// A topic, or some of its partitions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicChoice {
    /// The topic's name.
    pub topic: String,
    /// Empty for all of them.
    pub partitions: Vec<i32>,
}

impl FromStr for TopicChoice {
    type Err = String;

    fn from_str(word: &str) -> Result<TopicChoice, String> {
        // A topic's name has no colon.
        let Some((topic, numbers)) = word.split_once(':') else {
            return Ok(TopicChoice { topic: word.to_owned(), partitions: Vec::new() });
        };
        let numbers = numbers.split(',').map(|number| match number.trim().parse::<i32>() {
            Ok(number @ 0..) => Ok(number),
            _ => Err(format!("'{word}': behind the colon come numbers of partitions, as in orders:0,2")),
        });
        Ok(TopicChoice { topic: topic.to_owned(), partitions: numbers.collect::<Result<_, _>>()? })
    }
}

impl TopicChoice {
    /// The partitions that are meant.
    ///
    /// # Errors
    /// The topic does not exist, has no such partition, or no broker answered.
    pub async fn resolve(&self, admin: &Admin) -> Result<Vec<TopicPartition>, String> {
        let described = admin.describe_topic(&self.topic).await.map_err(no_topic)?;
        let count = described.partitions.len() as i32;
        if let Some(missing) = self.partitions.iter().find(|&&number| number >= count) {
            let last = count - 1;
            return Err(format!(
                "topic {} has partitions 0 to {last}, so none of number {missing}",
                self.topic
            ));
        }
        let is_meant = |number: &i32| self.partitions.is_empty() || self.partitions.contains(number);
        let numbers = (0..count).filter(is_meant);
        Ok(numbers.map(|number| TopicPartition::new(described.name.clone(), number)).collect())
    }
}

/// A topic that is not there, and how to find those that are.
pub fn no_topic(error: AdminError) -> String {
    format!("{error}\n  `highwater topic list` shows the topics that there are.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_are_named_behind_a_colon() {
        let choice = |word: &str| word.parse::<TopicChoice>().map(|it| (it.topic, it.partitions));
        assert_eq!(choice("orders"), Ok(("orders".to_owned(), vec![])));
        assert_eq!(choice("orders:0,2"), Ok(("orders".to_owned(), vec![0, 2])));
        for bad in ["orders:", "orders:-1", "orders:x", "orders:0,,1", "orders:0:1"] {
            assert!(choice(bad).is_err(), "{bad}");
        }
    }
}
