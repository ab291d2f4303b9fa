//! The simulated disk keeps what it has to and loses what it may.

use super::*;
use crate::storage::{create_segment, parent, truncate_segment};

fn outcomes<T: Ord>(sim: &SimStorage, look: impl Fn(&SimStorage) -> T) -> std::collections::BTreeSet<T> {
    (0..500).map(|seed| look(&sim.crash(seed))).collect()
}

/// A segment whose name is durable.
fn new_segment(
    sim: &SimStorage,
    path: &str,
    reserve: u64,
    allocate: u64,
) -> io::Result<Arc<dyn SegmentFile>> {
    let file = create_segment(sim, path, reserve, allocate)?;
    sim.sync_dir(parent(path))?;
    Ok(file)
}

fn read(sim: &SimStorage, path: &str) -> Option<Vec<u8>> {
    sim.read(path).ok()
}

#[test]
fn synced_bytes_and_names_survive_every_crash() {
    let sim = SimStorage::new(1);
    let file = new_segment(&sim, "a.log", 8192, 8192).expect("room");
    file.append(0, &[b"kept ", b"bytes"]).expect("room");
    file.sync().expect("healthy");
    sim.write_atomic("meta", b"one").expect("room");
    for seed in 0..500 {
        let crashed = sim.crash(seed);
        let file = crashed.open_segment("a.log", 0, false).expect("its name was synced");
        assert_eq!(file.published(), 8192);
        assert_eq!(&file.slice(0..10), b"kept bytes");
        assert!(file.slice(10..8192).iter().all(|&byte| byte == 0));
        assert_eq!(read(&crashed, "meta").expect("its name was synced"), b"one");
    }
}

#[test]
fn a_name_is_not_durable_before_its_directory_is_synced() {
    let sim = SimStorage::new(1);
    sim.write_synced("a", b"synced").expect("room");
    assert_eq!(outcomes(&sim, |sim| sim.list_dir("").expect("the root")).len(), 2);
    // If the name has survived, so have the bytes.
    assert_eq!(outcomes(&sim, |sim| read(sim, "a")), [None, Some(b"synced".to_vec())].into());
    sim.create_dir_all("d/e").expect("room");
    sim.sync_dir("d/e").expect("healthy");
    assert!(outcomes(&sim, |sim| sim.exists("d/e").expect("readable")).contains(&false));
}

#[test]
fn a_rename_leaves_the_old_or_the_new_and_never_neither() {
    let sim = SimStorage::new(1);
    sim.write_atomic("a", b"old").expect("room");
    sim.write_synced("a.tmp", b"new").expect("room");
    sim.rename("a.tmp", "a").expect("there");
    let seen = outcomes(&sim, |sim| read(sim, "a"));
    assert_eq!(seen, [Some(b"new".to_vec()), Some(b"old".to_vec())].into());
    sim.sync_dir("").expect("healthy");
    assert_eq!(outcomes(&sim, |sim| read(sim, "a")), [Some(b"new".to_vec())].into());
}

#[test]
fn a_removed_file_may_come_back_until_the_directory_is_synced() {
    let sim = SimStorage::new(1);
    sim.write_atomic("a", b"here").expect("room");
    sim.remove_file("a").expect("there");
    assert_eq!(outcomes(&sim, |sim| sim.exists("a").expect("readable")).len(), 2);
    sim.sync_dir("").expect("healthy");
    assert_eq!(outcomes(&sim, |sim| sim.exists("a").expect("readable")), [false].into());
}

#[test]
fn unsynced_bytes_are_dropped_torn_and_reordered() {
    let sim = SimStorage::new(1);
    let file = new_segment(&sim, "a.log", 4 << 20, 16384).expect("room");
    file.sync().expect("healthy");
    for value in 1..=3 {
        file.append(file.published(), &[&[value; 4096]]).expect("room");
    }
    let mut torn = false;
    let seen = outcomes(&sim, |sim| {
        let file = sim.open_segment("a.log", 0, false).expect("its name was synced");
        let arrived =
            |page: u64| file.slice(page * 4096..page * 4096 + 4096).iter().filter(|&&b| b != 0).count();
        [arrived(0), arrived(1), arrived(2)]
    });
    for pages in &seen {
        assert!(pages.iter().all(|bytes| bytes % 512 == 0), "torn within a sector: {pages:?}");
        torn |= pages.iter().any(|bytes| bytes % 4096 != 0);
    }
    assert!(seen.contains(&[0, 0, 0]) && seen.contains(&[4096, 4096, 4096]));
    assert!(seen.contains(&[0, 0, 4096]), "the last page alone");
    assert!(torn, "nothing torn in 500 crashes");
}

