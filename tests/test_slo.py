"""Lag objectives: set by every way there is, judged, told by a webhook, and turned into a number of workers."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import requests
from confluent_kafka import Consumer, Producer

from harness.admin import create_topic
from harness.broker import wait_until
from harness.kafka_tools import run_tool
from harness.ledger import PERSISTENT, Reader

pytestmark = pytest.mark.highwater_only("objectives are Highwater's")

# However full the machine's disk is.
SETTINGS = {"lag_sample_interval_ms": 100, "disk_free_hard_bytes": 1, "disk_free_soft_bytes": 1}
PATIENCE_S = 60


class Hooks:
    """A server that takes POSTs and keeps what they bring."""

    def __init__(self):
        self.bodies: list[dict] = []
        bodies = self.bodies

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                bodies.append(json.loads(body))
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/hooks"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def hooks():
    """A webhook."""
    hooks = Hooks()
    yield hooks
    hooks.server.shutdown()


def slo(broker, *arguments, check: bool = True):
    """Runs `highwater slo`."""
    return broker.cli("slo", "--http", broker.http.removeprefix("http://"), *arguments, check=check)


def get(broker, path: str) -> dict:
    """What the JSON API answers."""
    answer = requests.get(f"{broker.http}/api/v1{path}", timeout=30)
    assert answer.status_code == 200, answer.text
    return answer.json()


def produce(broker, topic: str, count: int) -> None:
    """Sends so many numbered messages to the topic's first partition."""
    producer = Producer({"bootstrap.servers": broker.bootstrap, "acks": "all", **PERSISTENT})
    for number in range(count):
        producer.produce(topic, b"%d:" % number, partition=0)
    assert producer.flush(60) == 0


def test_every_way_sets_the_same(start_broker):
    """The command line, HTTP and kafka-configs show what the others have set, and a restart keeps it."""
    broker = start_broker(SETTINGS)
    slo(broker, "set", "--group", "billing", "--lag", "30s", "--target", "0.9", "--window", "2h")
    shown = get(broker, "/slos/billing")
    assert (shown["lag_seconds_objective"], shown["target"], shown["window_seconds"]) == (30, 0.9, 7200)
    assert (shown["state"], shown["lag_seconds"]) == ("unknown", None)
    described = run_tool(broker, "kafka-configs", "--describe", "--entity-type", "groups", "--entity-name", "billing")
    assert "highwater.lag.objective.ms=30000" in described, described
    entity = ["--entity-type", "groups", "--entity-name", "shipping"]
    run_tool(broker, "kafka-configs", "--alter", *entity, "--add-config", "highwater.lag.objective.ms=1500")
    assert get(broker, "/slos/shipping")["lag_seconds_objective"] == 1.5
    broker.stop()
    broker.start()
    listed = [json.loads(line) for line in slo(broker, "list", "--json").stdout.splitlines()]
    assert [(row["group"], row["lag_seconds_objective"]) for row in listed] == [("billing", 30), ("shipping", 1.5)]
    table = slo(broker, "get", "--group", "billing").stdout.decode()
    assert "billing" in table and "unknown" in table and "2h" in table, table
    slo(broker, "delete", "--group", "billing")
    run_tool(broker, "kafka-configs", "--alter", *entity, "--delete-config", "highwater.lag.objective.ms")
    assert get(broker, "/slos") == {"slos": []}
    gone = slo(broker, "get", "--group", "billing", check=False)
    assert gone.returncode == 1 and b"no lag objective" in gone.stderr, gone.stderr
    refused = slo(broker, "set", "--group", "billing", "--lag", "30s", "--webhook", "ftp://x/", check=False)
    assert refused.returncode == 1 and b"webhook" in refused.stderr, refused.stderr
    entity = ["--entity-type", "topics", "--entity-name", "clicks"]
    create_topic(broker.bootstrap, "clicks")
    run_tool(broker, "kafka-configs", "--alter", *entity, "--add-config", "highwater.priority=low")
    assert get(broker, "/topics/clicks")["priority"] == "low"


