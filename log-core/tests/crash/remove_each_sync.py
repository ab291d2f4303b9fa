#!/usr/bin/env python3
"""Leaves out every sync of the engine in turn and runs the crash suite, which has to fail each time.

    log-core/tests/crash/remove_each_sync.py [WORD...]
    log-core/tests/crash/remove_each_sync.py --rig MINUTES [--filesystem NAME] [--seed N] [--flushes N] [--part P]
        [--control] [WORD...]

With --rig it is the power-cut rig that has to fail, within so many minutes a place: tests/setup has
been run, by root. Works on a copy of the committed source, in which each place asks the environment
whether it is the one that is left out, so it is compiled once. With WORDs only the places whose
description holds one. Ends with status 1 if a place goes unnoticed. With --control the rig runs once on the same binary
with nothing left out, in the lives that are for the WORDS, and ends with status 1 if it finds anything.
"""

import argparse
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

REPOSITORY = pathlib.Path(__file__).resolve().parents[3]
TARGET = os.environ.get("CARGO_TARGET_DIR", str(REPOSITORY / "target/remove-each-sync"))
HISTORIES = os.environ.get("HIGHWATER_CRASH_HISTORIES", "10000")

# What is synced, the file, the call as it stands there, and what takes its place.
PLACES = [
    ("flush: data of the segments", "log/flush.rs",
     "file.sync()\n                .and_then(|()| segment.settle_name())", "segment.settle_name()"),
    ("recovery: names of the segments found", "log/recovery.rs",
     "storage.sync_dir(&dir.path).inspect_err(|error| poison_unless_exhausted(dir, health, error))?;", ""),
    ("recovery: data read past the checkpoint", "log/recovery/segment.rs",
     "file.sync().inspect_err(|error| self.health.poison(format!(\"sync of {path}: {error}\")))?;", ""),
    ("recovery: data written again before that sync", "log/recovery/segment.rs",
     "self.write_again(&*file, &path, start, position)?;", ""),
    ("recovery: data written again, through the page cache", "log/recovery/segment.rs",
     "self.dir.storage.rewrite(path, at, chunk)?;",
     "self.dir.storage.open_random(path, false)?.write_at(at, chunk)?;"),
    ("recovery: names of segments behind a torn tail", "log/recovery/segment.rs",
     "storage.sync_dir(&self.dir.path).inspect_err(|error| self.poison_unless_exhausted(error))?;", ""),
    ("new segment: its name, with its first data", "log/flush.rs",
     ".and_then(|()| segment.settle_name())", ""),
    ("new segment: its name, before a checkpoint", "log/flush.rs",
     "unnamed.map_or(Ok(()), Segment::settle_name)", "let _ = unnamed;\n    Ok(())"),
    ("new segment: its name, when the log is closed", "log/partition_log.rs",
     "let named = self.tail.segment.settle_name();", "let named = io::Result::Ok(());"),
    ("flush: everything, for many partitions", "log/flush.rs",
     "storage.sync_all().inspect_err(|error| health.poison(format!(\"sync of everything: {error}\")))", "let _ = storage;\n    Ok(())"),
    ("checkpoint: one before it that was not synced", "log/checkpoint.rs", "self.sync()?;\n            newest", "newest"),
    ("checkpoint: the slot", "log/checkpoint.rs", "self.file.sync()", "io::Result::Ok(())"),
    ("checkpoint: the one that a start reads", "log/checkpoint.rs",
     "opened.file.settle_leftovers();\n            slot.rewrite(storage, path)?;\n            opened.sync()?;", "let _ = slot;"),
    ("checkpoint: the one that a start reads, through the page cache", "log/checkpoint.rs",
     "storage.rewrite(path, slot_position(self.sequence), &self.bytes)",
     "storage.open_random(path, false)?.write_at(slot_position(self.sequence), &self.bytes)"),
    ("compaction: the segment that takes the place of others", "log/compaction/writer.rs",
     "self.file.sync().map_err(CompactionError::Sync)", "Ok(())"),
    ("compaction: its name", "log/compaction/take.rs", "self.dir.storage.sync_dir(&self.dir.path)?;", ""),
    ("compaction: the removal of what was merged", "log/compaction/swap.rs",
     "        dir.storage.sync_dir(&dir.path)?;\n        dir.storage.rename", "        dir.storage.rename"),
    ("compaction: names of the swaps that a start finds", "log/compaction/swap.rs",
     "        dir.storage.sync_dir(&dir.path)?;\n    }", "    }"),
    ("atomic file: its bytes", "storage/mod.rs", "self.write_synced(&temporary, bytes)?;", None),
    ("atomic file: its name", "storage/mod.rs", "self.sync_dir(parent(path))\n", "Ok(())\n"),
    ("quarantine: its name", "log/quarantine.rs", "storage.sync_dir(\"\")?;", ""),
    ("quarantine: the copy", "log/quarantine.rs", "copy.sync()", "Ok(())"),
    ("quarantine: the name of the copy", "log/quarantine.rs",
     ".and_then(|()| storage.sync_dir(QUARANTINE_DIR))", ""),
    ("directory: names of identity and topics", "log/log_dir.rs",
     ".create_dir_all(TOPICS_DIR)\n            .and_then(|()| storage.sync_dir(\"\"))", ".create_dir_all(TOPICS_DIR)"),
    ("directory: removal of the note of a clean shutdown", "log/log_dir.rs",
     ".remove_file(CLEAN_SHUTDOWN_FILE)\n            .and_then(|()| storage.sync_dir(\"\"))",
     ".remove_file(CLEAN_SHUTDOWN_FILE)"),
    ("new partition: its name", "log/log_dir.rs",
     "self.written(&path, self.storage.sync_dir(TOPICS_DIR))?;", ""),
    ("recovery: removal of producer snapshots past the end", "log/producer_snapshot.rs",
     "dir.storage.sync_dir(&dir.path)?;", ""),
    ("deleted partition: its new name", "log/log_dir.rs",
     "self.written(TOPICS_DIR, self.storage.sync_dir(TOPICS_DIR))?;", ""),
    ("many new partitions: all of it", "log/log_dir_bulk.rs",
     "self.written(TOPICS_DIR, self.storage().sync_all())?;", ""),
    ("many partitions opened: names and checkpoints", "log/log_dir_bulk.rs",
     "synced.and_then(|()| self.storage().sync_all())", "synced"),
    ("many partitions opened: checkpoints written again before that sync", "log/log_dir_bulk.rs",
     "CheckpointFile::rewrite(&**self.storage(), &path)", "let _ = &path;\n                Ok(())"),
    ("repair: the segment without its holes", "log/repair.rs", "new.file.sync()?;", ""),
    ("repair: its name", "log/repair.rs",
     "storage.rename(&temporary, &path)?;\n    storage.sync_dir(&dir.path)", "storage.rename(&temporary, &path)"),
    ("repair: its name, when it goes on", "log/repair.rs",
     "            dir.storage.sync_dir(&dir.path)?;\n            adjust", "            adjust"),
    ("data directory: its name", "storage/mmap.rs", "turns.sync(|| opened?.sync_all())?", "drop(opened?)"),
    ("deleted partition: its new name, at the next start", "log/log_dir.rs",
     "self.storage.sync_dir(TOPICS_DIR).map_err(LogDirError::at(TOPICS_DIR))?;", ""),
]

