"""One history: a broker, its clients, what happens to them, and the verdict."""

import random
import time
from dataclasses import dataclass

from compat.confluent import Confluent
from compat.programs import Java, KafkaJs
from harness.admin import create_topic

from .actors import PARTITIONS, PLAIN, TRANSACTED, Member, Reader, Transactor, Writer, read_log
from .checker import History, Outcome, check

# How long what is written may take to reach every group, once the broker stays up.
DRAIN_S = 60


@dataclass
class Verdict:
    """What came of a history."""

    faults: list[str]
    summary: str
    errors: list[str]


def run(broker, seconds: float, seed: int) -> Verdict:
    """Lets the clients work for that long while the broker is restarted and killed, then holds them to account."""
    rng = random.Random(seed)
    history = History()
    create_topic(broker.bootstrap, PLAIN, PARTITIONS)
    create_topic(broker.bootstrap, TRANSACTED)
    common = (broker.bootstrap, history, str(seed))
    writers = [Writer(f"write-{kind.name}", kind, *common) for kind in (Confluent, Java, KafkaJs)]
    writers += [Transactor(f"transact-{kind.name}", kind, *common) for kind in (Confluent, Java)]
    members = [
        Member(f"{protocol}-{kind.name}", kind, *common, protocol, protocol)
        for protocol in ("classic", "consumer") for kind in (Confluent, Java)
    ]  # fmt: skip
    history.seen = {"classic": [], "consumer": []}
    reader = Reader("reader", None, *common)
    actors = [*writers, *members, reader]
    for actor in actors:
        actor.start()

    kills = restarts = 0
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        time.sleep(rng.uniform(2, 8))
        if rng.random() < 0.6:
            broker.kill()
            kills += 1
        else:
            broker.stop()
            restarts += 1
        time.sleep(rng.uniform(0, 0.5))
        broker.start()

    for actor in writers:
        actor.stopping.set()
    for actor in writers:
        actor.join(120)
        assert not actor.is_alive(), f"{actor.name} hangs: {actor.errors[-3:]}"
    history.log = read_log(broker.bootstrap)
    wanted = {value for (topic, _), records in history.log.items() if topic == PLAIN for _, value in records}
    deadline = time.monotonic() + DRAIN_S
    while any(wanted - set(seen) for seen in history.seen.values()) and time.monotonic() < deadline:
        time.sleep(0.2)
    for actor in [*members, reader]:
        actor.stopping.set()
    for actor in [*members, reader]:
        actor.join(60)

    outcomes = {outcome: len(history.of(outcome)) for outcome in Outcome}
    summary = (
        f"seed {seed}: {kills} kill -9, {restarts} restarts; values "
        + ", ".join(f"{number} {outcome.value}" for outcome, number in outcomes.items())
        + f"; {len(history.transactions)} transactions; read {len(history.read)}, "
        + ", ".join(f"{group} group {len(seen)}" for group, seen in history.seen.items())
    )
    errors = [f"{actor.name}: {len(actor.errors)} errors, last {actor.errors[-1]}" for actor in actors if actor.errors]
    return Verdict(check(history), summary, errors)
