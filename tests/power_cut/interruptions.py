"""What happens to a broker on the POSIX disk between two power cuts: kills at a sync, syncs that fail, damage.

The caches outlive all of it. What the next process finds there may not be on the disk, and hangs on syncs that it has to
do itself before it shows anything.
"""

import os
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

from confluent_kafka import KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from harness.broker import end_with_parent, wait_until
from harness.ledger import PERSISTENT

from .batches import HEADER_BYTES, batches, segments
from .ledger import COMPACTED
from .refusals import acknowledged_too_late, offline, produce_until_refused
from .settings import FLEETING, FLEETING_CONFIG, LONG_MS, SOON_MS, TOPICS
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
# The one of them whose segments are large.
DAMAGED_AT_END = "steady"


class Interruptions:
    """The steps of a life that are such."""

    def __init__(self, life):
        self.life = life
        self.rng = life.rng
        self.state = life.disk.state

    def ways(self) -> dict:
        """The steps, each with its weight."""
        return {
            self._kill_at_sync: 40, self._kill_in_compaction: 4, self._kill_in_deletion: 4, self._fail_sync: 14,
            self._fail_first_write: 4, self._fail_log_start: 4, self._repair: 8, self._repair_in_two: 4,
        }  # fmt: skip

    def _kill_at_sync(self) -> None:
        """kill -9 in a sync of some kind, which is not done, while records, deletions and topics are under way."""
        kinds, name = self.rng.choice(SYNCS)
        self._kill_in(kinds, name, self.rng.choice([0, 0, 0, 1, 3]))

    def _kill_in_compaction(self) -> None:
        """kill -9 before the name of a compacted segment is durable, by which the next start removes others."""
        self._kill_in(DIRECTORIES, SWAP, 0)

    def _kill_in_deletion(self) -> None:
        """kill -9 before the new name of a deleted partition is durable, whose files the next start removes."""
        life, name = self.life, self.rng.choice(list(FLEETING))
        life.await_answers()
        if (name, 0) not in life.ends:
            life.create(name, FLEETING[name], FLEETING_CONFIG)
        for partition in range(FLEETING[name]):
            life.send(name, partition)
        self._kill_in(DIRECTORIES, DELETED, 0, name)

    def _kill_in(self, kinds: int, name: str, after: int, deleted: str | None = None) -> None:
        """kill -9 in a sync of a kind and name, after so many of them; a topic is deleted for it, or none."""
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
        with life.watching():
            self._start_again()

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

    def _start_again(self) -> None:
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
        new = self._new_topic() if name == CHECKPOINT else None
        for _ in range(3) if new else ():
            life.send(new, 0)
            life.await_answers()
        self.state.fail(FAIL_FLUSHES, 0 if name else self.rng.randrange(8), self.rng.choice([1, 2, FOR_EVER]), name)
        hasty, faults = life.hasty_producer(), self.state.faults()
        if new:
            self._delete_some(new)
            sent = []
        else:
            sent = life.send_some_hastily(hasty)
        deadline = time.monotonic() + PATIENCE_S
        while self.state.faults() == faults and time.monotonic() < deadline:
            hasty.poll(0.01)
        hasty.purge()
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
        self._start_again()

    def _fail_first_write(self) -> None:
        """The first write of some pages of a segment fails, which the next start takes for written and shows."""
        life = self.life
        life.await_answers()
        life.broker.stop()
        life.restart(flush_linger_ms=SOON_MS, checkpoint_interval_ms=LONG_MS)
        place = ("steady", self.rng.randrange(TOPICS["steady"][0]))
        faults, hasty = self.state.faults(), life.hasty_producer()
        self.state.fail(FAIL_FLUSHES, 0, FOR_EVER, ".log")
        for number in range(life.ends[place], life.ends[place] + 40):
            life.send_hastily(hasty, *place, number)
        wait_until(lambda: hasty.poll(0.01) is not None and self.state.faults() > faults, "a sync has failed")
        hasty.purge()
        self._show_after_failure([place])

    def _show_after_failure(self, but: list[tuple[str, int]]) -> None:
        """The broker dies, and the next one shows what it finds; nothing else is written to some partitions."""
        life = self.life
        self.state.heal()
        life.broker.kill()
        with life.watching():
            self._start_again()
            for place in life.ends.keys() - but:
                life.send(*place)
            life.await_answers()

    def _fail_log_start(self) -> None:
        """The first write to where no checkpoint has been fails, and with it a log start that the next start shows.

        Nothing else is noted of that partition, so all that follows hangs on what the start has written again.
        """
        life = self.life
        name = self._new_topic()
        if name is None:
            return
        life.broker.stop()
        life.restart(checkpoint_interval_ms=LONG_MS)
        life.get_to_know(name)
        for _ in range(4):
            life.send(name, 0)
        life.await_answers()
        self.state.fail(FAIL_FLUSHES, 0, 1, CHECKPOINT)
        self._delete_some(name)
        self._show_after_failure([(name, 0)])

    def _delete_some(self, name: str) -> None:
        """Deletes records of a topic that has just been made, without an answer.

        The first checkpoint after the one that it was made with goes where nothing has been written yet.
        """
        life, offset = self.life, 2
        admin = AdminClient({"bootstrap.servers": life.broker.bootstrap, **PERSISTENT})
        life.ledger.log_start(name, 0, life.position, None, offset)
        deletion = admin.delete_records([TopicPartition(name, 0, offset)], request_timeout=REQUEST_TIMEOUT_S)
        with suppress(KafkaException):
            deletion[TopicPartition(name, 0, offset)].result(2 * REQUEST_TIMEOUT_S)

    def _new_topic(self) -> str | None:
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
        self._give_up(self.rng.choice(DAMAGED), kills, slice(None))

    def _repair_in_two(self) -> None:
        """As before, in front of the end of the log, with a kill before the name of what has been written is durable.

        What is repeated then has the checkpoint follow.
        """
        for _ in range(6):
            self.life.send(DAMAGED_AT_END, 0)
            self.life.await_answers()
        self._give_up(DAMAGED_AT_END, [(DIRECTORIES, ".log", 0)], slice(-4, -1))

    def _give_up(self, name: str, kills: list[tuple[int, str, int]], where: slice) -> None:
        """Damages one of some batches, and has it given up by repairs that are killed at these syncs, and by one more."""
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
        self._start_again()

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
