"""Fixtures of the tests with real clients. `tests/run` chooses the broker; DEVELOPERS.md tells how to use it."""

import itertools
import os
import random
import shutil
from pathlib import Path

import pytest
from xdist.scheduler import LoadScopeScheduling

from harness.broker import ApacheKafka, Broker, Highwater

# What drives a browser is one at a time, and so is what runs cargo.
GROUPS = {
    "test_console.py": "browser", "test_console_live.py": "browser", "test_console_use.py": "browser",
    "test_quick_start.py": "browser", "test_log_client.py": "cargo", "test_peers_driver.py": "cargo",
}  # fmt: skip
# What takes longest begins first, so that no worker is left with it at the end.
LONG_FIRST = [
    "test_flights.py", "browser", "test_kafka_tools.py", "test_compat.py", "test_durability.py", "test_power_cut.py",
]  # fmt: skip

KINDS = {"highwater": Highwater, "kafka": ApacheKafka}


def pytest_addoption(parser):
    parser.addoption("--broker", choices=sorted(KINDS), default="highwater", help="the broker under test")
    parser.addoption("--client", help="the matrix for clients whose name matches this expression, for work on one")
    parser.addoption("--cells", help="the matrix for cells whose name matches this expression")
    parser.addoption("--write", action="store_true", help="write docs/compatibility.md's table")
    parser.addoption("--seed", type=int, default=None, help="seed of everything random; printed with every run")


def pytest_configure(config):
    config.addinivalue_line("markers", "highwater_only(reason): about something that only Highwater has")
    if config.getoption("--seed") is None:
        config.option.seed = random.SystemRandom().randrange(2**32)


def pytest_report_header(config):
    return f"broker: {config.getoption('--broker')}, seed: {config.getoption('--seed')} (repeat with --seed)"


def pytest_xdist_make_scheduler(config, log):
    """A worker has a group's tests to itself, with the fixtures that they share."""

    class ByGroup(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            return group_of(nodeid.split("::")[0])

    return ByGroup(config, log)


def group_of(file: str) -> str:
    """What a worker of pytest-xdist takes as one: a file's tests, or those of several files."""
    return GROUPS.get(file, file)


def pytest_collection_modifyitems(config, items):
    if hasattr(config, "workerinput"):
        last = len(LONG_FIRST)
        groups = {group: place for place, group in enumerate(LONG_FIRST)}
        items.sort(key=lambda item: groups.get(group_of(item.path.name), last))
    if config.getoption("--broker") == "highwater":
        return
    for item in items:
        marker = item.get_closest_marker("highwater_only")
        if marker:
            item.add_marker(pytest.mark.skip(reason=marker.args[0]))


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """Shows the end of each broker's log with a failure."""
    report = (yield).get_result()
    if report.failed:
        report.sections.append(("seed", f"--seed {item.config.getoption('--seed')}"))
        for name, value in item.funcargs.items():
            if isinstance(value, Broker):
                report.sections.append((f"log of {name}", value.log_tail()))
        for started in item.stash.get(_STARTED, []):
            report.sections.append((f"log of {started.directory.name}", started.log_tail()))


_STARTED = pytest.StashKey[list]()


@pytest.fixture
def rng(request) -> random.Random:
    """A source of randomness that the run's seed and the test's name decide."""
    return random.Random(f"{request.config.getoption('--seed')}/{request.node.nodeid}")


@pytest.fixture(scope="session")
def broker_kind(request) -> type[Broker]:
    """The kind of broker under test."""
    return KINDS[request.config.getoption("--broker")]


@pytest.fixture(scope="session")
def broker(broker_kind, tmp_path_factory) -> Broker:
    """One broker that the tests share. A test that restarts, kills or configures a broker starts its own."""
    broker = broker_kind(tmp_path_factory.mktemp("shared-broker"), {"group.min.session.timeout.ms": 1000})
    broker.start()
    yield broker
    broker.discard()


@pytest.fixture(scope="session")
def apache_kafka(tmp_path_factory) -> Broker:
    """An Apache Kafka that tests share which hold a tool of ours against it."""
    broker = ApacheKafka(tmp_path_factory.mktemp("apache-kafka"), {"group.min.session.timeout.ms": 1000})
    broker.start()
    yield broker
    broker.discard()


@pytest.fixture(params=["highwater", "kafka"])
def either(request) -> Broker:
    """A shared broker of either kind, for what has to work on both."""
    return request.getfixturevalue("broker" if request.param == "highwater" else "apache_kafka")


@pytest.fixture
def start_broker(broker_kind, tmp_path, request):
    """Starts brokers of the test's own: `start_broker({"num.partitions": 3})`."""
    started: list[Broker] = []
    request.node.stash[_STARTED] = started
    numbers = itertools.count(1)

    def start(settings: dict | None = None, **options) -> Broker:
        broker = broker_kind(tmp_path / f"broker-{next(numbers)}", settings, **options)
        started.append(broker)
        return broker.start()

    yield start
    for broker in started:
        broker.discard()


_topic_numbers = itertools.count(1)


@pytest.fixture
def topic(request) -> str:
    """A topic's name that no other test uses; the test creates it."""
    test = "".join(c if c.isalnum() else "-" for c in request.node.name)
    return f"{test[:80].strip('-')}-{os.getpid()}-{next(_topic_numbers)}"


@pytest.fixture(scope="session")
def kcat() -> str:
    """Path of kcat."""
    path = shutil.which("kcat")
    assert path, "kcat is missing: tests/setup installs it"
    return path


@pytest.fixture(scope="session")
def tests_dir() -> Path:
    """The directory of the tests."""
    return Path(__file__).resolve().parent
