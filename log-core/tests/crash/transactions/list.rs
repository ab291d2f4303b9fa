//! The plain list: all that was appended, and what follows from it for producers and consumers.

use std::collections::BTreeMap;

use log_core::record::{BatchBuilder, Compression, Marker, ProducedBatch};

use super::history::History;

/// What was appended at an offset.
#[derive(Clone, Debug)]
pub(super) struct Sent {
    pub(super) base: i64,
    pub(super) producer: i64,
    pub(super) epoch: i16,
    pub(super) what: What,
}

#[derive(Clone, Debug)]
pub(super) enum What {
    /// Records: keys and values.
    Data { sequence: i32, transactional: bool, records: Vec<(String, String)> },
    /// The end of the producer's transaction.
    End(Marker),
}

impl Sent {
    pub(super) fn next(&self) -> i64 {
        match &self.what {
            What::Data { records, .. } => self.base + records.len() as i64,
            What::End(_) => self.base + 1,
        }
    }

    pub(super) fn produced(&self) -> ProducedBatch {
        let What::Data { sequence, transactional, records } = &self.what else {
            unreachable!("ends are made by the log")
        };
        let builder = BatchBuilder::new(Compression::None).producer(self.producer, self.epoch, *sequence);
        let mut builder = builder.transactional(*transactional);
        for (key, value) in records {
            builder.append(1000, Some(key.as_bytes()), Some(value.as_bytes()), &[]).expect("small");
        }
        ProducedBatch::internal(builder.build(0).expect("small")).expect("well made")
    }
}

impl History {
    /// The epoch that a producer is in, and its next sequence.
    pub(super) fn standing(&self, producer: i64) -> (i16, i32) {
        let of = self.sent.iter().filter(|sent| sent.producer == producer);
        let epoch = of.clone().map(|sent| sent.epoch).max().unwrap_or(0);
        let last = of.rev().find_map(|sent| match &sent.what {
            What::Data { sequence, records, .. } if sent.epoch == epoch => {
                Some(sequence + records.len() as i32)
            }
            _ => None,
        });
        (epoch, last.unwrap_or(0))
    }

    /// Whose transactions are open: the bases of their batches, by producer.
    pub(super) fn open_transactions(&self) -> BTreeMap<i64, Vec<&Sent>> {
        let mut open: BTreeMap<i64, Vec<&Sent>> = BTreeMap::new();
        for sent in &self.sent {
            match &sent.what {
                What::Data { transactional: true, .. } => open.entry(sent.producer).or_default().push(sent),
                What::Data { .. } => {}
                What::End(_) => drop(open.remove(&sent.producer)),
            }
        }
        open
    }

    /// First offset of each transaction that holds the last stable offset back, as far as it is known for certain: what
    /// was deleted of it may have been forgotten, or not.
    pub(super) fn held_back(&self) -> (i64, i64) {
        let mut undecided: BTreeMap<i64, Vec<&Sent>> = BTreeMap::new();
        let mut firsts = Vec::new();
        for sent in &self.sent {
            match &sent.what {
                What::Data { transactional: true, .. } => {
                    undecided.entry(sent.producer).or_default().push(sent);
                }
                What::Data { .. } => {}
                What::End(_) if sent.base >= self.process.high_watermark => {
                    firsts.extend(undecided.remove(&sent.producer));
                }
                What::End(_) => drop(undecided.remove(&sent.producer)),
            }
        }
        firsts.extend(undecided.into_values());
        let least = firsts.iter().map(|batches| batches[0].base).min();
        let left = firsts.iter().filter_map(|batches| {
            batches.iter().find(|sent| sent.next() > self.process.log_start).map(|sent| sent.base)
        });
        let bound = |offset: Option<i64>| {
            offset
                .unwrap_or(self.process.high_watermark)
                .clamp(self.process.log_start, self.process.high_watermark)
        };
        (bound(least), bound(left.min()))
    }

    /// The records that count, by offset: outside of transactions, and of those that were committed.
    pub(super) fn committed(&self, last_stable: i64) -> BTreeMap<i64, (String, String)> {
        let mut committed = BTreeMap::new();
        let mut undecided: BTreeMap<i64, Vec<&Sent>> = BTreeMap::new();
        let mut put = |sent: &Sent| {
            if let What::Data { records, .. } = &sent.what {
                committed.extend((sent.base..).zip(records.iter().cloned()));
            }
        };
        for sent in self.sent.iter() {
            match &sent.what {
                What::Data { transactional: true, .. } => {
                    undecided.entry(sent.producer).or_default().push(sent);
                }
                What::Data { .. } => put(sent),
                What::End(marker) => {
                    let batches = undecided.remove(&sent.producer).unwrap_or_default();
                    if *marker == Marker::Commit {
                        batches.into_iter().for_each(&mut put);
                    }
                }
            }
        }
        committed.retain(|offset, _| (self.process.log_start..last_stable).contains(offset));
        committed
    }
}
