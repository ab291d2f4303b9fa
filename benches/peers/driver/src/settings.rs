//! What all loads are told, and the settings of librdkafka that come of it.

use clap::{Args, ValueEnum};
use rdkafka::ClientConfig;

/// Where a load goes.
#[derive(Args)]
pub struct Target {
    /// HOST:PORT of the broker.
    #[arg(long)]
    pub bootstrap: String,
    /// A topic that exists.
    #[arg(long)]
    pub topic: String,
    /// The number of its partitions; records go to one after the other.
    #[arg(long, default_value_t = 1)]
    pub partitions: i32,
}

/// How records are produced.
#[derive(Args)]
pub struct Producing {
    /// Bytes of a record's value.
    #[arg(long, default_value_t = 1024)]
    pub record_bytes: usize,
    /// Whose acknowledgement counts.
    #[arg(long, value_enum, default_value_t = Acks::All)]
    pub acks: Acks,
    /// With acks=all: give up idempotence, and with it librdkafka's limit of one request in flight a partition.
    #[arg(long)]
    pub plain: bool,
    /// none, lz4, zstd: what the producer makes of a batch.
    #[arg(long, default_value = "none")]
    pub compression: String,
    /// How long to produce, in seconds.
    #[arg(long, default_value_t = 3.0)]
    pub seconds: f64,
}

/// `acks` of a producer.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Acks {
    /// Once the leader has the record, wherever it keeps it.
    #[value(name = "1")]
    Leader,
    /// Once the record is as safe as the broker makes it.
    All,
}

impl Target {
    /// Settings of a client that does not wait longer than it must for a broker that has just started.
    fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.bootstrap).set("client.id", "peers");
        config
    }

    /// A producer that holds back each batch for `linger_ms`.
    ///
    /// At most 128 MiB wait in the client: enough never to starve a broker, and little enough for the flush at the
    /// end to be a small part of a run of seconds.
    pub fn producer(&self, how: &Producing, linger_ms: u32) -> ClientConfig {
        let mut config = self.client();
        config
            .set("acks", if how.acks == Acks::All { "all" } else { "1" })
            .set("enable.idempotence", (how.acks == Acks::All && !how.plain).to_string())
            .set("max.in.flight.requests.per.connection", "5")
            .set("compression.type", &how.compression)
            .set("linger.ms", linger_ms.to_string())
            .set("queue.buffering.max.messages", "500000")
            .set("queue.buffering.max.kbytes", "131072");
        config
    }

    /// A consumer without a group: it is told where to read.
    ///
    /// By default a client whose queue is full looks again after a second, which punishes the broker that filled it.
    pub fn consumer(&self) -> ClientConfig {
        let mut config = self.client();
        config
            .set("group.id", "peers")
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("auto.offset.reset", "error")
            .set("check.crcs", "true")
            .set("fetch.queue.backoff.ms", "1");
        config
    }
}
