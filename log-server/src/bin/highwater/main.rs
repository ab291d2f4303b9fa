//! The `highwater` binary: one file a subcommand.

mod connect;
mod consume;
mod format;
mod human;
mod place;
mod produce;
mod produce_input;
mod serve;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Highwater keeps records come hell or high water: a broker that any Kafka client can use, durable before it
/// acknowledges, in one binary.
#[derive(Parser)]
#[command(name = "highwater", version, propagate_version = true, max_term_width = 110)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the broker. Needs no configuration: loopback, port 9092, a directory beneath the current one
    Serve(Box<serve::Serve>),
    Produce(Box<produce::Produce>),
    Consume(Box<consume::Consume>),
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Serve(serve) => serve.run(),
        Command::Produce(produce) => produce.run(),
        Command::Consume(consume) => consume.run(),
    };
    match result {
        Ok(code) => code,
        Err(message) => {
            eprintln!("highwater: {message}");
            ExitCode::FAILURE
        }
    }
}

/// What a subcommand comes to: an exit status, or a message that says what went wrong and what to do.
type Outcome = Result<ExitCode, String>;
