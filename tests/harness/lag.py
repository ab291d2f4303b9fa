"""What a group is behind by, from each place that tells: the JSON API, the metrics, and `highwater lag`."""

import json
import re

import requests

from .broker import Highwater

OF_GROUP = {
    "group", "lag_records", "lag_exact", "lag_seconds", "consume_records_per_second", "produce_records_per_second",
    "catch_up_seconds", "partitions",
}  # fmt: skip
OF_PARTITION = {
    "topic", "partition", "committed_offset", "committed_at_ms", "log_start_offset", "log_end_offset", "isolation",
    "lag_records", "exact", "lag_seconds", "consume_records_per_second", "produce_records_per_second",
    "catch_up_seconds", "member_id", "client_id",
}  # fmt: skip

Lag = dict[tuple[str, int], tuple[int, float]]


def rows(broker: Highwater, group: str) -> list[dict]:
    """All that the JSON API says of the group's partitions; all of the group is what they come to together."""
    answer = requests.get(f"{broker.http}/api/v1/groups/{group}/lag", timeout=30)
    assert answer.status_code == 200, answer.text
    lag = answer.json()
    assert set(lag) == OF_GROUP
    partitions = lag["partitions"]
    for row in partitions:
        assert set(row) == OF_PARTITION
        assert row["lag_records"] <= max(0, row["log_end_offset"] - max(row["committed_offset"], row["log_start_offset"]))
    assert lag["lag_records"] == sum(row["lag_records"] for row in partitions)
    assert lag["lag_exact"] == all(row["exact"] for row in partitions)
    assert lag["lag_seconds"] == max((row["lag_seconds"] for row in partitions), default=0)
    return partitions


def json_lag(broker: Highwater, group: str) -> Lag:
    """Records and seconds by topic and partition, from the JSON API."""
    return {(row["topic"], row["partition"]): (row["lag_records"], row["lag_seconds"]) for row in rows(broker, group)}


def metrics_lag(broker: Highwater, group: str) -> Lag:
    """The same from the metrics."""
    text = requests.get(f"{broker.http}/metrics", timeout=30).text
    found = {}
    for unit in ("records", "seconds"):
        pattern = rf'^highwater_group_lag_{unit}\{{group="{group}",topic="([^"]+)",partition="(\d+)"\}} (\S+)$'
        found[unit] = {(t, int(p)): float(v) for t, p, v in re.findall(pattern, text, re.MULTILINE)}
    assert set(found["records"]) == set(found["seconds"])
    return {place: (int(records), found["seconds"][place]) for place, records in found["records"].items()}


def cli_rows(broker: Highwater, group: str) -> list[dict]:
    """All that `highwater lag` says of the group's partitions."""
    lines = broker.cli("lag", group, "--bootstrap", broker.bootstrap, "--json").stdout.splitlines()
    rows = [json.loads(line) for line in lines]
    assert {row["group"] for row in rows} <= {group}
    return rows


def cli_lag(broker: Highwater, group: str) -> Lag:
    """Records and seconds by topic and partition, from `highwater lag`."""
    return {
        (row["topic"], row["partition"]): (row["lag_records"], row["lag_seconds"]) for row in cli_rows(broker, group)
    }


# A group without any offset has nothing to show on the command line, and is an error there.
OVER_HTTP = [json_lag, metrics_lag]
SOURCES = [*OVER_HTTP, cli_lag]
