"""Traces: what the broker tells a collector of records that carry a trace context, and that nothing waits for it."""

import time

import pytest
from confluent_kafka import Consumer, Producer

from harness.admin import create_topic
from harness.broker import wait_until
from harness.collector import Collector
from harness.exposition import value

pytestmark = pytest.mark.highwater_only("Kafka's broker has no traces")

# In opentelemetry.proto.trace.v1.Span.SpanKind and Status.StatusCode.
INTERNAL, SERVER = 1, 2
STATUS_ERROR = 2

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


def traceparent(trace: str = TRACE, span: str = PARENT, sampled: bool = True) -> tuple[str, str]:
    """The header that a producer's instrumentation sets."""
    return "traceparent", f"00-{trace}-{span}-0{int(sampled)}"


@pytest.fixture
def collector():
    collector = Collector()
    yield collector
    collector.close()


def produce(broker, topic: str, headers: list, **settings) -> None:
    """One batch, with a record for each list of headers, acknowledged when it is durable."""
    producer = Producer({
        "bootstrap.servers": broker.bootstrap, "client.id": "shop", "linger.ms": 10_000,
        "batch.num.messages": len(headers), "enable.metrics.push": False, **settings,
    })  # fmt: skip
    failures = []
    for number, of_record in enumerate(headers):
        report = lambda error, _: failures.append(error) if error else None
        producer.produce(topic, f"value {number}".encode(), headers=of_record, partition=0, on_delivery=report)
    assert producer.flush(30) == 0 and not failures, failures


def consume(broker, topic: str, count: int) -> None:
    """Reads so many records from the start."""
    consumer = Consumer({
        "bootstrap.servers": broker.bootstrap, "group.id": f"{topic}-readers", "client.id": "reader",
        "auto.offset.reset": "earliest", "enable.auto.commit": False, "enable.metrics.push": False,
    })  # fmt: skip
    consumer.subscribe([topic])
    seen = 0
    while seen < count:
        message = consumer.poll(30)
        assert message and not message.error()
        seen += 1
    consumer.close()


@pytest.mark.parametrize("codec", ["none", "zstd"])
def test_a_record_is_followed_from_its_producer_to_its_consumer(start_broker, collector, codec):
    """Produce, append, wait for durable and fetch are of the producer's trace, in their places and with their facts."""
    broker = start_broker({"otlp_endpoint": collector.endpoint})
    create_topic(broker.bootstrap, "orders")
    produce(broker, "orders", [[traceparent()], [("other", b"x")], [traceparent()]], **{"compression.type": codec})
    consume(broker, "orders", 3)
    wait_until(lambda: collector.named("fetch orders"), "the spans arrive")

    [produced] = collector.named("produce orders")
    assert (produced.trace_id, produced.parent_id, produced.kind) == (TRACE, PARENT, SERVER)
    assert produced.links == [], "its parent is the only context"
    assert produced.attributes.items() >= {
        "messaging.system": "kafka",
        "messaging.operation.name": "produce",
        "messaging.operation.type": "send",
        "messaging.destination.name": "orders",
        "messaging.destination.partition.id": "0",
        "messaging.batch.message_count": 3,
        "messaging.kafka.offset": 0,
        "messaging.client.id": "shop",
        "network.peer.address": "127.0.0.1",
    }.items()
    assert produced.resource.items() >= {"service.name": "highwater", "service.instance.id": broker.bootstrap}.items()

    [appended], [durable] = collector.named("append orders"), collector.named("wait durable orders")
    for step in (appended, durable):
        assert (step.trace_id, step.parent_id, step.kind) == (TRACE, produced.span_id, INTERNAL)
        assert produced.start_ns <= step.start_ns <= step.end_ns <= produced.end_ns
    assert appended.end_ns <= durable.start_ns

    fetched = collector.named("fetch orders")[0]
    assert (fetched.trace_id, fetched.kind, fetched.links) == (TRACE, SERVER, [(TRACE, PARENT)])
    assert fetched.attributes.items() >= {
        "messaging.operation.name": "fetch",
        "messaging.operation.type": "receive",
        "messaging.destination.name": "orders",
        "messaging.batch.message_count": 3,
        "messaging.client.id": "reader",
    }.items()
    assert broker.stop() == 0


def test_a_batch_of_several_traces_links_to_them(start_broker, collector):
    """A span has one parent: with several traces in a batch it has none, and 32 links at most."""
    broker = start_broker({"otlp_endpoint": collector.endpoint})
    create_topic(broker.bootstrap, "orders")
    contexts = [(f"{number:032x}", f"{number:016x}") for number in range(1, 41)]
    produce(broker, "orders", [[traceparent(*context)] for context in contexts])
    consume(broker, "orders", len(contexts))
    wait_until(lambda: collector.named("fetch orders"), "the spans arrive")
    for name in ("produce orders", "fetch orders"):
        span = collector.named(name)[0]
        assert span.parent_id == "" and span.trace_id not in {trace for trace, _ in contexts}
        assert span.links == contexts[:32]


