"""The cells of the matrix: what a client has to do, and what has to come of it. Each raises when it does not."""

import random
import re
import time
import uuid
from contextlib import suppress

from harness.admin import create_topic

from .client import Client, Consumed, Message, NotInClient
from .confluent import Confluent

CODECS = ["none", "gzip", "snappy", "lz4", "zstd"]
BASE_MS = 1_700_000_000_000
# Longer than a session: a member that a client has given up on a slow machine holds the others up for one.
DEADLINE_S = 90

# How libraries say that a newer producer has taken the place of one.
FENCED = re.compile("fence|epoch", re.IGNORECASE)


def codec(client: Client, topic: str, codec: str) -> None:
    """Fifty records that compress well, read as they were sent."""
    sent = [Message(b"value %d " % number * 30, b"key %d" % number, (), BASE_MS + number) for number in range(50)]
    client.produce(topic, sent, codec)
    same(client, topic, sent)


def headers(client: Client, topic: str) -> None:
    """Names and bytes of headers, in their order; and none."""
    sent = [
        Message(b"1", b"k", (("b", b"\xff\x80\x01"), ("a", b""), ("trace-id", b"42")), BASE_MS),
        Message(b"2", b"k", (), BASE_MS + 1),
    ]
    client.produce(topic, sent)
    same(client, topic, sent)


def nulls(client: Client, topic: str) -> None:
    """A null is not an empty string: keys and values."""
    sent = [Message(b"value", None, (), BASE_MS), Message(None, b"deleted", (), BASE_MS + 1)]
    if client.keeps_empty:
        sent += [Message(b"", b"empty value", (), BASE_MS + 2), Message(b"empty key", b"", (), BASE_MS + 3)]
    client.produce(topic, sent)
    same(client, topic, sent)


def large(client: Client, topic: str) -> None:
    """Records of 900 KB that no codec makes smaller."""
    source = random.Random(topic)
    sent = [Message(source.randbytes(900_000), b"k", (), BASE_MS + number) for number in range(3)]
    for message in sent:
        client.produce(topic, [message])
    same(client, topic, sent)


def rebalance(client: Client, topic: str, protocol: str) -> None:
    """A member alone, a second one beside it, the first one gone, both gone and one new: every record once."""
    create_topic(client.bootstrap, topic, 4)
    group = f"{topic}-{uuid.uuid4().hex[:8]}"
    numbers = iter(range(10_000))

    def produce(count: int) -> set[bytes]:
        sent = [b"%d" % next(numbers) for _ in range(count)]
        client.produce(topic, [Message(value, b"k", (), BASE_MS, at % 4) for at, value in enumerate(sent)])
        return set(sent)

    seen: list[bytes] = []

    def collect(members: list[str], due: set[bytes]) -> None:
        """Polls in turn until all that is due was seen by somebody, and commits it."""
        got = {member: [] for member in members}
        deadline = time.monotonic() + DEADLINE_S
        while sum(map(len, got.values())) < len(due):
            for member in members:
                got[member] += client.poll(member).values
            assert time.monotonic() < deadline, f"missed {sorted(due - set(sum(got.values(), [])))[:10]}"
        assert all(got.values()), f"one member got nothing: { {name: len(of) for name, of in got.items()} }"
        read = sum(got.values(), [])
        assert sorted(read) == sorted(due), f"doubled: {[value for value in due if read.count(value) > 1]}"
        for member in members:
            client.commit(member)
        seen.extend(sum(got.values(), []))

    def settle(members: list[str], share: int) -> None:
        """Polls until each has its share; nothing is due meanwhile."""
        deadline = time.monotonic() + DEADLINE_S
        while True:
            polled = [client.poll(member) for member in members]
            assert not any(each.values for each in polled), "got again what was committed"
            if all(each.assigned == share for each in polled):
                return
            assert time.monotonic() < deadline, f"partitions: {[each.assigned for each in polled]}"

    client.join("a", group, topic, protocol)
    settle(["a"], 4)
    collect(["a"], produce(40))
    client.join("b", group, topic, protocol)
    settle(["a", "b"], 2)
    collect(["a", "b"], produce(40))
    client.leave("a")
    settle(["b"], 4)
    collect(["b"], produce(40))
    client.leave("b")
    client.join("c", group, topic, protocol)
    settle(["c"], 4)
    collect(["c"], produce(40))
    client.leave("c")
    assert len(seen) == len(set(seen)) == 160


