//! The fields that the coordinators' records are made of. Numbers are big-endian, a string is an i16 length and UTF-8, bytes
//! are an i32 length and the bytes. The compact forms of KIP-482 have a varint of one more than the length instead.

use crate::coordinator::machine::EntryError;
use bytes::Bytes;
use std::sync::Arc;

pub(super) fn put_i16(out: &mut Vec<u8>, number: i16) {
    out.extend(number.to_be_bytes());
}

pub(super) fn put_i32(out: &mut Vec<u8>, number: i32) {
    out.extend(number.to_be_bytes());
}

pub(super) fn put_i64(out: &mut Vec<u8>, number: i64) {
    out.extend(number.to_be_bytes());
}

/// Strings come out of the protocol, where their length is an i16 or, in flexible versions, bounded alike by the
/// decoder; a longer one would be a fault of ours and is cut at a character rather than corrupting the record.
pub(super) fn put_string(out: &mut Vec<u8>, string: &str) {
    let end = string.floor_char_boundary(string.len().min(i16::MAX as usize));
    put_i16(out, end as i16);
    out.extend(&string.as_bytes()[..end]);
}

pub(super) fn put_nullable_string(out: &mut Vec<u8>, string: Option<&str>) {
    match string {
        Some(string) => put_string(out, string),
        None => put_i16(out, -1),
    }
}

pub(super) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_i32(out, i32::try_from(bytes.len()).expect("a request is far below 2 GiB"));
    out.extend(bytes);
}

/// An unsigned number of one to five bytes, seven bits each, the lowest first; the top bit says that more follow.
pub(super) fn put_varint(out: &mut Vec<u8>, mut number: u32) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// The count of a compact array, or the length of a compact string: one more than it is, as 0 stands for null.
pub(super) fn put_compact_count(out: &mut Vec<u8>, count: usize) {
    put_varint(out, u32::try_from(count + 1).expect("what passed the limits on requests is far below 4 GiB"));
}

pub(super) fn put_compact_string(out: &mut Vec<u8>, string: &str) {
    put_compact_bytes(out, string.as_bytes());
}

pub(super) fn put_compact_nullable_string(out: &mut Vec<u8>, string: Option<&str>) {
    match string {
        Some(string) => put_compact_string(out, string),
        None => out.push(0),
    }
}

pub(super) fn put_compact_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_compact_count(out, bytes.len());
    out.extend(bytes);
}

/// Reads a record's fields in order; every length is checked against what is there.
pub(super) struct Reader {
    what: &'static str,
    rest: Bytes,
}

impl Reader {
    /// Reads `bytes` from the start; `what` names them in errors.
    pub(super) fn new(what: &'static str, bytes: &Bytes) -> Self {
        Reader { what, rest: bytes.clone() }
    }

    pub(super) fn malformed(&self, reason: &'static str) -> EntryError {
        EntryError::Malformed { what: self.what, reason }
    }

    fn take(&mut self, length: usize) -> Result<Bytes, EntryError> {
        if length > self.rest.len() {
            return Err(self.malformed("it ends before a field does"));
        }
        Ok(self.rest.split_to(length))
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], EntryError> {
        let bytes = self.take(N)?;
        Ok(std::array::from_fn(|i| bytes[i]))
    }

    pub(super) fn i16(&mut self) -> Result<i16, EntryError> {
        Ok(i16::from_be_bytes(self.array()?))
    }

    pub(super) fn i32(&mut self) -> Result<i32, EntryError> {
        Ok(i32::from_be_bytes(self.array()?))
    }

    pub(super) fn i64(&mut self) -> Result<i64, EntryError> {
        Ok(i64::from_be_bytes(self.array()?))
    }

    pub(super) fn string(&mut self) -> Result<Arc<str>, EntryError> {
        self.nullable_string()?.ok_or_else(|| self.malformed("a string is null that must not be"))
    }

    pub(super) fn nullable_string(&mut self) -> Result<Option<Arc<str>>, EntryError> {
        let length = self.i16()?;
        let Ok(length) = usize::try_from(length) else {
            return if length == -1 { Ok(None) } else { Err(self.malformed("a length is negative")) };
        };
        let bytes = self.take(length)?;
        let string = std::str::from_utf8(&bytes).map_err(|_| self.malformed("a string is not UTF-8"))?;
        Ok(Some(Arc::from(string)))
    }

    pub(super) fn i8(&mut self) -> Result<i8, EntryError> {
        Ok(i8::from_be_bytes(self.array()?))
    }

    pub(super) fn uuid(&mut self) -> Result<[u8; 16], EntryError> {
        self.array()
    }

    /// Read over: nobody needs what is in it.
    pub(super) fn nullable_bytes(&mut self) -> Result<(), EntryError> {
        match usize::try_from(self.i32()?) {
            Ok(length) => self.take(length).map(drop),
            Err(_) => Ok(()),
        }
    }

    fn varint(&mut self) -> Result<u32, EntryError> {
        let mut number = 0u64;
        for shift in (0..35).step_by(7) {
            let [byte] = self.array()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return u32::try_from(number).map_err(|_| self.malformed("a length is too large"));
            }
        }
        Err(self.malformed("a length has no end"))
    }

    /// The count of an array. Only a claim: never to be allocated by.
    pub(super) fn compact_count(&mut self) -> Result<u32, EntryError> {
        self.compact_nullable_count()?.ok_or_else(|| self.malformed("an array is null that must not be"))
    }

    /// As [`compact_count`](Self::compact_count), of an array that may be null.
    pub(super) fn compact_nullable_count(&mut self) -> Result<Option<u32>, EntryError> {
        Ok(self.varint()?.checked_sub(1))
    }

    pub(super) fn compact_nullable_string(&mut self) -> Result<Option<Arc<str>>, EntryError> {
        let Some(length) = self.varint()?.checked_sub(1) else { return Ok(None) };
        let bytes = self.take(length as usize)?;
        let string = std::str::from_utf8(&bytes).map_err(|_| self.malformed("a string is not UTF-8"))?;
        Ok(Some(Arc::from(string)))
    }

    pub(super) fn compact_string(&mut self) -> Result<Arc<str>, EntryError> {
        self.compact_nullable_string()?.ok_or_else(|| self.malformed("a string is null that must not be"))
    }

    pub(super) fn compact_bytes(&mut self) -> Result<Bytes, EntryError> {
        let length = self.compact_count()?;
        Ok(Bytes::copy_from_slice(&self.take(length as usize)?))
    }

    /// Passes over the tagged fields at the end of a structure, except `wanted`, which is returned.
    pub(super) fn tagged(&mut self, wanted: Option<u32>) -> Result<Option<Bytes>, EntryError> {
        let mut found = None;
        self.each_tagged(|tag, field| {
            if Some(tag) == wanted {
                found = Some(field);
            }
            Ok(())
        })?;
        Ok(found)
    }

    /// Hands the tagged fields at the end of a structure to `each`, by their tags.
    pub(super) fn each_tagged(
        &mut self,
        mut each: impl FnMut(u32, Bytes) -> Result<(), EntryError>,
    ) -> Result<(), EntryError> {
        for _ in 0..self.varint()? {
            let (tag, length) = (self.varint()?, self.varint()?);
            each(tag, self.take(length as usize)?)?;
        }
        Ok(())
    }

    /// Copied, so that a small piece does not keep a whole segment's memory alive.
    pub(super) fn bytes(&mut self) -> Result<Bytes, EntryError> {
        let length = usize::try_from(self.i32()?).map_err(|_| self.malformed("a length is negative"))?;
        Ok(Bytes::copy_from_slice(&self.take(length)?))
    }
}
