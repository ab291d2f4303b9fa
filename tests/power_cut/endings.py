"""What a life does last, before the power goes: the next one begins with what a cut leaves of that."""

import time

from .batches import segments
from .settings import LONG_MS, SOON_MS

TIMEOUT_S = 60
# So many records are in a segment that the next start is to remove.
LEFT = 3
# And it does not take as many to get there.
SENT_MAX = 500


class Endings:
    """The ways in which a life ends."""

    def __init__(self, life):
        self.life = life

    def ways(self) -> dict:
        """The ways, each with its weight."""
        if not self.life.disk.interrupts:
            return {self._hurry: 1}
        return {self._hurry: 8, self._leave_segment: 1, self._leave_snapshot: 1}

    def _hurry(self) -> None:
        """Records to all partitions that nobody waits for, so that a cut tears as much as it can."""
        life = self.life
        life.await_answers()
        hasty = life.hasty_producer()
        for number in range(40):
            for (name, partition), end in life.ends.items():
                life.send_hastily(hasty, name, partition, end + number)
            hasty.poll(0)
        hasty.flush(1)

    def _leave_segment(self) -> None:
        """A segment that may be on the disk without all that is in front of it: the next start removes it then."""
        self._roll(LONG_MS)

    def _leave_snapshot(self) -> None:
        """Likewise, and with it a snapshot of the producers that is on the disk before what it speaks of."""
        self._roll(SOON_MS)

    def _roll(self, checkpoint_interval_ms: int) -> None:
        """Sends records that nobody waits for, more than fit into a segment, and nothing of them is synced."""
        life = self.life
        life.await_answers()
        life.broker.stop()
        # That has left a snapshot; the next one is due with the first checkpoint after a new segment. What is written
        # through a map is not seen by the disk before a sync, and could not arrive in part.
        life.restart(flush_linger_ms=LONG_MS, checkpoint_interval_ms=checkpoint_interval_ms, write_mode="pwrite")
        directory = life.broker.data_dir / "topics" / "rolling-0"
        life.send("rolling", 0)
        life.await_answers()
        hasty, end = life.hasty_producer(), life.ends[("rolling", 0)]
        newest, more = segments(directory)[-1], LEFT
        for number in range(end, end + SENT_MAX):
            life.send_hastily(hasty, "rolling", 0, number)
            assert hasty.flush(TIMEOUT_S) == 0, "rolling-0 takes no records"
            more -= segments(directory)[-1] != newest
            if not more:
                break
        assert not more, f"rolling-0 has no other segment after {SENT_MAX} records"
        if checkpoint_interval_ms < LONG_MS:
            time.sleep(2 * checkpoint_interval_ms / 1000)
        life.ledger.left_at = life.position
        # The power goes in the sync of something else.
        life.send("aging", 0)
        life.await_answers()
