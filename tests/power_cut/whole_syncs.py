"""What happens on the POSIX disk to a broker that syncs everything at once: to checkpoints, between two power cuts.

They are about log starts, since most else that a checkpoint says may be older than the log without harm.
"""

import time

from confluent_kafka import KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from harness.ledger import PERSISTENT

from .interruptions import CHECKPOINT
from .ledger import COMPACTED
from .refusals import acknowledged_too_late, offline, produce_until_refused
from .settings import FLEETING, FLEETING_CONFIG
from .state import FAIL_FLUSHES, FOR_EVER

# The longest interval of checkpoints, and some more.
PATIENCE_S = 1.3
# As long as requests to delete records may take to get to the disk.
HELD_S = 0.15
# As long as the syncs of many partitions may be apart.
FIRST_S = 0.02
REQUEST_TIMEOUT_S = 2


class WholeSyncs:
    """The steps of a life that are such."""

    def __init__(self, life):
        self.life = life
        self.rng = life.rng
        self.state = life.disk.state

    def ways(self) -> dict:
        """The steps, each with its weight."""
        return {self._fail_checkpoint: 8, self._delete_amid_checkpoints: 8}

    def _fail_checkpoint(self) -> None:
        """The sync of a checkpoint fails that has a new log start, which the next start finds in the caches and shows.

        A record to another partition follows, so that something else is synced before the checkpoint is written again.
        """
        life = self.life
        life.await_answers()
        name = self.rng.choice([name for name, _ in self._places()])
        self._send([(name, 0)] * 3)
        # The checkpoint that these bring.
        life.producer.poll(self.rng.choice([0.05, 0.3]))
        end = life.ends[(name, 0)]
        self.state.fail(FAIL_FLUSHES, 0, self.rng.choice([1, FOR_EVER]), CHECKPOINT)
        self._delete([(name, 0, end - 1)])
        produce_until_refused(life)
        wrong = offline(life)
        self.state.heal()
        wrong += acknowledged_too_late(life)
        assert not wrong, wrong
        life.broker.kill()
        life.restart()
        life.look_around()
        for known in life.authors:
            life.get_to_know(known)
        self._send([self.rng.choice([place for place in life.ends if place[0] != name])])

    def _delete_amid_checkpoints(self) -> None:
        """DeleteRecords while one sync of everything is under way for the checkpoints of many partitions.

        The slot that each of them writes then holds the only checkpoint that is on disk for certain.
        """
        life = self.life
        life.await_answers()
        # Of four or more that are due at once it makes one sync.
        for name in FLEETING:
            if (name, 0) not in life.ends:
                life.create(name, FLEETING[name], FLEETING_CONFIG)
        places = self._places()
        self._send(places * 2)
        self._delete([(*place, life.ends[place] - 1) for place in places])
        self.state.delay_flushes(0)
        self._send(list(life.ends))
        # By the time that the first checkpoint is synced, by itself, the others are due.
        self.state.delay_flushes(FIRST_S)
        asked = self.state.hold_whole_syncs(HELD_S)
        deadline = time.monotonic() + PATIENCE_S
        while self.state.whole_syncs_asked() == asked and time.monotonic() < deadline:
            time.sleep(0.001)
        self.state.delay_flushes(0)
        self._delete([(*place, life.ends[place]) for place in places])
        self.state.hold_whole_syncs(0)

    def _places(self) -> list[tuple[str, int]]:
        """The partitions of which records can be deleted, and nothing else deletes any."""
        return [place for place in self.life.ends if place[0] not in (COMPACTED, "retained")]

    def _send(self, places: list[tuple[str, int]]) -> None:
        for place in places:
            self.life.send(*place)
        self.life.await_answers()

    def _delete(self, ends: list[tuple[str, int, int]]) -> None:
        """Deletes records up to these offsets, each on a connection of its own, and notes what is answered.

        On one connection a broker would answer the first request before it looks at the next.
        """
        life, asked, answers = self.life, self.life.position, []
        for name, index, offset in ends:
            life.ledger.log_start(name, index, asked, None, offset)
            admin = AdminClient({"bootstrap.servers": life.broker.bootstrap, **PERSISTENT})
            deletion = admin.delete_records([TopicPartition(name, index, offset)], request_timeout=REQUEST_TIMEOUT_S)
            # With its client, which would be gone otherwise.
            answers.append((admin, *deletion.values(), (name, index, offset)))
        for _, answer, (name, index, offset) in answers:
            try:
                answer.result(2 * REQUEST_TIMEOUT_S)
            except KafkaException:
                continue
            life.ledger.log_start(name, index, asked, life.position, offset)
