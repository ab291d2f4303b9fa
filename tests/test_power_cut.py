"""Short runs of the power-cut rig (power_cut/, docs/crash-testing.md), and proof that it notices what it should."""

import mmap
import os
import pickle
import random
import re
import shutil
import struct
import subprocess
import sys
import threading
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import pytest

from harness.broker import wait_until
from harness.modules import run_module
from power_cut import mounts
from power_cut.cut import Cut, drawn
from power_cut.image import PAGE, SECTOR
from power_cut.ledger import COMPACTED, KEYS, Found, Ledger, key, value
from power_cut.posix_disk import PosixDisk, sync_everything
from power_cut.posix_image import posix_moments
from power_cut.posix_journal import encoded
from power_cut.posix_tree import ROOT, Create, Lose, Remove, Rename, SetLength, Sync, SyncAll, Write
from power_cut.state import DIRECTORIES, FAIL_FLUSHES, FILES
from power_cut.tools import behind

pytestmark = pytest.mark.highwater_only("Kafka does not sync before it acknowledges")

TIMEOUT_S = 280


def rig(tests_dir, *arguments) -> subprocess.CompletedProcess:
    """Runs the rig in a process of its own, since it needs mounts of its own."""
    _skip_without_mounts()
    return run_module(tests_dir, "power_cut", *arguments, timeout_s=TIMEOUT_S)


def _skip_without_mounts() -> None:
    needs = {
        "to be root": os.geteuid() == 0,
        "/dev/fuse": os.path.exists("/dev/fuse"),
        "/dev/loop-control": os.path.exists("/dev/loop-control"),
    }
    missing = [what for what, there in needs.items() if not there]
    if missing:
        pytest.skip(f"the power-cut rig needs {', '.join(missing)}")


def _skip_without_syncfs() -> None:
    release = os.uname().release
    if tuple(map(int, re.findall(r"\d+", release)[:2])) < (6, 18):
        pytest.skip(f"Linux {release} passes no syncfs on to a file system in user space")


@pytest.fixture
def seed(rng) -> int:
    """A seed for the rig, by that of the run."""
    return rng.randrange(2**32)


def test_every_image_of_two_power_cuts_holds_what_was_promised(tests_dir, seed):
    """A life on a new disk, a power cut, another life on what it left; every image of both."""
    rig(tests_dir, "--seed", seed, "--lives", 2, "--flushes", 180)


def test_every_image_of_a_disk_that_promises_posix_alone_holds_it_too(tests_dir, seed):
    """As above, on a disk where a name needs a sync of its directory, and nothing is synced along with another."""
    rig(tests_dir, "--seed", seed, "--lives", 2, "--flushes", 80, "--filesystem", "posix")


def test_a_life_that_begins_behind_a_torn_segment_holds_what_it_shows(tests_dir, seed):
    """What a start removes there must not come back where the log has grown to since."""
    rig(tests_dir, "--seed", seed, "--lives", 2, "--flushes", 20, "--filesystem", "posix", "--often", "leave_segment",
        "--part", 0.1)  # fmt: skip


def test_every_image_of_a_disk_with_a_sync_of_everything_does_as_well(tests_dir, seed):
    """The released broker does not count on it there; remove_each_sync.py builds one that does."""
    _skip_without_syncfs()
    result = rig(
        tests_dir, "--seed", seed, "--lives", 1, "--flushes", 80, "--part", 0.3, "--filesystem", "posix-syncfs"
    )
    assert "\n0 of the flushes were syncs of everything\n" in result.stdout


def test_a_disk_that_answers_eio_costs_nothing_that_was_promised(tests_dir, seed):
    """The broker goes offline at the first failed write or flush, and has everything after a restart."""
    rig(tests_dir, "--seed", seed, "--faults", 4)


def test_a_lost_flush_is_found_out(tests_dir, seed):
    """The rig's own proof: a disk that loses what it said it had flushed."""
    result = rig(tests_dir, "--seed", seed, "--flushes", 500, "--prove", 8)
    tried = int(result.stdout.split(" images lack", 1)[0].rsplit("\n", 1)[-1])
    assert tried >= 5, "hardly a record was acknowledged"


