"""Between a client and its broker: loses the answers to some Produce requests, with the connection.

The broker has appended then and the client does not know it, so it sends the batch again. An idempotent producer's second
copy must not become a second record. The broker behind it advertises the proxy's address.
"""

import socket
import struct
import threading
from collections import Counter

from harness.ports import free_port

PRODUCE = 0

# Which Produce requests of a client lose their answer, counted from 1.
LOST = {2, 5}


class LossyProxy:
    """Listens on a port of its own and forwards to `target_port` on loopback."""

    def __init__(self):
        self.port = free_port()
        self.target_port = 0
        # By the clients' ids: Produce requests that came, and answers that were lost.
        self.produced: Counter = Counter()
        self.lost: Counter = Counter()
        self._listener = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Accepts no more."""
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                broker = socket.create_connection(("127.0.0.1", self.target_port))
            except OSError:
                client.close()
                continue
            doomed: dict[int, str] = {}
            threading.Thread(target=self._requests, args=(client, broker, doomed), daemon=True).start()
            threading.Thread(target=self._answers, args=(broker, client, doomed), daemon=True).start()

    def _requests(self, client, broker, doomed) -> None:
        for frame in frames(client):
            key, _version, correlation, length = struct.unpack_from(">hhih", frame, 4)
            if key == PRODUCE:
                client_id = frame[14 : 14 + max(length, 0)].decode()
                self.produced[client_id] += 1
                if self.produced[client_id] in LOST:
                    doomed[correlation] = client_id
            if not send(broker, frame):
                break
        hang_up(client, broker)

    def _answers(self, broker, client, doomed) -> None:
        for frame in frames(broker):
            (correlation,) = struct.unpack_from(">i", frame, 4)
            if correlation in doomed:
                self.lost[doomed[correlation]] += 1
                break
            if not send(client, frame):
                break
        hang_up(client, broker)


def frames(connection: socket.socket):
    """Frames with their length in front, until the connection ends."""
    reader = connection.makefile("rb")
    try:
        while len(head := reader.read(4)) == 4:
            yield head + reader.read(int.from_bytes(head, "big"))
    except OSError:
        return


def send(connection: socket.socket, frame: bytes) -> bool:
    """Whether it could be sent."""
    try:
        connection.sendall(frame)
        return True
    except OSError:
        return False


def hang_up(*connections: socket.socket) -> None:
    """Ends connections for whoever reads from them, too."""
    for connection in connections:
        try:
            connection.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        connection.close()
