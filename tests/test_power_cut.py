"""Short runs of the power-cut rig (power_cut/, docs/crash-testing.md), and proof that it notices what it should."""

import os
import subprocess
import sys

import pytest

from power_cut.ledger import Found, Ledger, value

pytestmark = pytest.mark.highwater_only("Kafka does not sync before it acknowledges")

TIMEOUT_S = 280


def rig(tests_dir, *arguments) -> subprocess.CompletedProcess:
    """Runs the rig in a process of its own, since it needs mounts of its own."""
    needs = {
        "to be root": os.geteuid() == 0,
        "/dev/fuse": os.path.exists("/dev/fuse"),
        "/dev/loop-control": os.path.exists("/dev/loop-control"),
    }
    missing = [what for what, there in needs.items() if not there]
    if missing:
        pytest.skip(f"the power-cut rig needs {', '.join(missing)}")
    result = subprocess.run(
        [sys.executable, "-m", "power_cut", *map(str, arguments)],
        cwd=tests_dir, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=TIMEOUT_S,
    )  # fmt: skip
    print(result.stdout, result.stderr, sep="")
    assert result.returncode == 0, f"power_cut/run {' '.join(map(str, arguments))} finds something"
    return result


@pytest.fixture
def seed(rng) -> int:
    """A seed for the rig, by that of the run."""
    return rng.randrange(2**32)


def test_every_image_of_two_power_cuts_holds_what_was_promised(tests_dir, seed):
    """A life on a new disk, a power cut, another life on what it left; every image of both."""
    rig(tests_dir, "--seed", seed, "--lives", 2, "--flushes", 180)


def test_a_disk_that_answers_eio_costs_nothing_that_was_promised(tests_dir, seed):
    """The broker goes offline at the first failed write or flush, and has everything after a restart."""
    rig(tests_dir, "--seed", seed, "--faults", 4)


def test_a_lost_flush_is_found_out(tests_dir, seed):
    """The rig's own proof: a disk that loses what it said it had flushed."""
    result = rig(tests_dir, "--seed", seed, "--flushes", 500, "--prove", 8)
    tried = int(result.stdout.split(" images lack", 1)[0].rsplit("\n", 1)[-1])
    assert tried >= 3, "hardly a record was acknowledged"


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