def promised() -> Ledger:
    """A topic with three records, known at 5, 6 and 7; a commit at 8; its first record deleted at 9."""
    ledger = Ledger()
    ledger.create_asked("t", 1, position=1).created = 2
    for offset in range(3):
        ledger.record_known("t", 0, offset, "me", 5 + offset)
    ledger.committed(("g", "t", 0), 7, 8, 2)
    ledger.log_start("t", 0, 8, 9, 1)
    return ledger


def found(log_start: int, *numbers: int, committed: int = 2) -> Found:
    """A broker whose one topic holds the records of these numbers."""
    return Found({"t": [(log_start, [value("me", "t", 0, number) for number in numbers])]}, {("g", "t", 0): committed})


@pytest.mark.parametrize(
    "position, state",
    [
        (0, Found({}, {})),
        (1, Found({"t": [(0, [])]}, {})),
        (5, found(0, 0, committed=-1)),
        (7, found(0, 0, 1, 2, 3)),
        (8, found(0, 0, 1, 2)),
        (8, found(1, 1, 2)),
        (9, found(1, 1, 2)),
    ],
)
def test_what_was_promised_is_enough(position, state):
    """More may be there than was promised: what was asked for, and not yet answered."""
    assert promised().broken(state, position) == []


@pytest.mark.parametrize(
    "position, state, complaint",
    [
        (0, Found({"t": [(0, [])]}, {}), "nobody has asked"),
        (2, Found({}, {}), "not there"),
        (2, Found({"t": []}, {}), "0 partitions"),
        (6, found(0, 0), "everything below 2 was acknowledged"),
        (7, found(0, 0, 2, 3), "not what was sent"),
        (7, found(0, 0, 0, 1, 2), "not what was sent"),
        (7, found(0, 1, 0, 2), "not what was sent"),
        (7, found(1, 1, 2), "begins at 1"),
        (8, found(0, 0, 1, 2, committed=1), "2 was acknowledged"),
        (8, found(0, 0, 1, 2, committed=3), "2 asked for"),
        (9, found(0, 0, 1, 2), "below 1 was deleted"),
        (9, found(2, 2), "begins at 2"),
    ],
)
def test_a_broken_promise_is_found(position, state, complaint):
    """Lost, missing, doubled, out of order, deleted too much or too little, forgotten, invented."""
    assert [what for what in promised().broken(state, position) if complaint in what]


def test_of_a_compacted_topic_the_latest_of_each_key_has_to_be_there():
    """What is older may be gone, and nothing else may."""
    name, count = f"{COMPACTED}-0", 8 * KEYS
    ledger = Ledger()
    ledger.create_asked(name, 1, position=1).created = 2
    records = [value("me", name, 0, number) for number in range(count)]
    for offset in range(count):
        ledger.record_known(name, 0, offset, "me", 3)
    latest = {key(name, 0, number): number for number in range(count)}
    least = [record if number in latest.values() else None for number, record in enumerate(records)]
    assert ledger.broken(Found({name: [(0, records)]}), 3) == ledger.broken(Found({name: [(0, least)]}), 3) == []
    for number in latest.values():
        gone = [*least[:number], None, *least[number + 1 :]]
        assert ledger.broken(Found({name: [(0, gone)]}), 3) == [f"{name}-0: offset {number} has no record"]
    assert "ends at" in ledger.broken(Found({name: [(0, least[:-1])]}), 3)[0]


def test_what_is_damaged_may_be_lost_and_no_more():
    """From the moment on at which it was about to be damaged."""
    ledger, state = promised(), found(1, 1, 2)
    state.topics["t"][0][1][0] = None
    ledger.damaged("t", 0, 10, 1, 2)
    assert ledger.broken(state, 10) == [] and ledger.in_repair(10) == ["t-0"]
    assert ledger.broken(state, 9) == ["t-0: offset 1 has no record"] and ledger.in_repair(9) == []
    ledger.given_up(12)
    assert ledger.in_repair(11) == ["t-0"] and ledger.in_repair(12) == []
    state.topics["t"][0][1][1] = None
    assert ledger.broken(state, 12) == ["t-0: offset 2 has no record"]
    assert ledger.carried_over(11).in_repair(0) == ["t-0"] and ledger.carried_over(12).in_repair(0) == []


