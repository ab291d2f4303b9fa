//! The `highwater` binary: one file a subcommand.

mod bench;
mod completions;
mod config;
mod connect;
mod consume;
mod data_dir;
mod doctor;
mod dump;
mod format;
mod group;
mod health;
mod http;
mod human;
mod lag;
mod man;
mod offsets;
mod place;
mod produce;
mod produce_input;
mod range;
mod record_line;
mod repair;
mod replay;
mod serve;
mod slo;
mod table;
mod top;
mod topic;
mod topics;
mod trace;
mod verify;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

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
    Config(config::Config),
    Topic(Box<topic::TopicCommand>),
    Produce(Box<produce::Produce>),
    Consume(Box<consume::Consume>),
    Group(Box<group::GroupCommand>),
    Lag(Box<lag::Lag>),
    Slo(Box<slo::SloCommand>),
    Top(Box<top::Top>),
    Replay(Box<replay::Replay>),
    Trace(Box<trace::Trace>),
    Bench(Box<bench::Bench>),
    Doctor(Box<doctor::Doctor>),
    Health(health::Health),
    Dump(Box<dump::Dump>),
    Verify(Box<verify::Verify>),
    Repair(Box<repair::Repair>),
    Completions(completions::Completions),
    Man(man::Man),
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Serve(serve) => serve.run(),
        Command::Config(config) => config.run(),
        Command::Topic(topic) => topic.run(),
        Command::Produce(produce) => produce.run(),
        Command::Consume(consume) => consume.run(),
        Command::Group(group) => group.run(),
        Command::Lag(lag) => lag.run(),
        Command::Slo(slo) => slo.run(),
        Command::Top(top) => top.run(),
        Command::Replay(replay) => replay.run(),
        Command::Trace(trace) => trace.run(),
        Command::Bench(bench) => bench.run(),
        Command::Doctor(doctor) => doctor.run(),
        Command::Health(health) => health.run(),
        Command::Dump(dump) => dump.run(),
        Command::Verify(verify) => verify.run(),
        Command::Repair(repair) => repair.run(),
        Command::Completions(completions) => completions.run(Cli::command()),
        Command::Man(man) => man.run(Cli::command()),
    };
    match result {
        Ok(code) => code,
        Err(message) => {
            eprintln!("highwater: {message}");
            ExitCode::FAILURE
        }
    }
}

/// Prints a line to standard output. Whoever reads it may have seen enough (`| head`), which ends the process
/// without a word.
macro_rules! say {
    ($($arg:tt)*) => {{
        use std::io::Write as _;
        if writeln!(std::io::stdout(), $($arg)*).is_err() {
            std::process::exit(0);
        }
    }};
}
use say;

/// What a subcommand comes to: an exit status, or a message that says what went wrong and what to do.
type Outcome = Result<ExitCode, String>;
