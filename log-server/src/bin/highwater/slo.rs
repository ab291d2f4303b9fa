//! `highwater slo`: lag objectives of groups, over HTTP, where their states are.

use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};
use hyper::Method;
use serde::{Deserialize, Serialize};

use crate::Outcome;
use crate::connect::{self, text};
use crate::http::HttpAddress;
use crate::human;
use crate::say;
use crate::table::table;

/// Set lag objectives of groups, and show where they stand.
///
/// An objective says how far behind a group may be: the age of the first record that it has not consumed. While it is
/// missed, producers to topics of a lower highwater.priority are held up, then refused.
#[derive(Args)]
#[command(after_help = "Examples:
  highwater slo set --group billing --lag 30s
  highwater slo set --group billing --lag 2m --target 0.999 --window 24h
  highwater slo list")]
pub struct SloCommand {
    #[command(flatten)]
    http: HttpAddress,
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Set a group's objective, or another one in its place
    Set {
        /// The group; it need not exist yet
        #[arg(long, short)]
        group: String,
        /// How far behind the group may be, such as 30s or 5m
        #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
        lag: Duration,
        /// The part of the window in which that is to hold, from 0 to below 1 [default: 0.99]
        #[arg(long)]
        target: Option<f64>,
        /// The time over which misses are counted, such as 1h [default: 1h]
        #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
        window: Option<Duration>,
        /// The http URL that changes of state are posted to [default: the broker's setting slo_webhook]
        #[arg(long, value_name = "URL")]
        webhook: Option<String>,
    },
    /// List all objectives and where they stand
    List {
        /// JSON instead of a table, one object an objective and line
        #[arg(long)]
        json: bool,
    },
    /// Show one group's objective
    Get {
        /// The group
        #[arg(long, short)]
        group: String,
        /// JSON instead of a table
        #[arg(long)]
        json: bool,
    },
    /// Delete a group's objective
    Delete {
        /// The group
        #[arg(long, short)]
        group: String,
    },
}

/// An objective as the API has it.
#[derive(Debug, Deserialize, Serialize)]
struct Slo {
    group: String,
    lag_seconds_objective: f64,
    target: f64,
    window_seconds: f64,
    state: String,
    since_ms: i64,
    lag_seconds: Option<f64>,
    waited_seconds: Option<f64>,
    catch_up_seconds: Option<f64>,
    budget_used: f64,
    burn_rate: f64,
    webhook: Option<String>,
}

#[derive(Deserialize)]
struct Slos {
    slos: Vec<Slo>,
}

/// An objective to be set.
#[derive(Serialize)]
struct NewSlo {
    lag_seconds_objective: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    window_seconds: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    webhook: Option<String>,
}

impl SloCommand {
    /// Carries the action out.
    pub fn run(self) -> Outcome {
        connect::run(async move {
            let http = self.http;
            let told = |error| format!("{error}\n  Say where the broker serves HTTP with --http HOST:PORT.");
            match self.action {
                Action::Set { group, lag, target, window, webhook } => {
                    let window_seconds = window.map(|window| window.as_secs_f64());
                    let lag_seconds_objective = lag.as_secs_f64();
                    let new = NewSlo { lag_seconds_objective, target, window_seconds, webhook };
                    let body = serde_json::to_vec(&new).map_err(text)?;
                    http.send(Method::PUT, &path(&group), body).await.map_err(told)?;
                    eprintln!(
                        "Set: group {group} is to be at most {} behind.",
                        humantime::format_duration(lag)
                    );
                }
                Action::List { json } => {
                    let Slos { slos } = http.get("/api/v1/slos").await.map_err(told)?;
                    show(&slos, json)?;
                }
                Action::Get { group, json } => {
                    let slo: Slo = http.get(&path(&group)).await.map_err(told)?;
                    show(&[slo], json)?;
                }
                Action::Delete { group } => {
                    http.send(Method::DELETE, &path(&group), Vec::new()).await.map_err(told)?;
                    eprintln!("Deleted the objective of group {group}.");
                }
            }
            Ok(ExitCode::SUCCESS)
        })
    }
}

/// Where a group's objective is, with all that means something in a path taken for itself.
fn path(group: &str) -> String {
    let mut path = "/api/v1/slos/".to_owned();
    for byte in group.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'~' => path.push(byte.into()),
            _ => path += &format!("%{byte:02X}"),
        }
    }
    path
}

fn show(slos: &[Slo], json: bool) -> Result<(), String> {
    if json {
        for slo in slos {
            say!("{}", serde_json::to_string(slo).map_err(text)?);
        }
        return Ok(());
    }
    let columns = [
        "GROUP",
        "#LAG SECONDS",
        "#WAITED SECONDS",
        "#OBJECTIVE",
        "STATE",
        "SINCE",
        "#BUDGET USED",
        "#BURN RATE",
        "#TARGET",
        "WINDOW",
    ];
    let mut shown = table(&columns);
    for slo in slos {
        let window = Duration::try_from_secs_f64(slo.window_seconds).unwrap_or_default();
        shown.add_row([
            slo.group.clone(),
            known(slo.lag_seconds),
            known(slo.waited_seconds),
            format!("{:.1}", slo.lag_seconds_objective),
            slo.state.clone(),
            human::time(slo.since_ms),
            format!("{:.1} %", slo.budget_used * 100.0),
            format!("{:.2}", slo.burn_rate),
            slo.target.to_string(),
            humantime::format_duration(window).to_string(),
        ]);
    }
    say!("{shown}");
    Ok(())
}

fn known(seconds: Option<f64>) -> String {
    seconds.map_or("?".to_owned(), |seconds| format!("{seconds:.1}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_s_name_is_one_part_of_the_path() {
        assert_eq!(path("billing-1"), "/api/v1/slos/billing-1");
        assert_eq!(path("a/b?c d.."), "/api/v1/slos/a%2Fb%3Fc%20d%2E%2E");
        assert_eq!(path("ä"), "/api/v1/slos/%C3%A4");
    }
}
