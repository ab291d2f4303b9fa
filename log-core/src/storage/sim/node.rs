//! What a simulated file or directory is now, what of it is durable, and what a crash makes of it.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// Bytes that a disk writes at once or not at all, if it keeps to the oldest promise there is.
const SECTOR_BYTES: u64 = 512;
/// Bytes that the page cache writes back at once.
pub(super) const PAGE_BYTES: u64 = 4096;

/// Names a file or directory; not used again.
pub(super) type NodeId = u64;

/// A file or a directory.
#[derive(Clone)]
pub(super) enum Node {
    File(FileNode),
    Directory(DirectoryNode),
}

/// Which of the changes that were not synced have reached the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Survival {
    /// None.
    Nothing,
    /// All of them.
    Everything,
    /// Those of operations before this one: written back in order, all but the last.
    Before(u64),
    /// Any, torn and out of order.
    Anything,
}

impl Survival {
    pub(super) fn choose(random: &mut fastrand::Rng, operations: u64) -> Survival {
        match random.u8(0..8) {
            0 => Survival::Nothing,
            1 => Survival::Everything,
            2 => Survival::Before(random.u64(0..=operations)),
            _ => Survival::Anything,
        }
    }
}

/// The bytes of a file. Zeros at the end are not stored.
#[derive(Clone, Default)]
pub(super) struct Content {
    bytes: Vec<u8>,
    len: u64,
}

impl Content {
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// The bytes up to the last one that was stored; zeros follow.
    pub(super) fn stored(&self) -> &[u8] {
        &self.bytes
    }

    pub(super) fn read_at(&self, pos: u64, into: &mut [u8]) -> usize {
        let count = (self.len.saturating_sub(pos) as usize).min(into.len());
        into[..count].fill(0);
        if let Some(stored) = self.bytes.get(pos as usize..) {
            let stored = &stored[..stored.len().min(count)];
            into[..stored.len()].copy_from_slice(stored);
        }
        count
    }

    /// The bytes of a page that are stored.
    fn stored_of(&mut self, page: u64) -> &mut [u8] {
        let start = page * PAGE_BYTES;
        let end = (start + PAGE_BYTES).min(self.bytes.len() as u64);
        &mut self.bytes[start.min(end) as usize..end as usize]
    }

    /// Whether a page holds anything but zeros.
    fn has_data(&self, page: u64) -> bool {
        let stored = self.bytes.iter().skip((page * PAGE_BYTES) as usize).take(PAGE_BYTES as usize);
        stored.into_iter().any(|&byte| byte != 0)
    }

    fn store(&mut self, pos: u64, bytes: &[u8]) {
        let end = pos as usize + bytes.len();
        if self.bytes.len() < end {
            self.bytes.resize(end, 0);
        }
        self.bytes[pos as usize..end].copy_from_slice(bytes);
        self.len = self.len.max(end as u64);
    }

    fn set_len(&mut self, len: u64) {
        self.bytes.truncate(len as usize);
        self.len = len;
    }

    fn apply(&mut self, change: &FileChange) {
        match &change.what {
            What::Store { pos, bytes } => self.store(*pos, bytes),
            What::SetLen(len) => self.set_len(*len),
        }
    }

    pub(super) fn flip_bit(&mut self, bit: u64) {
        let pos = bit / 8;
        let mut byte = [0];
        if self.read_at(pos, &mut byte) == 1 {
            self.store(pos, &[byte[0] ^ 1 << (bit % 8)]);
        }
    }
}

#[derive(Clone)]
struct FileChange {
    operation: u64,
    what: What,
}

#[derive(Clone)]
enum What {
    Store { pos: u64, bytes: Vec<u8> },
    SetLen(u64),
}

/// A file.
#[derive(Clone, Default)]
pub(super) struct FileNode {
    /// What a process reads.
    pub(super) live: Content,
    durable: Content,
    /// What makes the one of the other, oldest first.
    changes: Vec<FileChange>,
    /// Whether it has ever been synced.
    pub(super) synced: bool,
    /// Pages whose first write has failed: what is written to them through the cache never arrives.
    stuck: BTreeSet<u64>,
    /// Pages that are not in memory. Only pages that are durable ever leave it.
    cold: BTreeSet<u64>,
    /// Pages that the device cannot read any more.
    unreadable: BTreeSet<u64>,
}

impl FileNode {
    pub(super) fn store(&mut self, operation: u64, pos: u64, bytes: Vec<u8>) {
        self.change(operation, What::Store { pos, bytes });
    }

    pub(super) fn set_len(&mut self, operation: u64, len: u64) {
        self.change(operation, What::SetLen(len));
    }

