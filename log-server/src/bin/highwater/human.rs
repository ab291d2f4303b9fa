//! Numbers for people: grouped digits, binary units, times that say which they are.

use std::time::Duration;

use jiff::Timestamp;
use log_core::log::Loss;

/// `336776` as `336,776`.
pub fn count(number: i64) -> String {
    let digits = number.unsigned_abs().to_string();
    let mut grouped = String::with_capacity(digits.len() * 4 / 3 + 1);
    if number < 0 {
        grouped.push('-');
    }
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// Bytes with the binary unit that leaves at most four digits before the point.
pub fn bytes(bytes: u64) -> String {
    let mut value = bytes as f64;
    for unit in ["B", "KiB", "MiB", "GiB"] {
        if value < 1024.0 {
            return if unit == "B" { format!("{bytes} B") } else { format!("{value:.1} {unit}") };
        }
        value /= 1024.0;
    }
    format!("{value:.1} TiB")
}

/// What came in how long, and how fast that is.
pub fn rate(records: u64, payload_bytes: u64, took: Duration) -> String {
    let seconds = took.as_secs_f64().max(1e-3);
    format!(
        "{} records, {} in {seconds:.2} s: {} records/s, {:.1} MiB/s",
        count(records as i64),
        bytes(payload_bytes),
        count((records as f64 / seconds) as i64),
        payload_bytes as f64 / seconds / f64::from(1 << 20),
    )
}

/// Milliseconds since the epoch as RFC 3339, `-` for none.
pub fn time(timestamp_ms: i64) -> String {
    match Timestamp::from_millisecond(timestamp_ms) {
        Ok(timestamp) if timestamp_ms >= 0 => format!("{timestamp:.3}"),
        _ => "-".to_owned(),
    }
}

/// The beginning of a text on one line: what does not print is `\u{FFFD}`, and what is left out three dots.
pub fn excerpt(bytes: &[u8]) -> String {
    const CHARS_MAX: usize = 40;
    // A character has four bytes at most, so that no more has to be looked at.
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(CHARS_MAX * 4)]);
    let shown: String = text
        .chars()
        .take(CHARS_MAX)
        .map(|char| if char.is_control() { char::REPLACEMENT_CHARACTER } else { char })
        .collect();
    let is_whole = text.chars().count() <= CHARS_MAX && bytes.len() <= CHARS_MAX * 4;
    if is_whole { shown } else { format!("{shown}...") }
}

/// What was given up, where it was, and where it is kept.
pub fn loss(loss: &Loss) -> String {
    let kept = match (&loss.quarantined, loss.done) {
        (_, false) => ", not finished: repeat `highwater repair`".to_owned(),
        (Some(path), true) => format!(", kept in {path}"),
        (None, true) => String::new(),
    };
    format!(
        "offsets {} to {} given up at {}, {} at byte {} of {}: {}{kept}",
        loss.first_offset,
        loss.last_offset,
        time(loss.skipped_ms),
        bytes(loss.bytes),
        loss.position,
        loss.file,
        loss.reason
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_grouped_and_units_fit() {
        assert_eq!([0, 999, 1000, -1_234_567].map(count), ["0", "999", "1,000", "-1,234,567"]);
        assert_eq!([0, 1023, 1024, 1 << 30].map(bytes), ["0 B", "1023 B", "1.0 KiB", "1.0 GiB"]);
        assert_eq!(time(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(time(-1), "-");
        assert_eq!(excerpt(b"a\x1bb\xff"), "a\u{fffd}b\u{fffd}");
        assert_eq!(excerpt(&[b'x'; 41]), format!("{}...", "x".repeat(40)));
    }
}
