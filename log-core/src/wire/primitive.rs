//! Bounded reading and plain writing of the protocol's primitives, for the messages that are ours.
//!
//! [`Reader`] walks a body without touching its reference count; only a payload that is handed out
//! (a string, records) becomes a slice of its own. Every length is checked against the bytes that
//! remain before anything is allocated, and array counts against the least that their elements
//! occupy, so that memory stays within a small factor of the input.
//!
//! [`Writer`] collects a message as parts: small fields gather in one buffer, and payloads are put
//! between its pieces as they are.

use bytes::{BufMut, Bytes, BytesMut};
use kafka_wire_core::{DecodeError, EncodeError, StrBytes, Uuid};

/// A cursor over one message body.
#[derive(Debug)]
pub struct Reader {
    input: Bytes,
    position: usize,
    /// Whether lengths are varints of n+1 and structures end in tagged fields (KIP-482).
    flexible: bool,
}

impl Reader {
    /// Reads `input` from its start, in the flexible encoding or the older one.
    pub fn new(input: Bytes, flexible: bool) -> Self {
        Self { input, position: 0, flexible }
    }

    /// Bytes not yet read.
    pub fn remaining(&self) -> usize {
        self.input.len() - self.position
    }

    /// The part that has not been read.
    pub fn into_rest(mut self) -> Bytes {
        self.input.split_off(self.position)
    }

    /// Asserts to the peer that the body ends here.
    ///
    /// # Errors
    /// [`DecodeError::TrailingBytes`] when it does not.
    pub fn finish(self) -> Result<(), DecodeError> {
        match self.remaining() {
            0 => Ok(()),
            remaining => Err(DecodeError::TrailingBytes { remaining }),
        }
    }

    fn skip(&mut self, len: usize) -> Result<usize, DecodeError> {
        let start = self.position;
        if len > self.remaining() {
            return Err(DecodeError::UnexpectedEnd {
                offset: start,
                needed: len,
                remaining: self.remaining(),
            });
        }
        self.position += len;
        Ok(start)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let start = self.skip(N)?;
        let mut bytes = [0; N];
        bytes.copy_from_slice(&self.input[start..start + N]);
        Ok(bytes)
    }

    /// One byte as a truth value; anything but 0 and 1 is an error.
    pub fn bool(&mut self) -> Result<bool, DecodeError> {
        let offset = self.position;
        match self.i8()? {
            0 => Ok(false),
            1 => Ok(true),
            value => Err(DecodeError::InvalidBoolean { offset, value: value as u8 }),
        }
    }

    /// A signed byte.
    pub fn i8(&mut self) -> Result<i8, DecodeError> {
        self.array().map(i8::from_be_bytes)
    }

    /// Two bytes, big-endian.
    pub fn i16(&mut self) -> Result<i16, DecodeError> {
        self.array().map(i16::from_be_bytes)
    }

    /// Four bytes, big-endian.
    pub fn i32(&mut self) -> Result<i32, DecodeError> {
        self.array().map(i32::from_be_bytes)
    }

    /// Eight bytes, big-endian.
    pub fn i64(&mut self) -> Result<i64, DecodeError> {
        self.array().map(i64::from_be_bytes)
    }

    /// Sixteen bytes.
    pub fn uuid(&mut self) -> Result<Uuid, DecodeError> {
        self.array().map(Uuid::from_bytes)
    }