    fn change(&mut self, operation: u64, what: What) {
        if let What::Store { pos, bytes } = &what {
            // A page that is written to is in memory, whatever that took.
            for page in pages(*pos..pos + bytes.len() as u64) {
                self.cold.remove(&page);
            }
        }
        if let What::SetLen(len) = &what {
            // Blocks that are given back, and with them what was wrong with them.
            self.stuck.retain(|page| page * PAGE_BYTES < *len);
        }
        let change = FileChange { operation, what };
        self.live.apply(&change);
        self.changes.push(change);
    }

    pub(super) fn sync(&mut self) {
        let mut durable = std::mem::take(&mut self.durable);
        self.changes.drain(..).for_each(|change| durable.apply(&change));
        self.durable = self.without_stuck(durable);
        self.synced = true;
    }

    /// A sync that failed: some pages have arrived, and the others count as written from now on.
    pub(super) fn lose(&mut self, random: &mut fastrand::Rng) {
        self.durable = self.torn(PAGE_BYTES, random);
        self.durable.set_len(self.live.len);
        self.changes.clear();
        let fresh = pages(0..self.live.len)
            .filter(|&page| self.live.has_data(page) && !self.durable.has_data(page) && random.bool());
        self.stuck.extend(fresh);
    }

    /// Has what is stored in a range arrive again.
    pub(super) fn unstick(&mut self, range: Range<u64>) {
        for page in pages(range) {
            self.stuck.remove(&page);
        }
    }

    pub(super) fn flip_bit(&mut self, bit: u64) {
        self.live.flip_bit(bit);
        self.durable.flip_bit(bit);
    }

    /// Flips a bit of what is on the disk, beneath the page cache.
    pub(super) fn rot_bit(&mut self, bit: u64) {
        self.durable.flip_bit(bit);
    }

    /// What the disk holds once all that is dirty has been written back.
    pub(super) fn written_back(&self) -> Content {
        let mut content = self.durable.clone();
        self.changes.iter().for_each(|change| content.apply(change));
        self.without_stuck(content)
    }

    /// `content` as it arrives on the disk.
    fn without_stuck(&self, mut content: Content) -> Content {
        for &page in &self.stuck {
            content.stored_of(page).fill(0);
        }
        content
    }

    /// Drops from memory what is durable: everything, unless a change is under way.
    pub(super) fn evict(&mut self) {
        if self.changes.is_empty() {
            self.live = self.durable.clone();
            self.stuck.clear();
            self.cold = pages(0..self.live.len).collect();
        }
    }

    /// Makes a range unreadable for the device. What is in memory can still be read.
    pub(super) fn fail_reads(&mut self, range: Range<u64>) {
        self.unreadable.extend(pages(range));
    }

    /// Whether the device can read a range.
    pub(super) fn is_readable(&self, range: Range<u64>) -> bool {
        self.unreadable.is_empty() || pages(range).all(|page| !self.unreadable.contains(&page))
    }

    pub(super) fn is_resident(&self, range: Range<u64>) -> bool {
        self.cold.is_empty() || pages(range).all(|page| !self.cold.contains(&page))
    }

    /// Brings a range into memory, up to the first page that the device cannot read. False if there
    /// is one.
    pub(super) fn bring_in(&mut self, range: Range<u64>) -> bool {
        pages(range.start..range.end.min(self.live.len)).all(|page| {
            let readable = !(self.cold.contains(&page) && self.unreadable.contains(&page));
            if readable {
                self.cold.remove(&page);
            }
            readable
        })
    }

    pub(super) fn crashed(&self, survival: Survival, random: &mut fastrand::Rng) -> FileNode {
        let mut durable = self.durable.clone();
        match survival {
            _ if self.changes.is_empty() => {}
            Survival::Nothing => {}
            Survival::Everything => self.changes.iter().for_each(|change| durable.apply(change)),
            Survival::Before(operation) => {
                self.changes
                    .iter()
                    .filter(|change| change.operation < operation)
                    .for_each(|c| durable.apply(c));
            }
            Survival::Anything => {
                let unit = if random.bool() { SECTOR_BYTES } else { PAGE_BYTES };
                durable = self.torn(unit, random);
            }
        }
        let durable = self.without_stuck(durable);
        FileNode {
            stuck: BTreeSet::new(),
            cold: pages(0..durable.len).collect(),
            live: durable.clone(),
            durable,
            changes: Vec::new(),
            synced: self.synced,
            unreadable: self.unreadable.clone(),
        }
    }

