"""The page that the rig shares with the disk's plugin: how far the journal is, and which requests are to fail."""

import mmap
import os
import signal
from contextlib import suppress
from pathlib import Path

_ENTRIES, _FLUSHES, _FAULTS, _FLUSH_DELAY_US, _FAIL_KINDS, _FAIL_AFTER, _FAIL_COUNT = range(7)
# Of the POSIX disk alone.
_KILL_PROCESS, _KILL_KINDS, _KILL_NAME, _KILL_AFTER, _KILLED, _FAIL_NAME = range(7, 13)
_WHOLE_SYNCS, _WHOLE_ASKED, _WHOLE_HELD_US = range(13, 16)

FAIL_WRITES, FAIL_FLUSHES, FAIL_READS = 1, 2, 4
FOR_EVER = 2**63

# What is synced.
FILES, DIRECTORIES = 1, 2
# So much of the end of a name fits into a field.
_NAME_BYTES = 8


class DiskState:
    """One page, mapped by both. Each field has one writer at a time, and is eight bytes that are aligned."""

    def __init__(self, path: Path):
        path.write_bytes(bytes(mmap.PAGESIZE))
        self._fields = _mapped(path)

    @staticmethod
    def shared(path: Path) -> "DiskState":
        """The page that somebody else has made."""
        state = object.__new__(DiskState)
        state._fields = _mapped(path)
        return state

    def position(self) -> int:
        """How many entries the journal has. What is known at this moment is known at this position, or before it."""
        return self._fields[_ENTRIES]

    def flushes(self) -> int:
        """How many flushes have completed."""
        return self._fields[_FLUSHES]

    def whole_syncs(self) -> int:
        """How many of these were syncs of everything."""
        return self._fields[_WHOLE_SYNCS]

    def faults(self) -> int:
        """How many requests were answered with EIO."""
        return self._fields[_FAULTS]

    def delay_flushes(self, seconds: float) -> None:
        """Lets every flush take so long."""
        self._fields[_FLUSH_DELAY_US] = int(seconds * 1e6)

    def flush_delay(self) -> float:
        """How many seconds a flush takes."""
        return self._fields[_FLUSH_DELAY_US] / 1e6

    def count_entry(self) -> None:
        """The journal has one more. For the disk."""
        self._fields[_ENTRIES] += 1

    def count_flush(self) -> None:
        """One more has completed. For the disk."""
        self._fields[_FLUSHES] += 1

    def hold_whole_syncs(self, seconds: float) -> int:
        """Lets every sync of everything take so much longer; how many have been asked for."""
        self._fields[_WHOLE_HELD_US] = int(seconds * 1e6)
        return self.whole_syncs_asked()

    def whole_syncs_asked(self) -> int:
        """How many syncs of everything have been asked for."""
        return self._fields[_WHOLE_ASKED]

    def ask_whole_sync(self) -> float:
        """One more is asked for; how many seconds it takes. For the disk."""
        self._fields[_WHOLE_ASKED] += 1
        return self.flush_delay() + self._fields[_WHOLE_HELD_US] / 1e6

    def count_whole_sync(self) -> None:
        """It was one of everything. For the disk."""
        self._fields[_WHOLE_SYNCS] += 1

    def fail(self, kinds: int, after: int = 0, count: int = FOR_EVER, name: str = "") -> None:
        """Requests of these kinds fail: `count` of them, once `after` more have succeeded.

        On the POSIX disk only those count whose file or directory has a name that ends so.
        """
        self._fields[_FAIL_KINDS] = 0
        self._fields[_FAIL_NAME] = _packed(name)
        self._fields[_FAIL_AFTER] = after
        self._fields[_FAIL_COUNT] = count
        self._fields[_FAIL_KINDS] = kinds

    def heal(self) -> None:
        """No request fails any more."""
        self._fields[_FAIL_KINDS] = 0

    def is_to_fail(self, kind: int, name: str) -> bool:
        """Whether it is the turn of a request of this kind, for a file of this name, to fail. For the disk."""
        if not self._fields[_FAIL_KINDS] & kind or not name.endswith(_unpacked(self._fields[_FAIL_NAME])):
            return False
        if self._fields[_FAIL_AFTER] > 0:
            self._fields[_FAIL_AFTER] -= 1
            return False
        if self._fields[_FAIL_COUNT] == 0:
            return False
        self._fields[_FAIL_COUNT] -= 1
        self._fields[_FAULTS] += 1
        return True

    def kill_at_sync(self, process: int, kinds: int, name: str = "", after: int = 0) -> None:
        """Has the disk kill a process in a sync that has something to do, and not do that one nor any after it.

        It is a sync of a file or directory whose name ends so, or of a directory in which such a name came or went; so
        many of them are done before it.
        """
        self._fields[_KILL_PROCESS] = 0
        self._fields[_KILLED] = 0
        self._fields[_KILL_KINDS] = kinds
        self._fields[_KILL_NAME] = _packed(name)
        self._fields[_KILL_AFTER] = after
        self._fields[_KILL_PROCESS] = process

    def spare(self) -> None:
        """Nobody is killed any more, and syncs are done."""
        self._fields[_KILL_PROCESS] = 0

    def has_killed(self) -> bool:
        """Whether the process that was to be killed has been."""
        return self._fields[_KILLED] != 0

    def is_killing(self) -> bool:
        """Whether a process has been killed whose syncs do not count. For the disk."""
        return self._fields[_KILL_PROCESS] != 0 and self._fields[_KILLED] != 0

    def kill_if_told(self, kind: int, names: list[str]) -> bool:
        """Kills, if it is the turn of a sync of this kind that these names are synced with. For the disk."""
        process, end = self._fields[_KILL_PROCESS], _unpacked(self._fields[_KILL_NAME])
        if process == 0 or not self._fields[_KILL_KINDS] & kind or not any(name.endswith(end) for name in names):
            return False
        if self._fields[_KILL_AFTER] > 0:
            self._fields[_KILL_AFTER] -= 1
            return False
        self._fields[_KILLED] = 1
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
        return True


def _packed(name: str) -> int:
    return int.from_bytes(name.encode()[-_NAME_BYTES:])


def _unpacked(field: int) -> str:
    return field.to_bytes(_NAME_BYTES).lstrip(b"\0").decode()


def _mapped(path: Path) -> memoryview:
    with path.open("r+b") as file:
        return memoryview(mmap.mmap(file.fileno(), mmap.PAGESIZE)).cast("Q")