#[test]
fn lengths_and_bytes_of_one_file_arrive_apart() {
    let sim = SimStorage::new(1);
    let mut file = new_segment(&sim, "a.log", 1 << 16, 8192).expect("room");
    file.append(0, &[&[1; 8192]]).expect("room");
    file.sync().expect("healthy");
    truncate_segment(&mut file, 100).expect("unshared");
    file.allocate(8192).expect("room");
    for seed in 0..500 {
        let crashed = sim.crash(seed);
        let file = crashed.open_segment("a.log", 0, false).expect("its name was synced");
        let len = file.published();
        assert!([8192, 100].contains(&len), "seed {seed}: length {len}");
        assert_eq!(file.slice(0..100), [1; 100], "seed {seed}");
    }
    // A page that was cut off and given back has nothing of the old file's.
    file.sync().expect("healthy");
    let file = sim.crash(1).open_segment("a.log", 0, false).expect("there");
    assert!(file.slice(100..8192).iter().all(|&byte| byte == 0));
}

#[test]
fn the_power_goes_in_the_operation_that_was_chosen() {
    let script = |sim: &SimStorage| {
        sim.create_dir_all("d")?;
        let file = new_segment(sim, "d/a.log", 8192, 4096)?;
        file.append(0, &[b"bytes"])?;
        file.sync()?;
        sim.write_atomic("d/b", b"bytes")
    };
    let whole = SimStorage::new(7);
    script(&whole).expect("healthy");
    assert_eq!(whole.operations(), 11);
    for operation in 0..whole.operations() {
        let sim = SimStorage::new(7);
        sim.cut_at(operation);
        let error = script(&sim).expect_err("the power is cut");
        assert!(is_power_cut(&error), "operation {operation}: {error}");
        assert!(sim.is_cut());
        assert_eq!(sim.operations(), operation + 1);
        assert!(is_power_cut(&sim.read("d/b").unwrap_err()));
        sim.crash(3).create_dir_all("again").expect("the power is back");
    }
    let traced = SimStorage::new(7);
    traced.record_trace();
    script(&traced).expect("healthy");
    assert_eq!(traced.trace()[3], "    3 sync directory d");
}

#[test]
fn after_a_failed_sync_the_next_one_lies() {
    let sim = SimStorage::new(1);
    let file = new_segment(&sim, "a.log", 1 << 16, 1 << 16).expect("room");
    file.append(0, &[&[1; 40_960]]).expect("room");
    sim.fail_sync(sim.syncs());
    assert_eq!(file.sync().unwrap_err().raw_os_error(), Some(5));
    file.sync().expect("it lies");
    assert_eq!(file.slice(0..40_960), [1; 40_960], "still in the cache");
    file.append(40_960, &[&[2; 100]]).expect("room");
    file.sync().expect("healthy again");
    let crashed = sim.crash(1).open_segment("a.log", 0, false).expect("there");
    assert_ne!(crashed.slice(0..40_960), [1; 40_960], "written by nobody");
    assert_eq!(crashed.slice(40_960..41_060), [2; 100]);
}

#[test]
fn a_page_whose_first_write_failed_is_only_reached_past_the_cache() {
    let (mut stuck, mut arrived) = (0, 0);
    for seed in 0..20 {
        let sim = SimStorage::new(seed);
        let file = new_segment(&sim, "a.log", 1 << 16, 1 << 16).expect("room");
        file.append(0, &[&[1; 4096]]).expect("room");
        sim.fail_sync(sim.syncs());
        file.sync().expect_err("told to");
        let on_disk = |sim: &SimStorage| sim.crash(seed).read("a.log").expect("there")[..4096] == [1; 4096];
        let random = sim.open_random("a.log", false).expect("there");
        random.write_at(0, &[1; 4096]).expect("room");
        random.sync().expect("healthy");
        if on_disk(&sim) {
            arrived += 1
        } else {
            stuck += 1
        }
        sim.rewrite("a.log", 0, &[1; 4096]).expect("room");
        random.sync().expect("healthy");
        assert!(on_disk(&sim), "seed {seed}");
    }
    assert!(stuck > 0 && arrived > 0, "{stuck} are stuck, {arrived} not");
}