def test_what_is_not_sampled_has_no_spans(start_broker, collector):
    """Nor has what is no context. The span of a batch that is sampled comes after, so they would be there by then."""
    broker = start_broker({"otlp_endpoint": collector.endpoint})
    for topic in ("unsampled", "nonsense", "plain", "sampled"):
        create_topic(broker.bootstrap, topic)
    produce(broker, "unsampled", [[traceparent(sampled=False)]])
    produce(broker, "nonsense", [[("traceparent", b"00-\xff")], [("traceparent", b"")], [("traceparent", None)]])
    produce(broker, "plain", [[]])
    consume(broker, "unsampled", 1)
    produce(broker, "sampled", [[traceparent()]])
    wait_until(lambda: collector.named("produce sampled"), "the span arrives")
    assert {span.name.split()[-1] for span in collector.spans} == {"sampled"}


def test_a_batch_that_is_refused_says_why(start_broker, collector):
    """The span of a produce that failed has Kafka's name of the error."""
    broker = start_broker({"otlp_endpoint": collector.endpoint})
    create_topic(broker.bootstrap, "small", config={"max.message.bytes": 100})
    with pytest.raises(AssertionError, match="MSG_SIZE_TOO_LARGE"):
        produce(broker, "small", [[traceparent(), ("padding", b"x" * 200)]])
    wait_until(lambda: collector.named("produce small"), "the span arrives")
    [span] = collector.named("produce small")
    assert (span.status, span.attributes["error.type"]) == (STATUS_ERROR, "MESSAGE_TOO_LARGE")
    assert not collector.named("append small")


def test_nothing_is_sent_unless_it_is_switched_on(start_broker, collector, monkeypatch):
    """Not even where the environment names a collector, as it does for other programs."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint)
    broker = start_broker()
    create_topic(broker.bootstrap, "orders")
    produce(broker, "orders", [[traceparent()]])
    consume(broker, "orders", 1)
    assert broker.stop() == 0
    assert collector.requests == 0


def test_the_last_spans_are_sent_when_the_broker_stops(start_broker, collector):
    """They wait a second for others to go with them, and no longer than the broker runs."""
    broker = start_broker({"otlp_endpoint": collector.endpoint})
    create_topic(broker.bootstrap, "orders")
    produce(broker, "orders", [[traceparent()]])
    assert broker.stop() == 0
    assert collector.named("wait durable orders")


@pytest.mark.parametrize("collector_is", ["away", "hanging"])
def test_a_collector_that_does_not_answer_holds_nothing_up(start_broker, collector_is):
    """Records go through, what is lost of the spans is counted, and the broker stops as fast as it does anyway."""
    collector = Collector(hang=collector_is == "hanging")
    endpoint = collector.endpoint
    if collector_is == "away":
        collector.close()
    try:
        broker = start_broker({"otlp_endpoint": endpoint})
        create_topic(broker.bootstrap, "orders")
        settings = {"bootstrap.servers": broker.bootstrap, "linger.ms": 0, "enable.metrics.push": False}
        producer = Producer({**settings, "batch.num.messages": 1, "queue.buffering.max.messages": 10_000})
        for _ in range(1500):  # Three spans each: more than may wait.
            producer.produce("orders", b"value", headers=[traceparent()], partition=0)
        assert producer.flush(60) == 0
        assert value(broker, "highwater_topic_produced_records_total", topic="orders") == 1500
        lost = "highwater_spans_failed_total" if collector_is == "away" else "highwater_spans_dropped_total"
        wait_until(lambda: value(broker, lost) > 0, "the loss is counted")
        assert value(broker, "highwater_spans_queued") <= 2048
        assert value(broker, "highwater_spans_exported_total") == 0
        began = time.monotonic()
        assert broker.stop() == 0
        # Two seconds are granted to the last spans; a hanging request would take five, and each batch after it as well.
        assert time.monotonic() - began < 10
    finally:
        if collector_is == "hanging":
            collector.close()


def test_an_endpoint_that_cannot_be_used_is_refused(start_broker, tmp_path):
    """Before anything is started, with what would work."""
    broker = start_broker()
    refused = broker.cli(
        "serve", "--data-dir", tmp_path / "none", "--otlp-endpoint", "https://collector:4318", check=False
    )
    assert refused.returncode != 0 and b"http://HOST:PORT" in refused.stderr
    assert not (tmp_path / "none").exists()
