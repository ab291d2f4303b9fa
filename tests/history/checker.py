"""What was promised of each value, and what the log has to show for it. Knows no client and no broker.

A value is `writer:partition:number`; a writer counts up in each partition, and its next value goes out only after it was
told of the one before, so in the log its numbers rise.
"""

from collections import Counter
from dataclasses import dataclass, field
from enum import Enum


class Outcome(Enum):
    """What the writer knows of a batch, or of a transaction."""

    ACKNOWLEDGED = "acknowledged"
    UNKNOWN = "unknown"
    ABORTED = "aborted"


@dataclass
class History:
    """All that happened, as the clients saw it."""

    # What was written at once, in a batch or a transaction, with its outcome.
    written: list[tuple[list[str], Outcome]] = field(default_factory=list)
    # Those of `written` that are transactions: all of a transaction is visible, or nothing.
    transactions: list[list[str]] = field(default_factory=list)
    # What a reader that chose its partitions saw: (topic, partition, offset) and value, in the order of its reading.
    read: list[tuple[tuple[str, int, int], str]] = field(default_factory=list)
    # What members of a group saw of the topic that is written to without transactions.
    seen: dict[str, list[str]] = field(default_factory=dict)
    # The end: each partition's values by offset, read anew when all was over.
    log: dict[tuple[str, int], list[tuple[int, str]]] = field(default_factory=dict)

    def of(self, outcome: Outcome) -> list[str]:
        """Every value with that outcome."""
        return [value for values, known in self.written if known is outcome for value in values]


def check(history: History) -> list[str]:
    """Every broken promise, in words."""
    values = [value for partition in history.log.values() for _, value in partition]
    visible = set(values)
    ever_read = visible | {value for _, value in history.read} | {v for seen in history.seen.values() for v in seen}
    faults = []

    def report(fault: str, culprits) -> None:
        culprits = sorted(culprits)
        if culprits:
            faults.append(f"{fault}: {len(culprits)}, first {culprits[:5]}")

    report("lost: acknowledged and not in the log", set(history.of(Outcome.ACKNOWLEDGED)) - visible)
    report("doubled: in the log more than once", [value for value, times in Counter(values).items() if times > 1])
    report("aborted but visible", ever_read & set(history.of(Outcome.ABORTED)))
    report("out of nowhere: read and never written", ever_read - {v for values, _ in history.written for v in values})
    report("shown and taken back: read and not in the log", ever_read - visible)
    for transaction in history.transactions:
        there = visible.intersection(transaction)
        if there and len(there) < len(transaction):
            report("torn: a transaction that is visible in part", there)
    for (topic, partition), records in history.log.items():
        report(f"reordered in {topic}-{partition}", _falling(value for _, value in records))
    at = {(topic, partition, offset): value
          for (topic, partition), records in history.log.items() for offset, value in records}  # fmt: skip
    report("another value at an offset that was read", [v for place, v in history.read if at.get(place) != v])
    report("read twice by a reader that chose its partitions",
           [str(place) for place, times in Counter(place for place, _ in history.read).items() if times > 1])  # fmt: skip
    transacted = {value for values in history.transactions for value in values}
    for group, seen in history.seen.items():
        report(f"missed by {group}", visible - transacted - set(seen))
    return faults


def _falling(values) -> list[str]:
    """Values that come after a later one of their writer."""
    last: dict[str, int] = {}
    falling = []
    for value in values:
        writer, _, number = value.rpartition(":")
        if int(number) <= last.get(writer, -1):
            falling.append(value)
        last[writer] = int(number)
    return falling
