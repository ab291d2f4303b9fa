//! Random values of the oracle's messages, valid in a given version.
//!
//! A structure starts as its default; each field is then set to a random value and kept only if the
//! oracle still encodes the structure in that version. That one rule covers fields that a version
//! lacks, nulls that it forbids and structures that it does not have, without restating the schema.

use std::collections::BTreeMap;

use bytes::Bytes;
use fastrand::Rng;
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

/// How values are drawn.
pub struct Draw {
    /// The source of randomness; its seed is printed by a failing test.
    pub rng: Rng,
    /// The version that the value must be valid in.
    pub version: i16,
    /// Whether to add tagged fields that nobody knows.
    pub unknown_tags: bool,
}

/// A value drawn at random.
pub trait Random: Sized {
    /// Draws one.
    fn random(draw: &mut Draw) -> Self;
}

macro_rules! random_integers {
    ($($type:ident),*) => {$(
        impl Random for $type {
            fn random(draw: &mut Draw) -> Self {
                match draw.rng.u8(..4) {
                    0 => [$type::MIN, $type::MAX, 0, 1][draw.rng.usize(..4)],
                    1 => 0i64.wrapping_sub(1) as $type,
                    _ => draw.rng.$type(..),
                }
            }
        }
    )*};
}
random_integers!(i8, i16, i32, i64, u16);

impl Random for bool {
    fn random(draw: &mut Draw) -> Self {
        draw.rng.bool()
    }
}

impl Random for f64 {
    fn random(draw: &mut Draw) -> Self {
        draw.rng.f64()
    }
}

impl Random for StrBytes {
    fn random(draw: &mut Draw) -> Self {
        // 127 and 128 bytes lie on either side of a second varint byte.
        let len = match draw.rng.u8(..12) {
            0 => 0,
            1 => 126 + draw.rng.usize(..3),
            _ => draw.rng.usize(1..16),
        };
        let text: String = (0..len).map(|_| draw.rng.alphanumeric()).collect();
        text.into()
    }
}

impl Random for Bytes {
    fn random(draw: &mut Draw) -> Self {
        let len = if draw.rng.u8(..8) == 0 { draw.rng.usize(120..300) } else { draw.rng.usize(..40) };
        (0..len).map(|_| draw.rng.u8(..)).collect()
    }
}

impl Random for Uuid {
    fn random(draw: &mut Draw) -> Self {
        Uuid::from_u128(draw.rng.u128(..))
    }
}

impl<T: Random> Random for Option<T> {
    fn random(draw: &mut Draw) -> Self {
        (draw.rng.u8(..4) > 0).then(|| T::random(draw))
    }
}

impl<T: Random> Random for Vec<T> {
    fn random(draw: &mut Draw) -> Self {
        let len = draw.rng.usize(..4);
        (0..len).map(|_| T::random(draw)).collect()
    }
}

macro_rules! random_newtypes {
    ($($type:ident),*) => {$(
        impl Random for kafka_protocol::messages::$type {
            fn random(draw: &mut Draw) -> Self {
                kafka_protocol::messages::$type(Random::random(draw))
            }
        }
    )*};
}
random_newtypes!(BrokerId, GroupId, ProducerId, TopicName, TransactionalId);

/// Tagged fields above every tag that Kafka has given out.
impl Random for BTreeMap<i32, Bytes> {
    fn random(draw: &mut Draw) -> Self {
        let count = if draw.unknown_tags { draw.rng.usize(..3) } else { 0 };
        (0..count).map(|_| (draw.rng.i32(1_000..2_000_000), Bytes::random(draw))).collect()
    }
}

/// Writes [`Random`] for structures of the oracle, given their fields.
macro_rules! random_structs {
    ($module:ident: $($name:ident { $($field:ident),* })*) => {$(
        impl $crate::oracle_support::random::Random for $module::$name {
            fn random(draw: &mut $crate::oracle_support::random::Draw) -> Self {
                use kafka_protocol::protocol::Encodable;
                #[allow(unused_mut)]
                let mut value = $module::$name::default();
                $(
                    let default = ::std::mem::replace(
                        &mut value.$field,
                        $crate::oracle_support::random::Random::random(draw),
                    );
                    if value.encode(&mut bytes::BytesMut::new(), draw.version).is_err() {
                        value.$field = default;
                    }
                )*
                value
            }
        }
    )*};
}
pub(crate) use random_structs;
