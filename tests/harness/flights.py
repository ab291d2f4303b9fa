"""The flights of 2013: the real events that the tests stream through a broker."""

import gzip
import json
import os
from collections import defaultdict
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import NamedTuple

from .broker import REPOSITORY

COUNT = 336_776
PARTITIONS = 8


class Flight(NamedTuple):
    """One event: keyed by carrier, stamped with the scheduled hour in milliseconds, its line of JSON as the value."""

    key: bytes
    timestamp: int
    value: bytes


def path() -> Path:
    """Where the events are: HIGHWATER_FLIGHTS, or shared/data beside the repository."""
    default = REPOSITORY.parent / "shared" / "data" / "flights-2013.ndjson.gz"
    found = Path(os.environ.get("HIGHWATER_FLIGHTS", default))
    assert found.is_file(), f"{found} is missing: HIGHWATER_FLIGHTS tells where flights-2013.ndjson.gz is"
    return found


@cache
def load() -> list[Flight]:
    """All events, in the order of the file."""
    hours: dict[str, int] = {}
    flights = []
    with gzip.open(path(), "rb") as lines:
        for line in lines:
            line = line.rstrip(b"\n")
            event = json.loads(line)
            hour = event["scheduled_hour"]
            if hour not in hours:
                hours[hour] = int(datetime.fromisoformat(hour).timestamp() * 1000)
            flights.append(Flight(event["carrier"].encode(), hours[hour], line))
    assert len(flights) == COUNT
    return flights


@cache
def by_key() -> dict[bytes, list[Flight]]:
    """The events of each carrier, in order."""
    keys = defaultdict(list)
    for flight in load():
        keys[flight.key].append(flight)
    return dict(keys)


def assert_all(records, timestamps: bool = True) -> None:
    """The records are exactly the events: each once, and in order within each key."""
    read = defaultdict(list)
    for record in records:
        read[record.key].append(record)
    expected = by_key()
    assert {k: len(r) for k, r in read.items()} == {k: len(f) for k, f in expected.items()}
    for key, flights in expected.items():
        assert [r.value for r in read[key]] == [f.value for f in flights], f"carrier {key.decode()}"
        if timestamps:
            assert [r.timestamp for r in read[key]] == [f.timestamp for f in flights], f"carrier {key.decode()}"
        assert len({r.partition for r in read[key]}) == 1, f"carrier {key.decode()} is in several partitions"
