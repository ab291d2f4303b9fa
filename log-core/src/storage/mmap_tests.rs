//! Tests of the mapped disk on a real directory.

use super::*;
use crate::storage::{SegmentSlice, create_segment, truncate_segment};
use bytes::Bytes;

fn storage(mode: WriteMode) -> (tempfile::TempDir, MmapStorage) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let storage = MmapStorage::open(dir.path(), mode).expect("an empty directory opens");
    (dir, storage)
}

#[test]
fn what_is_appended_is_read_by_slice_and_by_call_and_after_a_reopen() {
    for mode in [WriteMode::Mapped, WriteMode::Pwrite] {
        let (_dir, storage) = storage(mode);
        let file = create_segment(&storage, "a.log", 1 << 20, 8192).expect("room");
        file.append(0, &[b"head", b"", b"body"]).expect("room");
        file.append(8, &[b"tail"]).expect("room");
        assert_eq!((file.published(), file.allocated()), (12, 8192));
        assert_eq!(file.slice(2..10), b"adbodyta");
        let mut into = [0; 4];
        assert_eq!(file.read_at(8, &mut into).expect("readable"), 4);
        assert_eq!(&into, b"tail");
        file.sync().expect("a healthy disk");
        file.trim().expect("a healthy disk");
        assert_eq!(storage.file_len("a.log").expect("there"), 12);

        let reopened = storage.open_segment("a.log", 0, false).expect("there");
        assert_eq!(reopened.slice(0..12), b"headbodytail");
    }
}

#[test]
fn small_and_large_appends_mix() {
    for calls_from in [CALL_BYTES_MIN, 100, usize::MAX] {
        let (_dir, storage) = storage(WriteMode::Mapped);
        let storage = storage.with_calls_from(calls_from);
        let file = create_segment(&storage, "a.log", 1 << 20, 1 << 20).expect("room");
        let mut expected = Vec::new();
        let lens = [10, CALL_BYTES_MIN, 1, CALL_BYTES_MIN - 1, 3 * CALL_BYTES_MIN + 7, 4096];
        for (n, len) in lens.into_iter().enumerate() {
            let (head, tail) = (vec![n as u8; len / 3], vec![n as u8 + 100; len - len / 3]);
            file.append(expected.len() as u64, &[&head, &tail]).expect("room");
            expected.extend_from_slice(&head);
            expected.extend_from_slice(&tail);
            assert!(file.slice(0..expected.len() as u64) == expected, "append {n}, calls from {calls_from}");
        }
        let mut by_call = vec![0; expected.len()];
        file.read_at(0, &mut by_call).expect("readable");
        assert!(by_call == expected);
    }
}

#[test]
fn a_cut_segment_appends_on_over_zeros() {
    for mode in [WriteMode::Mapped, WriteMode::Pwrite] {
        let (_dir, storage) = storage(mode);
        let mut file = create_segment(&storage, "a.log", 1 << 16, 4096).expect("room");
        file.append(0, &[&[7; 100]]).expect("room");
        let held = Arc::clone(&file);
        assert_eq!(truncate_segment(&mut file, 10).unwrap_err().kind(), ErrorKind::ResourceBusy);
        drop(held);
        truncate_segment(&mut file, 10).expect("unshared");
        assert_eq!((file.published(), file.allocated()), (10, 10));
        file.allocate(4096).expect("room");
        let mut into = [1; 4];
        file.read_at(10, &mut into).expect("readable");
        assert_eq!(into, [0; 4]);
        file.append(10, &[b"next"]).expect("room");
        assert_eq!(file.slice(8..14), b"\x07\x07next");
    }
}

#[test]
fn slices_outlive_the_file_and_its_name() {
    let (_dir, storage) = storage(WriteMode::Mapped);
    let file = create_segment(&storage, "a.log", 4096, 4096).expect("room");
    file.append(0, &[b"kept"]).expect("room");
    let bytes = Bytes::from(SegmentSlice::new(Arc::clone(&file), 0..4));
    drop(file);
    storage.remove_file("a.log").expect("there");
    assert_eq!(&bytes[..], b"kept");
}

#[test]
fn a_segment_is_never_created_over_another() {
    let (_dir, storage) = storage(WriteMode::Mapped);
    create_segment(&storage, "a.log", 4096, 4096).expect("room");
    let error = create_segment(&storage, "a.log", 4096, 4096).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);
    assert!(storage.exists("a.log").expect("readable"), "the one that was there has been removed");
}

#[test]
fn a_failed_allocation_leaves_the_file_as_it_was() {
    // More than ext4 lets a file have, so that the test does not fill the disk under others.
    const TOO_MUCH: u64 = 1 << 45;
    let (_dir, storage) = storage(WriteMode::Mapped);
    let file = create_segment(&storage, "a.log", TOO_MUCH, 4096).expect("room");
    file.append(0, &[b"kept"]).expect("room");
    file.allocate(TOO_MUCH).expect_err("more than there is");
    assert_eq!(file.allocated(), 4096);
    assert_eq!(storage.file_len("a.log").expect("there"), 4096);
    file.append(4, &[b"more"]).expect("room");
    assert_eq!(file.slice(0..8), b"keptmore");
}

#[test]
#[should_panic(expected = "read past what is published")]
fn nobody_reads_ahead_of_the_writer() {
    let (_dir, storage) = storage(WriteMode::Mapped);
    let file = create_segment(&storage, "a.log", 4096, 4096).expect("room");
    file.append(0, &[b"four"]).expect("room");
    file.slice(0..5);
}