#[test]
fn a_full_disk_refuses_and_recovers() {
    let sim = SimStorage::new(1);
    sim.set_capacity(3 * 4096);
    let file = new_segment(&sim, "a.log", 1 << 20, 4096).expect("room");
    sim.write_atomic("b", b"a block").expect("room");
    assert_eq!(sim.free_bytes().expect("on"), 4096);
    let error = file.allocate(3 * 4096).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    assert_eq!(file.allocated(), 4096);
    sim.remove_file("b").expect("there");
    file.allocate(3 * 4096).expect("room again");
}

#[test]
fn a_killed_process_leaves_the_cache_and_its_lock_behind() {
    let sim = SimStorage::new(1);
    let lock = sim.lock("LOCK", "first").expect("free");
    assert!(matches!(sim.lock("LOCK", "second"), Err(LockError::Held { owner }) if owner == "first"));
    let file = new_segment(&sim, "a.log", 4096, 4096).expect("room");
    file.sync().expect("healthy");
    file.append(0, &[b"cached"]).expect("room");
    let next = sim.restart();
    let reopened = next.open_segment("a.log", 0, false).expect("there");
    assert_eq!(reopened.slice(0..6), b"cached");
    assert_eq!(outcomes(&next, |sim| sim.read("a.log").expect("there")[..6].to_vec()).len(), 2);
    next.lock("LOCK", "second").expect("the holder is dead");
    drop(lock);
}

#[test]
fn ignored_syncs_do_nothing_and_say_so_to_nobody() {
    let sim = SimStorage::new(1);
    sim.ignore_syncs(|point| point.is_directory && point.changed_names.contains(&"a.log"));
    new_segment(&sim, "a.log", 4096, 4096).expect("it lies");
    new_segment(&sim, "b.log", 4096, 4096).expect("it lies");
    assert!(outcomes(&sim, |sim| sim.exists("a.log").expect("on")).contains(&false));
    assert!(outcomes(&sim.crash(1), |sim| sim.list_dir("").expect("on")).len() == 1);
}

#[test]
fn a_flipped_bit_is_there_after_a_reopen() {
    let sim = SimStorage::new(1);
    sim.write_atomic("a", &[0, 0, 0]).expect("room");
    sim.flip_bit("a", 9).expect("there");
    assert_eq!(sim.read("a").expect("there"), [0, 2, 0]);
    assert_eq!(sim.crash(1).read("a").expect("there"), [0, 2, 0]);
}

#[test]
fn a_direct_read_sees_the_disk_beneath_the_cache() {
    let sim = SimStorage::new(1);
    let file = new_segment(&sim, "a.log", 4096, 4096).expect("room");
    file.append(0, &[&[0, 0, 0]]).expect("room");
    let direct = |sim: &SimStorage| {
        let file = sim.open_direct("a.log").expect("there");
        assert_eq!(file.len(), 4096);
        let mut bytes = [9; 3];
        assert_eq!(file.read_at(0, &mut bytes).expect("on"), 3);
        bytes
    };
    file.sync().expect("healthy");
    sim.rot_bit("a.log", 9).expect("there");
    assert_eq!((file.slice(0..3), direct(&sim)), (&[0, 0, 0][..], [0, 2, 0]));
    file.append(3, &[&[1; 4000]]).expect("room");
    assert_eq!(direct(&sim), [0, 2, 0], "what is dirty is written back first");
}

#[test]
fn the_same_seed_gives_the_same_disk() {
    let sim = SimStorage::new(1);
    let file = new_segment(&sim, "a.log", 1 << 16, 1 << 16).expect("room");
    file.append(0, &[&[1; 50_000]]).expect("room");
    for seed in 0..20 {
        assert_eq!(sim.crash(seed).read("a.log").ok(), sim.crash(seed).read("a.log").ok());
    }
}
