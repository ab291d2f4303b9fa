"""`highwater produce` and `highwater consume`, as tests use them."""

import base64
import json

from . import flights
from .records import Record

TIMEOUT_S = 180


def highwater_produce(broker, topic: str, codec: str) -> None:
    """Streams the flights in as a person would: key and timestamp from fields of the JSON."""
    import gzip

    broker.cli(
        "produce", topic, "--bootstrap", broker.bootstrap, "--format", "ndjson", "--key-field", "carrier",
        "--timestamp-field", "scheduled_hour", "--compression", codec,
        stdin=gzip.decompress(flights.path().read_bytes()), timeout_s=TIMEOUT_S,
    )  # fmt: skip


def highwater_consume(broker, topic: str, *arguments) -> list[Record]:
    """Reads until the end of the topic and returns what was printed."""
    output = broker.cli(
        "consume", topic, "--bootstrap", broker.bootstrap, "--format", "json", *arguments, timeout_s=TIMEOUT_S
    ).stdout
    return [_record(json.loads(line)) for line in output.splitlines()]


def _record(printed: dict) -> Record:
    return Record(
        printed["partition"], printed["offset"], printed["timestamp"], _bytes(printed, "key"), _bytes(printed, "value")
    )


def _bytes(printed: dict, name: str) -> bytes | None:
    """Text as it is; what is no text comes in base64 beside it."""
    if f"{name}_base64" in printed:
        return base64.b64decode(printed[f"{name}_base64"])
    text = printed.get(name)
    return None if text is None else text.encode()
