"""Ports that a broker can be given and keep over restarts."""

import os
import random
import socket
from pathlib import Path

_given: set[int] = set()

# The workers of one run of pytest share the ports out by their remainder.
WORKERS_AT_MOST = 16


def free_port() -> int:
    """A TCP port on loopback that nobody listens on.

    A port that the system picks lies in the range of outgoing connections: while the broker is down between a kill and
    a restart, any client's connection may take it. So the port comes from below that range, tried by binding it, and
    is none that another worker of the same run of pytest would give.
    """
    range_file = Path("/proc/sys/net/ipv4/ip_local_port_range")
    lowest_outgoing = int(range_file.read_text().split()[0])
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % WORKERS_AT_MOST
    while True:
        port = random.SystemRandom().randrange(10_000 + worker, lowest_outgoing, WORKERS_AT_MOST)
        if port in _given:
            continue
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        _given.add(port)
        return port
