"""The auditor: reads the books all the time, as anybody can, and knows what they have to say."""

import threading
from collections import defaultdict, deque

from confluent_kafka import Consumer, KafkaError, TopicPartition

from .ledger import LEDGER, PARTITIONS, TOTAL, TRANSFERS, Accounts, Entry, Transfer, client_settings

KEPT = 20


class Auditor:
    """Reads transfers and ledger with read_committed, in a thread of its own.

    Whenever it has read a partition of the ledger to its end, the total has to be that of the beginning. Each entry has
    to be the one that follows from the inputs in their order: so none is lost, applied twice, or out of order, and none
    of an aborted transaction is seen.
    """

    def __init__(self, bootstrap: str):
        self.consumer = Consumer({
            **client_settings(bootstrap), "group.id": "auditor", "isolation.level": "read_committed",
            "enable.auto.commit": False, "enable.partition.eof": True, "fetch.wait.max.ms": 50,
        })  # fmt: skip
        topics = (TRANSFERS, LEDGER)
        self.consumer.assign([TopicPartition(it, number, 0) for it in topics for number in range(PARTITIONS)])
        self.findings: list[str] = []
        self.totals_read = 0
        # As the ledger has them, and as the inputs have them.
        self.seen = [Accounts() for _ in range(PARTITIONS)]
        self.expected = [Accounts() for _ in range(PARTITIONS)]
        self.due: list[deque[Entry]] = [deque() for _ in range(PARTITIONS)]
        self.unchecked: list[deque[Entry]] = [deque() for _ in range(PARTITIONS)]
        self.inputs = [0] * PARTITIONS
        self.numbers: dict[int, int] = defaultdict(int)
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)

    def start(self) -> "Auditor":
        self.thread.start()
        return self

    def stop(self) -> None:
        """Ends the thread."""
        self.ended.set()
        self.thread.join()
        self.consumer.close()

    @property
    def applied(self) -> int:
        """Inputs of which both entries were seen and found right."""
        return sum(it.next_input for it in self.expected) - sum(len(it) for it in self.due) // 2

    def run(self) -> None:
        while not self.ended.is_set():
            for message in self.consumer.consume(500, 0.1):
                self.read(message)

    def read(self, message) -> None:
        partition, error = message.partition(), message.error()
        if error:
            if error.code() == KafkaError._PARTITION_EOF and message.topic() == LEDGER:
                self.total(partition)
        elif message.topic() == TRANSFERS:
            self.input(partition, message.offset(), Transfer.decode(message.value()))
        else:
            entry = Entry.decode(message.value())
            self.seen[partition].restore(entry)
            self.unchecked[partition].append(entry)
        self.compare(partition)

    def input(self, partition: int, offset: int, transfer: Transfer) -> None:
        self.numbers[transfer.number] += 1
        if offset != self.inputs[partition]:
            self.found(f"transfer {offset} of partition {partition} came where {self.inputs[partition]} is the next")
        self.inputs[partition] = offset + 1
        self.due[partition].extend(self.expected[partition].apply(transfer))

    def total(self, partition: int) -> None:
        self.totals_read += 1
        total = sum(self.seen[partition].balances)
        if total != TOTAL:
            self.found(f"the total of partition {partition} is {total}, not {TOTAL}: {self.seen[partition].balances}")

    def compare(self, partition: int) -> None:
        due, unchecked = self.due[partition], self.unchecked[partition]
        while due and unchecked:
            expected, seen = due.popleft(), unchecked.popleft()
            if expected != seen:
                self.found(f"partition {partition} of the ledger has {seen} where {expected} follows from the inputs")

    def found(self, what: str) -> None:
        if len(self.findings) < KEPT:
            self.findings.append(what)
