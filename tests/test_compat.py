"""The compatibility matrix: every client, every cell, and the table in docs/compatibility.md that they make.

`--write` puts the table into the page; without it, what was seen has to be the table that is there.
"""

import re
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
from confluent_kafka import Consumer, TopicPartition

from compat import scenarios, table
from compat.aiokafka_client import Aiokafka
from compat.confluent import Confluent
from compat.kafka_python import KafkaPython
from compat.kcat import Kcat
from compat.lossy_proxy import LossyProxy
from compat.programs import ConfluentJs, FranzGo, Java, KafkaJs, LogClient
from harness.broker import Highwater
from test_topic_rules import stored_codecs

CLIENTS = {client.name: client for client in [
    Confluent, KafkaPython, Aiokafka, KafkaJs, ConfluentJs, Java, FranzGo, Kcat, LogClient,
]}  # fmt: skip

CELLS = [*scenarios.CODECS, "headers", "nulls", "900 KB", "group, classic", "group, KIP-848", "seek by time",
         "idempotence", "transactions", "offsets in transactions", "fencing", "admin"]  # fmt: skip

# How many clients run at a time: they wait most of the time, for rebalances above all.
AT_A_TIME = 3


def check(client, cell: str, topic: str, broker, lossy) -> None:
    """Runs a cell, which raises if it does not hold."""
    match cell:
        case "headers":
            scenarios.headers(client, topic)
        case "nulls":
            scenarios.nulls(client, topic)
        case "900 KB":
            scenarios.large(client, topic)
        case "group, classic":
            scenarios.rebalance(client, topic, "classic")
        case "group, KIP-848":
            scenarios.rebalance(client, topic, "consumer")
        case "seek by time":
            scenarios.seek(client, topic)
        case "idempotence":
            scenarios.idempotence(client, topic, lossy)
        case "transactions":
            scenarios.transactions(client, topic)
        case "offsets in transactions":
            scenarios.offsets_in_transactions(client, topic)
        case "fencing":
            scenarios.fencing(client, topic)
        case "admin":
            scenarios.admin(client, topic)
        case codec:
            scenarios.codec(client, topic, codec)
            # A client that thinks a broker does not know a codec leaves it out, and reads all the same.
            assert set(stored_codecs(broker, topic)) == {codec}


def run(kind, broker, lossy, only: str | None) -> dict[str, tuple[str, str]]:
    """Every cell of a client: what the table shows of it, and what went wrong."""
    results = {}
    client = kind(broker.bootstrap)
    for cell in CELLS:
        if cell in kind.absent:
            results[cell] = (kind.absent[cell], "")
            continue
        if only and not re.search(only, cell):
            results[cell] = (table.YES, "")
            continue
        topic = re.sub(r"[^\w.]+", "-", f"{kind.name}-{cell}").strip("-")
        started = time.monotonic()
        try:
            check(client, cell, topic, broker, lossy)
            results[cell] = (table.YES, "")
        except Exception as error:
            results[cell] = (table.FAILS, f"{type(error).__name__}: {error}")
            client.close()
            client = kind(broker.bootstrap)
        print(f"{kind.name}: {cell}: {results[cell][0]} {time.monotonic() - started:.1f} s {results[cell][1][:200]}")
    client.close()
    return results


@pytest.fixture(scope="module")
def matrix(request, broker_kind, tmp_path_factory):
    """All cells of all clients, by client and cell."""
    settings = {"group.min.session.timeout.ms": 1000, "group.consumer.heartbeat.interval.ms": 300,
                "group.consumer.min.heartbeat.interval.ms": 300}  # fmt: skip
    broker = broker_kind(tmp_path_factory.mktemp("compat"), settings).start()
    proxy = LossyProxy()
    address = {"advertise": f"127.0.0.1:{proxy.port}"}
    if broker_kind is not Highwater:
        address = {"advertised.listeners": f"PLAINTEXT://127.0.0.1:{proxy.port}"}
    behind = broker_kind(tmp_path_factory.mktemp("lossy"), address)
    proxy.target_port = behind.port
    behind.start()

    def end(topic: str) -> int:
        consumer = Consumer({"bootstrap.servers": lossy.bootstrap, "group.id": "none"})
        offset = consumer.get_watermark_offsets(TopicPartition(topic, 0), 30)[1]
        consumer.close()
        return offset

    lossy = SimpleNamespace(bootstrap=f"127.0.0.1:{proxy.port}", proxy=proxy, end=end)
    only = request.config.getoption("--cells")
    chosen = re.compile(request.config.getoption("--client") or "")
    kinds = [kind for kind in CLIENTS.values() if chosen.search(kind.name)]
    try:
        with ThreadPoolExecutor(AT_A_TIME) as threads:
            runs = {kind.name: threads.submit(run, kind, broker, lossy, only) for kind in kinds}
            yield {name: ran.result() for name, ran in runs.items()}
    finally:
        proxy.close()
        broker.discard()
        behind.discard()


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", CLIENTS)
def test_client(matrix, name):
    """Every cell holds."""
    if name not in matrix:
        pytest.skip("not asked for")
    failed = {cell: error for cell, (_, error) in matrix[name].items() if error}
    assert not failed, "\n".join(f"{cell}: {error}" for cell, error in failed.items())


@pytest.mark.highwater_only("the table is about Highwater")
def test_table(matrix, request):
    """What was seen is what the page says."""
    if len(matrix) < len(CLIENTS) or request.config.getoption("--cells"):
        pytest.skip("not everything was asked for")
    cells = {(name, cell): shown for name, of in matrix.items() for cell, (shown, _) in of.items()}
    versions = {name: client.version for name, client in CLIENTS.items()}
    versions["kcat"] = "1.7"
    seen = table.render(cells, versions, CELLS)
    if request.config.getoption("--write"):
        table.write(seen)
    assert seen == table.committed(), "tests/run --clients test_compat.py --write puts this into the page:\n" + seen
