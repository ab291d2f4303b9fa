//! `highwater doctor`: looks at the system and at a running broker, and says what to change.

mod check;
mod cluster;
mod disk;
mod memory;
mod system;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use jiff::Timestamp;
use serde::Deserialize;

use self::check::{Check, Status};
use crate::Outcome;
use crate::connect::{self, Bootstrap};
use crate::http::{Answer, HttpAddress, HttpError};
use crate::human;
use crate::say;
use crate::table::table;

/// Clocks further apart than this make times of one machine wrong on the other. HTTP tells the time in whole seconds.
const SKEW_MAX_SECONDS: i64 = 2;

/// Look at disk, limits, clock, memory and a running broker, and say what to change.
///
/// What concerns this machine holds where the broker runs: run it there, as the user that runs the broker. Exit status
/// 0 if nothing fails, 1 if something does; with --strict warnings count as well.
#[derive(Args)]
#[command(after_help = "Examples:
  highwater doctor --data-dir /var/lib/highwater
  highwater doctor --only broker --bootstrap broker:9092 --http broker:9080 --format json")]
pub struct Doctor {
    #[command(flatten)]
    bootstrap: Bootstrap,
    #[command(flatten)]
    http: HttpAddress,
    /// The data directory of the broker that runs here, or will
    #[arg(long, short, env = "HIGHWATER_DATA_DIR", default_value = "highwater-data", value_name = "DIR")]
    data_dir: PathBuf,
    /// Look at this only
    #[arg(long, value_enum)]
    only: Option<Subject>,
    /// Let warnings count as failures
    #[arg(long)]
    strict: bool,
    /// How to print what is found
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Subject {
    /// This machine: disk, limits, clock, memory
    Machine,
    /// The running broker and what is in it
    Broker,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// A line a check, and what to change below
    Table,
    /// One JSON object a line: name, status, found, advice
    Json,
}

impl Doctor {
    /// Looks at everything, and prints it.
    pub fn run(self) -> Outcome {
        let mut checks = Vec::new();
        if self.only != Some(Subject::Broker) {
            checks.extend(disk::checks(&self.data_dir));
            checks.extend(system::checks());
            checks.extend(memory::checks());
        }
        connect::run(async move {
            if self.only != Some(Subject::Machine) {
                checks.extend(self.broker().await);
            }
            self.print(&checks);
            let bad = if self.strict { Status::Warn } else { Status::Fail };
            let is_bad = checks.iter().any(|check| check.status >= bad);
            Ok(if is_bad { ExitCode::FAILURE } else { ExitCode::SUCCESS })
        })
    }

    async fn broker(&self) -> Vec<Check> {
        let mut checks = Vec::new();
        match self.bootstrap.connect().await {
            Ok(client) => {
                if let Err(error) = cluster::checks(&client, &mut checks).await {
                    let found = format!("no answer to what was asked next: {error}");
                    let advice = "look into the broker's log, and mend what failed before";
                    checks.push(Check::fail("broker", found, advice));
                }
            }
            Err(error) => {
                let reason = error.lines().next().unwrap_or_default().to_owned();
                let advice = "start it with `highwater serve`, or say where it is with --bootstrap HOST:PORT";
                checks.push(Check::fail("broker", reason, advice));
            }
        }
        let answered = self.http.ask("/readyz").await;
        let is_there = answered.is_ok();
        checks.extend(http(answered));
        if is_there {
            checks.push(broker_disk(self.http.get("/api/v1/broker").await));
        }
        checks
    }

