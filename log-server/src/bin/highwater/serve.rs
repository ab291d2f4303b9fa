//! `highwater serve`: runs the broker until SIGTERM or SIGINT.

use std::convert::Infallible;
use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;
use log_server::config::ConfigFlags;
use log_server::{Broker, BrokerConfig};
use sd_notify::NotifyState;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::MissedTickBehavior;
use tracing_subscriber::EnvFilter;

use crate::Outcome;

/// Flags of `highwater serve`. Every setting can also stand in the file or in the environment as HIGHWATER_NAME; a
/// flag wins over the environment, and that over the file.
#[derive(Args)]
pub struct Serve {
    /// TOML file with settings, named as the flags are, with underscores
    #[arg(long, value_name = "FILE", env = "HIGHWATER_CONFIG")]
    config: Option<PathBuf>,
    #[command(flatten)]
    settings: ConfigFlags,
}

impl Serve {
    /// Runs the broker in this process.
    pub fn run(self) -> Outcome {
        let started = Instant::now();
        let config =
            BrokerConfig::load(self.config.as_deref(), &self.settings).map_err(|error| error.to_string())?;
        let filter =
            EnvFilter::try_new(&config.log).map_err(|error| format!("--log {}: {error}", config.log))?;
        tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(std::io::stderr)
            .with_ansi(std::io::stderr().is_terminal())
            .init();
        // A broker without this works as well, and dies without a word if it dies of that.
        log_core::storage::name_bus_errors().map_err(|error| format!("SIGBUS: {error}"))?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(config.worker_threads_effective())
            .thread_name("highwater-io")
            .enable_all()
            .build()
            .map_err(|error| format!("cannot start threads: {error}"))?;
        runtime.block_on(serve(config, started))
    }
}

async fn serve(config: BrokerConfig, started: Instant) -> Outcome {
    // Before the broker starts: a signal that comes while it does is not lost.
    let mut terminate = signal(SignalKind::terminate()).map_err(|error| error.to_string())?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(|error| error.to_string())?;
    let data_dir = config.data_dir.display().to_string();
    let broker = Broker::start(config).await.map_err(|error| error.to_string())?;
    let http = broker.http_addr().map_or("off".to_owned(), |address| format!("http://{address}/"));
    say(&format!(
        "Highwater {} is ready after {} ms.\n  Kafka clients   {}\n  HTTP            {http}\n  data            {data_dir}",
        env!("CARGO_PKG_VERSION"),
        started.elapsed().as_millis(),
        broker.kafka_addr(),
    ));
    tell_supervisor(NotifyState::Ready);
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        never = feed_watchdog() => match never {},
    }
    tell_supervisor(NotifyState::Stopping);
    say("Stopping: answering what is in flight. A second signal stops at once, at the price of a recovery.");
    tokio::select! {
        () = broker.shutdown() => Ok(ExitCode::SUCCESS),
        _ = terminate.recv() => Ok(ExitCode::FAILURE),
        _ = interrupt.recv() => Ok(ExitCode::FAILURE),
    }
}

/// Prints for whoever watches. That nobody does any more (a closed pipe) is no reason to stop a broker.
fn say(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// Tells a supervisor that watches (`WatchdogSec=` in the unit) that this process is well, as often as it wants to hear
/// so: it ends one that is silent. Timers are fired by the threads that serve connections, so there is silence when all
/// of these are stuck.
async fn feed_watchdog() -> Infallible {
    let Some(patience) = sd_notify::watchdog_enabled() else {
        return std::future::pending().await;
    };
    // Twice in that time, as sd_watchdog_enabled(3) asks for; and whatever the environment says, not without a pause.
    let mut ticks = tokio::time::interval((patience / 2).max(Duration::from_millis(1)));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        tell_supervisor(NotifyState::Watchdog);
    }
}

/// Tells systemd, or whoever else has set `NOTIFY_SOCKET`, where this process is (sd_notify(3)).
fn tell_supervisor(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::warn!(%error, "cannot tell the supervisor where this process is");
    }
}
