"""What happens to a broker on the POSIX disk between two power cuts: kills at a sync, syncs that fail, damage.

The caches outlive all of it. What the next process finds there may not be on the disk, and hangs on syncs that it has
to do itself before it shows anything.
"""

import os
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

from confluent_kafka import KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from harness.broker import end_with_parent
from harness.ledger import PERSISTENT

from .batches import HEADER_BYTES, batches, segments
from .ledger import COMPACTED
from .refusals import acknowledged_too_late, offline, produce_until_refused
from .settings import FLEETING, FLEETING_CONFIG
from .state import DIRECTORIES, FAIL_FLUSHES, FILES, FOR_EVER
from .tools import repair_command

CHECKPOINT, SWAP, DELETED = "checkpoint", ".swap", ".deleted"
OF_TOPICS = ["catalog.json", DELETED]
# Syncs to be killed at: of what, and the end of a name that is synced. The last one stands for all.
SYNCS = [
    (DIRECTORIES, ".log"), (FILES, ".log"), (FILES, CHECKPOINT), *((DIRECTORIES, name) for name in OF_TOPICS),
    (DIRECTORIES, SWAP), (DIRECTORIES, ".producers"), (FILES | DIRECTORIES, ""),
]  # fmt: skip
# Syncs that fail, by the end of a name; of any if that is empty.
FAILING = ["", ".log", CHECKPOINT]
# How long there may be no such sync.
PATIENCE_S = 1
REQUEST_TIMEOUT_S = 2
REPAIR_TIMEOUT_S = 60
# Topics of which nothing else is ever lost.
DAMAGED = ["aging", "steady"]