#[test]
fn readers_beside_the_writer_see_whole_appends() {
    let (_dir, storage) = storage(WriteMode::Mapped);
    let file = create_segment(&storage, "a.log", 1 << 20, 1 << 20).expect("room");
    std::thread::scope(|scope| {
        let reader = Arc::clone(&file);
        scope.spawn(move || {
            let mut seen = 0;
            while seen < 1 << 20 {
                let published = reader.published();
                for (i, chunk) in reader.slice(seen..published).chunks(64).enumerate() {
                    assert_eq!(chunk, [(seen as usize / 64 + i) as u8; 64]);
                }
                seen = published;
            }
        });
        for i in 0..(1 << 20) / 64 {
            file.append(i * 64, &[&[i as u8; 32], &[i as u8; 32]]).expect("room");
        }
    });
}

#[test]
fn the_second_to_lock_learns_who_was_first() {
    let (_dir, storage) = storage(WriteMode::Mapped);
    let lock = storage.lock("LOCK", "node 1, process 17").expect("free");
    match storage.lock("LOCK", "me") {
        Err(LockError::Held { owner }) => assert_eq!(owner, "node 1, process 17"),
        other => panic!("locked twice: {other:?}"),
    }
    drop(lock);
    storage.lock("LOCK", "me").expect("free again");
}

#[test]
fn paths_stay_inside_the_root() {
    let (_dir, storage) = storage(WriteMode::Mapped);
    for path in ["../out", "/etc/passwd", "a/../../out"] {
        assert_eq!(storage.read(path).unwrap_err().kind(), ErrorKind::InvalidInput, "{path}");
    }
}

#[test]
fn write_atomic_replaces_and_leaves_nothing_behind() {
    let (_dir, storage) = storage(WriteMode::Mapped);
    storage.create_dir_all("d").expect("room");
    storage.write_atomic("d/f", b"one").expect("room");
    storage.write_atomic("d/f", b"two").expect("room");
    assert_eq!(storage.read("d/f").expect("there"), b"two");
    assert_eq!(storage.list_dir("d").expect("there"), ["f"]);
}

#[test]
fn no_sync_of_any_kind_succeeds_after_one_has_failed() {
    let (_dir, storage) = storage(WriteMode::Mapped);
    let segment = create_segment(&storage, "a.log", 4096, 4096).expect("room");
    let small = storage.open_random("a", true).expect("room");
    type Sync<'a> = (&'a str, &'a dyn Fn() -> io::Result<()>);
    let syncs: [Sync<'_>; 5] = [
        ("segment", &|| segment.sync()),
        ("small file", &|| small.sync()),
        ("directory", &|| storage.sync_dir("")),
        ("whole file", &|| storage.write_synced("b", b"bytes")),
        ("file system", &|| storage.sync_all()),
    ];
    syncs.iter().for_each(|(what, sync)| sync().unwrap_or_else(|error| panic!("{what}: {error}")));
    storage.turns.sync(|| Err(io::Error::from_raw_os_error(5))).expect_err("it failed");
    syncs.iter().for_each(|(what, sync)| assert!(sync().is_err(), "{what}"));
}

#[test]
fn what_is_brought_in_from_the_disk_waits_for_a_sync() {
    let (dir, storage) = storage(WriteMode::Pwrite);
    let segment = create_segment(&storage, "a.log", 1 << 20, 1 << 20).expect("room");
    segment.append(0, &[&[7; 1 << 20]]).expect("room");
    segment.sync().expect("a healthy disk");
    drop(segment);
    // Nobody maps it, so its pages can go.
    let file = File::open(dir.path().join("a.log")).expect("there");
    rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).expect("a file");
    let segment = storage.open_segment("a.log", 0, false).expect("there");
    if segment.is_resident(0..1 << 20) {
        return; // A file system in memory has nothing to bring in.
    }
    let bring_in = || {
        let started = std::time::Instant::now();
        segment.bring_in(0..1 << 20)?;
        assert!(started.elapsed() >= super::super::turns::PATIENCE, "a sync is running");
        Ok(())
    };
    storage.turns.sync(bring_in).expect("a healthy disk");
    assert!(segment.slice(0..1 << 20).iter().all(|byte| *byte == 7));
}

#[test]
fn what_is_mapped_in_is_read_without_faults() {
    const BYTES: u64 = 4 << 20;
    let (_dir, storage) = storage(WriteMode::Pwrite);
    let segment = create_segment(&storage, "a.log", BYTES, BYTES).expect("room");
    for at in (0..BYTES).step_by(4096) {
        segment.append(at, &[&[7; 4096]]).expect("room");
    }
    segment.sync().expect("a healthy disk");
    segment.map_in(0..BYTES);
    let before = faults_of_this_thread();
    let sum: u64 = segment.slice(0..BYTES).iter().step_by(4096).map(|&byte| u64::from(byte)).sum();
    assert_eq!(sum, 7 * BYTES / 4096);
    // A fault fills 16 pages at most, so there would be 64; looking at the count takes some as well.
    let faults = faults_of_this_thread() - before;
    assert!(faults < 32, "{faults}");
}

fn faults_of_this_thread() -> u64 {
    let stat = fs::read_to_string("/proc/thread-self/stat").expect("Linux");
    let (_, fields) = stat.rsplit_once(") ").expect("a name in brackets");
    // The first of these is the third in proc_pid_stat(5), which counts minor faults as its tenth.
    fields.split(' ').nth(7).and_then(|faults| faults.parse().ok()).expect("a number")
}
