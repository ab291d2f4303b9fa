"""One history: a broker, its clients, what happens to them, and the verdict."""

import random
import sys
import time
import traceback
from dataclasses import dataclass

from confluent_kafka import ConsumerGroupTopicPartitions, KafkaException
from confluent_kafka.admin import AdminClient

from compat.confluent import Confluent
from compat.programs import Java, KafkaJs
from harness.admin import create_topic

from .actors import PARTITIONS, PLAIN, TRANSACTED, Member, Reader, Transactor, Writer, read_log
from .checker import History, Outcome, check

# How long a group may see nothing new, once the broker stays up, while there is something that it has not seen. A member that
# could not say good-bye to a broker that was down keeps its partitions for 45 s. How much is left says nothing: who was
# held up for so long has more to catch up with than a busy machine reads in a minute.
STANDSTILL_S = 120


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
    missing, since = unseen(history, wanted), time.monotonic()
    while any(missing) and time.monotonic() < since + STANDSTILL_S:
        time.sleep(0.2)
        before, missing = missing, unseen(history, wanted)
        if missing != before:
            since = time.monotonic()
    stuck = [standing(broker.bootstrap, group, members) for group, seen in history.seen.items() if wanted - set(seen)]
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
    return Verdict(check(history), summary, errors + stuck)


def unseen(history: History, wanted: set[str]) -> list[int]:
    """How many of these values each group has not seen."""
    return [len(wanted.difference(seen)) for seen in history.seen.values()]


def standing(bootstrap: str, group: str, members: list[Member]) -> str:
    """What the broker says of a group that has not seen everything in time, and what its members are doing."""
    admin = AdminClient({"bootstrap.servers": bootstrap})
    lines = [f"group {group}"]
    try:
        told = admin.describe_consumer_groups([group])[group].result()
        offsets = admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group)])[group].result()
        lines.append(f"  {told.state.name}")
        lines += [f"  committed {place.topic}-{place.partition}: {place.offset}" for place in offsets.topic_partitions]
        for member in told.members:
            held = [f"{place.topic}-{place.partition}" for place in member.assignment.topic_partitions]
            lines.append(f"  member {member.member_id} {member.client_id}: {' '.join(held)}")
    except KafkaException as error:
        # The finding must not be lost with its explanation.
        lines.append(f"  cannot be described: {error}")
    frames = sys._current_frames()
    for member in (member for member in members if member.group == group):
        lines.append(f"  {member.name}:")
        if member.ident in frames:
            lines += [line.rstrip() for line in traceback.format_stack(frames[member.ident])[-4:]]
        else:
            lines.append("    its thread has ended")
    return "\n".join(lines)
