"""kcat: librdkafka 2.0 behind a command line, for scripts. Each batch is a run of its own."""

import queue
import re
import signal
import subprocess
import tempfile
import threading
import time

from harness.broker import end_with_parent

from .client import TIMEOUT_S, Client, Message, Polled

# Between key and value, and between records: bytes that the scenarios' texts do not have.
KEY_MARK, RECORD_MARK = "\x1f", "\x1e"


class Kcat(Client):
    name = "kcat"
    sets_timestamps = False
    can_abort = False
    keeps_empty = False
    absent = {
        "group, KIP-848": "classic groups only",
        "idempotence": "ends when its only connection does, so it never sends anything twice",
        "admin": "lists topics, changes none",
        "offsets in transactions": "either produces or consumes",
        "fencing": "a run of it is one transaction, so there is never an older producer",
    }

    def __init__(self, bootstrap):
        super().__init__(bootstrap)
        self.members = {}
        version = subprocess.run(["kcat", "-V"], capture_output=True, text=True).stdout
        self.version = re.search(r"Version (\S+)", version).group(1)

    def _run(self, *arguments, stdin: bytes = b"", bootstrap=None) -> bytes:
        command = ["kcat", "-b", bootstrap or self.bootstrap, "-X", f"client.id={self.name}", *arguments]
        result = subprocess.run(command, input=stdin, capture_output=True, timeout=TIMEOUT_S, preexec_fn=end_with_parent)
        assert result.returncode == 0, f"{arguments}: {result.stderr[-500:].decode()}"
        return result.stdout

    def produce(self, topic, messages, codec="none", idempotent=False, bootstrap=None):
        # A run for what has the same headers; the time is kcat's own. -Z makes nulls of what is empty.
        runs = dict.fromkeys((m.partition, m.headers, m.key is None) for m in messages)
        for partition, headers, keyless in runs:
            batch = [m for m in messages if (m.partition, m.headers, m.key is None) == (partition, headers, keyless)]
            options = [word for name, value in headers for word in ("-H", f"{name}=".encode() + value)]
            settings = ["-X", f"enable.idempotence={str(idempotent).lower()}", "-z", codec, "-p", str(partition), "-Z"]
            target = ["-P", "-t", topic, *settings, *options]
            if any(len(m.value or b"") > 100_000 for m in batch):
                for message in batch:
                    with tempfile.NamedTemporaryFile() as file:
                        file.write(message.value)
                        file.flush()
                        self._run(*target, "-k", message.key, file.name, bootstrap=bootstrap)
                continue
            marks = ["-D", RECORD_MARK] if keyless else ["-K", KEY_MARK, "-D", RECORD_MARK]
            lines = [(b"" if keyless else m.key + KEY_MARK.encode()) + (m.value or b"") for m in batch]
            self._run(*target, *marks, stdin=RECORD_MARK.encode().join(lines), bootstrap=bootstrap)

    def read(self, topic, count, committed=True, since=None):
        isolation = f"isolation.level={'read_committed' if committed else 'read_uncommitted'}"
        start = "beginning" if since is None else f"s@{since}"
        # The value's size in four bytes, the value; the key's in words, the key; the time; the headers.
        form = f"%R%s%K{KEY_MARK}%k%T{KEY_MARK}%h{RECORD_MARK}"
        common = ["-C", "-t", topic, "-p", "0", "-e", "-q", "-X", isolation]
        raw = self._run(*common, "-o", start, "-c", str(count), "-f", form)
        read, at = [], 0
        while at < len(raw):
            value, at = _bytes(raw, at + 4, int.from_bytes(raw[at : at + 4], "big", signed=True))
            size = raw[at : raw.index(KEY_MARK.encode(), at)]
            key, at = _bytes(raw, at + len(size) + 1, int(size))
            end = raw.index(RECORD_MARK.encode(), at)
            timestamp, _, headers = raw[at:end].partition(KEY_MARK.encode())
            pairs = [pair.partition(b"=") for pair in headers.split(b",") if pair]
            headers = tuple((name.decode(), value) for name, _, value in pairs)
            read.append(Message(value, key, headers, int(timestamp)))
            at = end + 1
        return read

    def join(self, member, group, topic, protocol="classic"):
        settings = ["auto.offset.reset=earliest", "session.timeout.ms=30000", "heartbeat.interval.ms=300"]
        options = [word for setting in settings for word in ("-X", setting)]
        command = ["kcat", "-b", self.bootstrap, *options, "-G", group, "-u", "-f", "%s\n", topic]
        self.members[member] = _Member(command)

    def poll(self, member):
        return self.members[member].poll()

    def commit(self, member):
        # kcat commits by itself: at intervals, when partitions are taken away, and when it ends.
        pass

    def leave(self, member):
        self.members.pop(member).end()

    def transact(self, producer, topic, values, outcome, id=None, consumed=None):
        # A run is a transaction.
        command = ["-P", "-t", topic, "-p", "0", "-X", f"transactional.id={producer}"]
        self._run(*command, stdin=b"\n".join(values))

    def close(self):
        for member in self.members.values():
            member.process.kill()


class _Member:
    def __init__(self, command):
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                        preexec_fn=end_with_parent)  # fmt: skip
        self.values: queue.Queue = queue.Queue()
        self.assigned = 0
        threading.Thread(target=self._read, daemon=True).start()
        threading.Thread(target=self._follow, daemon=True).start()

    def _read(self):
        for line in self.process.stdout:
            self.values.put(line.rstrip(b"\n"))

    def _follow(self):
        for line in self.process.stderr:
            if b"rebalanced" in line:
                self.assigned = line.count(b" [") if b"assigned:" in line else 0

    def poll(self) -> Polled:
        deadline, values = time.monotonic() + 0.2, []
        while time.monotonic() < deadline:
            try:
                values.append(self.values.get(timeout=0.05))
            except queue.Empty:
                pass
        return Polled(values, self.assigned)

    def end(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(TIMEOUT_S)


def _bytes(raw: bytes, at: int, size: int) -> tuple[bytes | None, int]:
    return (None if size < 0 else raw[at : at + size]), at + max(size, 0)