def test_states_are_told(start_broker, topic, hooks):
    """A group that stops and comes back: each change once, in order, to the webhook, the metrics and the groups."""
    broker = start_broker({**SETTINGS, "slo_webhook": hooks.url})
    create_topic(broker.bootstrap, topic)
    group = Reader(broker.bootstrap, topic, group=f"{topic}-group")
    # A budget that never burns fast: what is told is the lag's alone.
    slo(broker, "set", "--group", group.group, "--lag", "2s", "--target", "0")
    produce(broker, topic, 10)
    group.read_to([10])
    group.commit()

    def told() -> list[str]:
        return [body["to"] for body in hooks.bodies]

    wait_until(lambda: told() == ["ok"], "the objective holds", PATIENCE_S)
    produce(broker, topic, 10)
    wait_until(lambda: "violated" in told(), "the objective is missed", PATIENCE_S)
    assert told() in (["ok", "at_risk", "violated"], ["ok", "violated"])
    violated = hooks.bodies[-1]
    assert violated["event"] == "slo_state_changed" and violated["group"] == group.group
    assert violated["lag_seconds"] > 2 and violated["lag_seconds_objective"] == 2
    shown = get(broker, f"/slos/{group.group}")
    assert (shown["state"], shown["since_ms"]) == ("violated", violated["since_ms"])
    assert shown["budget_used"] > 0 and shown["burn_rate"] > 0
    assert get(broker, f"/groups/{group.group}")["slo_state"] == "violated"
    text = requests.get(f"{broker.http}/metrics", timeout=30).text
    assert f'highwater_slo_state{{group="{group.group}",state="violated"}} 1' in text
    # 10 records are behind: nobody was seen at work, and one worker is what there is to begin with.
    scale = get(broker, f"/groups/{group.group}/scale")
    assert (scale["desired_workers"], scale["max_workers"], scale["lag_records"]) == (1, 1, 10), scale
    produced = len(hooks.bodies)
    group.read_to([20])
    group.commit()
    wait_until(lambda: told()[-1] == "ok", "the objective holds again", PATIENCE_S)
    assert len(told()) - produced in (1, 2), told()
    assert get(broker, f"/groups/{group.group}/scale")["lag_records"] == 0
    group.close()
    assert "state" in hooks.bodies[-1] and hooks.bodies[-1]["from"] in ("violated", "at_risk")


def test_a_groups_webhook_goes_where_the_operator_lets_it(start_broker, hooks):
    """To the broker's own machine only if the operator lists it; and nobody is shown more of its URL than the host."""
    url = f"{hooks.url}?token=secret"
    failed = 'highwater_slo_webhooks_total{result="failed"} 1'
    for listed in ("", "relay.internal,127.0.0.1"):
        broker = start_broker({**SETTINGS, "slo_webhook_hosts": listed})
        topic = "orders"
        create_topic(broker.bootstrap, topic)
        slo(broker, "set", "--group", "billing", "--lag", "2s", "--webhook", url)
        group = Reader(broker.bootstrap, topic, group="billing")
        produce(broker, topic, 1)
        group.read_to([1])
        group.commit()
        if listed:
            wait_until(lambda: hooks.bodies, "the change is told", PATIENCE_S)
            assert hooks.bodies[0]["group"] == "billing" and "webhook" not in hooks.bodies[0]
        else:
            metrics = f"{broker.http}/metrics"
            wait_until(lambda: failed in requests.get(metrics, timeout=30).text, "it is not told", PATIENCE_S)
            assert not hooks.bodies
        host = hooks.url.removesuffix("hooks")
        assert get(broker, "/slos/billing")["webhook"] == f"{host}…"
        entity = ["--entity-type", "groups", "--entity-name", "billing"]
        described = run_tool(broker, "kafka-configs", "--describe", *entity)
        assert "webhook=null sensitive=true" in described, described
        shown = slo(broker, "get", "--group", "billing", "--json").stdout.decode()
        assert "secret" not in described + shown + broker.log_tail(10_000)
        group.close()


def test_workers_for_a_group_that_falls_behind(start_broker, topic):
    """A group whose one member is too slow is told how many it takes, as many as it has partitions at most."""
    broker = start_broker(SETTINGS)
    create_topic(broker.bootstrap, topic, partitions=4)
    producer = Producer({"bootstrap.servers": broker.bootstrap, "acks": "all", **PERSISTENT})
    for number in range(40_000):
        producer.produce(topic, b"x", partition=number % 4)
    assert producer.flush(60) == 0
    group = f"{topic}-group"
    slo(broker, "set", "--group", group, "--lag", "1s")
    consumer = Consumer({"bootstrap.servers": broker.bootstrap, "group.id": group, "auto.offset.reset": "earliest",
                         "enable.auto.commit": False, **PERSISTENT})  # fmt: skip
    consumer.subscribe([topic])

    def desired() -> int:
        # Slowly: 20 records, then a commit of them.
        if consumer.consume(20, 0.5):
            consumer.commit(asynchronous=False)
        answer = requests.get(f"{broker.http}/api/v1/groups/{group}/scale", timeout=30)
        return answer.json()["desired_workers"] if answer.status_code == 200 else 0

    wait_until(lambda: desired() == 4, "all that can be of use are wanted", PATIENCE_S)
    scale = get(broker, f"/groups/{group}/scale")
    assert (scale["current_workers"], scale["max_workers"]) == (1, 4), scale
    assert scale["worker_records_per_second"] > 0 and scale["lag_records"] > 0, scale
    consumer.close()
