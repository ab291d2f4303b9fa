//! Which Linux this is, for what older ones do not have and do not say.

use rustix::system::uname;

/// Whether the running kernel is of this version or a later one.
pub(super) fn is_at_least(major: u32, minor: u32) -> bool {
    version(uname().release().to_bytes()) >= (major, minor)
}

/// The first two numbers of a release.
fn version(release: &[u8]) -> (u32, u32) {
    let text = String::from_utf8_lossy(release);
    let mut numbers = text.split(|c: char| !c.is_ascii_digit()).map(|number| number.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_are_told_apart_by_number() {
        for (release, expected) in [
            ("5.7.19", (5, 7)),
            ("4.19.0-21-amd64", (4, 19)),
            ("5.10.0-8-amd64", (5, 10)),
            ("6.1", (6, 1)),
            ("", (0, 0)),
        ] {
            assert_eq!(version(release.as_bytes()), expected, "{release}");
        }
        assert!(is_at_least(2, 6) && !is_at_least(u32::MAX, 0));
    }
}
