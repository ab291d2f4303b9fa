//! A place in a topic, as it is written on the command line: `first`, `last`, an offset, a time, or how
//! long ago.

use std::str::FromStr;

use jiff::Timestamp;
use log_client::OffsetSpec;

/// Where to begin or to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// At this offset of each partition.
    Offset(i64),
    /// Where the log says.
    Log(OffsetSpec),
}

impl FromStr for Place {
    type Err = String;

    fn from_str(word: &str) -> Result<Place, String> {
        match word {
            "first" | "earliest" | "beginning" => return Ok(Place::Log(OffsetSpec::Earliest)),
            "last" | "latest" | "end" => return Ok(Place::Log(OffsetSpec::Latest)),
            _ => {}
        }
        if let Some(millis) = word.strip_prefix('@').map(str::parse::<i64>) {
            let millis =
                millis.map_err(|_| format!("'{word}': after @ come milliseconds since the epoch"))?;
            return Ok(Place::Log(OffsetSpec::Time(millis)));
        }
        if let Ok(offset) = word.parse::<i64>() {
            return match offset {
                0.. => Ok(Place::Offset(offset)),
                _ => Err(format!("'{word}': an offset is not negative")),
            };
        }
        if let Ok(time) = word.parse::<Timestamp>() {
            return Ok(Place::Log(OffsetSpec::Time(time.as_millisecond())));
        }
        if let Ok(ago) = humantime::parse_duration(word) {
            let ago_ms = i64::try_from(ago.as_millis()).unwrap_or(i64::MAX);
            return Ok(Place::Log(OffsetSpec::Time(
                Timestamp::now().as_millisecond().saturating_sub(ago_ms).max(0),
            )));
        }
        Err(format!(
            "'{word}' is none of: first, last, an offset (42), a time (2013-07-01T00:00:00Z or @ and milliseconds), \
             or how long ago (90s, 10m, 2h)"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_told_apart() {
        let at = |word: &str| word.parse::<Place>().unwrap();
        assert_eq!(at("first"), Place::Log(OffsetSpec::Earliest));
        assert_eq!(at("42"), Place::Offset(42));
        assert_eq!(at("@1000"), Place::Log(OffsetSpec::Time(1000)));
        assert_eq!(at("1970-01-01T00:00:01Z"), Place::Log(OffsetSpec::Time(1000)));
        let Place::Log(OffsetSpec::Time(ago)) = at("10m") else { panic!() };
        assert!((590_000..700_000).contains(&(Timestamp::now().as_millisecond() - ago)));
        for bad in ["-1", "@x", "soon", ""] {
            assert!(bad.parse::<Place>().is_err(), "{bad:?}");
        }
    }
}