def test_what_was_in_the_quarantine_has_to_stay_there():
    """With all its bytes."""
    ledger, state = promised(), found(1, 1, 2)
    state.quarantined = {"tail": b"torn"}
    ledger.shown(state, 10)
    assert ledger.broken(state, 10) == [] and ledger.broken(found(1, 1, 2), 9) == []
    assert ledger.broken(found(1, 1, 2), 10) == ["tail: is gone from the quarantine"]
    state.quarantined = {"tail": b"t"}
    assert ledger.carried_over(10).broken(state, 0) == ["tail: is another one from the quarantine"]


def test_another_record_at_an_acknowledged_offset_is_found():
    """Sound in itself, and where it belongs by its number, but not the one that was acknowledged there."""
    state = Found({"t": [(0, [value("me", "t", 0, 0), value("another", "t", 0, 1)])]}, {("g", "t", 0): -1})
    assert "acknowledged to me" in promised().broken(state, 6)[0]


def test_a_deleted_topic_must_not_come_back():
    """Neither by itself, nor in one that was made later under its name."""
    ledger = promised()
    ledger.topics["t"][0].delete_asked, ledger.topics["t"][0].deleted = 20, 21
    old = found(1, 1, 2)
    assert ledger.broken(old, 20) == [] and ledger.broken(Found({}, old.committed), 20) == []
    assert "there again" in ledger.broken(old, 21)[0]
    ledger.create_asked("t", 1, position=22).created = 23
    ledger.record_known("t", 0, 0, "me-again", 24)
    assert "ends at" in "".join(ledger.broken(Found({"t": [(0, [])]}, old.committed), 24))
    assert ledger.broken(old, 24) != []


# The disk that the tests of its rules begin with: a file of two pages, and a directory. Nodes are numbered by name.
DIRECTORY, FILE, NEW = 2, 3, 10
OLD = b"o" * 2 * PAGE


@pytest.fixture
def left(tmp_path):
    """What a power cut leaves of a disk after these operations, by path: all that is durable, or what a seed draws."""
    (tmp_path / "image" / "directory").mkdir(parents=True)
    (tmp_path / "image" / "file").write_bytes(OLD)

    def left(*operations, seed=None) -> dict[str, bytes | None]:
        # The power goes before a sync of something else.
        journal = tmp_path / "journal"
        journal.write_bytes(b"".join(map(encoded, [*operations, Sync(DIRECTORY)])))
        *_, moment = _cuts(tmp_path, journal, seed)
        return moment

    return left


def _cuts(tmp_path, journal, seed):
    """The images of all moments of a journal."""
    for moment in posix_moments(tmp_path / "image", journal):
        target = tmp_path / "cut"
        moment.cut(target, None if seed is None else random.Random(seed))
        files = {path.relative_to(target).as_posix(): path for path in target.rglob("*")}
        yield {name: None if path.is_dir() else path.read_bytes() for name, path in files.items()}
        shutil.rmtree(target)


def outcomes(left, *operations, seeds=150) -> list[dict[str, bytes | None]]:
    """What cuts leave of a disk after these operations: many that a seed draws, and the one of what is durable."""
    return [left(*operations), *(left(*operations, seed=seed) for seed in range(seeds))]


def test_bytes_are_durable_with_a_sync_of_their_file(left):
    """Without it they may be there or not; the sync of a directory does not help."""
    write = Write(FILE, 0, b"new")
    assert left(write)["file"] == OLD
    assert left(write, Sync(ROOT))["file"] == OLD
    assert {image["file"][:3] for image in outcomes(left, write)} == {b"ooo", b"new"}
    assert {image["file"][:3] for image in outcomes(left, write, Sync(FILE))} == {b"new"}


