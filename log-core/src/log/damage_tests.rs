//! Damage that a start or a reader finds: never cut, never passed on, and made good where the log itself suffices.

use std::os::unix::fs::FileExt;

use super::testing::{Disk, batch, fill, numbered, read_all, small_segments};
use super::*;

#[test]
fn what_a_reader_finds_damaged_before_a_checkpoint_is_not_cut_by_the_next_start() {
    for clean in [false, true] {
        let disk = Disk::new();
        let (mut log, _) = disk.open(&LogConfig::default());
        fill(&mut log, 0..4);
        log.flush().expect("a healthy disk");
        fill(&mut log, 4..6);
        flip(&disk, 70);
        let found = log.reader().read(0, 1 << 20, Isolation::Uncommitted, true);
        assert!(matches!(found, Err(ReadError::Corrupt(_))), "{found:?}");
        if clean {
            log.close().expect("a healthy disk");
        } else {
            log.flush().expect("a healthy disk");
            log.write_checkpoint().expect("a healthy disk");
        }
        drop(log);
        let (log, _) = disk.open(&LogConfig::default());
        assert_eq!(log.watermarks().high_watermark(), 6, "clean stop: {clean}");
        assert!(!disk.root.path().join("quarantine").exists());
        assert_eq!(read_all(&log.reader(), 1), numbered(1..6));
    }
}

#[test]
fn damage_below_the_checkpoint_is_never_cut() {
    let disk = Disk::new();
    let (mut log, _) = disk.open(&small_segments());
    fill(&mut log, 0..100);
    log.close().expect("a healthy disk");
    let victim = log.segments()[1].base_offset;
    let path = disk.path(&format!("{victim:020}.log"));
    let mut bytes = std::fs::read(&path).expect("there");
    bytes[70] ^= 1;
    std::fs::write(&path, &bytes).expect("room");

    let (mut log, _) = disk.open(&small_segments());
    let reader = log.reader();
    assert!(matches!(
        reader.read(victim, 1 << 20, Isolation::Uncommitted, true),
        Err(ReadError::Corrupt(corruption)) if corruption.offset == victim
    ));
    assert_eq!(read_all(&reader, victim + 1), numbered(victim + 1..100), "behind the hole");
    let before = reader.read(victim - 1, 1 << 20, Isolation::Uncommitted, true).expect("before the hole");
    assert_eq!(before.next_offset, victim);
    assert!(matches!(log.append(&batch(1, &["x"]), 0, 1), Err(AppendError::Corrupt(_))));
    log.close().expect("nothing to do");
    assert_eq!(std::fs::read(&path).expect("there"), bytes, "untouched");
}

#[test]
fn what_a_reader_has_found_is_known_after_a_restart_until_it_is_sound() {
    let disk = Disk::new();
    let (mut log, _) = disk.open(&small_segments());
    fill(&mut log, 0..100);
    log.close().expect("a healthy disk");
    let sealed = log.segments()[1].base_offset;
    let path = disk.path(&format!("{sealed:020}.log"));
    let sound = std::fs::read(&path).expect("there");
    let mut bytes = sound.clone();
    bytes[70] ^= 1;
    std::fs::write(&path, &bytes).expect("room");
    let (log, _) = disk.open(&small_segments());
    assert_eq!(log.reader().corruption(), None, "a start reads no sealed segment");
    log.reader().read(sealed, 1, Isolation::Uncommitted, true).expect_err("damaged");
    drop(log);

    for _ in 0..2 {
        let (mut log, _) = disk.open(&small_segments());
        assert_eq!(log.reader().corruption().expect("known").offset, sealed);
        assert!(matches!(log.append(&batch(1, &["x"]), 0, 1), Err(AppendError::Corrupt(_))));
    }
    std::fs::write(&path, &sound).expect("room");
    let (mut log, _) = disk.open(&small_segments());
    log.append(&batch(1, &["x"]), 0, 1).expect("sound again");
    assert!(!disk.path("damage.json").exists());
}