def seek(client: Client, topic: str) -> None:
    """From the first record that is not older than a time between two records."""
    writer = client if client.sets_timestamps else Confluent(client.bootstrap)
    writer.produce(topic, [Message(b"%d" % number, b"k", (), BASE_MS + 1000 * number) for number in range(10)])
    read = client.read(topic, 4, since=BASE_MS + 5500)
    assert [message.value for message in read] == [b"6", b"7", b"8", b"9"], read


def idempotence(client: Client, topic: str, lossy) -> None:
    """Answers get lost and batches are sent again; every record is there once, in order."""
    sent = [b"%d" % number for number in range(60)]
    for at in range(0, len(sent), 10):
        batch = [Message(value, b"k", (), BASE_MS) for value in sent[at : at + 10]]
        client.produce(topic, batch, idempotent=True, bootstrap=lossy.bootstrap)
    assert lossy.proxy.lost[client.name] > 0, "no answer was lost, so nothing was shown"
    reader = type(client)(lossy.bootstrap)
    try:
        assert [message.value for message in reader.read(topic, len(sent))] == sent
    finally:
        reader.close()
    assert lossy.end(topic) == len(sent), "doubled"


def admin(client: Client, topic: str) -> None:
    """A topic is created with a configuration, described, grown, listed and deleted."""
    client.create_topic(topic, 2, {"retention.ms": "12345678"})
    wait(lambda: client.topics().get(topic) == 2, "it is listed with two partitions")
    with suppress(NotInClient):
        assert client.topic_config(topic, "retention.ms") == "12345678"
    with suppress(NotInClient):
        client.grow_topic(topic, 3)
        wait(lambda: client.topics().get(topic) == 3, "it has grown")
    client.delete_topic(topic)
    wait(lambda: topic not in client.topics(), "it is gone")


def transactions(client: Client, topic: str) -> None:
    """Committed, aborted, committed: readers of what is committed see two, the others all three."""
    create_topic(client.bootstrap, topic)
    outcomes = ["commit", "abort", "commit"] if client.can_abort else ["commit", "commit"]
    everything, committed = [], []
    for number, outcome in enumerate(outcomes):
        values = [b"%s %d %d" % (outcome.encode(), number, at) for at in range(5)]
        client.transact(topic, topic, values, outcome)
        everything += values
        committed += values if outcome == "commit" else []
    assert [message.value for message in client.read(topic, len(committed))] == committed
    assert [message.value for message in client.read(topic, len(everything), committed=False)] == everything


def offsets_in_transactions(client: Client, topic: str) -> None:
    """What was consumed is committed with what is made of it, or neither is."""
    source, group = f"{topic}-source", f"{topic}-group"
    create_topic(client.bootstrap, topic)
    observer = Confluent(client.bootstrap)
    observer.produce(source, [Message(b"%d" % number, b"k", (), BASE_MS) for number in range(5)])
    consumed = Consumed(group, source, 5)
    client.transact(topic, topic, [b"aborted"], "abort", consumed=consumed)
    assert observer.committed(group, source) is None, "that was aborted"
    client.transact(topic, topic, [b"committed"], "commit", consumed=consumed)
    assert observer.committed(group, source) == 5
    assert [message.value for message in client.read(topic, 1)] == [b"committed"]


def fencing(client: Client, topic: str) -> None:
    """Of two producers with one transactional id the older one does nothing any more, and the newer one goes on."""
    create_topic(client.bootstrap, topic)
    old, new, id = f"{topic}-old", f"{topic}-new", f"{topic}-id"
    client.transact(old, topic, [b"1"], "commit", id)
    client.transact(new, topic, [b"2"], "commit", id)
    try:
        client.transact(old, topic, [b"late"], "commit", id)
    except Exception as error:
        assert FENCED.search(f"{type(error).__name__}: {error}"), f"not for being older: {error}"
    else:
        raise AssertionError("the older producer was not refused")
    client.transact(new, topic, [b"3"], "commit", id)
    assert [message.value for message in client.read(topic, 3)] == [b"1", b"2", b"3"]


def same(client: Client, topic: str, sent: list[Message]) -> None:
    """What the client reads is what it has sent."""
    read = client.read(topic, len(sent))
    assert len(read) == len(sent), f"{len(read)} records of {len(sent)}"
    for got, wanted in zip(read, sent):
        assert got[:3] == wanted[:3], f"{str(got)[:300]} where {str(wanted)[:300]} was sent"
        if client.sets_timestamps:
            assert got.timestamp == wanted.timestamp


def wait(condition, what: str) -> None:
    """Asks until it is so."""
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, f"not so: {what}"
        time.sleep(0.05)
