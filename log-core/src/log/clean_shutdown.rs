//! The note that a broker leaves when it has stopped with everything on disk (R10).
//!
//! ```text
//! highwater clean-shutdown 1
//! orders-0 4711
//! orders-1 4650
//! checksum 89abcdef
//! ```
//! A line a partition with its log end offset; the checksum is the CRC-32C of all lines before it.
//! The file is written last, and removed, durably, before the next start writes anything. It is a
//! hint: partitions are looked at all the same, and one that ends elsewhere is reported.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::record::crc32c;

const FIRST_LINE: &str = "highwater clean-shutdown 1\n";

/// Where each partition's log ended, by directory name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CleanShutdown {
    ends: BTreeMap<String, i64>,
}

impl CleanShutdown {
    /// Notes the log end offset of the partition in a directory.
    pub fn add(&mut self, directory: impl Into<String>, log_end: i64) {
        self.ends.insert(directory.into(), log_end);
    }

    /// Where the log in a directory ended.
    pub fn log_end(&self, directory: &str) -> Option<i64> {
        self.ends.get(directory).copied()
    }

    pub(crate) fn encode(&self) -> String {
        let mut text = String::from(FIRST_LINE);
        for (directory, log_end) in &self.ends {
            let _ = writeln!(text, "{directory} {log_end}");
        }
        let checksum = crc32c(text.as_bytes());
        let _ = writeln!(text, "checksum {checksum:08x}");
        text
    }

    /// `None` if the bytes are no such note or a damaged one.
    pub fn decode(bytes: &[u8]) -> Option<CleanShutdown> {
        let text = std::str::from_utf8(bytes).ok()?;
        let (lines, last) = text.strip_suffix('\n')?.rsplit_once('\n')?;
        let lines = &text[..lines.len() + 1];
        if last != format!("checksum {:08x}", crc32c(lines.as_bytes())) {
            return None;
        }
        let mut clean = CleanShutdown::default();
        for line in lines.strip_prefix(FIRST_LINE)?.lines() {
            let (directory, log_end) = line.rsplit_once(' ')?;
            clean.add(directory, log_end.parse().ok()?);
        }
        Some(clean)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_read_back_and_damage_is_seen() {
        let mut clean = CleanShutdown::default();
        assert_eq!(CleanShutdown::decode(clean.encode().as_bytes()), Some(clean.clone()));
        clean.add("orders-0", 4711);
        clean.add("orders-1", 0);
        let text = clean.encode();
        assert_eq!(CleanShutdown::decode(text.as_bytes()), Some(clean.clone()));
        assert_eq!(clean.log_end("orders-0"), Some(4711));
        assert_eq!(clean.log_end("orders-2"), None);
        for bit in 0..text.len() * 8 {
            let mut flipped = text.clone().into_bytes();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(CleanShutdown::decode(&flipped), None, "bit {bit}");
        }
        for len in 0..text.len() {
            assert_eq!(CleanShutdown::decode(&text.as_bytes()[..len]), None, "cut to {len}");
        }
    }
}
