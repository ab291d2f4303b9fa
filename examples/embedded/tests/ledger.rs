//! Two tests with a broker of their own each. They run beside one another, and leave nothing behind.

use std::time::{Duration, Instant};

use embedded_example::Ledger;
use log_server::EphemeralBroker;
use rdkafka::config::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, FutureProducer, FutureRecord, Producer};

/// Long enough for a loaded machine; nothing waits for it when all is well.
const PATIENCE: Duration = Duration::from_secs(60);

/// Books until so many payments have come.
fn book(ledger: &mut Ledger, payments: usize) {
    let (deadline, mut booked) = (Instant::now() + PATIENCE, 0);
    while booked < payments {
        booked += usize::from(ledger.book_next(Duration::from_millis(100)).unwrap());
        assert!(Instant::now() < deadline, "{booked} of {payments} payments have come");
    }
}

/// Without a runtime.
#[test]
fn payments_of_an_account_add_up() {
    let broker = EphemeralBroker::start_blocking().unwrap();
    let producer: BaseProducer =
        ClientConfig::new().set("bootstrap.servers", broker.bootstrap()).create().unwrap();
    for (account, cents) in [("alice", "500"), ("bob", "120"), ("alice", "-80")] {
        producer.send(BaseRecord::to("payments").key(account).payload(cents)).unwrap();
    }
    producer.flush(PATIENCE).unwrap();

    let mut ledger = Ledger::join(&broker.bootstrap()).unwrap();
    book(&mut ledger, 3);
    assert_eq!(ledger.balances().get("alice"), Some(&420));
    assert_eq!(ledger.balances().get("bob"), Some(&120));
}

/// In a runtime, and with another setting of the broker.
#[tokio::test]
async fn a_ledger_that_comes_back_books_nothing_twice() {
    let broker = EphemeralBroker::start_with(|config| config.partitions_default = 3).await.unwrap();
    let producer: FutureProducer =
        ClientConfig::new().set("bootstrap.servers", broker.bootstrap()).create().unwrap();
    let pay = async |account: &str, cents: &str| {
        producer.send(FutureRecord::to("payments").key(account).payload(cents), PATIENCE).await.unwrap();
    };
    pay("alice", "500").await;
    let mut first = Ledger::join(&broker.bootstrap()).unwrap();
    book(&mut first, 1);
    drop(first);

    pay("alice", "-80").await;
    let mut second = Ledger::join(&broker.bootstrap()).unwrap();
    book(&mut second, 1);
    assert_eq!(second.balances().get("alice"), Some(&-80));
    broker.stop().await;
}
