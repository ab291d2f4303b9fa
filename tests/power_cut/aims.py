"""Steps of a life that lead to one place each, at which two faults have to meet: other steps hardly get there.

All images of what follows are looked at.
"""

from .interruptions import CHECKPOINT, DELETED, SWAP, Interruptions
from .settings import FLEETING, FLEETING_CONFIG, LONG_MS, SOON_MS, TOPICS
from .state import DIRECTORIES, FAIL_FLUSHES, FOR_EVER

# A topic whose segments are large, and of which nothing else is ever lost.
LARGE = "steady"


class Aims:
    """The steps of a life that are such."""

    def __init__(self, interruptions: Interruptions):
        self.interruptions = interruptions
        self.life = interruptions.life
        self.rng = interruptions.rng
        self.state = interruptions.state

    def ways(self) -> dict:
        """The steps, each with its weight."""
        return dict.fromkeys(
            [self._kill_in_compaction, self._kill_in_deletion, self._fail_first_write, self._fail_log_start,
             self._repair_in_two], 4,
        )  # fmt: skip

    def _kill_in_compaction(self) -> None:
        """kill -9 before the name of a compacted segment is durable, by which the next start removes others."""
        self.interruptions.kill_in(DIRECTORIES, SWAP)
        self._start_again()

    def _kill_in_deletion(self) -> None:
        """kill -9 before the new name of a deleted partition is durable, whose files the next start removes."""
        life, name = self.life, self.rng.choice(list(FLEETING))
        life.await_answers()
        if (name, 0) not in life.ends:
            life.create(name, FLEETING[name], FLEETING_CONFIG)
        for partition in range(FLEETING[name]):
            life.send(name, partition)
        self.interruptions.kill_in(DIRECTORIES, DELETED, deleted=name)
        self._start_again()

    def _fail_first_write(self) -> None:
        """The first write of some pages of a segment fails, which the next start takes for written and shows.

        Nothing is written to them after that.
        """
        life = self.life
        life.await_answers()
        life.broker.stop()
        life.restart(flush_linger_ms=SOON_MS, checkpoint_interval_ms=LONG_MS)
        place = (LARGE, self.rng.randrange(TOPICS[LARGE][0]))
        hasty, faults = life.hasty_producer(), self.state.faults()
        self.state.fail(FAIL_FLUSHES, 0, FOR_EVER, ".log")
        for number in range(life.ends[place], life.ends[place] + 40):
            life.send_hastily(hasty, *place, number)
        self.interruptions.await_fault(hasty, faults)
        self._die_and_show(place)

    def _fail_log_start(self) -> None:
        """The first write to where no checkpoint has been fails, and with it a log start that the next start shows.

        Nothing else is noted of that partition, so all that follows hangs on what the start has written again.
        """
        life = self.life
        life.await_answers()
        name = self.interruptions.new_topic()
        if name is None:
            return
        life.broker.stop()
        life.restart(checkpoint_interval_ms=LONG_MS)
        life.get_to_know(name)
        for _ in range(4):
            life.send(name, 0)
        life.await_answers()
        self.state.fail(FAIL_FLUSHES, 0, 1, CHECKPOINT)
        self.interruptions.delete_some(name)
        self._die_and_show((name, 0))

    def _repair_in_two(self) -> None:
        """A batch near the end of the log is given up, with a kill before the name of the new segment is durable.

        What is repeated then has the checkpoint follow, which speaks of that segment.
        """
        for _ in range(6):
            self.life.send(LARGE, 0)
            self.life.await_answers()
        self.interruptions.give_up(LARGE, [(DIRECTORIES, ".log", 0)], slice(-4, -1))

    def _die_and_show(self, untouched: tuple[str, int]) -> None:
        """The broker dies of its disk, and the next one shows what it finds; all partitions but one are written to."""
        life = self.life
        self.state.heal()
        life.broker.kill()
        with life.watching():
            self.interruptions.start_again()
            for place in life.ends:
                if place != untouched:
                    life.send(*place)
            life.await_answers()

    def _start_again(self) -> None:
        with self.life.watching():
            self.interruptions.start_again()
