//! Reads which topics a consumer subscribes to, the only thing in a member's metadata that a coordinator looks at.
//!
//! ```text
//! version: i16 │ topic count: i32 │ topic: i16 length + UTF-8 … │ user data, and what later versions add
//! ```
//! Every version begins like version 0, so nothing else has to be known (KIP-429 adds fields behind it).

/// The protocol type of groups whose metadata has this form.
pub(super) const CONSUMER: &str = "consumer";

/// The topics in `subscription`; `None` if it has another form.
pub(super) fn topics(subscription: &[u8]) -> Option<Vec<&str>> {
    let (_version, mut rest) = subscription.split_first_chunk::<2>()?;
    let (count, after) = rest.split_first_chunk::<4>()?;
    rest = after;
    let count = usize::try_from(i32::from_be_bytes(*count)).ok()?;
    // Each topic takes two bytes at least, so a count beyond that is a lie; it is refused before it is believed.
    if count > rest.len() / 2 {
        return None;
    }
    let mut topics = Vec::with_capacity(count);
    for _ in 0..count {
        let (length, after) = rest.split_first_chunk::<2>()?;
        let length = usize::try_from(i16::from_be_bytes(*length)).ok()?;
        let (name, after) = after.split_at_checked(length)?;
        topics.push(std::str::from_utf8(name).ok()?);
        rest = after;
    }
    Some(topics)
}

#[cfg(test)]
pub(super) fn encode(topics: &[&str]) -> bytes::Bytes {
    let mut out = vec![0, 1];
    out.extend(i32::try_from(topics.len()).expect("few").to_be_bytes());
    for topic in topics {
        out.extend(i16::try_from(topic.len()).expect("short").to_be_bytes());
        out.extend(topic.as_bytes());
    }
    out.extend((-1i32).to_be_bytes());
    out.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_topics_and_ignores_what_follows() {
        assert_eq!(topics(&encode(&["a", "flights"])), Some(vec!["a", "flights"]));
        assert_eq!(topics(&encode(&[])), Some(vec![]));
    }

    #[test]
    fn refuses_what_is_cut_short_or_lies_about_its_count() {
        let whole = encode(&["a", "flights"]);
        for end in 0..whole.len() - 4 {
            assert_eq!(topics(&whole[..end]), None, "cut at {end}");
        }
        assert_eq!(topics(&[0, 0, 0x7f, 0xff, 0xff, 0xff, 0, 0]), None);
        assert_eq!(topics(&[0, 0, 0xff, 0xff, 0xff, 0xff]), None);
        assert_eq!(topics(&[0, 0, 0, 0, 0, 1, 0, 1, 0xff]), None);
    }
}
