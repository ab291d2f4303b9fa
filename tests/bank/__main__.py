"""Exactly-once, end to end: money moves between accounts by transactional consume-transform-produce, while workers and
broker are killed with SIGKILL at random, and an auditor reads the books all the time.

tests/bank/run --minutes 10 --seed 7
"""

import argparse
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from harness.broker import ApacheKafka, Broker, Highwater, end_with_parent

from .auditor import Auditor
from .ledger import LEDGER, PARTITIONS, TRANSFERS, Transfer, client_settings
from .worker import GROUP, WRONG

KINDS = {"highwater": Highwater, "kafka": ApacheKafka}
TESTS = Path(__file__).resolve().parents[1]
WORKERS = 4

# Seconds between two kills, between these bounds.
WORKER_LIVES_S = (0.5, 4)
BROKER_LIVES_S = (4, 12)

# Who was killed does not leave the group by itself, and is to be missed soon.
BROKER_SETTINGS = {
    "group.min.session.timeout.ms": 1000,
    "group.consumer.min.session.timeout.ms": 1000,
    "group.consumer.min.heartbeat.interval.ms": 100,
    "group.consumer.session.timeout.ms": 3000,
    "group.consumer.heartbeat.interval.ms": 500,
}

# How long the books may take to be complete once nothing is killed any more.
SETTLE_S = 120

TRANSFERS_PER_SECOND = 200


class Bank:
    """The broker, the workers, who feeds them, and the auditor."""

    def __init__(self, broker: Broker, seed: int, protocol: str, directory: Path):
        self.broker, self.protocol, self.directory = broker, protocol, directory
        self.rng = random.Random(f"{seed}/kills")
        self.transfers = random.Random(f"{seed}/transfers")
        self.workers: list[subprocess.Popen] = []
        self.sent = 0
        self.undelivered: list[str] = []
        self.kills = {"worker": 0, "broker": 0, "worker ended": 0}
        self.findings: list[str] = []
        self.fed = threading.Event()

    def run(self, seconds: float, kill_broker: bool) -> list[str]:
        """Opens the bank for so long; what was found wrong."""
        client = AdminClient({"bootstrap.servers": self.broker.bootstrap})
        for created in client.create_topics([NewTopic(it, PARTITIONS, 1) for it in (TRANSFERS, LEDGER)]).values():
            created.result(30)
        auditor = Auditor(self.broker.bootstrap).start()
        feeder = threading.Thread(target=self.feed, daemon=True)
        feeder.start()
        self.workers = [self.worker(number) for number in range(WORKERS)]
        try:
            self.disturb(time.monotonic() + seconds, kill_broker, auditor)
            self.fed.set()
            feeder.join(SETTLE_S)
            self.settle(auditor)
            if auditor.applied < self.sent and not auditor.findings:
                self.findings.append(f"only {auditor.applied} of {self.sent} transfers were applied: {self.standing(auditor)}")
        finally:
            for worker in self.workers:
                worker.kill()
                worker.wait()
            auditor.stop()
        self.judge(auditor)
        say(f"{self.sent} transfers, {auditor.applied} applied, {auditor.totals_read} totals read; "
            f"killed: {self.kills['worker']} workers, {self.kills['broker']} times the broker; "
            f"{self.kills['worker ended']} workers ended by themselves")  # fmt: skip
        return self.findings

    def worker(self, number: int) -> subprocess.Popen:
        with (self.directory / f"worker-{number}.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "bank.worker", self.broker.bootstrap, f"bank-{number}", self.protocol],
                cwd=TESTS, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
                preexec_fn=end_with_parent,
            )  # fmt: skip

    def feed(self) -> None:
        """Sends transfers until told to stop, and returns when all are acknowledged."""
        settings = client_settings(self.broker.bootstrap)
        producer = Producer({**settings, "enable.idempotence": True, "message.timeout.ms": 0})

        def delivered(error, _message):
            if error:
                self.undelivered.append(str(error))

        while not self.fed.is_set():
            transfer = Transfer.random(self.sent, self.transfers)
            producer.produce(
                TRANSFERS, transfer.encode(), partition=self.transfers.randrange(PARTITIONS), on_delivery=delivered
            )
            self.sent += 1
            producer.poll(0)
            self.fed.wait(1 / TRANSFERS_PER_SECOND)
        producer.flush(SETTLE_S)

    def disturb(self, end: float, kill_broker: bool, auditor: Auditor) -> None:
        """Kills until `end`, or until something is found."""
        now = time.monotonic()
        worker_due = now + self.rng.uniform(*WORKER_LIVES_S)
        broker_due = now + self.rng.uniform(*BROKER_LIVES_S) if kill_broker else end
        while (now := time.monotonic()) < end and not auditor.findings and not self.findings:
            if now >= worker_due:
                number = self.rng.randrange(WORKERS)
                self.workers[number].kill()
                self.workers[number].wait()
                self.workers[number] = self.worker(number)
                self.kills["worker"] += 1
                worker_due = now + self.rng.uniform(*WORKER_LIVES_S)
            if now >= broker_due:
                self.broker.kill()
                self.broker.start()
                self.kills["broker"] += 1
                broker_due = time.monotonic() + self.rng.uniform(*BROKER_LIVES_S)
            self.revive()
            time.sleep(0.02)

    def revive(self) -> None:
        """Starts again the workers that have ended by themselves."""
        for number, worker in enumerate(self.workers):
            status = worker.poll()
            if status is None:
                continue
            if status == WRONG:
                self.findings.append(f"worker {number}: {self.last_words(number)}")
            self.kills["worker ended"] += 1
            self.workers[number] = self.worker(number)

    def last_words(self, number: int) -> str:
        words = (self.directory / f"worker-{number}.log").read_text(errors="replace").splitlines()
        return next((line for line in reversed(words) if line.startswith("WRONG")), "ended")

    def settle(self, auditor: Auditor) -> None:
        """Waits until every transfer is applied."""
        deadline = time.monotonic() + SETTLE_S
        while auditor.applied < self.sent and time.monotonic() < deadline:
            if auditor.findings or self.findings:
                return
            self.revive()
            time.sleep(0.05)

    def standing(self, auditor: Auditor) -> str:
        """How far everybody has come in each partition."""
        settings = {**client_settings(self.broker.bootstrap), "group.id": GROUP}
        stable = Consumer({**settings, "isolation.level": "read_committed"})
        latest = Consumer({**settings, "isolation.level": "read_uncommitted"})

        def asked(question):
            try:
                return question()
            except KafkaException as error:
                return error.args[0].str()

        lines = []
        for number in range(PARTITIONS):
            inputs, ledger = TopicPartition(TRANSFERS, number), TopicPartition(LEDGER, number)
            facts = {
                "inputs": asked(lambda: latest.get_watermark_offsets(inputs, 10)[1]),
                "committed": asked(lambda: latest.committed([inputs], 10)[0].offset),
                "stable committed": asked(lambda: stable.committed([inputs], 10)[0].offset),
                "ledger": asked(lambda: latest.get_watermark_offsets(ledger, 10)[1]),
                "stable ledger": asked(lambda: stable.get_watermark_offsets(ledger, 10)[1]),
                "inputs read": auditor.inputs[number],
                "ledger read": auditor.seen[number].next_input,
            }
            lines.append(", ".join(f"{what} {value}" for what, value in facts.items()))
        return "; ".join(lines)

    def judge(self, auditor: Auditor) -> None:
        """What is wrong in the end."""
        self.findings += auditor.findings
        self.findings += [f"a transfer was not delivered: {it}" for it in self.undelivered[:3]]
        lost = self.sent - sum(1 for count in auditor.numbers.values() if count == 1)
        if lost and not self.findings:
            self.findings.append(f"{lost} transfers are not, or not once, among the inputs")
        if any(auditor.unchecked) and not self.findings:
            self.findings.append("the ledger has entries without inputs")