def test_what_follows_a_sync_is_not_durable_with_it(left):
    """Only the next one has it."""
    assert left(Write(FILE, 0, b"one"), Sync(FILE), Write(FILE, 0, b"two"))["file"][:3] == b"one"


def test_a_write_is_torn_at_sectors_and_arrives_in_any_order(left):
    """Whole sectors of it are there or not, the last one without the first, and pages too."""
    images = [image["file"] for image in outcomes(left, Write(FILE, 0, b"n" * 2 * PAGE))]
    for image in images:
        for at in range(0, 2 * PAGE, SECTOR):
            assert image[at : at + SECTOR] in (b"n" * SECTOR, b"o" * SECTOR)
    halves = {(image[:PAGE], image[PAGE:]) for image in images}
    new, old = b"n" * PAGE, b"o" * PAGE
    assert halves >= {(new, new), (new, old), (old, new), (old, old)}
    assert any(b"on" in image[:PAGE] for image in images)


def test_a_page_may_be_as_it_was_at_any_moment(left):
    """Of two writes to one place none, the first or the last is there; others are as they were at another moment."""
    images = outcomes(left, Write(FILE, 0, b"1"), Write(FILE, PAGE, b"2"), Write(FILE, 0, b"3"))
    assert {(image["file"][:1], image["file"][PAGE : PAGE + 1]) for image in images} == {
        (first, second) for first in (b"o", b"1", b"3") for second in (b"o", b"2")
    }


def test_what_a_failed_sync_has_lost_passes_for_written(left):
    """The next sync does not write it; what is written again it writes."""
    lost = [Write(FILE, 0, b"new"), Lose(FILE, 0), Sync(FILE)]
    losses = {seed: left(Write(FILE, 0, b"new"), Lose(FILE, seed), Sync(FILE))["file"][:3] for seed in range(50)}
    assert set(losses.values()) == {b"ooo", b"new"}
    seed = next(seed for seed, there in losses.items() if there == b"ooo")
    lost = [Write(FILE, 0, b"new"), Lose(FILE, seed)]
    assert {image["file"][:3] for image in outcomes(left, *lost, Sync(FILE))} == {b"ooo"}
    assert {image["file"][:3] for image in outcomes(left, *lost, Write(FILE, 0, b"new"), Sync(FILE))} == {b"new"}


def test_a_page_whose_first_write_failed_may_be_out_of_reach_of_the_cache(left):
    """Until it is written past it."""
    new, again = [Create(ROOT, "new", NEW, False), Sync(ROOT), Write(NEW, 0, b"new")], Write(NEW, 0, b"new")
    through = {seed: left(*new, Lose(NEW, seed), again, Sync(NEW))["new"] for seed in range(50)}
    assert set(through.values()) == {b"\0\0\0", b"new"}
    seed = next(seed for seed, there in through.items() if there == b"\0\0\0")
    assert left(*new, Lose(NEW, seed), again._replace(is_direct=True), Sync(NEW))["new"] == b"new"


def test_a_length_is_durable_with_a_sync_of_its_file(left):
    """Without it the file is short; or it is long, and full of zeros, although what was written there is lost."""
    grown = Write(FILE, 2 * PAGE, b"n" * PAGE)
    assert len(left(grown)["file"]) == 2 * PAGE
    assert {image["file"] for image in outcomes(left, grown)} >= {OLD, OLD + bytes(PAGE), OLD + b"n" * PAGE}
    assert {image["file"] for image in outcomes(left, grown, Sync(FILE))} == {OLD + b"n" * PAGE}
    allocated = SetLength(FILE, 3 * PAGE)
    assert {image["file"] for image in outcomes(left, allocated)} == {OLD, OLD + bytes(PAGE)}
    assert left(allocated, Sync(FILE))["file"] == OLD + bytes(PAGE)


def test_what_was_cut_off_does_not_come_back(left):
    """A file that was cut short and grew again has zeros there, once it has the length."""
    images = [image["file"] for image in outcomes(left, SetLength(FILE, 0), SetLength(FILE, PAGE))]
    assert {image for image in images if len(image) < len(OLD)} == {b"", bytes(PAGE)} and OLD in images