#[test]
fn a_file_shorter_than_its_checkpoint_makes_the_log_read_only() {
    let disk = Disk::new();
    let (mut log, _) = disk.open(&LogConfig::default());
    fill(&mut log, 0..10);
    log.close().expect("a healthy disk");
    let path = disk.path("00000000000000000000.log");
    let bytes = std::fs::read(&path).expect("there");
    std::fs::write(&path, &bytes[..bytes.len() - 5]).expect("room");
    let (mut log, report) = disk.open(&LogConfig::default());
    assert_eq!(report.corruption.expect("noticed").offset, 9);
    assert_eq!(log.watermarks().log_end(), 10, "offset 9 was acknowledged and is not given out again");
    let reader = log.reader();
    assert_eq!(reader.read(0, 1 << 20, Isolation::Uncommitted, true).expect("sound").next_offset, 9);
    assert!(matches!(reader.read(9, 1, Isolation::Uncommitted, true), Err(ReadError::Corrupt(_))));
    assert!(log.append(&batch(1, &["x"]), 0, 1).is_err());
}

#[test]
fn a_missing_segment_makes_the_log_read_only() {
    let disk = Disk::new();
    let (mut log, _) = disk.open(&small_segments());
    fill(&mut log, 0..100);
    log.close().expect("a healthy disk");
    let segments = log.segments();
    for (index, lost) in segments.iter().enumerate() {
        let next = segments.get(index + 1).map_or(100, |next| next.base_offset);
        let path = disk.path(&format!("{:020}.log", lost.base_offset));
        let aside = disk.path("aside");
        std::fs::rename(&path, &aside).expect("there");
        let (log, _) = disk.open(&small_segments());
        let reader = log.reader();
        for offset in lost.base_offset..next {
            let error = reader.read(offset, 1, Isolation::Uncommitted, true).unwrap_err();
            assert!(matches!(error, ReadError::Corrupt(_)), "offset {offset}: {error}");
        }
        assert_eq!(log.watermarks().log_end(), 100);
        if next < 100 {
            assert_eq!(read_all(&reader, next), numbered(next..100));
        }
        drop(log);
        let _ = std::fs::remove_file(&path);
        std::fs::rename(&aside, &path).expect("there");
    }
}

#[test]
fn lost_or_damaged_indexes_are_made_anew() {
    let disk = Disk::new();
    let (mut log, _) = disk.open(&small_segments());
    fill(&mut log, 0..100);
    log.close().expect("a healthy disk");
    for damage in 0..3 {
        for name in disk.names().iter().filter(|name| name.ends_with("index")) {
            match damage {
                0 => std::fs::remove_file(disk.path(name)).expect("there"),
                1 => std::fs::write(disk.path(name), [0xa5; 300]).expect("room"),
                _ => {
                    let mut bytes = std::fs::read(disk.path(name)).expect("there");
                    let middle = bytes.len() / 2;
                    bytes[middle] ^= 0x10;
                    std::fs::write(disk.path(name), bytes).expect("room");
                }
            }
        }
        let (mut log, report) = disk.open(&small_segments());
        assert_eq!(report.corruption, None);
        let reader = log.reader();
        for offset in 0..100 {
            assert_eq!(read_all(&reader, offset), numbered(offset..100));
            let found = reader.offset_for_timestamp(1000 + offset, Isolation::Uncommitted).expect("sound");
            assert_eq!(found.map(|found| found.offset), Some(offset));
        }
        log.close().expect("a healthy disk");
    }
}

/// Flips a bit of the first segment's file, in the page cache and so in every map of it.
fn flip(disk: &Disk, position: u64) {
    let path = disk.path("00000000000000000000.log");
    let file = std::fs::File::options().read(true).write(true).open(path).expect("there");
    let mut byte = [0];
    file.read_exact_at(&mut byte, position).expect("there");
    file.write_all_at(&[byte[0] ^ 1], position).expect("room");
}
