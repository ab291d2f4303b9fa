"""What the matrix asks of a client: a few calls that every library has, whatever it calls them.

Bytes travel as bytes; a client in another language is a program that takes one call a line, as JSON with base64, and
answers each with one line.
"""

import base64
import json
import queue
import subprocess
import threading
from typing import NamedTuple

from harness.broker import end_with_parent

TIMEOUT_S = 60


class NotInClient(Exception):
    """The client has no such feature, whatever the broker."""


class Message(NamedTuple):
    """A record, as it is produced and as it is read. A timestamp of 0 is left to the client."""

    value: bytes | None
    key: bytes | None = None
    headers: tuple[tuple[str, bytes], ...] = ()
    timestamp: int = 0
    partition: int = 0


class Polled(NamedTuple):
    """What a group's member got: records' values, and how many partitions it has now."""

    values: list[bytes]
    assigned: int


class Consumed(NamedTuple):
    """How far a group has come: the offset of the next record of partition 0."""

    group: str
    topic: str
    offset: int


class Client:
    """One client. Calls raise what the library raises, and NotInClient for what it does not have."""

    name = ""
    # Its own version, for the table.
    version = ""
    # What it cannot do by itself, by cell, with the reason that the table shows.
    absent: dict[str, str] = {}
    # Whether records can be given a time, and transactions be aborted on purpose.
    sets_timestamps = True
    can_abort = True
    # Whether an empty key or value comes out as such and not as a null.
    keeps_empty = True

    def __init__(self, bootstrap: str):
        self.bootstrap = bootstrap

    def produce(self, topic: str, messages: list[Message], codec: str = "none", idempotent: bool = False,
                bootstrap: str | None = None) -> None:  # fmt: skip
        """Produces and returns when all is acknowledged."""
        raise NotImplementedError

    def read(self, topic: str, count: int, committed: bool = True, since: int | None = None) -> list[Message]:
        """Reads partition 0 from its start, or from the first record that is not older than `since`."""
        raise NotImplementedError

    def join(self, member: str, group: str, topic: str, protocol: str = "classic") -> None:
        """Starts a member of a group, which does not commit unless told to."""
        raise NotImplementedError

    def poll(self, member: str) -> Polled:
        """Waits for records for a short while."""
        raise NotImplementedError

    def commit(self, member: str) -> None:
        """Commits what the member has got."""
        raise NotImplementedError

    def leave(self, member: str) -> None:
        """Ends a member in good order."""
        raise NotImplementedError

    def create_topic(self, topic: str, partitions: int, config: dict[str, str]) -> None:
        """Creates a topic."""
        raise NotImplementedError

    def topic_config(self, topic: str, name: str) -> str:
        """One value of a topic's configuration."""
        raise NotImplementedError

    def grow_topic(self, topic: str, partitions: int) -> None:
        """Gives a topic more partitions."""
        raise NotImplementedError

    def topics(self) -> dict[str, int]:
        """Every topic with its number of partitions."""
        raise NotImplementedError

    def delete_topic(self, topic: str) -> None:
        """Deletes a topic."""
        raise NotImplementedError

    def transact(self, producer: str, topic: str, values: list[bytes], outcome: str, id: str | None = None,
                 consumed: Consumed | None = None) -> None:  # fmt: skip
        """A transaction of that producer, whose transactional id is its name if it is given no other: produces the values,
        commits with them what was consumed, then commits or aborts."""
        raise NotImplementedError

    def close(self) -> None:
        """Ends whatever is left."""


class Program(Client):
    """A client in another language, behind lines of JSON."""

    def command(self) -> list[str]:
        """What to start."""
        raise NotImplementedError

    def __init__(self, bootstrap: str):
        super().__init__(bootstrap)
        self.process = subprocess.Popen(
            [*self.command(), bootstrap], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True, preexec_fn=end_with_parent,
        )  # fmt: skip
        self.answers: queue.Queue = queue.Queue()
        self.complaints: list[str] = []
        threading.Thread(target=self._listen, daemon=True).start()
        threading.Thread(target=lambda: self.complaints.extend(self.process.stderr), daemon=True).start()

    def _listen(self) -> None:
        for line in self.process.stdout:
            if line.startswith("{"):
                self.answers.put(json.loads(line))
        self.answers.put({"error": "the program ended"})

    def _call(self, call: str, **arguments):
        self.process.stdin.write(json.dumps({"call": call, **arguments}) + "\n")
        self.process.stdin.flush()
        answer = self.answers.get(timeout=TIMEOUT_S)
        assert "error" not in answer, f"{call}: {answer['error']}\n{''.join(self.complaints[-20:])}"
        return answer.get("result")

    def produce(self, topic, messages, codec="none", idempotent=False, bootstrap=None):
        messages = [
            {"key": _text(m.key), "value": _text(m.value), "timestamp": m.timestamp, "partition": m.partition,
             "headers": [[name, _text(value)] for name, value in m.headers]}
            for m in messages
        ]  # fmt: skip
        self._call("produce", topic=topic, messages=messages, codec=codec, idempotent=idempotent,
                   bootstrap=bootstrap or self.bootstrap)  # fmt: skip

    def read(self, topic, count, committed=True, since=None):
        read = self._call("read", topic=topic, count=count, committed=committed, since=-1 if since is None else since)
        return [
            Message(_bytes(m["value"]), _bytes(m["key"]), tuple((name, _bytes(value)) for name, value in m["headers"]),
                    m["timestamp"])
            for m in read
        ]  # fmt: skip

    def join(self, member, group, topic, protocol="classic"):
        self._call("join", member=member, group=group, topic=topic, protocol=protocol)

    def poll(self, member):
        polled = self._call("poll", member=member)
        return Polled([_bytes(value) for value in polled["values"]], polled["assigned"])

    def commit(self, member):
        self._call("commit", member=member)

    def leave(self, member):
        self._call("leave", member=member)

    def create_topic(self, topic, partitions, config):
        self._call("createTopic", topic=topic, partitions=partitions, config=config)

    def topic_config(self, topic, name):
        return self._call("topicConfig", topic=topic, name=name)

    def grow_topic(self, topic, partitions):
        self._call("growTopic", topic=topic, partitions=partitions)

    def topics(self):
        return self._call("topics")

    def delete_topic(self, topic):
        self._call("deleteTopic", topic=topic)

    def transact(self, producer, topic, values, outcome, id=None, consumed=None):
        self._call("transact", producer=producer, topic=topic, values=[_text(value) for value in values],
                   outcome=outcome, id=id or producer, consumed=consumed and consumed._asdict())  # fmt: skip

    def close(self):
        self.process.kill()
        self.process.wait()


def _text(data: bytes | None) -> str | None:
    return None if data is None else base64.b64encode(data).decode()


def _bytes(text: str | None) -> bytes | None:
    return None if text is None else base64.b64decode(text)
