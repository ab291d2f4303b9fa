//! One load at a time against any Kafka broker, by librdkafka, answered as one line of JSON.
//!
//! ```text
//! peers-driver produce    --bootstrap HOST:PORT --topic NAME --acks all --record-bytes 1024 --seconds 3
//! peers-driver paced      … --rate 1000      latency of a produce, from the moment a record was due to its answer
//! peers-driver consume    … --records N      from the first offset on, until N records have been seen
//! peers-driver end-to-end … --rate 5000      from the moment a record was due to its consumer
//! ```
//! The topic exists already. Whatever fails ends the program with status 1 and the reason on standard error: a
//! figure that has a failed record in it is none.

mod consume;
mod latency;
mod payload;
mod produce;
mod settings;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(about = "One load at a time against any Kafka broker, by librdkafka")]
struct Command {
    #[command(subcommand)]
    load: Load,
}

#[derive(Subcommand)]
enum Load {
    /// As many records as the broker and this machine take.
    Produce(produce::Produce),
    /// Records at a fixed rate, none of which waits for company; how long each takes to be acknowledged.
    Paced(produce::Paced),
    /// Everything that a topic holds, as fast as it comes.
    Consume(consume::Consume),
    /// Records at a fixed rate, and how long each takes to reach a consumer that waits for it.
    EndToEnd(consume::EndToEnd),
}

fn main() -> ExitCode {
    let done = match Command::parse().load {
        Load::Produce(load) => load.run(),
        Load::Paced(load) => load.run(),
        Load::Consume(load) => load.run(),
        Load::EndToEnd(load) => load.run(),
    };
    match done {
        Ok(figures) => {
            println!("{figures}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// What a load answers: its figures, or why there are none.
type Outcome = Result<serde_json::Value, Box<dyn std::error::Error>>;
