//! What the sender makes of answers, without a task to run it.

use super::super::{Producer, ProducerConfig, ProducerRecord};
use super::*;
use crate::fake_broker::{TOPIC, client_of};

#[tokio::test]
async fn a_batch_that_is_too_large_is_not_divided_once_its_transaction_is_being_aborted() {
    let client = client_of(2, |_| Vec::new()).await;
    let config = ProducerConfig { transactional_id: Some("id".to_owned()), ..ProducerConfig::default() };
    // Its own sender never runs: nothing is awaited from when there are records.
    let topic = client.topic(TOPIC, config.block_max, false).await.unwrap();
    let shared = Producer::new(&client, config).shared.clone();
    let mut sender = Sender::new(shared.clone());
    let transactional = shared.transactional.as_ref().unwrap();
    let identity = Identity { producer_id: 7, epoch: 0 };
    shared.accumulator.lock().restart(identity);
    transactional.state.lock().initialised(identity, Protocol::Implicit);
    transactional.state.lock().begin().unwrap();
    let now = Instant::now();
    let mut drained = {
        let mut accumulator = shared.accumulator.lock();
        for _ in 0..2 {
            drop(accumulator.append(now, &topic, &ProducerRecord::to(TOPIC), 0, 0).unwrap());
        }
        accumulator.flush();
        accumulator.drain(now, |_| Route::To("broker:1".into()))
    };
    let (_, partition, mut batch) = drained.batches.pop().unwrap();
    batch.build().unwrap();
    let acknowledged = shared.accumulator.lock().flush().pop().unwrap();
    transactional.state.lock().abort().unwrap();
    let named = TopicRef::from(TOPIC);
    let refused = ProducePartitionResponse::error(0, ErrorCode::MessageTooLarge.code());
    let answer = HashMap::from([((named.clone(), 0), refused)]);
    sender.answered(Sent { partition, named, batch }, Some(&answer));
    assert!(matches!(acknowledged.now_or_never(), Some(Ok(Err(ProduceError::Aborted)))));
    assert!(shared.accumulator.lock().flush().is_empty(), "nothing is left to be waited for");
}