def say(line: str) -> None:
    """Prints a line at once."""
    print(line, flush=True)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="tests/bank/run", description="Moves money while everything is killed.")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32))
    parser.add_argument("--minutes", type=float, default=1, help="how long things are killed (default 1)")
    parser.add_argument("--broker", choices=sorted(KINDS), default="highwater")
    parser.add_argument("--group-protocol", choices=["classic", "consumer"], default="classic")
    parser.add_argument("--spare-broker", action="store_true", help="kill the workers only")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="where data and logs go, and stay")
    return parser.parse_args()


def main() -> int:
    arguments = parse()
    say(f"seed {arguments.seed} (repeat with --seed {arguments.seed})")
    with tempfile.TemporaryDirectory(prefix="bank-") as temporary:
        directory = arguments.keep or Path(temporary)
        broker = KINDS[arguments.broker](directory / "broker", BROKER_SETTINGS)
        broker.start()
        try:
            bank = Bank(broker, arguments.seed, arguments.group_protocol, directory)
            findings = bank.run(arguments.minutes * 60, not arguments.spare_broker)
        finally:
            broker.discard()
    for finding in findings:
        say(f"FOUND {finding}")
    say(f"{len(findings)} findings")
    return 1 if findings else 0


if __name__ == "__main__":
    status = main()
    # Threads of clients whose broker is gone would keep the process for a while.
    os._exit(status)
