//! The values of records: text that compresses about as well as events do, made before the clock starts.

/// How many different values there are. Records take them in turn, so neighbours in a batch differ.
const VALUES: usize = 64;

const WORDS: [&str; 16] = [
    "order", "customer", "created", "shipped", "amount", "currency", "EUR", "address", "street", "item",
    "quantity", "price", "status", "pending", "region", "north",
];

/// Values of one length.
pub struct Payload(Vec<Vec<u8>>);

impl Payload {
    /// Values of `bytes` bytes each: words of a small vocabulary between numbers that do not repeat.
    pub fn new(bytes: usize) -> Payload {
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        let mut random = move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        };
        let value = |_| {
            let mut text = String::with_capacity(bytes + 32);
            while text.len() < bytes {
                let draw = random();
                text.push_str(WORDS[draw as usize % WORDS.len()]);
                text.push_str(&format!("={:08x} ", draw >> 32));
            }
            text.truncate(bytes);
            text.into_bytes()
        };
        Payload((0..VALUES).map(value).collect())
    }

    /// The value of the record with this number.
    pub fn of(&self, number: u64) -> &[u8] {
        &self.0[number as usize % VALUES]
    }

    /// The same value with the time it is due, in microseconds since some start, at its front.
    pub fn stamped(&self, number: u64, due_us: u64) -> Vec<u8> {
        let mut value = self.of(number).to_vec();
        value[..8].copy_from_slice(&due_us.to_be_bytes());
        value
    }
}

/// When a stamped value was due.
pub fn due_us(value: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(value.get(..8)?.try_into().ok()?))
}