def test_a_name_is_durable_with_a_sync_of_its_directory(left):
    """Whatever is synced of the file, or of another directory."""
    new = [Create(ROOT, "new", NEW, False), Write(NEW, 0, b"bytes"), Sync(NEW)]
    assert "new" not in left(*new)
    assert {image.get("new") for image in outcomes(left, *new)} == {None, b"bytes"}
    assert {image.get("new") for image in outcomes(left, *new, Sync(ROOT))} == {b"bytes"}
    below = Create(DIRECTORY, "below", NEW, False)
    assert "directory/below" not in left(below, Sync(ROOT))


def test_a_durable_name_says_nothing_about_bytes(left):
    """The file is there, and empty."""
    assert left(Create(ROOT, "new", NEW, False), Write(NEW, 0, b"bytes"), Sync(ROOT))["new"] == b""


def test_a_directory_is_lost_with_all_that_is_in_it(left):
    """Its names are durable, and its own is not."""
    made = [Create(ROOT, "made", NEW, True), Create(NEW, "file", NEW + 1, False), Sync(NEW), Sync(NEW + 1)]
    assert "made" not in left(*made)
    assert "made/file" in left(*made, Sync(ROOT))


def test_a_removal_is_durable_with_a_sync_of_the_directory(left):
    """Without it the file may be back, with what was durable of it."""
    removed = [Write(FILE, 0, b"new"), Remove(ROOT, "file")]
    assert left(*removed)["file"] == OLD
    assert {"file" in image for image in outcomes(left, *removed)} == {True, False}
    assert {"file" in image for image in outcomes(left, *removed, Sync(ROOT))} == {False}


def test_a_rename_is_atomic(left):
    """The file has its old name or the new one, never both or none, and what it replaces is there until then."""
    replaced = [Create(ROOT, "tmp", NEW, False), Write(NEW, 0, b"new"), Sync(NEW), Sync(ROOT)]
    images = outcomes(left, *replaced, Rename(ROOT, "tmp", "file"))
    assert {(image["file"], image.get("tmp")) for image in images} == {(OLD, b"new"), (b"new", None)}
    assert left(*replaced, Rename(ROOT, "tmp", "file"))["file"] == OLD
    assert left(*replaced, Rename(ROOT, "tmp", "file"), Sync(ROOT))["file"] == b"new"
    images = outcomes(left, Rename(ROOT, "file", "second"), Rename(ROOT, "second", "third"))
    assert {tuple(image.keys() - {"directory"}) for image in images} == {("file",), ("second",), ("third",)}


def test_a_small_file_is_torn_within_sectors(left):
    """A few bytes of a write are there, and those beside them are not. A large one is torn at sectors."""
    images = outcomes(left, Create(ROOT, "new", NEW, False), Write(NEW, 0, b"n" * 64), Sync(ROOT))
    assert any(b"\0n" in image["new"] and b"n\0" in image["new"] for image in images)
    images = outcomes(left, Write(FILE, 2 * PAGE, b"n"), Sync(FILE), Write(FILE, 0, b"n" * 64))
    assert {image["file"][:64] for image in images} == {b"o" * 64, b"n" * 64}


def test_a_sync_of_everything_makes_all_names_and_bytes_durable(left):
    """Also of what has no name yet that would outlast a cut, and of a file that has lost its name."""
    changes = [Write(FILE, 0, b"new"), Create(DIRECTORY, "below", NEW, False), Write(NEW, 0, b"bytes")]
    for image in outcomes(left, *changes, SyncAll()):
        assert image["file"][:3] == b"new" and image["directory/below"] == b"bytes"
    assert "file" not in left(Remove(ROOT, "file"), SyncAll())
    lost = [Write(FILE, 0, b"new"), Lose(FILE, 0), SyncAll()]
    assert left(*lost) == left(*lost[:2])