# The step of the rig's lives that has to come often for a place to show, by the first of these words that its
# description holds: they reach what the others hardly do.
STEPS = {
    "flush: everything": "send_everywhere",
    "data written again": "fail_first_write",
    "reads, through the page cache": "fail_log_start",
    "many partitions opened": "fail_checkpoint",
    "one before it": "delete_amid_checkpoints",
    "written again": "fail_sync",
    "through the page cache": "fail_sync",
    "when the log is closed": "stop_twice",
    "clean shutdown": "stop_twice",
    "names of the swaps": "kill_in_compaction",
    "compaction": "trickle",
    "before a checkpoint": "trickle",
    "at the next start": "kill_in_deletion",
    "deleted partition": "fleeting_topic",
    "names of identity": "kill_at_sync",
    "that a start reads": "kill_at_sync",
    "behind a torn tail": "leave_segment",
    "producer snapshots": "leave_snapshot",
    "recovery: names": "kill_unsynced",
    "when it goes on": "repair_in_two",
    "repair": "repair",
}

# The copy counts on `syncfs` where the kernel passes it on to a file system in user space, which is where that has a
# block device: on the rig's disk of the name posix-syncfs. Some of the places are calls that a broker makes only where it
# can sync everything.
TRUST = ("storage/whole_sync.rs", "SYNCED_AS_A_WHOLE.contains(&kind)",
         "(SYNCED_AS_A_WHOLE.contains(&kind)\n"
         "            || kind == 0x6573_5546 && rustix::fs::major(rustix::fs::fstat(&root)?.st_dev) != 0)")

