"""A worker: reads transfers, and writes balances and its offsets in one transaction. Killed at any moment.

python -m bank.worker BOOTSTRAP TRANSACTIONAL_ID GROUP_PROTOCOL

What it knows of a partition's balances it has from the ledger, read when the partition is assigned to it: a worker that
went on with what another one has changed since would lose money. Ends with status WRONG when the ledger and the
committed offset, which are written in one transaction, are not of one mind.
"""

import os
import sys
import time

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition

from .ledger import LEDGER, TRANSFERS, Accounts, Entry, Transfer, client_settings

GROUP = "bank"
WRONG = 66

# A transaction is about so many transfers at most.
TRANSFERS_MAX = 50

SESSION_TIMEOUT_MS = 3000
TRANSACTION_TIMEOUT_MS = 5000
PATIENCE_S = 60


class Worker:
    """One member of the group, with one producer."""

    def __init__(self, bootstrap: str, transactional_id: str, protocol: str):
        common = client_settings(bootstrap)
        reading = {**common, "isolation.level": "read_committed", "enable.auto.commit": False}
        classic = {"session.timeout.ms": SESSION_TIMEOUT_MS, "heartbeat.interval.ms": 500}
        self.consumer = Consumer({
            **reading, "group.id": GROUP, "auto.offset.reset": "earliest", "group.protocol": protocol,
            **(classic if protocol == "classic" else {}),
        })  # fmt: skip
        self.reader = Consumer({**reading, "group.id": "nobody", "enable.partition.eof": True})
        self.latest = Consumer({**common, "group.id": "nobody", "isolation.level": "read_uncommitted"})
        # What is flushed at once is one batch of each partition: balances of payer and payee are next to each other.
        self.producer = Producer({
            **common, "transactional.id": transactional_id, "transaction.timeout.ms": TRANSACTION_TIMEOUT_MS,
            "linger.ms": 1000,
        })  # fmt: skip
        self.accounts: dict[int, Accounts] = {}
        # The newer group protocol says what is to be added and taken away, the classic one what is left.
        self.moves_one_by_one = protocol == "consumer"

    def run(self) -> None:
        """Works until it is killed or its producer is of no use any more."""
        self.producer.init_transactions(PATIENCE_S)
        self.consumer.subscribe([TRANSFERS], on_assign=self.assigned, on_revoke=self.revoked, on_lost=self.revoked)
        while True:
            messages = self.consumer.consume(TRANSFERS_MAX, 0.2)
            messages = [it for it in messages if not it.error() and it.partition() in self.accounts]
            if messages:
                self.carry_out(messages)

    def carry_out(self, messages) -> None:
        """One transaction."""
        try:
            self.producer.begin_transaction()
            for message in messages:
                accounts = self.accounts[message.partition()]
                if message.offset() != accounts.next_input:
                    wrong(f"input {message.offset()} came where {accounts.next_input} is the next")
                for entry in accounts.apply(Transfer.decode(message.value())):
                    self.producer.produce(LEDGER, entry.encode(), str(entry.account), message.partition())
            offsets = [TopicPartition(TRANSFERS, it, accounts.next_input) for it, accounts in self.accounts.items()]
            group = self.consumer.consumer_group_metadata()
            until_settled(lambda: self.producer.send_offsets_to_transaction(offsets, group, PATIENCE_S))
            until_settled(lambda: self.producer.commit_transaction(PATIENCE_S))
        except KafkaException as error:
            if not error.args[0].txn_requires_abort():
                raise
            print(f"aborts: {error.args[0].str()}", flush=True)
            until_settled(lambda: self.producer.abort_transaction(PATIENCE_S))
            self.go_back()

    def go_back(self) -> None:
        """Begins again at what is committed, with the balances that the ledger has."""
        for partition in self.take(list(self.accounts)):
            self.consumer.seek(partition)

    def assigned(self, consumer, partitions) -> None:
        taken = self.take([it.partition for it in partitions])
        if self.moves_one_by_one:
            consumer.incremental_assign(taken)
        else:
            consumer.assign(taken)

    def revoked(self, consumer, partitions) -> None:
        for it in partitions:
            self.accounts.pop(it.partition, None)
        if self.moves_one_by_one:
            consumer.incremental_unassign(partitions)

    def take(self, partitions: list[int]) -> list[TopicPartition]:
        """Learns the balances of partitions; where to go on from in each."""
        # First the offsets, which are told when no transaction is open that has any pending; then the ledger, up to
        # what is there now: the end of the transaction that the offset is from may be on its way to the ledger.
        wanted = [TopicPartition(TRANSFERS, it) for it in partitions]
        committed = until_settled(lambda: self.consumer.committed(wanted, PATIENCE_S))
        for offset in committed:
            if offset.error:
                raise KafkaException(offset.error)
            accounts = self.restored(offset.partition)
            offset.offset = max(offset.offset, 0)
            if accounts.next_input != offset.offset:
                wrong(f"{accounts.next_input} inputs are in the ledger, and {offset.offset} are committed: {offset}")
            self.accounts[offset.partition] = accounts
        return committed

    def restored(self, partition: int) -> Accounts:
        place = TopicPartition(LEDGER, partition, 0)
        _, end = until_settled(lambda: self.latest.get_watermark_offsets(place, PATIENCE_S))
        accounts = Accounts()
        self.reader.assign([place])
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            message = self.reader.poll(1)
            if message is None:
                continue
            error = message.error()
            if not error:
                accounts.restore(Entry.decode(message.value()))
            elif error.code() == KafkaError._PARTITION_EOF and message.offset() >= end:
                return accounts
        raise KafkaException(KafkaError(KafkaError._TIMED_OUT, f"ledger {partition} is not stable up to {end}"))


def until_settled(call):
    """Calls again what asks for it, as while the broker is away."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            return call()
        except KafkaException as error:
            error_ = error.args[0]
            again = error_.retriable() and not error_.txn_requires_abort() and not error_.fatal()
            if not again or time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def wrong(what: str) -> None:
    """The books do not agree."""
    print(f"WRONG {what}", flush=True)
    os._exit(WRONG)


def main() -> None:
    bootstrap, transactional_id, protocol = sys.argv[1:]
    try:
        Worker(bootstrap, transactional_id, protocol).run()
    except KafkaException as error:
        # Fenced, or something that a new producer is the remedy for: whoever started this starts another one.
        print(f"ends: {error.args[0].str()}", flush=True)
        os._exit(1)


if __name__ == "__main__":
    main()
