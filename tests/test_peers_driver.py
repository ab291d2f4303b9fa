"""The program that benches/peers drives brokers with: that what it says of a load is what happened."""

import json
import subprocess

import pytest

from harness.admin import create_topic
from harness.broker import REPOSITORY, end_with_parent


@pytest.fixture(scope="module")
def driver():
    """The driver, built as the tests in Rust have built it and not for measuring."""
    command = ["cargo", "build", "--quiet", "--locked", "--workspace", "--bin", "peers-driver"]
    subprocess.run(command, cwd=REPOSITORY, check=True, stdin=subprocess.DEVNULL)
    return REPOSITORY / "target" / "debug" / "peers-driver"


def drive(driver, broker, topic, load, *arguments) -> dict:
    command = [driver, load, "--bootstrap", broker.bootstrap, "--topic", topic, *map(str, arguments)]
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, preexec_fn=end_with_parent
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("acks, compression", [("1", "none"), ("all", "lz4"), ("all", "zstd")])
def test_consumes_as_many_records_as_it_says_it_produced(broker, topic, driver, acks, compression):
    create_topic(broker.bootstrap, topic, 4)
    where = ("--partitions", 4)
    produced = drive(driver, broker, topic, "produce", *where, "--acks", acks, "--compression", compression,
                     "--record-bytes", 100, "--seconds", 0.5)  # fmt: skip
    assert produced["records"] > 0
    assert produced["bytes"] == 100 * produced["records"]
    consumed = drive(driver, broker, topic, "consume", *where, "--records", produced["records"])
    assert consumed["bytes"] == produced["bytes"]


@pytest.mark.timeout(900)
@pytest.mark.parametrize("load", ["paced", "end-to-end"])
def test_every_record_of_a_paced_load_has_a_latency(broker, topic, driver, load):
    create_topic(broker.bootstrap, topic, 1)
    figures = drive(driver, broker, topic, load, "--rate", 500, "--seconds", 0.5)
    assert figures["records"] == 250
    assert 0 < figures["p50_us"] <= figures["p99_us"] <= figures["p999_us"] <= figures["max_us"]


def test_a_record_that_fails_is_an_error_and_no_figure(broker, topic, driver):
    create_topic(broker.bootstrap, topic, 1)
    command = [driver, "produce", "--bootstrap", broker.bootstrap, "--topic", topic, "--record-bytes", "2000000"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=120, preexec_fn=end_with_parent)
    assert done.returncode == 1 and b"too large" in done.stderr
    assert not done.stdout
