//! `highwater health`: one question, for whoever restarts what is not well.

use std::process::ExitCode;

use clap::Args;

use crate::connect;
use crate::http::HttpAddress;
use crate::{Outcome, say};

/// Ask a broker whether it serves, over HTTP. Exit status 0 if it does; 1, with the reason, if it is loading, stopping,
/// offline or not there
#[derive(Args)]
pub struct Health {
    #[command(flatten)]
    http: HttpAddress,
}

impl Health {
    /// Asks once.
    pub fn run(self) -> Outcome {
        connect::run(async move {
            let answer = self.http.ask("/readyz").await.map_err(connect::text)?;
            match answer.text_unless_ok() {
                None => {
                    say!("ready");
                    Ok(ExitCode::SUCCESS)
                }
                Some(reason) => Err(format!("the broker does not serve: {}", reason.trim_end())),
            }
        })
    }
}
