//! Zigzag varints, as records use them: the sign in bit 0, then seven bits a byte, low bits first.
//!
//! Readers take from the front of a slice and answer `None` when the bytes end inside a number or
//! when the number does not fit its type, so that a caller names the field that was bad. Padded
//! encodings (`80 00` for zero) are read, as Java reads them, and never written.

use bytes::BufMut;

/// Takes a 32-bit zigzag varint (one to five bytes) from the front of `buf`.
#[inline]
pub fn take_i32(buf: &mut &[u8]) -> Option<i32> {
    match take_short(buf) {
        Some(raw) => Some(unzigzag32(raw.into())),
        None => take_long(buf, 5).and_then(|raw| u32::try_from(raw).ok()).map(unzigzag32),
    }
}

/// Takes a 64-bit zigzag varint (one to ten bytes) from the front of `buf`.
#[inline]
pub fn take_i64(buf: &mut &[u8]) -> Option<i64> {
    match take_short(buf) {
        Some(raw) => Some(unzigzag64(raw.into())),
        None => take_long(buf, 10).map(unzigzag64),
    }
}

/// Appends `value` as a 32-bit zigzag varint.
pub fn put_i32(out: &mut impl BufMut, value: i32) {
    put_raw(out, zigzag32(value).into());
}

/// Appends `value` as a 64-bit zigzag varint.
pub fn put_i64(out: &mut impl BufMut, value: i64) {
    put_raw(out, zigzag64(value));
}

/// Bytes that [`put_i32`] writes for `value`: one to five.
#[must_use]
pub fn len_i32(value: i32) -> usize {
    len_raw(zigzag32(value).into())
}

/// Bytes that [`put_i64`] writes for `value`: one to ten.
#[must_use]
pub fn len_i64(value: i64) -> usize {
    len_raw(zigzag64(value))
}

/// Numbers of one and two bytes: nearly all that a record has. `None` says nothing about the others.
#[inline(always)]
fn take_short(buf: &mut &[u8]) -> Option<u16> {
    match **buf {
        [low, ref rest @ ..] if low < 0x80 => {
            *buf = rest;
            Some(low.into())
        }
        [low, high, ref rest @ ..] if high < 0x80 => {
            *buf = rest;
            Some(u16::from(low & 0x7f) | u16::from(high) << 7)
        }
        _ => None,
    }
}

/// Numbers of any length, apart so that the short ones inline well.
#[inline(never)]
fn take_long(buf: &mut &[u8], bytes_max: usize) -> Option<u64> {
    let mut value = 0u64;
    for (index, &byte) in buf.iter().take(bytes_max).enumerate() {
        // The tenth byte has room for one bit only; anything more would be shifted out unseen.
        if index == 9 && byte > 1 {
            return None;
        }
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte < 0x80 {
            *buf = &buf[index + 1..];
            return Some(value);
        }
    }
    None
}

fn put_raw(out: &mut impl BufMut, mut value: u64) {
    while value >= 0x80 {
        out.put_u8(value as u8 | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}

fn len_raw(value: u64) -> usize {
    let bits = 64 - (value | 1).leading_zeros() as usize;
    bits.div_ceil(7)
}

const fn zigzag32(value: i32) -> u32 {
    ((value << 1) ^ (value >> 31)) as u32
}

const fn unzigzag32(raw: u32) -> i32 {
    (raw >> 1) as i32 ^ -((raw & 1) as i32)
}

const fn zigzag64(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

const fn unzigzag64(raw: u64) -> i64 {
    (raw >> 1) as i64 ^ -((raw & 1) as i64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn written_i64(value: i64) -> Vec<u8> {
        let mut out = Vec::new();
        put_i64(&mut out, value);
        out
    }

    #[test]
    fn known_bytes() {
        // From the zigzag table: 0, -1, 1, -2 are 0, 1, 2, 3; 64 is the first two-byte number.
        for (value, bytes) in [
            (0, &[0x00][..]),
            (-1, &[0x01]),
            (1, &[0x02]),
            (-2, &[0x03]),
            (-64, &[0x7f]),
            (64, &[0x80, 0x01]),
        ] {
            assert_eq!(written_i64(value), bytes);
            assert_eq!(take_i64(&mut &bytes[..]), Some(value));
            assert_eq!(take_i32(&mut &bytes[..]), Some(value as i32));
        }
        assert_eq!(written_i64(i64::MIN), [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]);
    }

    #[test]
    fn overlong_and_oversized_numbers_are_refused() {
        assert_eq!(take_i32(&mut &[0x80, 0x80, 0x80, 0x80, 0x10][..]), None, "bit 32");
        assert_eq!(take_i32(&mut &[0x80, 0x80, 0x80, 0x80, 0x80, 0x00][..]), None, "six bytes");
        assert_eq!(take_i64(&mut &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02][..]), None);
        assert_eq!(take_i64(&mut &[0xff; 11][..]), None);
        assert_eq!(take_i64(&mut &[][..]), None);
        assert_eq!(take_i32(&mut &[0x80, 0x00][..]), Some(0), "padding is legal");
    }

    proptest! {
        #[test]
        fn round_trip(value: i64, narrow: i32, tail in prop::collection::vec(any::<u8>(), 0..4)) {
            let mut bytes = written_i64(value);
            prop_assert_eq!(bytes.len(), len_i64(value));
            put_i32(&mut bytes, narrow);
            prop_assert_eq!(bytes.len(), len_i64(value) + len_i32(narrow));
            bytes.extend(&tail);
            let mut rest = &bytes[..];
            prop_assert_eq!(take_i64(&mut rest), Some(value));
            prop_assert_eq!(take_i32(&mut rest), Some(narrow));
            prop_assert_eq!(rest, &tail[..]);
        }

        #[test]
        fn a_cut_number_is_none(value: i64) {
            let bytes = written_i64(value);
            for cut in 0..bytes.len() {
                prop_assert_eq!(take_i64(&mut &bytes[..cut]), None);
            }
        }
    }
}
