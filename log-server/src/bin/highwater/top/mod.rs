//! `highwater top`: what happens in a broker, live: rates, lag, hot partitions.

mod screen;
mod snapshot;

use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, ValueEnum};
use ratatui::crossterm::event::{self, Event, KeyEventKind};
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};

use self::screen::{Screen, bytes_rate, rate, seconds};
use self::snapshot::Snapshot;
use crate::Outcome;
use crate::connect::{self, text};
use crate::http::{HttpAddress, HttpError};
use crate::human;
use crate::say;
use crate::table::table;

/// Keys that wait to be looked at.
const KEYS_MAX: usize = 16;

/// How often the reader of keys looks whether it is still wanted.
const KEYS_POLL: Duration = Duration::from_millis(200);

/// Watch a broker: topics by rate, the hottest partitions, groups by lag, disk and memory.
///
/// Asks Highwater's HTTP API, so it works on Highwater only, with HTTP on. h shows the keys.
#[derive(Args)]
#[command(after_help = "Examples:
  highwater top
  highwater top --http broker:9080 --interval 5
  highwater top --once --filter orders
  highwater top --once --format json")]
pub struct Top {
    #[command(flatten)]
    http: HttpAddress,
    /// Seconds between two looks
    #[arg(long, short = 'n', value_name = "SECONDS", default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=3600))]
    interval: u64,
    /// Only topics, partitions and groups with this in their name
    #[arg(long, short, value_name = "PART")]
    filter: Option<String>,
    /// Print one look and end
    #[arg(long)]
    once: bool,
    /// How to print that look
    #[arg(long, value_enum, default_value_t = Format::Table, requires = "once")]
    format: Format,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Plain tables
    Table,
    /// One JSON object: broker, topics, partitions, groups. Rates are those of the last seconds
    Json,
}

impl Top {
    /// Watches until the end is asked for.
    pub fn run(self) -> Outcome {
        if !self.once && !std::io::stdout().is_terminal() {
            return Err("top needs a terminal; --once prints one look as tables".to_owned());
        }
        connect::run(async move {
            let first = Snapshot::take(&self.http).await.map_err(explain)?;
            let mut screen = Screen::new(self.filter.clone());
            screen.update(first);
            match (self.once, self.format) {
                (false, _) => self.watch(screen).await?,
                (true, Format::Table) => print(&screen),
                (true, Format::Json) => say!("{}", screen.to_json()),
            }
            Ok(ExitCode::SUCCESS)
        })
    }

    async fn watch(&self, mut screen: Screen) -> Result<(), String> {
        let mut keys = keys();
        // Gives the terminal back after a panic, too.
        let mut terminal = ratatui::try_init().map_err(text)?;
        let mut ticks = interval(Duration::from_secs(self.interval));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let outcome = loop {
            if let Err(error) = terminal.draw(|frame| screen.draw(frame)) {
                break Err(text(error));
            }
            tokio::select! {
                key = keys.recv() => match key {
                    Some(Event::Key(key)) if key.kind != KeyEventKind::Release && !screen.key(key) => break Ok(()),
                    // A new size, among others: draw again.
                    Some(_) => {}
                    None => break Ok(()),
                },
                _ = ticks.tick(), if !screen.paused => match Snapshot::take(&self.http).await {
                    Ok(snapshot) => screen.update(snapshot),
                    Err(error) => screen.error = Some(text(error)),
                },
            }
        };
        ratatui::restore();
        outcome
    }
}

/// What is typed, read by a thread that ends when nobody wants it any more.
fn keys() -> mpsc::Receiver<Event> {
    let (sender, receiver) = mpsc::channel(KEYS_MAX);
    std::thread::spawn(move || {
        while !sender.is_closed() {
            let read = event::poll(KEYS_POLL).and_then(|is_there| is_there.then(event::read).transpose());
            let is_wanted = match read {
                Ok(Some(event)) => sender.blocking_send(event).is_ok(),
                Ok(None) => true,
                Err(_) => false,
            };
            if !is_wanted {
                return;
            }
        }
    });
    receiver
}

fn explain(error: HttpError) -> String {
    match error {
        HttpError::Unreachable { .. } => format!(
            "{error}\n  top reads Highwater's HTTP API: say where it is with --http HOST:PORT, and start the broker \
             without --http off."
        ),
        other => text(other),
    }
}

fn print(screen: &Screen) {
    let [broker, disk] = screen.head();
    say!("{broker}\n{disk}\n");
    let mut rows = table(&["TOPIC", "#RECORDS/S", "#IN", "#OUT", "#PARTITIONS", "#RECORDS", "#SIZE"]);
    for topic in screen.topics() {
        rows.add_row([
            topic.topic.clone(),
            rate(topic.produce_records_per_second),
            bytes_rate(topic.produce_bytes_per_second),
            bytes_rate(topic.fetch_bytes_per_second),
            topic.partitions.to_string(),
            human::count(topic.records),
            human::bytes(topic.bytes),
        ]);
    }
    say!("{rows}\n");
    let mut rows = table(&["GROUP", "#LAG", "#LAG SECONDS", "#CATCH UP", "#RECORDS/S", "#MEMBERS", "STATE"]);
    for group in screen.groups() {
        rows.add_row([
            group.group.clone(),
            human::count(group.lag_records),
            seconds(group.lag_seconds),
            seconds(group.catch_up_seconds),
            group.consume_records_per_second.map_or("?".to_owned(), rate),
            group.members.to_string(),
            group.slo_state.clone().unwrap_or_else(|| group.state.clone()),
        ]);
    }
    say!("{rows}");
}