# A write without its sync, for the one place where the two are one call.
UNSYNCED = "self.open_random(&temporary, true)?.write_at(0, bytes)?;"

VARIABLE = "HIGHWATER_LEFT_OUT"
QUESTION = f"""
/// Whether the sync at this place is left out.
pub(crate) fn is_left_out(place: usize) -> bool {{
    static PLACE: std::sync::OnceLock<Option<usize>> = std::sync::OnceLock::new();
    let chosen = || std::env::var("{VARIABLE}").ok().and_then(|place| place.parse().ok());
    *PLACE.get_or_init(chosen) == Some(place)
}}
"""


def either(place: int, call: str, instead: str) -> str:
    """Source that does the one or, if the place is left out, the other."""
    asked = f"crate::is_left_out({place})"
    if declared := re.match(r"let \w+ = ", call):
        call, instead = (text.removeprefix(declared[0]).removesuffix(";") for text in (call, instead))
        return f"{declared[0]}if {asked} {{ {instead} }} else {{ {call} }};"
    if instead and call.endswith(instead):
        return f"if !{asked} {{ {call.removesuffix(instead)} }}{instead}"
    if call.startswith(instead) and (link := re.fullmatch(r"\s*\.and_then\(\|\(\)\| (.*)\)", call[len(instead):])):
        return f"{instead}.and_then(|()| if {asked} {{ Ok(()) }} else {{ {link[1]} }})"
    branches = f"if {asked} {{ {instead} }} else {{ {call} }}" if instead else f"if !{asked} {{ {call} }}"
    return branches if call.endswith(";") else f"({branches})"


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("words", metavar="WORD", nargs="*")
    parser.add_argument("--rig", type=float, metavar="MINUTES")
    parser.add_argument("--filesystem", default="ext4")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--flushes", type=int, default=150, help="in a life of the rig")
    parser.add_argument("--part", type=float, default=0.3, help="of the images that the rig looks at")
    parser.add_argument("--control", action="store_true", help="leave out nothing; with --rig")
    arguments = parser.parse_args()
    if arguments.control and arguments.rig is None:
        parser.error("--control is for --rig")
    words = arguments.words or [""]
    unnoticed = 0
    copy = pathlib.Path(tempfile.mkdtemp(prefix="remove-each-sync-"))
    try:
        prepare(copy)
        if arguments.control:
            environment = {**os.environ, "CARGO_TARGET_DIR": TARGET, VARIABLE: ""}
            chosen = [what for what, *_ in PLACES if any(word in what for word in words)]
            found = run_rig(copy, chosen, environment, arguments)
            print(f"{'nothing is left out':<58} {found or 'nothing is found'}", flush=True)
            return 1 if found else 0
        for place, (what, *_) in enumerate(PLACES):
            if any(word in what for word in words):
                environment = {**os.environ, "CARGO_TARGET_DIR": TARGET, VARIABLE: str(place)}
                if arguments.rig is None:
                    verdict = run(copy, environment)
                else:
                    verdict = run_rig(copy, [what], environment, arguments)
                unnoticed += verdict is None
                print(f"{what:<58} {verdict or 'NOT NOTICED'}", flush=True)
    finally:
        shutil.rmtree(copy)
    return 1 if unnoticed else 0


