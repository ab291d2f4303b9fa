//! What the subcommands that talk to a broker share: where it is, a runtime, and how an error reads.

use std::fmt::Display;
use std::future::Future;

use clap::Args;
use log_client::{Client, ClientConfig};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::Outcome;

/// The status of a process that an interrupt has ended.
pub const INTERRUPTED: u8 = 130;

/// Which cluster.
#[derive(Args, Clone)]
pub struct Bootstrap {
    /// Brokers to ask first, HOST:PORT, several separated by commas
    #[arg(
        long,
        short,
        env = "HIGHWATER_BOOTSTRAP",
        default_value = "127.0.0.1:9092",
        value_name = "HOST:PORT"
    )]
    bootstrap: String,
}

impl Bootstrap {
    /// A client with one round trip made.
    pub async fn connect(&self) -> Result<Client, String> {
        let config =
            ClientConfig { client_id: "highwater-cli".to_owned(), ..ClientConfig::new(&self.bootstrap) };
        let client = Client::new(config).map_err(text)?;
        client.refresh(&[], false).await.map_err(|error| {
            format!("{error}\n  Start a broker with `highwater serve`, or say where it is with --bootstrap HOST:PORT.")
        })?;
        Ok(client)
    }
}

/// Runs a subcommand to its end, or until SIGINT.
pub fn run(work: impl Future<Output = Outcome>) -> Outcome {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| format!("cannot start threads: {error}"))?;
    runtime.block_on(work)
}

/// A token that SIGINT or SIGTERM cancels. A second one ends the process, in case ending well takes too long.
pub fn interrupted() -> CancellationToken {
    let token = CancellationToken::new();
    let on_signal = token.clone();
    tokio::spawn(async move {
        let mut terminated = signal(SignalKind::terminate()).ok();
        loop {
            tokio::select! {
                Ok(()) = tokio::signal::ctrl_c() => {}
                Some(_) = async { terminated.as_mut()?.recv().await } => {}
                else => return,
            }
            if on_signal.is_cancelled() {
                std::process::exit(INTERRUPTED.into());
            }
            on_signal.cancel();
        }
    });
    token
}

/// An error as the message that is printed.
pub fn text(error: impl Display) -> String {
    error.to_string()
}
