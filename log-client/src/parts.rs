//! The parts of a frame as one buffer, for vectored writes: records go to the socket from where they
//! lie.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf, Bytes};

/// Parts that are one after the other.
pub(crate) struct Parts(VecDeque<Bytes>);

impl Parts {
    pub(crate) fn new(parts: Vec<Bytes>) -> Parts {
        Parts(parts.into())
    }
}

impl Buf for Parts {
    fn remaining(&self) -> usize {
        self.0.iter().map(Bytes::len).sum()
    }

    fn chunk(&self) -> &[u8] {
        self.0.iter().find(|part| !part.is_empty()).map_or(&[], |part| part)
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let parts = self.0.iter().filter(|part| !part.is_empty());
        slices.iter_mut().zip(parts).map(|(slice, part)| *slice = IoSlice::new(part)).count()
    }

    fn advance(&mut self, mut count: usize) {
        while let Some(front) = self.0.front_mut() {
            if count < front.len() {
                front.advance(count);
                return;
            }
            count -= front.len();
            self.0.pop_front();
        }
        assert_eq!(count, 0, "advanced past the end");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_advance_across_their_borders() {
        let whole = b"abcdefgh";
        for step in 1..=whole.len() {
            let mut parts = Parts(VecDeque::from([
                Bytes::from_static(b"abc"),
                Bytes::new(),
                Bytes::from_static(b"defgh"),
            ]));
            let mut seen = Vec::new();
            while parts.has_remaining() {
                let mut slices = [IoSlice::new(&[]), IoSlice::new(&[])];
                let count = parts.chunks_vectored(&mut slices);
                let first: Vec<u8> = slices[..count].iter().flat_map(|slice| slice.to_vec()).collect();
                let taken = step.min(first.len());
                seen.extend_from_slice(&first[..taken]);
                parts.advance(taken);
            }
            assert_eq!(seen, whole, "in steps of {step}");
        }
    }
}
