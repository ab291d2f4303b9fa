//! Which partition a record goes to.
//!
//! With a key, the same that Kafka's Java client chooses, so that producers in different languages keep
//! a key in one partition: `(murmur2(key) & 0x7fffffff) % partitions`. Without one, who produces may
//! choose.

/// The seed that Kafka's clients use.
const SEED: u32 = 0x9747_b28c;
const MULTIPLIER: u32 = 0x5bd1_e995;
const SHIFT: u32 = 24;

/// MurmurHash2, 32 bits, as Kafka has it.
fn murmur2(bytes: &[u8]) -> u32 {
    let mut hash = SEED ^ bytes.len() as u32;
    let (words, rest) = bytes.as_chunks::<4>();
    for word in words {
        let mut word = u32::from_le_bytes(*word).wrapping_mul(MULTIPLIER);
        word ^= word >> SHIFT;
        hash = hash.wrapping_mul(MULTIPLIER) ^ word.wrapping_mul(MULTIPLIER);
    }
    if !rest.is_empty() {
        for (index, &byte) in rest.iter().enumerate() {
            hash ^= u32::from(byte) << (8 * index);
        }
        hash = hash.wrapping_mul(MULTIPLIER);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(MULTIPLIER);
    hash ^ (hash >> 15)
}

/// The partition of a key among `partitions`, which is not 0: the one that Kafka's Java client chooses.
#[must_use]
pub fn partition_of_key(key: &[u8], partitions: usize) -> i32 {
    let hash = (murmur2(key) & 0x7fff_ffff) as usize;
    (hash % partitions) as i32
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The vectors of Kafka's own UtilsTest.
    #[test]
    fn hash_agrees_with_kafka() {
        let vectors: [(&str, i32); 7] = [
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            ("abc", 479_470_107),
            ("", 275_646_681),
        ];
        for (key, hash) in vectors {
            assert_eq!(murmur2(key.as_bytes()) as i32, hash, "{key:?}");
        }
    }

    #[test]
    fn partition_is_never_negative() {
        // Hashes to a negative number, which Java's clients mask rather than negate.
        assert_eq!(partition_of_key(b"21", 1_000), ((-973_932_308i32 & 0x7fff_ffff) % 1_000));
        assert!((1..50).all(|n| (0..n as i32).contains(&partition_of_key(b"foobar", n))));
    }
}
