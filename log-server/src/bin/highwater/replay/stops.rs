//! How far a replay has come: for each partition the offset of the first record that is not yet safe at the target.
//! Written to a file from time to time, or on the command line to go on.

use std::collections::BTreeMap;
use std::fs;
use std::io::{ErrorKind, Write};
use std::path::Path;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Partition numbers and the next offset of each.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Stops(pub BTreeMap<i32, i64>);

impl FromStr for Stops {
    type Err = String;

    fn from_str(word: &str) -> Result<Stops, String> {
        let bad = || format!("'{word}' is not of the form PARTITION:OFFSET,PARTITION:OFFSET");
        let one = |pair: &str| {
            let (partition, offset) = pair.split_once(':')?;
            Some((
                partition.parse().ok().filter(|&it: &i32| it >= 0)?,
                offset.parse().ok().filter(|&it: &i64| it >= 0)?,
            ))
        };
        word.split(',').map(one).collect::<Option<_>>().map(Stops).ok_or_else(bad)
    }
}

impl std::fmt::Display for Stops {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (index, (partition, offset)) in self.0.iter().enumerate() {
            let before = if index > 0 { "," } else { "" };
            write!(f, "{before}{partition}:{offset}")?;
        }
        Ok(())
    }
}

/// What `--state` keeps. Whose progress it is stands in it, so that another replay does not go on from there.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// The cluster and the topic that are copied.
    pub from: String,
    /// Where to.
    pub into: String,
    /// How far.
    pub next: Stops,
}

impl State {
    /// What the file says; `None` if there is none.
    ///
    /// # Errors
    /// It cannot be read, or is no such file.
    pub fn read(path: &Path) -> Result<Option<State>, String> {
        let bytes = match fs::read(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            read => read.map_err(|error| format!("cannot read {}: {error}", path.display()))?,
        };
        let state = serde_json::from_slice(&bytes);
        state.map(Some).map_err(|error| format!("{} is no state of a replay: {error}", path.display()))
    }

    /// Puts it in the place of the file, whole or not at all.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), String> {
        let mut beside = path.as_os_str().to_owned();
        beside.push(".tmp");
        let write = || {
            let mut file = fs::File::create(&beside)?;
            file.write_all(serde_json::to_string(self)?.as_bytes())?;
            file.sync_all()?;
            fs::rename(&beside, path)
        };
        write().map_err(|error| format!("cannot write {}: {error}", path.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stops_are_read_as_they_are_written() {
        let stops: Stops = "1:5,0:17".parse().unwrap();
        assert_eq!(stops.to_string(), "0:17,1:5");
        for bad in ["", "0", "0:", "0:-1", "-1:0", "0:1;1:2"] {
            assert!(bad.parse::<Stops>().is_err(), "{bad}");
        }
    }
}
