"""The Rust client against real brokers: its own integration tests, on Highwater and on Apache Kafka."""

import os
import re
import subprocess

import pytest

from harness.broker import REPOSITORY, ApacheKafka, ApacheKafkaWithFirstTransactions, Highwater, end_with_parent

# They are compiled here if nothing else has done it.
TIMEOUT_S = 900
TESTS = ["admin", "consume", "groups", "produce", "transactions"]


@pytest.mark.timeout(TIMEOUT_S)
@pytest.mark.parametrize(
    ("kind", "tests", "count"),
    [
        (Highwater, TESTS, 23),
        (ApacheKafka, TESTS, 23),
        (ApacheKafkaWithFirstTransactions, ["transactions"], 6),
    ],
    ids=lambda value: getattr(value, "kind", ""),
)
def test_log_client(kind, tests, count, tmp_path):
    """Every test that wants a broker runs, and passes."""
    broker = kind(tmp_path / "broker", {"group.min.session.timeout.ms": 1000}).start()
    try:
        # Of the whole workspace, as whoever runs all tests in Rust has built them; nobody else's are ignored.
        chosen = [word for test in tests for word in ("--test", test)]
        result = subprocess.run(
            ["cargo", "test", "--locked", "--workspace", *chosen, "--", "--ignored"],
            cwd=REPOSITORY,
            env={**os.environ, "HIGHWATER_TEST_BOOTSTRAP": broker.bootstrap},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            preexec_fn=end_with_parent,
        )
        passed = sum(map(int, re.findall(r"^test result: ok\. (\d+) passed", result.stdout, re.MULTILINE)))
        assert result.returncode == 0, f"{result.stdout[-6000:]}\n{result.stderr[-2000:]}\n{broker.log_tail()}"
        assert passed >= count, f"only {passed} tests ran:\n{result.stdout}"
    finally:
        broker.discard()
