//! The scrub in a whole broker: what it finds, what it shows, and where it goes on.

mod support;

use std::time::Duration;

use log_core::log::AppendError;
use log_core::record::{BatchBuilder, Compression, ProducedBatch};
use log_server::topic::NewTopic;
use log_server::{Broker, BrokerConfig};
use support::{PATIENCE, Rig, start_with};

const NOW_MS: i64 = 1_700_000_000_000;

fn batch() -> ProducedBatch {
    let mut builder = BatchBuilder::new(Compression::None);
    builder.append(NOW_MS, None, Some(&[b'x'; 200]), &[]).unwrap();
    ProducedBatch::internal(builder.build(0).unwrap()).unwrap()
}

/// A broker with topics of several segments each, that scrubs all the time.
async fn rig(topics: &[&str]) -> Rig {
    let rig = start_with(|config| {
        config.scrub_period_ms = 50;
        config.retention_ms = -1;
    })
    .await;
    for topic in topics {
        let config = [("segment.bytes".to_owned(), "1024".to_owned())].into();
        let new = NewTopic { config, ..NewTopic::named(*topic) };
        rig.broker.context().topics.create(vec![new]).await.remove(0).unwrap();
        let partition = rig.broker.context().partitions.get(topic, 0).unwrap();
        let mut end = 0;
        for _ in 0..20 {
            end = partition.append(&batch(), NOW_MS, true).unwrap().last_offset + 1;
        }
        partition.wait_durable(end).await.unwrap();
        // What is damaged from here on lies below the checkpoint, and is no torn tail to a restart.
        partition.log().write_checkpoint().unwrap();
    }
    rig
}

/// Waits until the scrub's status is as it should be.
async fn wait_for<T>(rig: &Rig, look: impl Fn(&serde_json::Value) -> Option<T>) -> T {
    let mut status = serde_json::Value::Null;
    let waited = tokio::time::timeout(PATIENCE, async {
        loop {
            status = serde_json::to_value(rig.broker.context().scrubber.status()).unwrap();
            if let Some(found) = look(&status) {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    let waited = waited.await;
    waited.unwrap_or_else(|_| panic!("the scrub does not come to it: {status}"))
}

fn flip(rig: &Rig, path: &str, position: u64) {
    use std::os::unix::fs::FileExt;
    let file = std::fs::OpenOptions::new().read(true).write(true).open(rig.dir.path().join(path)).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, position).unwrap();
    file.write_all_at(&[byte[0] ^ 0x10], position).unwrap();
}

#[tokio::test]
async fn damage_is_named_everywhere_and_the_partition_becomes_read_only() {
    let rig = rig(&["orders", "sound"]).await;
    let read = wait_for(&rig, |status| status["last_pass_ended_ms"].as_i64().and(status["bytes"].as_u64()));
    assert!(read.await < 100_000);
    let text = rig.broker.context().metrics.encode();
    assert!(!text.contains("highwater_scrub_holes{"), "{text}");

    let path = "topics/orders-0/00000000000000000006.log";
    flip(&rig, path, 300);
    let hole = wait_for(&rig, |status| status["holes"].get(0).cloned()).await;
    let partition = rig.broker.context().partitions.get("orders", 0).unwrap();
    let size = partition.log().segments()[2].size_bytes;
    assert_eq!(hole["file"], path);
    assert_eq!((&hole["topic"], &hole["partition"]), (&"orders".into(), &0.into()));
    assert_eq!((&hole["first_offset"], &hole["last_offset"]), (&7.into(), &7.into()));
    assert_eq!((&hole["position"], &hole["bytes"]), (&(size / 3).into(), &(size / 3).into()));

    let text = rig.broker.context().metrics.encode();
    assert!(text.contains("highwater_scrub_holes{topic=\"orders\",partition=\"0\"} 1"), "{text}");
    let refused = partition.append(&batch(), NOW_MS, true);
    assert!(matches!(refused, Err(AppendError::Corrupt(_))), "{refused:?}");
    let sound = rig.broker.context().partitions.get("sound", 0).unwrap();
    sound.append(&batch(), NOW_MS, true).unwrap();

    // Nothing is said twice: a pass that finds it again knows it already.
    let ended = |status: &serde_json::Value| status["last_pass_ended_ms"].as_i64();
    let now = wait_for(&rig, ended).await;
    let later =
        wait_for(&rig, |status| ended(status).filter(|&later| later > now + 100).map(|_| status.clone()));
    assert_eq!(later.await["holes"].as_array().unwrap().len(), 1);
    rig.broker.shutdown().await;
}

#[tokio::test]
async fn a_partition_that_was_damaged_is_read_only_after_a_restart_too() {
    let Rig { broker, dir } = {
        let rig = rig(&["orders"]).await;
        flip(&rig, "topics/orders-0/00000000000000000006.log", 300);
        wait_for(&rig, |status| status["holes"].get(0).cloned()).await;
        rig
    };
    broker.shutdown().await;
    // A period that does not end: nothing but what was damaged is read.
    let mut config = BrokerConfig::for_test(dir.path());
    config.scrub_period_ms = 1 << 40;
    config.retention_ms = -1;
    let rig = Rig { broker: Broker::start(config).await.unwrap(), dir };
    wait_for(&rig, |status| status["holes"].get(0).cloned()).await;
    let partition = rig.broker.context().partitions.get("orders", 0).unwrap();
    assert!(matches!(partition.append(&batch(), NOW_MS, true), Err(AppendError::Corrupt(_))));
    // What is deleted is forgotten at once, and not only by the next pass.
    rig.broker.context().topics.delete("orders").await.unwrap();
    wait_for(&rig, |status| (status["holes"] == serde_json::json!([])).then_some(())).await;
    rig.broker.shutdown().await;
}

#[tokio::test]
async fn a_deleted_topic_is_forgotten() {
    let rig = rig(&["orders"]).await;
    flip(&rig, "topics/orders-0/00000000000000000000.log", 100);
    wait_for(&rig, |status| status["holes"].get(0).cloned()).await;
    rig.broker.context().topics.delete("orders").await.unwrap();
    // The scrub may be in the middle of its segment.
    let is_shown = || rig.broker.context().metrics.encode().contains("highwater_scrub_holes{");
    wait_for(&rig, |status| (status["holes"] == serde_json::json!([]) && !is_shown()).then_some(())).await;
    rig.broker.shutdown().await;
}

#[tokio::test]
async fn a_scrub_that_is_switched_off_reads_nothing() {
    let rig = start_with(|config| config.scrub_period_ms = 0).await;
    let status = rig.broker.context().scrubber.status();
    assert!(!status.running && status.last_pass_ended_ms.is_none());
    rig.broker.shutdown().await;
}