    /// An unsigned varint of at most 32 bits, five bytes.
    pub fn unsigned_varint(&mut self) -> Result<u32, DecodeError> {
        let offset = self.position;
        let mut value = 0u32;
        for shift in [0, 7, 14, 21, 28] {
            let [byte] = self.array()?;
            if shift == 28 && byte & 0xf0 != 0 {
                break;
            }
            value |= u32::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(DecodeError::MalformedVarint { offset })
    }

    /// A length prefix: `None` is null. `legacy` reads the prefix of the older encoding.
    fn length(
        &mut self,
        kind: &'static str,
        legacy: fn(&mut Self) -> Result<i64, DecodeError>,
    ) -> Result<Option<usize>, DecodeError> {
        let offset = self.position;
        let length = if self.flexible { i64::from(self.unsigned_varint()?) - 1 } else { legacy(self)? };
        match usize::try_from(length) {
            Ok(length) => Ok(Some(length)),
            Err(_) if length == -1 => Ok(None),
            Err(_) => Err(DecodeError::NegativeLength { kind, length, offset }),
        }
    }

    fn length_i16(&mut self) -> Result<i64, DecodeError> {
        self.i16().map(i64::from)
    }

    fn length_i32(&mut self) -> Result<i64, DecodeError> {
        self.i32().map(i64::from)
    }

    fn utf8(&mut self, len: usize) -> Result<StrBytes, DecodeError> {
        let start = self.skip(len)?;
        StrBytes::try_from(self.input.slice(start..start + len))
            .map_err(|error| DecodeError::InvalidUtf8 { offset: start, valid_up_to: error.valid_up_to() })
    }

    /// A string that may not be null.
    pub fn string(&mut self) -> Result<StrBytes, DecodeError> {
        let offset = self.position;
        self.nullable_string()?.ok_or(DecodeError::NullNotAllowed { kind: "string", offset })
    }

    /// A string or null.
    pub fn nullable_string(&mut self) -> Result<Option<StrBytes>, DecodeError> {
        match self.length("string", Self::length_i16)? {
            Some(len) => self.utf8(len).map(Some),
            None => Ok(None),
        }
    }

    /// A payload or null, as a slice of the input: nothing is copied.
    pub fn nullable_bytes(&mut self) -> Result<Option<Bytes>, DecodeError> {
        match self.length("bytes", Self::length_i32)? {
            Some(len) => {
                let start = self.skip(len)?;
                Ok(Some(self.input.slice(start..start + len)))
            }
            None => Ok(None),
        }
    }

    /// An array that may not be null. `element_bytes_min` is the least an element occupies.
    pub fn vec<T>(
        &mut self,
        element_bytes_min: usize,
        element: impl FnMut(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Vec<T>, DecodeError> {
        let offset = self.position;
        self.nullable_vec(element_bytes_min, element)?
            .ok_or(DecodeError::NullNotAllowed { kind: "array", offset })
    }

    /// An array or null. `element_bytes_min` is the least an element occupies, and not 0.
    ///
    /// The count is checked against what remains, then reserved exactly: an honest array costs one
    /// allocation, and a lying count none.
    pub fn nullable_vec<T>(
        &mut self,
        element_bytes_min: usize,
        mut element: impl FnMut(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Option<Vec<T>>, DecodeError> {
        assert!(element_bytes_min > 0, "an element without bytes would leave the count unbounded");
        let offset = self.position;
        let Some(count) = self.length("array", Self::length_i32)? else { return Ok(None) };
        if count > self.remaining() / element_bytes_min {
            let remaining = self.remaining();
            return Err(DecodeError::CountExceedsFrame { kind: "array", count, remaining, offset });
        }
        let mut elements = Vec::with_capacity(count);
        for _ in 0..count {
            elements.push(element(self)?);
        }
        Ok(Some(elements))
    }

    /// The tagged fields that end a structure in the flexible encoding, all of them skipped.
    pub fn skip_tags(&mut self) -> Result<(), DecodeError> {
        self.tags(|_, _| Ok(()))
    }

    /// The tagged fields that end a structure in the flexible encoding; nothing in the older one.
    ///
    /// `field` is given each tag with a reader of that field's bytes alone, and need not read them.
    pub fn tags(
        &mut self,
        mut field: impl FnMut(u32, &mut Self) -> Result<(), DecodeError>,
    ) -> Result<(), DecodeError> {
        if !self.flexible {
            return Ok(());
        }
        let mut previous = None;
        for _ in 0..self.unsigned_varint()? {
            let offset = self.position;
            let tag = self.unsigned_varint()?;
            if let Some(previous) = previous.filter(|&previous| tag <= previous) {
                return Err(DecodeError::TaggedFieldOrder { previous, current: tag, offset });
            }
            previous = Some(tag);
            let len = self.unsigned_varint()? as usize;
            let start = self.skip(len)?;
            field(tag, &mut Reader::new(self.input.slice(start..start + len), self.flexible))?;
        }
        Ok(())
    }
}

/// Collects a message as parts whose concatenation is the message.
#[derive(Debug)]
pub struct Writer {
    parts: Vec<Bytes>,
    buffer: BytesMut,
    flexible: bool,
}

impl Writer {
    /// Writes in the flexible encoding or the older one; `fields_bytes` is an estimate of
    /// everything but the payloads.
    pub fn new(flexible: bool, fields_bytes: usize) -> Self {
        Self { parts: Vec::new(), buffer: BytesMut::with_capacity(fields_bytes), flexible }
    }

    /// The parts, in order. None is empty.
    pub fn finish(mut self) -> Vec<Bytes> {
        self.flush();
        self.parts
    }

    /// The message in one piece, for one without payloads.
    pub fn finish_single(self) -> Bytes {
        assert!(self.parts.is_empty(), "a message with payloads is several parts");
        self.buffer.freeze()
    }

    fn flush(&mut self) {
        if !self.buffer.is_empty() {
            self.parts.push(self.buffer.split().freeze());
        }
    }

    /// One byte, 0 or 1.
    pub fn bool(&mut self, value: bool) {
        self.buffer.put_u8(value.into());
    }

    /// A signed byte.
    pub fn i8(&mut self, value: i8) {
        self.buffer.put_i8(value);
    }

    /// Two bytes, big-endian.
    pub fn i16(&mut self, value: i16) {
        self.buffer.put_i16(value);
    }

    /// Four bytes, big-endian.
    pub fn i32(&mut self, value: i32) {
        self.buffer.put_i32(value);
    }

    /// Eight bytes, big-endian.
    pub fn i64(&mut self, value: i64) {
        self.buffer.put_i64(value);
    }

    /// Sixteen bytes.
    pub fn uuid(&mut self, value: Uuid) {
        self.buffer.put_slice(value.as_bytes());
    }

    /// An unsigned varint, one to five bytes.
    pub fn unsigned_varint(&mut self, mut value: u32) {
        while value >= 0x80 {
            self.buffer.put_u8(value as u8 | 0x80);
            value >>= 7;
        }
        self.buffer.put_u8(value as u8);
    }

    fn compact_length(&mut self, kind: &'static str, length: Option<usize>) -> Result<(), EncodeError> {
        let encoded = match length {
            None => 0,
            Some(length) if length < i32::MAX as usize => length as u32 + 1,
            Some(length) => return Err(too_long(kind, length, i32::MAX as usize - 1)),
        };
        self.unsigned_varint(encoded);
        Ok(())
    }

    /// A string or null.
    ///
    /// # Errors
    /// [`EncodeError::LengthOverflow`] past 32,767 bytes.
    pub fn nullable_string(&mut self, value: Option<&str>) -> Result<(), EncodeError> {
        if let Some(long) = value.filter(|value| value.len() > i16::MAX as usize) {
            return Err(too_long("string", long.len(), i16::MAX as usize));
        }
        if self.flexible {
            self.compact_length("string", value.map(str::len))?;
        } else {
            self.i16(value.map_or(-1, |value| value.len() as i16));
        }
        self.buffer.put_slice(value.unwrap_or_default().as_bytes());
        Ok(())
    }

    /// A string.
    ///
    /// # Errors
    /// [`EncodeError::LengthOverflow`] past 32,767 bytes.
    pub fn string(&mut self, value: &str) -> Result<(), EncodeError> {
        self.nullable_string(Some(value))
    }

    /// The length of a payload or array that follows, or null.
    ///
    /// # Errors
    /// [`EncodeError::LengthOverflow`] past what 31 bits hold.
    pub fn length(&mut self, kind: &'static str, length: Option<usize>) -> Result<(), EncodeError> {
        if self.flexible {
            return self.compact_length(kind, length);
        }
        let encoded = match length {
            None => -1,
            Some(length) => i32::try_from(length).map_err(|_| too_long(kind, length, i32::MAX as usize))?,
        };
        self.i32(encoded);
        Ok(())
    }

    /// An array: its length, then each element.
    ///
    /// # Errors
    /// The element's own, or a length past 31 bits.
    pub fn array<T>(
        &mut self,
        elements: &[T],
        mut element: impl FnMut(&mut Self, &T) -> Result<(), EncodeError>,
    ) -> Result<(), EncodeError> {
        self.length("array", Some(elements.len()))?;
        elements.iter().try_for_each(|item| element(self, item))
    }

    /// A payload in pieces: the length of them all, then each as a part of its own, not copied.
    ///
    /// # Errors
    /// [`EncodeError::LengthOverflow`] past 31 bits.
    pub fn payload(&mut self, pieces: &[Bytes]) -> Result<(), EncodeError> {
        self.length("bytes", Some(pieces.iter().map(Bytes::len).sum()))?;
        for piece in pieces.iter().filter(|piece| !piece.is_empty()) {
            self.flush();
            self.parts.push(piece.clone());
        }
        Ok(())
    }

    /// The end of a structure without tagged fields; nothing in the older encoding.
    pub fn no_tags(&mut self) {
        if self.flexible {
            self.buffer.put_u8(0);
        }
    }
}

fn too_long(kind: &'static str, length: usize, maximum: usize) -> EncodeError {
    EncodeError::LengthOverflow { kind, length, maximum }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reader(bytes: &'static [u8], flexible: bool) -> Reader {
        Reader::new(Bytes::from_static(bytes), flexible)
    }

    #[test]
    fn count_beyond_the_bytes_is_refused_before_allocating() {
        let huge = reader(&[0x7f, 0xff, 0xff, 0xff], false).vec(1, Reader::i8);
        assert!(matches!(huge, Err(DecodeError::CountExceedsFrame { count: 0x7fff_ffff, .. })));
        let huge = reader(&[0xff, 0xff, 0xff, 0xff, 0x0f], true).vec(1, Reader::i8);
        assert!(matches!(huge, Err(DecodeError::CountExceedsFrame { .. })));
        // Three bytes remain, which cannot be two elements of two.
        assert!(reader(&[0, 0, 0, 2, 1, 2, 3], false).vec(2, Reader::i16).is_err());
    }

    #[test]
    fn negative_lengths_other_than_null_are_refused() {
        assert!(matches!(
            reader(&[0xff, 0xfe], false).nullable_string(),
            Err(DecodeError::NegativeLength { length: -2, .. })
        ));
        assert_eq!(reader(&[0xff, 0xff], false).nullable_string(), Ok(None));
        assert!(reader(&[0xff, 0xff], false).string().is_err());
        assert!(reader(&[0x80, 0, 0, 0], false).nullable_bytes().is_err());
    }

    #[test]
    fn varints_end_after_32_bits() {
        assert_eq!(reader(&[0xff, 0xff, 0xff, 0xff, 0x0f], true).unsigned_varint(), Ok(u32::MAX));
        assert!(reader(&[0xff, 0xff, 0xff, 0xff, 0x1f], true).unsigned_varint().is_err());
        assert!(reader(&[0x80, 0x80, 0x80, 0x80, 0x80, 0], true).unsigned_varint().is_err());
    }

    #[test]
    fn tags_are_ordered_and_confined() {
        // Tag 3 with two bytes; its reader sees those two only.
        let mut seen = Vec::new();
        let mut input = reader(&[1, 3, 2, 0, 9, 77], true);
        input
            .tags(|tag, field| {
                seen.push((tag, field.i16()?));
                assert!(field.i8().is_err());
                Ok(())
            })
            .unwrap();
        assert_eq!((seen, input.remaining()), (vec![(3, 9)], 1));
        assert!(reader(&[2, 3, 0, 3, 0], true).skip_tags().is_err());
        assert!(reader(&[0xff, 0xff, 0xff, 0xff, 0x0f], true).skip_tags().is_err());
    }

    #[test]
    fn payload_pieces_are_passed_through() {
        let records = Bytes::from(vec![7u8; 100]);
        let mut writer = Writer::new(true, 16);
        writer.i16(1);
        writer.payload(&[records.clone(), Bytes::new(), records.clone()]).unwrap();
        writer.no_tags();
        let parts = writer.finish();
        assert_eq!(parts.iter().map(Bytes::len).collect::<Vec<_>>(), [4, 100, 100, 1]);
        assert_eq!(parts[1].as_ptr(), records.as_ptr());
    }
}