    /// The file as it is if each unit of it was last written back at a moment of its own, and its
    /// length at another.
    fn torn(&self, unit: u64, random: &mut fastrand::Rng) -> Content {
        let count = self.changes.len();
        let length_moment = moment(count, random);
        let mut torn = self.durable.clone();
        // Lengths are in the file system's journal: a prefix of their changes arrives.
        let mut len = self.durable.len;
        let mut shrunk: Vec<(usize, u64)> = Vec::new();
        for (index, change) in self.changes[..length_moment].iter().enumerate() {
            match &change.what {
                What::Store { pos, bytes } => len = len.max(pos + bytes.len() as u64),
                What::SetLen(to) => {
                    if *to < len {
                        shrunk.push((index, to.next_multiple_of(PAGE_BYTES)));
                    }
                    len = *to;
                }
            }
        }
        let end = self.live.bytes.len().max(self.durable.bytes.len()).max(self.changed_end()) as u64;
        for start in (0..end).step_by(unit as usize) {
            // Blocks that a cut has given back come back empty.
            let freed = shrunk.iter().rev().find(|(_, to)| *to <= start).map_or(0, |(index, _)| index + 1);
            let written = moment(count, random).max(freed);
            for change in &self.changes[..written] {
                torn.apply_within(change, start, start + unit);
            }
        }
        torn.set_len(len);
        torn
    }

    fn changed_end(&self) -> usize {
        let end = |change: &FileChange| match &change.what {
            What::Store { pos, bytes } => *pos as usize + bytes.len(),
            What::SetLen(_) => 0,
        };
        self.changes.iter().map(end).max().unwrap_or(0)
    }
}

impl Content {
    /// Applies the part of a change that falls into `[start, end)`. The length only ever grows here.
    fn apply_within(&mut self, change: &FileChange, start: u64, end: u64) {
        match &change.what {
            What::Store { pos, bytes } => {
                let (from, to) = (start.max(*pos), end.min(pos + bytes.len() as u64));
                if from < to {
                    self.store(from, &bytes[(from - pos) as usize..(to - pos) as usize]);
                }
            }
            What::SetLen(len) => {
                let (from, to) = (start.max(*len) as usize, (end as usize).min(self.bytes.len()));
                if from < to {
                    self.bytes[from..to].fill(0);
                }
            }
        }
    }
}

/// The numbers of the pages that a range lies in.
fn pages(range: Range<u64>) -> Range<u64> {
    range.start / PAGE_BYTES..range.end.div_ceil(PAGE_BYTES)
}

/// How many of `count` changes had been made when something was written back. Before the first and
/// after the last are as likely as all the moments between.
fn moment(count: usize, random: &mut fastrand::Rng) -> usize {
    match random.u8(0..3) {
        0 => 0,
        1 => count,
        _ => random.usize(0..=count),
    }
}

#[derive(Clone)]
struct NameChange {
    operation: u64,
    /// The name that goes.
    unlink: Option<String>,
    /// The name that comes, and whose it is.
    link: Option<(String, NodeId)>,
}

/// A directory.
#[derive(Clone, Default)]
pub(super) struct DirectoryNode {
    /// What a process sees.
    pub(super) live: BTreeMap<String, NodeId>,
    durable: BTreeMap<String, NodeId>,
    changes: Vec<NameChange>,
}

impl DirectoryNode {
    /// Takes one name away and gives another, both at once.
    pub(super) fn change(&mut self, operation: u64, unlink: Option<&str>, link: Option<(&str, NodeId)>) {
        let link = link.map(|(name, id)| (name.to_owned(), id));
        let change = NameChange { operation, unlink: unlink.map(str::to_owned), link };
        apply(&mut self.live, &change);
        self.changes.push(change);
    }

    pub(super) fn sync(&mut self) {
        for change in self.changes.drain(..) {
            apply(&mut self.durable, &change);
        }
    }

    /// The names that have come and gone since the last sync.
    pub(super) fn changed_names(&self) -> impl Iterator<Item = &str> {
        self.changes.iter().flat_map(|change| {
            change.unlink.as_deref().into_iter().chain(change.link.as_ref().map(|(name, _)| name.as_str()))
        })
    }

    pub(super) fn crashed(&self, survival: Survival, random: &mut fastrand::Rng) -> DirectoryNode {
        let mut names = self.durable.clone();
        // Half of the disks have a journal, on which changes of names arrive in order.
        let ordered = moment(self.changes.len(), random);
        let journal = random.bool();
        for (index, change) in self.changes.iter().enumerate() {
            let arrives = match survival {
                Survival::Nothing => false,
                Survival::Everything => true,
                Survival::Before(operation) => change.operation < operation,
                Survival::Anything if journal => index < ordered,
                Survival::Anything => random.bool(),
            };
            if arrives {
                apply(&mut names, change);
            }
        }
        DirectoryNode { live: names.clone(), durable: names, changes: Vec::new() }
    }
}

fn apply(names: &mut BTreeMap<String, NodeId>, change: &NameChange) {
    if let Some(name) = &change.unlink {
        names.remove(name);
    }
    if let Some((name, id)) = &change.link {
        names.insert(name.clone(), *id);
    }
}