class Interruptions:
    """The steps of a life that are such."""

    def __init__(self, life):
        self.life = life
        self.rng = life.rng
        self.state = life.disk.state

    def ways(self) -> dict:
        """The steps, each with its weight."""
        return {self._kill_at_sync: 40, self._fail_sync: 14, self._repair: 8}

    def _kill_at_sync(self) -> None:
        """kill -9 in a sync of some kind, which is not done, while records, deletions and topics are under way."""
        kinds, name = self.rng.choice(SYNCS)
        self.kill_in(kinds, name, self.rng.choice([0, 0, 0, 1, 3]))
        self.start_again()

    def kill_in(self, kinds: int, name: str, after: int = 0, deleted: str | None = None) -> None:
        """kill -9 in a sync of this kind and name, after so many more; with `deleted`, while that topic is deleted."""
        life = self.life
        life.await_answers()
        if self.rng.random() < 0.3:
            # It leaves snapshots of the producers, so the next start has no reason to write any.
            life.broker.stop()
            life.restart()
        deletable = self._deletable()
        self.state.kill_at_sync(life.broker.process.pid, kinds, name, after)
        admin = AdminClient({"bootstrap.servers": life.broker.bootstrap, **PERSISTENT})
        asked = [self._ask_for_topic(admin, deleted)] if deleted else self._ask(admin, deletable, name)
        hasty = life.hasty_producer()
        if name == SWAP:
            # Enough for a pass of compaction.
            end = life.ends[(COMPACTED, 0)]
            for number in range(end, end + 60):
                life.send_hastily(hasty, COMPACTED, 0, number)
        elif name != CHECKPOINT or not deletable:
            life.send_some_hastily(hasty)
        deadline = time.monotonic() + PATIENCE_S
        while not self.state.has_killed() and time.monotonic() < deadline:
            hasty.poll(0.02)
        self._bury()
        hasty.purge()
        for future, note in asked:
            try:
                future.result(2 * REQUEST_TIMEOUT_S)
            except KafkaException:
                continue
            note(life.position)

    def _deletable(self) -> tuple[int, int] | None:
        """From where to where records of "rolling" can be deleted."""
        low, high = self.life.watermarks("rolling", 0)
        return (low + 1, high - 5) if high - low >= 12 else None

    def _ask(self, admin: AdminClient, deletable: tuple[int, int] | None, name: str) -> list:
        """Asks for what takes syncs of such a name, or of others; each answer, with what is noted if there is one."""
        ledger, asked, position = self.life.ledger, [], self.life.position
        if deletable and (name == CHECKPOINT or self.rng.random() < 0.3):
            offset = self.rng.randrange(*deletable)
            ledger.log_start("rolling", 0, position, None, offset)
            place = TopicPartition("rolling", 0, offset)
            future = admin.delete_records([place], request_timeout=REQUEST_TIMEOUT_S)[place]
            asked.append((future, lambda known: ledger.log_start("rolling", 0, position, known, offset)))
        if name in OF_TOPICS or self.rng.random() < 0.3:
            asked.append(self._ask_for_topic(admin, self.rng.choice(list(FLEETING))))
        return asked

    def _ask_for_topic(self, admin: AdminClient, name: str) -> tuple:
        if (name, 0) in self.life.ends:
            topic = self.life.ledger.topics[name][-1]
            topic.delete_asked = self.life.position
            future = admin.delete_topics([name], request_timeout=REQUEST_TIMEOUT_S)[name]
            return future, lambda known: setattr(topic, "deleted", known)
        new, topic = self.life.new_topic(name, FLEETING[name], FLEETING_CONFIG)
        future = admin.create_topics([new], request_timeout=REQUEST_TIMEOUT_S)[name]
        return future, lambda known: setattr(topic, "created", known)

    def _bury(self) -> None:
        """Ends the broker, if it has not been killed; then syncs are done again."""
        self.life.broker.kill()
        self.state.spare()

    def start_again(self) -> None:
        """Starts the broker, some of the time only after starts that were killed at a sync themselves."""
        life, known = self.life, set(self.life.authors)
        while self.rng.random() < 0.3:
            life.broker.start(wait=False)
            kinds, name = self.rng.choice([*SYNCS, *[SYNCS[-1]] * len(SYNCS)])
            self.state.kill_at_sync(life.broker.process.pid, kinds, name, self.rng.choice([0, 1, 2, 4, 8, 16]))
            try:
                life.broker.wait_ready()
            except AssertionError:
                if life.broker.process.poll() != -signal.SIGKILL:
                    raise
            self._bury()
        life.restart()
        life.look_around()
        for name in life.authors:
            if name not in known or name.startswith("fleeting"):
                life.get_to_know(name)

    def _fail_sync(self) -> None:
        """Syncs fail, once or for ever: the broker goes offline, and the next one has to write again what it keeps."""
        life = self.life
        life.await_answers()
        name = self.rng.choice(FAILING)
        new = self.new_topic() if name == CHECKPOINT else None
        for _ in range(3) if new else ():
            life.send(new, 0)
            life.await_answers()
        self.state.fail(FAIL_FLUSHES, 0 if name else self.rng.randrange(8), self.rng.choice([1, 2, FOR_EVER]), name)
        hasty, faults = life.hasty_producer(), self.state.faults()
        if new:
            self.delete_some(new)
            sent = []
        else:
            sent = life.send_some_hastily(hasty)
        self.await_fault(hasty, faults)
        # Where these end is not known before the next start.
        life.ends = {place: end for place, end in life.ends.items() if place not in sent}
        produce_until_refused(life)
        wrong = offline(life)
        self.state.heal()
        wrong += acknowledged_too_late(life)
        assert not wrong, wrong
        if self.rng.random() < 0.5:
            life.broker.stop()
        else:
            life.broker.kill()
        self.start_again()

    def await_fault(self, hasty: Producer, faults: int) -> None:
        """Waits until one more sync has failed than so many, unless there is none."""
        deadline = time.monotonic() + PATIENCE_S
        while self.state.faults() == faults and time.monotonic() < deadline:
            hasty.poll(0.01)
        hasty.purge()

    def delete_some(self, name: str) -> None:
        """Deletes records of a topic that has just been made, without an answer.

        The first checkpoint after the one that it was made with goes where nothing has been written yet.
        """
        life, offset = self.life, 2
        admin = AdminClient({"bootstrap.servers": life.broker.bootstrap, **PERSISTENT})
        life.ledger.log_start(name, 0, life.position, None, offset)
        deletion = admin.delete_records([TopicPartition(name, 0, offset)], request_timeout=REQUEST_TIMEOUT_S)
        with suppress(KafkaException):
            deletion[TopicPartition(name, 0, offset)].result(2 * REQUEST_TIMEOUT_S)

    def new_topic(self) -> str | None:
        """A topic that has just been made, if there is room for one."""
        name = next((name for name in FLEETING if (name, 0) not in self.life.ends), None)
        if name:
            self.life.create(name, FLEETING[name], FLEETING_CONFIG)
        return name

    def _repair(self) -> None:
        """A batch is damaged while no broker runs, and given up by a repair that is killed now and then."""
        kills = []
        while self.rng.random() < 0.6:
            kills.append((FILES | DIRECTORIES, "", self.rng.randrange(8)))
        self.give_up(self.rng.choice(DAMAGED), kills, slice(None))

    def give_up(self, name: str, kills: list[tuple[int, str, int]], where: slice) -> None:
        """Damages one of some batches; repairs that are killed at these syncs, and one more, give it up."""
        life = self.life
        life.await_answers()
        life.broker.stop()
        if self._damage(life.broker.data_dir / "topics" / f"{name}-0", name, where):
            for kill in kills:
                repair = self._start_repair(f"{name}-0")
                self.state.kill_at_sync(repair.pid, *kill)
                repair.wait(REPAIR_TIMEOUT_S)
                self.state.spare()
            with life.watching():
                repair = self._start_repair(f"{name}-0")
                said = repair.communicate(timeout=REPAIR_TIMEOUT_S)
            assert repair.returncode == 0, f"repair of {name}-0 ends with {repair.returncode}: {said}"
            life.ledger.given_up(life.position)
        self.start_again()

    def _damage(self, directory: Path, name: str, where: slice) -> bool:
        """Changes a byte of one of some batches, durably. Whether there is any."""
        found = [(path, batch) for path in segments(directory) for batch in batches(path) if batch.records][where]
        if not found:
            return False
        path, batch = self.rng.choice(found)
        self.life.ledger.damaged(name, 0, self.life.position, batch.base_offset, batch.base_offset + batch.offsets)
        at = batch.position + self.rng.randrange(HEADER_BYTES, batch.size)
        with path.open("r+b", buffering=0) as file:
            byte = os.pread(file.fileno(), 1, at)[0]
            os.pwrite(file.fileno(), bytes([byte ^ 1 << self.rng.randrange(8)]), at)
            os.fsync(file.fileno())
        return True

    def _start_repair(self, partition: str) -> subprocess.Popen:
        return subprocess.Popen(
            repair_command(self.life.broker.data_dir, partition), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, preexec_fn=end_with_parent,
        )  # fmt: skip
