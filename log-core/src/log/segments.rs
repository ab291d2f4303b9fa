//! The segments of a partition at one moment: an immutable list that readers take as it is while the
//! writer publishes the next one.

use std::sync::Arc;

use super::segment::Segment;

/// Sorted by base offset, without gaps unless data was lost, never empty; the last one is active.
#[derive(Clone, Debug)]
pub(crate) struct Segments {
    list: Vec<Arc<Segment>>,
}

impl Segments {
    /// # Panics
    /// If `list` is empty or not in the order of its base offsets: a bug of the caller.
    pub(crate) fn new(list: Vec<Arc<Segment>>) -> Segments {
        assert!(!list.is_empty(), "a log has an active segment");
        assert!(list.is_sorted_by(|a, b| a.base_offset() < b.base_offset()), "segments out of order");
        Segments { list }
    }

    /// Index of the segment whose range holds `offset`; `None` if that lies before the first.
    pub(crate) fn floor(&self, offset: i64) -> Option<usize> {
        self.list.partition_point(|segment| segment.base_offset() <= offset).checked_sub(1)
    }

    pub(crate) fn as_slice(&self) -> &[Arc<Segment>] {
        &self.list
    }

    /// All but the active one.
    pub(crate) fn sealed(&self) -> &[Arc<Segment>] {
        &self.list[..self.list.len() - 1]
    }

    pub(crate) fn active(&self) -> &Arc<Segment> {
        self.list.last().expect("never empty")
    }

    /// The offset at which the segment at `index` ends and the next one begins; `None` for the
    /// active one.
    pub(crate) fn end_offset(&self, index: usize) -> Option<i64> {
        self.list.get(index + 1).map(|next| next.base_offset())
    }

    /// The list with a new active segment.
    pub(crate) fn rolled(&self, active: Arc<Segment>) -> Segments {
        let mut list = Vec::with_capacity(self.list.len() + 1);
        list.extend_from_slice(&self.list);
        list.push(active);
        Segments::new(list)
    }

    /// The list with `segment` in the place of `replaced`, which lie in it one after another; `None` if
    /// they do not any more.
    pub(crate) fn replaced(&self, replaced: &[Arc<Segment>], segment: Arc<Segment>) -> Option<Segments> {
        let first = self.list.iter().position(|other| Arc::ptr_eq(other, &replaced[0]))?;
        let found = self.list.get(first..first + replaced.len())?;
        if !found.iter().zip(replaced).all(|(a, b)| Arc::ptr_eq(a, b)) {
            return None;
        }
        let mut list = self.list.clone();
        list.splice(first..first + replaced.len(), [segment]);
        Some(Segments::new(list))
    }

    /// The list without its first `count` segments. The active one cannot be among them.
    pub(crate) fn without_first(&self, count: usize) -> Segments {
        Segments::new(self.list[count..].to_vec())
    }
}
