//! The simulated disk itself: its tree, its numbered operations and its faults.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use super::super::parent;
use super::node::{DirectoryNode, FileNode, Node, NodeId, PAGE_BYTES, Survival};

const ROOT: NodeId = 0;
const EIO: i32 = 5;
const ENOSPC: i32 = 28;

/// A sync that is about to happen.
#[derive(Clone, Debug)]
pub struct SyncPoint<'a> {
    /// What is to be synced: a file or a directory.
    pub path: &'a str,
    /// Whether it is a directory.
    pub is_directory: bool,
    /// The names in it that have come or gone since its last sync, if it is a directory.
    pub changed_names: Vec<&'a str>,
    /// Whether it has been synced before, if it is a file.
    pub synced_before: bool,
    /// Whether it is the whole disk.
    pub is_everything: bool,
}

/// Says which syncs are ignored.
pub(super) type SyncFilter = dyn Fn(&SyncPoint<'_>) -> bool + Send + Sync;

/// See [`SimStorage`](super::SimStorage).
pub(super) struct Disk {
    nodes: BTreeMap<NodeId, Node>,
    next_id: NodeId,
    random: fastrand::Rng,
    pub(super) operations: u64,
    pub(super) syncs: u64,
    pub(super) cut_at: Option<u64>,
    pub(super) cut: bool,
    pub(super) fail_sync: Option<u64>,
    pub(super) capacity: u64,
    pub(super) ignored: Option<Arc<SyncFilter>>,
    pub(super) trace: Option<Vec<String>>,
    pub(super) lock_owner: Option<String>,
}

/// An operation that is under way.
struct Operation {
    number: u64,
    /// Whether the power goes at its end.
    cut: bool,
}

impl Disk {
    pub(super) fn new(seed: u64) -> Disk {
        Disk {
            nodes: BTreeMap::from([(ROOT, Node::Directory(DirectoryNode::default()))]),
            next_id: ROOT + 1,
            random: fastrand::Rng::with_seed(seed),
            operations: 0,
            syncs: 0,
            cut_at: None,
            cut: false,
            fail_sync: None,
            capacity: u64::MAX,
            ignored: None,
            trace: None,
            lock_owner: None,
        }
    }

    pub(super) fn crashed(&self, seed: u64) -> Disk {
        let mut random = fastrand::Rng::with_seed(seed);
        let survival = Survival::choose(&mut random, self.operations);
        let nodes = self.nodes.iter().map(|(&id, node)| {
            let node = match node {
                Node::File(file) => Node::File(file.crashed(survival, &mut random)),
                Node::Directory(directory) => Node::Directory(directory.crashed(survival, &mut random)),
            };
            (id, node)
        });
        let mut disk = Disk { nodes: nodes.collect(), next_id: self.next_id, ..Disk::new(seed) };
        disk.capacity = self.capacity;
        disk.ignored = self.ignored.clone();
        disk.trace = self.trace_with(format!("      the power is back: {survival:?}, seed {seed}"));
        let reachable: BTreeSet<NodeId> = disk.reachable().into_iter().collect();
        disk.nodes.retain(|id, _| reachable.contains(id));
        disk
    }

    pub(super) fn restarted(&self) -> Disk {
        Disk {
            nodes: self.nodes.clone(),
            next_id: self.next_id,
            random: self.random.clone(),
            operations: self.operations,
            syncs: self.syncs,
            capacity: self.capacity,
            ignored: self.ignored.clone(),
            trace: self.trace_with("      the process was killed".to_owned()),
            ..Disk::new(0)
        }
    }

    fn trace_with(&self, line: String) -> Option<Vec<String>> {
        let mut trace = self.trace.clone()?;
        trace.push(line);
        Some(trace)
    }

    /// Adds a line to the trace, if one is kept.
    pub(super) fn note(&mut self, line: fmt::Arguments<'_>) {
        if let Some(trace) = &mut self.trace {
            trace.push(format!("      {line}"));
        }
    }

    /// Fails after a power cut.
    pub(super) fn powered(&self) -> io::Result<()> {
        if self.cut { Err(power_cut()) } else { Ok(()) }
    }

    /// Begins an operation. If the power is to be cut in it, that happens here or in
    /// [`end`](Disk::end), with all of the operation between.
    fn begin(&mut self, what: fmt::Arguments<'_>) -> io::Result<Operation> {
        self.powered()?;
        let number = self.operations;
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{number:5} {what}"));
        }
        self.operations += 1;
        let cut = self.cut_at == Some(number);
        self.cut = cut && self.random.bool();
        self.powered()?;
        Ok(Operation { number, cut })
    }

    fn end(&mut self, operation: Operation) -> io::Result<()> {
        self.cut = operation.cut;
        self.powered()
    }

    fn find(&self, path: &str) -> io::Result<NodeId> {
        self.powered()?;
        let mut id = ROOT;
        for name in path.split('/').filter(|name| !name.is_empty()) {
            id = match &self.nodes[&id] {
                Node::Directory(directory) => *directory.live.get(name).ok_or(io::ErrorKind::NotFound)?,
                Node::File(_) => return Err(io::ErrorKind::NotADirectory.into()),
            };
        }
        Ok(id)
    }

    pub(super) fn find_file(&self, path: &str) -> io::Result<NodeId> {
        let id = self.find(path)?;
        match &self.nodes[&id] {
            Node::File(_) => Ok(id),
            Node::Directory(_) => Err(io::ErrorKind::IsADirectory.into()),
        }
    }

    fn find_directory(&self, path: &str) -> io::Result<NodeId> {
        let id = self.find(path)?;
        match &self.nodes[&id] {
            Node::Directory(_) => Ok(id),
            Node::File(_) => Err(io::ErrorKind::NotADirectory.into()),
        }
    }

    /// The file behind an id that [`find_file`](Disk::find_file) or a creation gave out.
    pub(super) fn file(&self, id: NodeId) -> &FileNode {
        match &self.nodes[&id] {
            Node::File(file) => file,
            Node::Directory(_) => unreachable!("ids of files are not given to directories"),
        }
    }

    fn file_mut(&mut self, id: NodeId) -> &mut FileNode {
        match self.nodes.get_mut(&id) {
            Some(Node::File(file)) => file,
            _ => unreachable!("ids of files are not given to directories"),
        }
    }

    fn directory_mut(&mut self, id: NodeId) -> &mut DirectoryNode {
        match self.nodes.get_mut(&id) {
            Some(Node::Directory(directory)) => directory,
            _ => unreachable!("ids of directories are not given to files"),
        }
    }

    fn add(&mut self, path: &str, what: &str, node: Node) -> io::Result<NodeId> {
        let directory = self.find_directory(parent(path))?;
        let operation = self.begin(format_args!("{what} {path}"))?;
        let id = self.next_id;
        self.next_id += 1;
        self.nodes.insert(id, node);
        self.directory_mut(directory).change(operation.number, None, Some((name(path), id)));
        self.end(operation)?;
        Ok(id)
    }

    pub(super) fn exists(&self, path: &str) -> io::Result<bool> {
        match self.find(path) {
            Ok(_) => Ok(true),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    pub(super) fn list_dir(&self, path: &str) -> io::Result<Vec<String>> {
        match &self.nodes[&self.find_directory(path)?] {
            Node::Directory(directory) => Ok(directory.live.keys().cloned().collect()),
            Node::File(_) => unreachable!("found as a directory"),
        }
    }

    pub(super) fn create_dir_all(&mut self, path: &str) -> io::Result<()> {
        let ends = path.match_indices('/').map(|(at, _)| at).chain([path.len()]);
        for path in ends.map(|end| &path[..end]) {
            if !self.exists(path)? {
                self.add(path, "create directory", Node::Directory(DirectoryNode::default()))?;
            }
        }
        Ok(())
    }

    pub(super) fn create_file(&mut self, path: &str) -> io::Result<NodeId> {
        self.add(path, "create", Node::File(FileNode::default()))
    }

    pub(super) fn remove_file(&mut self, path: &str) -> io::Result<()> {
        self.find_file(path)?;
        self.unlink(path)
    }

    pub(super) fn remove_dir_all(&mut self, path: &str) -> io::Result<()> {
        for name in self.list_dir(path)? {
            let path = format!("{path}/{name}");
            match self.nodes[&self.find(&path)?] {
                Node::Directory(_) => self.remove_dir_all(&path)?,
                Node::File(_) => self.unlink(&path)?,
            }
        }
        self.unlink(path)
    }

    /// The node stays: a crash may bring the name back, and a process may have the file open.
    fn unlink(&mut self, path: &str) -> io::Result<()> {
        let directory = self.find_directory(parent(path))?;
        let operation = self.begin(format_args!("remove {path}"))?;
        self.directory_mut(directory).change(operation.number, Some(name(path)), None);
        self.end(operation)
    }

    /// Within one directory: what a crash between the syncs of two would leave is nobody's promise.
    pub(super) fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        if parent(from) != parent(to) {
            return Err(io::ErrorKind::CrossesDevices.into());
        }
        let id = self.find(from)?;
        let directory = self.find_directory(parent(from))?;
        let operation = self.begin(format_args!("rename {from} to {to}"))?;
        self.directory_mut(directory).change(operation.number, Some(name(from)), Some((name(to), id)));
        self.end(operation)
    }

    /// Stores what the parts make together. If the power is cut in it, a part of that is stored.
    pub(super) fn store(&mut self, id: NodeId, path: &str, pos: u64, parts: &[&[u8]]) -> io::Result<()> {
        let mut bytes = parts.concat();
        let end = pos + bytes.len() as u64;
        let operation = self.begin(format_args!("store {path} {pos}..{end}"))?;
        self.reserve(id, end)?;
        if operation.cut {
            bytes.truncate(self.random.usize(0..=bytes.len()));
        }
        self.file_mut(id).store(operation.number, pos, bytes);
        self.end(operation)
    }

    /// Stores bytes past the page cache.
    pub(super) fn rewrite(&mut self, id: NodeId, path: &str, pos: u64, bytes: &[u8]) -> io::Result<()> {
        self.file_mut(id).unstick(pos..pos + bytes.len() as u64);
        self.store(id, path, pos, &[bytes])
    }

    pub(super) fn set_len(&mut self, id: NodeId, path: &str, len: u64) -> io::Result<()> {
        let operation = self.begin(format_args!("length {path} {len}"))?;
        self.reserve(id, len)?;
        self.file_mut(id).set_len(operation.number, len);
        self.end(operation)
    }

    pub(super) fn sync_file(&mut self, id: NodeId, path: &str) -> io::Result<()> {
        let operation = self.begin(format_args!("sync {path}"))?;
        let synced_before = self.file(id).synced;
        let point = SyncPoint {
            path,
            is_directory: false,
            changed_names: Vec::new(),
            synced_before,
            is_everything: false,
        };
        let ignored = self.ignored.as_ref().is_some_and(|ignored| ignored(&point));
        let fails = self.count_sync();
        let Disk { nodes, random, .. } = self;
        match nodes.get_mut(&id) {
            Some(Node::File(file)) if fails => file.lose(random),
            Some(Node::File(file)) if !ignored => file.sync(),
            _ => {}
        }
        if fails { Err(io::Error::from_raw_os_error(EIO)) } else { self.end(operation) }
    }

    pub(super) fn sync_dir(&mut self, path: &str) -> io::Result<()> {
        let id = self.find_directory(path)?;
        let operation = self.begin(format_args!("sync directory {path}"))?;
        let fails = self.count_sync();
        let Disk { nodes, ignored, .. } = self;
        let Some(Node::Directory(directory)) = nodes.get_mut(&id) else {
            unreachable!("found as a directory");
        };
        let changed_names = directory.changed_names().collect();
        let point =
            SyncPoint { path, is_directory: true, changed_names, synced_before: true, is_everything: false };
        let ignored = ignored.as_ref().is_some_and(|ignored| ignored(&point));
        if fails {
            // Names are in the file system's journal. Unlike pages that were not written they do not
            // pass for written afterwards.
            return Err(io::Error::from_raw_os_error(EIO));
        }
        if !ignored {
            directory.sync();
        }
        self.end(operation)
    }

    /// Syncs every file and every directory. One operation, and one sync.
    pub(super) fn sync_all(&mut self) -> io::Result<()> {
        let operation = self.begin(format_args!("sync everything"))?;
        let point = SyncPoint {
            path: "",
            is_directory: false,
            changed_names: Vec::new(),
            synced_before: true,
            is_everything: true,
        };
        let ignored = self.ignored.as_ref().is_some_and(|ignored| ignored(&point));
        let fails = self.count_sync();
        let Disk { nodes, random, .. } = self;
        for node in nodes.values_mut() {
            match node {
                Node::File(file) if fails => file.lose(random),
                Node::File(file) if !ignored => file.sync(),
                Node::Directory(directory) if !fails && !ignored => directory.sync(),
                _ => {}
            }
        }
        if fails { Err(io::Error::from_raw_os_error(EIO)) } else { self.end(operation) }
    }

    /// Counts a sync and says whether it is the one that fails.
    fn count_sync(&mut self) -> bool {
        let number = self.syncs;
        self.syncs += 1;
        self.fail_sync == Some(number)
    }

    /// Fails if the disk has no blocks for the file to grow to `end`.
    fn reserve(&self, id: NodeId, end: u64) -> io::Result<()> {
        let blocks = |len: u64| len.next_multiple_of(PAGE_BYTES);
        let len = self.file(id).live.len();
        let more = blocks(end).saturating_sub(blocks(len));
        if more > 0 && self.capacity != u64::MAX && self.used_bytes() + more > self.capacity {
            return Err(io::Error::from_raw_os_error(ENOSPC));
        }
        Ok(())
    }

    /// Bytes of all blocks of files that have a name.
    pub(super) fn used_bytes(&self) -> u64 {
        self.reachable()
            .iter()
            .filter_map(|id| match &self.nodes[id] {
                Node::File(file) => Some(file.live.len().next_multiple_of(PAGE_BYTES)),
                Node::Directory(_) => None,
            })
            .sum()
    }

    fn reachable(&self) -> Vec<NodeId> {
        let mut reached = vec![ROOT];
        let mut at = 0;
        while at < reached.len() {
            if let Node::Directory(directory) = &self.nodes[&reached[at]] {
                reached.extend(directory.live.values());
            }
            at += 1;
        }
        reached
    }

    /// Fails if the device cannot read a range, whatever of it is in memory.
    pub(super) fn readable(&self, id: NodeId, range: Range<u64>) -> io::Result<()> {
        self.powered()?;
        if self.file(id).is_readable(range) { Ok(()) } else { Err(io::Error::from_raw_os_error(EIO)) }
    }

    /// Brings bytes into memory, as far as the file has them.
    pub(super) fn bring_in(&mut self, id: NodeId, range: Range<u64>) -> io::Result<()> {
        self.powered()?;
        if self.file_mut(id).bring_in(range) { Ok(()) } else { Err(io::Error::from_raw_os_error(EIO)) }
    }

    pub(super) fn evict(&mut self, path: &str) -> io::Result<()> {
        let id = self.find_file(path)?;
        self.file_mut(id).evict();
        Ok(())
    }

    pub(super) fn fail_reads(&mut self, path: &str, range: Range<u64>) -> io::Result<()> {
        let id = self.find_file(path)?;
        self.file_mut(id).fail_reads(range);
        Ok(())
    }

    pub(super) fn flip_bit(&mut self, path: &str, bit: u64) -> io::Result<()> {
        let id = self.find_file(path)?;
        self.file_mut(id).flip_bit(bit);
        Ok(())
    }

    pub(super) fn rot_bit(&mut self, path: &str, bit: u64) -> io::Result<()> {
        let id = self.find_file(path)?;
        self.file_mut(id).rot_bit(bit);
        Ok(())
    }
}

fn name(path: &str) -> &str {
    path.rsplit_once('/').map_or(path, |(_, name)| name)
}

/// The error of every operation from the power cut on.
#[derive(Debug)]
struct PowerCut;

impl fmt::Display for PowerCut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the power of the simulated disk is cut")
    }
}

impl std::error::Error for PowerCut {}

fn power_cut() -> io::Error {
    io::Error::other(PowerCut)
}

/// Whether an error comes of a simulated power cut.
pub fn is_power_cut(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<PowerCut>())
}
