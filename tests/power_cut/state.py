"""The page that the rig shares with the disk's plugin: how far the journal is, and which requests are to fail."""

import mmap
from pathlib import Path

_ENTRIES, _FLUSHES, _FAULTS, _FLUSH_DELAY_US, _FAIL_KINDS, _FAIL_AFTER, _FAIL_COUNT = range(7)

FAIL_WRITES, FAIL_FLUSHES, FAIL_READS = 1, 2, 4
FOR_EVER = 2**63


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

    def fail(self, kinds: int, after: int = 0, count: int = FOR_EVER) -> None:
        """Requests of these kinds fail: `count` of them, once `after` more have succeeded."""
        self._fields[_FAIL_KINDS] = 0
        self._fields[_FAIL_AFTER] = after
        self._fields[_FAIL_COUNT] = count
        self._fields[_FAIL_KINDS] = kinds

    def heal(self) -> None:
        """No request fails any more."""
        self._fields[_FAIL_KINDS] = 0


def _mapped(path: Path) -> memoryview:
    with path.open("r+b") as file:
        return memoryview(mmap.mmap(file.fileno(), mmap.PAGESIZE)).cast("Q")