    fn print(&self, checks: &[Check]) {
        if self.format == Format::Json {
            checks.iter().for_each(|check| say!("{}", serde_json::json!(check)));
            return;
        }
        let mut rows = table(&["CHECK", "STATUS", "FOUND"]);
        for check in checks {
            rows.add_row([check.name, check.status.word(), &check.found]);
        }
        say!("{rows}");
        for check in checks {
            if let Some(advice) = &check.advice {
                say!("\n{} {}: {}\n  {advice}", check.status.word(), check.name, check.found);
            }
        }
    }
}

/// What HTTP says: that it is there, whether requests are served, and what time it is there.
fn http(answered: Result<Answer, HttpError>) -> Vec<Check> {
    const NAME: &str = "http";
    match answered {
        Err(error) => {
            let advice = "start the broker with --http HOST:PORT, or say where it is with --http: without it there \
                          are no metrics and no readiness";
            vec![Check::warn(NAME, error.to_string(), advice)]
        }
        Ok(answer) => {
            let ready = match answer.text_unless_ok() {
                None => Check::ok(NAME, "the broker says that it is ready"),
                Some(reason) => {
                    Check::fail(NAME, format!("the broker is not ready: {reason}"), "look into its log")
                }
            };
            let now = Timestamp::now().as_second();
            vec![ready, skew(answer.date_seconds.map(|date| date - now))]
        }
    }
}

/// The part of the API's broker that is of use here.
#[derive(Deserialize)]
struct BrokerFacts {
    health: String,
    disk: DiskFacts,
}

#[derive(Deserialize)]
struct DiskFacts {
    free_bytes: Option<u64>,
    state: Option<String>,
}

/// Whether the broker can write, in its own words.
fn broker_disk(answered: Result<BrokerFacts, HttpError>) -> Check {
    const NAME: &str = "broker's disk";
    let facts = match answered {
        Ok(facts) => facts,
        Err(error) => return Check::skipped(NAME, error.to_string()),
    };
    let free = facts.disk.free_bytes.map_or("?".to_owned(), human::bytes);
    if facts.health != "online" {
        let found = "the data directory is offline after a failed sync";
        return Check::fail(NAME, found, "check the disk and the kernel's log, then restart the broker");
    }
    let advice = "make room, or lower retention.ms and retention.bytes of large topics";
    match facts.disk.state.as_deref() {
        Some("ok") => Check::ok(NAME, format!("online, {free} free")),
        Some("low") => Check::warn(NAME, format!("{free} free, below the soft limit"), advice),
        Some("full") => Check::fail(NAME, format!("{free} free: produce is refused"), advice),
        _ => Check::skipped(NAME, "the broker has not looked yet"),
    }
}

fn skew(ahead_seconds: Option<i64>) -> Check {
    const NAME: &str = "clock skew";
    match ahead_seconds {
        None => Check::skipped(NAME, "the broker does not tell its time"),
        Some(ahead) if ahead.abs() > SKEW_MAX_SECONDS => Check::warn(
            NAME,
            format!("the broker's clock is {ahead} s ahead of this machine's"),
            "synchronize both: records carry producers' times, and lag in seconds is told by the broker's",
        ),
        Some(_) => Check::ok(NAME, format!("within {SKEW_MAX_SECONDS} s of the broker's")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_that_are_apart_are_seen() {
        assert_eq!(
            [-60, -2, 0, 2, 3].map(|it| skew(Some(it)).status == Status::Warn),
            [true, false, false, false, true]
        );
        assert_eq!(skew(None).status, Status::Skipped);
    }

    #[test]
    fn the_broker_is_believed_about_its_disk() {
        let status = |json: &str| broker_disk(Ok(serde_json::from_str(json).unwrap())).status;
        assert_eq!(status(r#"{"health":"offline","disk":{"free_bytes":1,"state":"ok"}}"#), Status::Fail);
        assert_eq!(status(r#"{"health":"online","disk":{"free_bytes":1,"state":"ok"}}"#), Status::Ok);
        assert_eq!(status(r#"{"health":"online","disk":{"free_bytes":1,"state":"full"}}"#), Status::Fail);
        assert_eq!(status(r#"{"health":"online","disk":{"free_bytes":null,"state":null}}"#), Status::Skipped);
    }
}
