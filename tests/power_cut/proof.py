"""Whether the rig would notice: images of a disk that lost a flush which it had answered."""

from pathlib import Path

from .check import Checker
from .cut import BROKER_SETTINGS, Cut
from .image import DurableImage
from .journal import Span, spans
from .ledger import Ledger, head


def unnoticed_losses(cut: Cut, directory: Path, images: int) -> tuple[int, list[str]]:
    """How many images lack a flush with an acknowledged record in it, at most `images`; and which pass for good."""
    ledger = cut.ledger()
    checker = Checker(directory, BROKER_SETTINGS)
    durable = DurableImage(directory / "durable", cut.image)
    there = list(spans(cut.journal))
    tried, unnoticed = 0, []
    for number, (span, following) in enumerate(zip(there, there[1:])):
        lost = _acknowledged_in(ledger, there[: number + 1], following) if tried < images else None
        if lost:
            tried += 1
            durable.cut(checker.image, [])
            if not checker.check(ledger, following.end):
                unnoticed.append(f"flush {span.flushes} of {cut.seed} is lost, and nobody misses {lost}")
        durable.flush(span)
    return tried, unnoticed


def _acknowledged_in(ledger: Ledger, flushed: list[Span], following: Span) -> str | None:
    """A record that the last of these flushes has made durable, none before it, and that was known before the next.

    What a kill left in the page cache may have been written before it was synced, and once more by recovery.
    """
    *before, span = flushed
    for name, topics in ledger.topics.items():
        for index, partition in enumerate(topics[-1].partitions):
            for offset, (author, known) in partition.records.items():
                if not span.end < known <= following.end or topics[-1].delete_asked is not None:
                    continue
                begins = head(author, name, index, offset)
                if _is_written(begins, [span]) and not _is_written(begins, before):
                    return begins.decode()
    return None


def _is_written(data: bytes, there: list[Span]) -> bool:
    return any(data in write.data for span in there for write in span.writes)