def test_a_cut_in_a_sync_of_everything_leaves_any_part_of_it(tmp_path):
    """It is one moment, of which there are six images."""
    (tmp_path / "image").mkdir()
    made = [Create(ROOT, "a", NEW, False), Create(ROOT, "b", NEW + 1, False), Write(NEW, 0, b"x"), SyncAll(), SyncAll()]
    (tmp_path / "journal").write_bytes(b"".join(map(encoded, made)))
    moments = list(posix_moments(tmp_path / "image", tmp_path / "journal"))
    assert [(moment.number, moment.is_cut) for moment in moments] == [(0, True), (1, False)]
    images, last = zip(*[list(_cuts(tmp_path, tmp_path / "journal", seed)) for seed in [None, *range(100)]])
    assert images[0] == {} and all(image == {"a": b"x", "b": b""} for image in last)
    assert {tuple(sorted(image)) for image in images} == {(), ("a",), ("b",), ("a", "b")}
    assert {image["a"] for image in images if "a" in image} == {b"", b"\0", b"x"}


def test_names_arrive_in_part_and_in_any_order(left):
    """Each of two new names may be there alone; and no directory waits for another."""
    images = outcomes(left, Create(ROOT, "a", NEW, False), Create(ROOT, "b", NEW + 1, False))
    assert {tuple(sorted(image.keys() & {"a", "b"})) for image in images} == {(), ("a",), ("b",), ("a", "b")}
    images = outcomes(left, Create(ROOT, "a", NEW, False), Create(DIRECTORY, "b", NEW + 1, False))
    assert {tuple(sorted(image.keys() & {"a", "directory/b"})) for image in images} == {
        (), ("a",), ("directory/b",), ("a", "directory/b"),
    }  # fmt: skip


def test_changes_of_one_kind_may_all_be_missing_and_so_may_any_one(left):
    """Of six removals all are there, and not the renaming before them; and each of seven changes may be the one."""
    made = [Create(ROOT, str(number), NEW + number, False) for number in range(6)]
    changes = [Rename(ROOT, "file", "renamed"), *(Remove(ROOT, str(number)) for number in range(6))]
    images = outcomes(left, *made, Sync(ROOT), *changes, seeds=400)
    gone = [(6 - sum(str(number) in image for number in range(6)), "renamed" in image) for image in images]
    assert {(6, False), (0, True)} <= set(gone)
    kept = [[name for name in "012345" if name in image] for image in images]
    assert {name for names in kept if len(names) == 1 for name in names} == set("012345")


def test_all_that_is_done_to_the_disk_is_in_its_journal(tmp_path):
    """Through a map, by call, past the cache; in the order of the syncs; also to a file without a name."""
    _skip_without_mounts()
    (tmp_path / "image" / "directory").mkdir(parents=True)
    (tmp_path / "image" / "file").write_bytes(OLD)
    with ProcessPoolExecutor(1, get_context("spawn")) as apart:
        apart.submit(_use_disk, tmp_path).result()
    *_, durable = _cuts(tmp_path, tmp_path / "journal", None)
    expected = bytearray(4 * PAGE)
    expected[:4], expected[100:104], expected[PAGE : 2 * PAGE] = b"call", b"maps", b"d" * PAGE
    assert durable == {"directory": None, "directory/renamed": bytes(expected), "file": OLD}


def _use_disk(directory) -> None:
    """Does to a disk what a broker does. In a process of its own, for the mount."""
    mounts.enter_namespace()
    disk = PosixDisk(directory, directory / "image", directory / "journal")
    there = disk.mount_point / "directory"
    try:
        assert (disk.mount_point / "file").read_bytes() == OLD
        file = os.open(there / "new", os.O_RDWR | os.O_CREAT)
        os.posix_fallocate(file, 0, 4 * PAGE)
        with mmap.mmap(file, 4 * PAGE) as mapped:
            mapped[100:104] = b"maps"
            os.pwrite(file, b"call", 0)
            direct = os.open(there / "new", os.O_WRONLY | os.O_DIRECT)
            with mmap.mmap(-1, PAGE) as page:
                page[:] = b"d" * PAGE
                os.pwritev(direct, [page], PAGE)
            os.fdatasync(file)
            os.rename(there / "new", there / "renamed")
            names = os.open(there, os.O_RDONLY)
            os.fsync(names)
            # Neither of these is synced.
            mapped[200:204] = b"late"
            os.remove(there / "renamed")
            os.ftruncate(file, PAGE)
            assert os.fstat(file).st_size == PAGE and mapped[200:204] == b"late" and os.listdir(there) == []
        with pytest.raises(OSError, match="cross-device"):
            os.rename(disk.mount_point / "file", there / "file")
        (disk.mount_point / "file").write_bytes(b"short")
        os.fsync(os.open(disk.mount_point, os.O_RDONLY))
    finally:
        disk.close()


