"""Whether the rig would notice: images of a disk that lost a flush which it had answered."""

from pathlib import Path

from .check import Checker
from .cut import BROKER_SETTINGS, Cut
from .ledger import Ledger, head


def unnoticed_losses(cut: Cut, directory: Path, images: int) -> tuple[int, list[str]]:
    """How many images lack a flush with an acknowledged record in it, at most `images`; and which pass for good."""
    ledger = cut.ledger()
    checker = Checker(directory, BROKER_SETTINGS, cut.filesystem)
    ends = [moment.end for moment in cut.moments()]
    tried, unnoticed, flushed = 0, [], []
    for moment, following in zip(cut.moments(), ends[1:]):
        flushed.append(moment.arriving())
        lost = _acknowledged_in(ledger, flushed, moment.end, following) if tried < images else None
        if lost:
            tried += 1
            moment.cut(checker.image, None)
            if not checker.check(ledger, following):
                unnoticed.append(f"flush {moment.number} of {cut.seed} is lost, and nobody misses {lost}")
    return tried, unnoticed


def _acknowledged_in(ledger: Ledger, flushed: list[list[bytes]], end: int, following: int) -> str | None:
    """A record that the last of these flushes has made durable, none before it, and that was known before the next.

    What a kill left in the page cache may have been written before it was synced, and once more by recovery.
    """
    *before, last = flushed
    for name, topics in ledger.topics.items():
        for index, partition in enumerate(topics[-1].partitions):
            for offset, (author, known) in partition.records.items():
                if not end < known <= following or topics[-1].delete_asked is not None:
                    continue
                begins = head(author, name, index, offset)
                if _is_written(begins, [last]) and not _is_written(begins, before):
                    return begins.decode()
    return None


def _is_written(data: bytes, flushed: list[list[bytes]]) -> bool:
    return any(data in written for flush in flushed for written in flush)
