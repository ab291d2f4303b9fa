"""A disk that answers EIO: the broker goes offline, promises nothing more, and has kept what it promised."""

import random
import shutil
from pathlib import Path

from . import mounts
from .disk import LoggedDisk, format_image
from .ledger import Ledger
from .refusals import acknowledged_too_late, offline, produce_until_refused
from .state import FAIL_FLUSHES, FAIL_READS, FAIL_WRITES, FOR_EVER
from .survey import Unreadable, survey
from .workload import Life

FLUSHES_BEFORE = 150
KINDS = {"writes": FAIL_WRITES, "flushes": FAIL_FLUSHES, "writes and flushes": FAIL_WRITES | FAIL_FLUSHES}


def run(seed: int, lives: int, say=print) -> list[str]:
    """Runs lives that end by EIO; what is wrong with them."""
    findings = []
    for number in range(1, lives + 1):
        rng = random.Random(f"{seed}/faults/{number}")
        directory = mounts.work_directory()
        try:
            wrong = _life(number, rng, directory, say)
        finally:
            shutil.rmtree(directory)
        findings += [f"life {number} of seed {seed}: {what}" for what in wrong]
    return findings


def _life(number: int, rng: random.Random, directory: Path, say) -> list[str]:
    format_image(directory / "image", "ext4")
    disk = LoggedDisk(directory, directory / "image", directory / "journal")
    life = Life(number, rng, disk, Ledger(), directory / "broker")
    kinds, count, remount = rng.choice(list(KINDS)), rng.choice([1, 2, FOR_EVER]), rng.random() < 0.5
    try:
        life.run(FLUSHES_BEFORE)
        life.settle()
        disk.state.fail(KINDS[kinds], rng.randrange(40), count)
        acknowledged = produce_until_refused(life)
        died = not life.broker.is_running()
        wrong = [] if died else offline(life)
        disk.state.heal()
        if not died:
            wrong += acknowledged_too_late(life)
        faults = disk.state.faults()
        say(f"life {number}: EIO for {kinds} ({faults} times), {acknowledged} acknowledged meanwhile, "
            f"{'died' if died else 'offline'}, {'mounted anew' if remount else 'started anew'}")  # fmt: skip
        wrong += _after_restart(life, remount)
        wrong += _unreadable(life, say)
        if disk.repaired:
            # ext4 does not hear of every flush that fails (it asks for some and takes no answer), and what it loses
            # of its own no broker can keep.
            say(f"  the filesystem had lost structures of its own: not judged ({len(wrong)} findings)")
            return []
        return wrong
    except (AssertionError, Unreadable) as error:
        if disk.repaired:
            say("  the filesystem had lost structures of its own: not judged (1 finding)")
            return []
        return [f"{error}\n{life.broker.log_tail(30)}"]
    finally:
        life.end()
        disk.close()


def _after_restart(life: Life, remount: bool) -> list[str]:
    """What a new process makes of it: on what the caches hold, or on what the disk holds."""
    if life.broker.is_running() and life.rng.random() < 0.5:
        life.broker.stop()
    else:
        life.broker.kill()
    if remount:
        life.disk.unmount()
        life.disk.check_and_mount()
    elif not _is_writable(life.disk.mount_point):
        return []
    try:
        life.broker.start()
    except AssertionError:
        # A failed flush may cost the filesystem its own structures. What is there shows after a repair.
        if not remount and life.disk.is_damaged():
            return []
        raise
    return _broken(life, "after a mount" if remount else "in the caches")


def _broken(life: Life, where: str) -> list[str]:
    """What is wrong with what the broker shows, `where` it has it from, and its last words."""
    try:
        wrong = _broken_now(life)
    except Unreadable as error:
        wrong = [str(error)]
    return [f"{where}: {what}\n{life.broker.log_tail(30)}" for what in wrong]


def _broken_now(life: Life) -> list[str]:
    found = survey(life.broker.bootstrap, life.broker.data_dir, life.ledger.commits)
    return life.ledger.broken(found, life.position)


def _unreadable(life: Life, say) -> list[str]:
    """Reads that fail, in a start or after it: what is shown is right, the process survives, and nothing is lost."""
    if life.broker.process is not None:
        life.broker.kill()
    life.disk.unmount()
    life.disk.check_and_mount()
    before, count = life.disk.state.faults(), life.rng.choice([1, 5, FOR_EVER])
    life.disk.state.fail(FAIL_READS, life.rng.randrange(60), count)
    wrong, shown = [], "all"
    try:
        life.broker.start()
        wrong += _broken_now(life)
    except (AssertionError, Unreadable) as error:
        shown = str(error).splitlines()[0]
    status = life.broker.process.poll()
    if status is not None and status < 0:
        wrong.append(f"a read that failed ended the broker by signal {-status}\n{life.broker.log_tail(10)}")
    say(f"  EIO for reads ({life.disk.state.faults() - before} times); shown: {shown}")
    life.disk.state.heal()
    life.broker.kill()
    life.disk.unmount()
    life.disk.check_and_mount()
    life.broker.start()
    return wrong + _broken(life, "after the last mount")


def _is_writable(directory: Path) -> bool:
    """Whether the filesystem has not gone read-only, as ext4 does when its journal fails: no start without a mount."""
    try:
        (directory / "probe").write_bytes(b"")
    except OSError:
        return False
    return True