def test_a_sync_of_everything_gets_to_the_disk(tmp_path):
    """It takes its time, in which others write; it fails if it is told to; and a kill in it leaves some of it done."""
    _skip_without_mounts()
    _skip_without_syncfs()
    (tmp_path / "image").mkdir()
    with ProcessPoolExecutor(1, get_context("spawn")) as apart:
        apart.submit(_sync_everything, tmp_path).result()
    before, *_, last = _cuts(tmp_path, tmp_path / "journal", None)
    assert before == {} and last.keys() >= {"a", "b"} and last["b"] == b"b"


def _sync_everything(directory) -> None:
    """In a process of its own, for the mount."""
    mounts.enter_namespace()
    disk = PosixDisk(directory, directory / "image", directory / "journal", syncs_everything=True)
    there, state = disk.mount_point, disk.state
    try:
        (there / "a").write_text("a")
        # One of somebody else's, whom neither this process nor the rig has started, is none of the disk's.
        sync = f"import ctypes, os; assert ctypes.CDLL(None).syncfs(os.open({str(there)!r}, os.O_RDONLY)) == 0"
        other = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {sync!r}], check=True)"
        subprocess.run([sys.executable, "-c", other], check=True)
        assert (state.flushes(), state.whole_syncs()) == (0, 0)
        state.hold_whole_syncs(3)
        syncing = threading.Thread(target=sync_everything, args=[there])
        syncing.start()
        wait_until(lambda: state.whole_syncs_asked() == 2, "the sync is asked for", interval_s=0.001)
        (there / "b").write_text("b")
        assert syncing.is_alive() and state.whole_syncs() == 0
        syncing.join()
        state.hold_whole_syncs(0)
        assert (state.flushes(), state.whole_syncs()) == (1, 1)
        (there / "a").write_text("lost")
        state.fail(FAIL_FLUSHES, count=1, name="a")
        with pytest.raises(OSError, match="syncfs"):
            sync_everything(there)
        (there / "c").write_text("c")
        killed = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
        state.kill_at_sync(killed.pid, FILES, "c")
        with pytest.raises(OSError, match="syncfs"):
            sync_everything(there)
        killed.wait()
        state.spare()
        sync_everything(there)
        assert state.whole_syncs() == 2
    finally:
        disk.close()


@pytest.mark.parametrize("kinds, name, after, kept", [
    (FILES, ".log", 0, ["ready"]), (FILES, ".log", 1, ["ready", "a"]), (DIRECTORIES, "b.log", 0, ["ready", "a", "b"]),
    (FILES, "other", 0, ["ready", "a", "b", "names"]),
])  # fmt: skip
def test_a_process_is_killed_in_a_sync_and_that_is_not_done(tmp_path, kinds, name, after, kept):
    """The one that was asked for, of those that have something to do. What it has done before outlives it."""
    _skip_without_mounts()
    (tmp_path / "image").mkdir()
    with ProcessPoolExecutor(1, get_context("spawn")) as apart:
        assert apart.submit(_kill_in_sync, tmp_path, kinds, name, after).result() == kept


# Says after each sync that it is done.
SYNCING = """
import os, sys
a, b = os.open("a.log", os.O_CREAT | os.O_RDWR), os.open("b.log", os.O_CREAT | os.O_RDWR)
print("ready", flush=True)
sys.stdin.readline()
for name, file in {"a": a, "b": b, "names": os.open(".", os.O_RDONLY)}.items():
    if name != "names":
        os.write(file, name.encode())
    os.fsync(file)
    os.fsync(file)
    print(name, flush=True)
"""