def prepare(copy: pathlib.Path) -> None:
    """Makes the copy of the source, with the question at each place."""
    archive = subprocess.run(["git", "archive", "HEAD"], cwd=REPOSITORY, check=True, capture_output=True)
    subprocess.run(["tar", "-x", "-C", copy], input=archive.stdout, check=True)
    with (copy / "log-core/src/lib.rs").open("a") as library:
        library.write(QUESTION)
    replace(copy, *TRUST)
    for place, (_, name, call, instead) in enumerate(PLACES):
        replace(copy, name, call, either(place, call, UNSYNCED if instead is None else instead))


def replace(copy: pathlib.Path, name: str, call: str, instead: str) -> None:
    """Puts something in the place of a call that is there once."""
    path = copy / "log-core/src" / name
    source = path.read_text()
    if source.count(call) != 1:
        raise SystemExit(f"{name}: {call!r} is there {source.count(call)} times: bring the list up to date")
    path.write_text(source.replace(call, instead))


def run(copy: pathlib.Path, environment: dict) -> str | None:
    """What the suite says with a place left out; None if it is content."""
    environment = {**environment, "HIGHWATER_CRASH_HISTORIES": HISTORIES}
    suites = [["--lib", "log::checkpoint"], ["--lib", "log::repair"],
              *(["--test", "crash", test] for test in ["two_faults", "no_history", "every_operation", "compaction"])]  # fmt: skip
    for suite in suites:
        command = ["cargo", "test", "-q", "-p", "log-core", *suite]
        result = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True)
        output = result.stdout + result.stderr
        if "could not compile" in output:
            raise SystemExit(output)
        if result.returncode != 0:
            found = re.search(r"(?:HIGHWATER_CRASH_SEED=\d+|workload \d+, cut at operation \d+[^:]*): .*", output)
            failed = re.search(r"---- (\S+) stdout", output)
            return found.group(0) if found else failed.group(1) if failed else "the suite failed"
    return None


def run_rig(copy: pathlib.Path, places: list[str], environment: dict, arguments: argparse.Namespace) -> str | None:
    """What the power-cut rig says of a binary with a place left out; None if it is content."""
    environment = {**environment, "HIGHWATER_BIN": f"{TARGET}/debug/highwater"}
    build = ["cargo", "build", "-q", "--locked", "--bin", "highwater"]
    built = subprocess.run(build, cwd=copy, env=environment, capture_output=True, text=True)
    if built.returncode != 0:
        raise SystemExit(built.stderr)
    command = [".venv/bin/python", "-m", "power_cut", "--minutes", str(arguments.rig),
               "--flushes", str(arguments.flushes), "--seed", str(arguments.seed),
               "--filesystem", arguments.filesystem, "--part", str(arguments.part)]  # fmt: skip
    for what in places:
        command += next((["--often", step] for word, step in STEPS.items() if word in what), [])
    result = subprocess.run(command, cwd=REPOSITORY / "tests", env=environment, capture_output=True, text=True)
    if result.returncode == 0:
        return None
    found = re.search(r"FOUND (.*)", result.stdout)
    if found is None:
        raise SystemExit(result.stdout + result.stderr)
    return found.group(1)


if __name__ == "__main__":
    sys.exit(main())
