//! What the histories have been through.

/// What the histories have been through, so that a suite can tell that it tested something.
#[derive(Clone, Copy, Debug, Default)]
pub struct Coverage {
    pub appends: u64,
    pub duplicates: u64,
    pub power_cuts: u64,
    pub cuts_while_opening: u64,
    pub kills: u64,
    pub failed_syncs: u64,
    pub full_disks: u64,
    pub torn_tails: u64,
    pub segments_deleted: u64,
    pub clean_starts: u64,
    pub scrubs: u64,
}

impl Coverage {
    fn counts(&mut self) -> [&mut u64; 11] {
        let Coverage { appends, duplicates, power_cuts, cuts_while_opening, kills, .. } = self;
        let [a, b, c, d, e] = [appends, duplicates, power_cuts, cuts_while_opening, kills];
        let Coverage { failed_syncs, full_disks, torn_tails, segments_deleted, clean_starts, scrubs, .. } =
            self;
        [a, b, c, d, e, failed_syncs, full_disks, torn_tails, segments_deleted, clean_starts, scrubs]
    }

    /// # Panics
    /// If something that the suite is about has not happened.
    pub fn assert_complete(mut self) {
        let copy = self;
        assert!(self.counts().iter().all(|count| **count >= 10), "hardly tested: {copy:?}");
    }
}

impl std::ops::AddAssign for Coverage {
    fn add_assign(&mut self, mut other: Coverage) {
        for (count, more) in self.counts().into_iter().zip(other.counts()) {
            *count += *more;
        }
    }
}