def _kill_in_sync(directory, kinds, name, after) -> list[str]:
    """What the process says before it ends. In a process of its own, for the mount."""
    mounts.enter_namespace()
    disk = PosixDisk(directory, directory / "image", directory / "journal")
    try:
        process = subprocess.Popen(
            [sys.executable, "-c", SYNCING],
            cwd=disk.mount_point, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        said = [process.stdout.readline().strip()]
        disk.state.kill_at_sync(process.pid, kinds, name, after)
        said += process.communicate("go\n")[0].split()
        there = {path.name: path.read_text() for path in disk.mount_point.iterdir()}
        assert {done: done for done in said[1:3]}.items() <= {name[0]: text for name, text in there.items()}.items()
        assert disk.state.has_killed() == (process.returncode != 0)
        disk.state.spare()
        disk.state.fail(FAIL_FLUSHES, count=1)
        with pytest.raises(OSError):
            os.fsync(os.open(disk.mount_point / "a.log", os.O_RDWR))
        return said
    finally:
        disk.close()


def test_a_life_can_be_cut_before_each_sync_that_does_something(tmp_path):
    """The images move on from sync to sync; one that has nothing to do looks like the next."""
    (tmp_path / "image").mkdir()
    operations = [Create(ROOT, "new", NEW, False), Sync(ROOT), Sync(ROOT), Write(NEW, 0, b"x"), Sync(NEW), Sync(ROOT)]
    (tmp_path / "journal").write_bytes(b"".join(map(encoded, operations)) + b"\x01")
    images = list(_cuts(tmp_path, tmp_path / "journal", None))
    assert images == [{}, {"new": b""}, {"new": b""}, {"new": b"x"}]
    moments = list(posix_moments(tmp_path / "image", tmp_path / "journal"))
    assert [(moment.number, moment.end, moment.is_cut) for moment in moments] == [
        (0, 1, True), (1, 2, False), (2, 4, True), (3, 5, False),
    ]  # fmt: skip


def test_of_what_a_life_has_aimed_at_all_images_are_looked_at(tmp_path):
    """However few of the others are, and where any part of some names may be there, it is twice as many."""
    (tmp_path / "image").mkdir()
    names = [Create(ROOT, "one", NEW, False), Create(ROOT, "other", NEW + 1, False), Sync(ROOT)]
    writes = [Write(NEW, 0, b"x"), Sync(NEW)]
    (tmp_path / "journal").write_bytes(b"".join(map(encoded, [*names, *writes, *writes])))
    cut, ledger = Cut.of("seed", "posix", tmp_path), Ledger()
    for watched, images in [((0, 3), {0: 12}), ((3, 5), {1: 2}), ((5, 9), {2: 2})]:
        ledger.watched = [watched]
        cut.ledger_file.write_bytes(pickle.dumps(ledger))
        assert Counter(int(name.split("/")[0]) for name in drawn(cut, 0)) == images
        assert len(drawn(cut, 1)) == sum({0: 6, 1: 2, 2: 2, **images}.values())


def test_what_lies_behind_a_torn_tail_is_counted(tmp_path):
    """Where a segment does not reach the next one, or `verify` calls its tail torn; an empty one is no loss."""
    directory = tmp_path / "topics" / "t-0"
    directory.mkdir(parents=True)
    first, second, third = (directory / f"{base:020}.log" for base in (0, 4, 6))
    first.write_bytes(b"".join(map(header, range(4))))
    second.write_bytes(header(4) + header(5))
    third.write_bytes(bytes(100))
    assert behind(tmp_path, set()) == 0 and behind(tmp_path, {first}) == 1
    first.write_bytes(header(0))
    assert behind(tmp_path, set()) == 1 and behind(tmp_path, {second}) == 0


def header(offset: int) -> bytes:
    """That of a batch of one record, which is nobody's, and nothing else of it."""
    return struct.pack(">qiibIhiqqqhii", offset, 49, 0, 2, 0, 0, 0, 0, 0, -1, -1, -1, 1)
