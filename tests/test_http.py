"""The HTTP API with plain requests, and beside Kafka clients: what one writes the other reads.

Every answer is held against the description that the broker serves of it (harness/http_api.py).
"""

import json
import os
import re
import subprocess
import threading
from pathlib import Path

import pytest
import requests
from confluent_kafka import Consumer, KafkaError, Producer, TopicPartition

from harness.admin import TIMEOUT_S, admin, create_topic
from harness.broker import wait_until
from harness.clients import CODECS, new_group
from harness.http_api import Api, Events, encoded, record
from harness.records import Message, Record, assert_same, by_partition
from test_corruption import MESSAGES, damaged, flip, value

__all__ = ["damaged"]

pytestmark = pytest.mark.highwater_only("HTTP is Highwater's")

REPOSITORY = Path(__file__).resolve().parents[1]
START_MS = 1_700_000_000_000


@pytest.fixture(scope="module")
def api(broker) -> Api:
    """The API of the broker that all share."""
    return Api(broker.http)


def consume(bootstrap: str, topic: str, count: int) -> list[Record]:
    """The first records of a topic, by librdkafka."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": new_group(), "auto.offset.reset": "earliest"})
    partitions = consumer.list_topics(topic, TIMEOUT_S).topics[topic].partitions
    consumer.assign([TopicPartition(topic, partition, 0) for partition in partitions])
    records = []
    try:
        while len(records) < count:
            message = consumer.poll(TIMEOUT_S)
            assert message is not None and not message.error(), f"{len(records)} of {count}: {message}"
            headers = tuple((name, value) for name, value in message.headers() or [])
            records.append(Record(message.partition(), message.offset(), message.timestamp()[1], message.key(),
                                  message.value(), headers))  # fmt: skip
        return records
    finally:
        consumer.close()


def produce(bootstrap: str, topic: str, messages: list[Message], **settings) -> None:
    """Writes messages to the partitions that they name."""
    producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 20, **settings})
    for message in messages:
        producer.produce(topic, message.value, message.key, message.partition, timestamp=message.timestamp,
                         headers=message.headers)  # fmt: skip
        producer.poll(0)
    assert producer.flush(TIMEOUT_S) == 0


def random_messages(rng, count: int, partitions: int) -> list[Message]:
    """Text, binary, empty and null, with and without headers; never a JSON document."""

    def data() -> bytes | None:
        kind = rng.randrange(5)
        if kind < 2:
            return None if kind == 0 else b""
        return rng.randbytes(rng.randrange(1, 300)) if kind == 2 else ("grüße " * rng.randrange(1, 40)).encode()

    def headers() -> list[tuple[str, bytes | None]]:
        return [(f"name-{rng.randrange(3)}", data()) for _ in range(rng.choice([0, 0, 1, 3]))]

    return [
        Message(data(), data(), START_MS + number * 10, rng.randrange(partitions), headers()) for number in range(count)
    ]


@pytest.mark.parametrize("codec", CODECS)
def test_what_a_client_writes_is_read_over_http(broker, api, topic, rng, codec):
    """Every codec, headers, nulls and binary; in pages, each from where the last one ends; in the order of times."""
    create_topic(broker.bootstrap, topic, 3)
    sent = random_messages(rng, 500, 3)
    produce(broker.bootstrap, topic, sent, **{"compression.type": codec, "batch.num.messages": 40})
    read = api.read(topic, limit=rng.randrange(30, 90))
    assert_same(read, sent)
    assert [one.timestamp for one in read] == [one.timestamp for one in sent], "merged by time"
    # A page of a few bytes has one record, and there is an end to them.
    assert_same(api.read(topic, partition=1, max_bytes=1), [one for one in sent if one.partition == 1])


def test_what_http_writes_is_read_by_a_client(broker, api, topic, rng):
    """Headers, nulls, binary and JSON as it was written, with times, and where the answer says that they are."""
    api.create(topic, 3)
    sent = random_messages(rng, 300, 3)
    rows = [
        {
            "partition": message.partition, "key": encoded(message.key), "value": encoded(message.value),
            "timestamp_ms": message.timestamp,
            "headers": [{"name": name, "value": encoded(value)} for name, value in message.headers],
        }
        for message in sent
    ]  # fmt: skip
    offsets = api.post(f"/topics/{topic}/records", {"records": rows})["offsets"]
    read = consume(broker.bootstrap, topic, len(sent))
    assert_same(read, sent)
    at = {(one.partition, one.offset): one for one in read}
    assert [at[row["partition"], row["offset"]].timestamp for row in offsets] == [one.timestamp for one in sent]
    document = '{"z": 1.10, "a": [12345678901234567890123]}'
    body = f'{{"records": [{{"partition": 0, "key": "ä", "value": {{"json": {document}}}}}]}}'.encode()
    answer = api.request("POST", f"/topics/{topic}/records", data=body, headers={"content-type": "application/json"})
    place = answer.json()["offsets"][0]
    last = [one for one in consume(broker.bootstrap, topic, len(sent) + 1) if one.partition == 0][-1]
    assert (last.offset, last.key, last.value) == (place["offset"], "ä".encode(), document.encode())
    shown = api.request("GET", f"/topics/{topic}/records", params={"partition": 0, "offset": place["offset"]}).text
    assert document in shown, "as it was written"


def test_a_body_that_is_not_json_is_a_record(broker, api, topic):
    """Text of curl's, binary, and nothing at all, with a key or a partition beside it."""
    api.create(topic, 4)
    for body, query in [(b"hello", {}), (b"\x00\xff", {"partition": 2}), (b"", {"key": "k"}), (b"{}", {"key": "ü"})]:
        answer = api.request("POST", f"/topics/{topic}/records", data=body, params=query,
                             headers={"content-type": "application/x-www-form-urlencoded"})  # fmt: skip
        place = answer.json()["offsets"][0]
        found = next(one for one in api.get(f"/topics/{topic}/records", partition=place["partition"],
                                            offset=place["offset"])["records"])  # fmt: skip
        assert found["timestamp_ms"] == place["timestamp_ms"]
        assert found["key"] == ({"text": query["key"]} if "key" in query else None)
        if body == b"{}":
            assert found["value"] == {"json": {}}
        else:
            assert record(found).value == body
    assert sum(row["high_watermark"] for row in api.get(f"/topics/{topic}")["partition_list"]) == 4


def test_keys_go_where_kafkas_clients_send_them(broker, api, topic, rng):
    """Every key to the partition that murmur2 chooses; without a key every partition has its turn."""
    api.create(topic, 7)
    keys = sorted({rng.randbytes(rng.randrange(1, 40)) for _ in range(200)})
    answer = api.post(f"/topics/{topic}/records", {"records": [{"key": encoded(key)} for key in keys]})
    by_http = [row["partition"] for row in answer["offsets"]]
    by_client: dict[bytes, int] = {}
    producer = Producer({"bootstrap.servers": broker.bootstrap, "partitioner": "murmur2_random"})
    for key in keys:
        producer.produce(topic, b"", key, on_delivery=lambda _, sent: by_client.update({sent.key(): sent.partition()}))
    assert producer.flush(TIMEOUT_S) == 0
    assert by_http == [by_client[key] for key in keys]
    answer = api.post(f"/topics/{topic}/records", {"records": [{"value": "x"}] * 14})
    counts = [[row["partition"] for row in answer["offsets"]].count(partition) for partition in range(7)]
    assert counts == [2] * 7


def test_reading_begins_at_a_time_or_with_the_last_records(broker, api, topic, rng):
    """From a time on; the last N of one partition and of all, in batches of any size; past the end."""
    create_topic(broker.bootstrap, topic, 3)
    sent = [Message(b"%d" % number, None, START_MS + number * 10, rng.randrange(3)) for number in range(400)]
    for begin in range(0, 400, 50):
        settings = {"batch.num.messages": rng.choice([1, 7, 1000])}
        produce(broker.bootstrap, topic, sent[begin : begin + 50], **settings)
    path = f"/topics/{topic}/records"

    def values(page: dict) -> list[bytes]:
        return [record(shown).value for shown in page["records"]]

    for number in (0, 1, 123, 399):
        time_ms = START_MS + number * 10 - rng.randrange(10)
        page = api.get(path, timestamp_ms=time_ms, limit=20)
        assert values(page) == [one.value for one in sent[number : number + 20]]
    assert values(api.get(path, timestamp_ms=START_MS + 4000)) == []
    for limit in (1, 10, 133, 1000):
        page = api.get(path, from_="latest", limit=limit)
        assert values(page) == [one.value for one in sent[-limit:]]
        assert page["next"] == page["end"]
        one = [message.value for message in sent if message.partition == 1]
        assert values(api.get(path, from_="latest", limit=limit, partition=1)) == one[-limit:]
    end = api.get(path)["end"]["1"]
    assert values(api.get(path, partition=1, offset=end)) == []
    assert "past the end" in api.get(path, 400, partition=1, offset=end + 1)["error"]
    assert "partition=" in api.get(path, 400, offset=0)["error"]
    assert "exclude" in api.get(path, 400, offset=0, from_="latest")["error"]
    api.get(path, 404, partition=3)
    api.get("/topics/no-such-topic/records", 404)
    admin(broker.bootstrap).delete_records([TopicPartition(topic, 1, 5)])[TopicPartition(topic, 1, 5)].result(TIMEOUT_S)
    assert api.get(path, partition=1, offset=0)["records"][0]["offset"] == 5, "what is deleted is passed over"


def test_a_key_is_looked_for_a_stretch_at_a_time(broker, api, topic, rng):
    """Few records of a key among 100 MB: every answer comes soon and goes on, and in the end all are found."""
    create_topic(broker.bootstrap, topic, 2)
    others = [Message(rng.randbytes(100_000), b"other", START_MS + number, number % 2) for number in range(1000)]
    wanted = [Message(b"%d" % number, b"wanted", START_MS + 100 * number, number % 2) for number in range(10)]
    mixed = sorted(others + wanted, key=lambda message: message.timestamp)
    produce(broker.bootstrap, topic, mixed, **{"queue.buffering.max.kbytes": 200_000})
    pages = list(api.pages(topic, key="wanted"))
    found = [record(shown).value for page in pages for shown in page["records"]]
    assert sorted(found) == sorted(message.value for message in wanted)
    assert len(pages) > 2, "one request looks through a part"
    latest = api.get(f"/topics/{topic}/records", from_="latest", key="wanted", limit=1, partition=1)["records"]
    assert [record(shown).value for shown in latest] == [b"9"]


def test_long_values_are_cut_where_it_is_asked_for(api, topic):
    """65,536 bytes without a word, and other lengths on demand."""
    api.create(topic)
    api.request("POST", f"/topics/{topic}/records", data=b"x" * 100_000)
    path = f"/topics/{topic}/records"
    shown = api.get(path)["records"][0]
    assert shown["value"] == {"text": "x" * 65_536, "truncated": True} and shown["size_bytes"] == 100_000
    assert api.get(path, value_bytes_max=3)["records"][0]["value"] == {"text": "xxx", "truncated": True}
    assert api.get(path, value_bytes_max=100_000)["records"][0]["value"] == {"text": "x" * 100_000}


def test_transactions_are_read_as_consumers_read_them(broker, api, topic, rng):
    """Committed, aborted and open ones, mixed in one partition; markers are never shown."""
    create_topic(broker.bootstrap, topic)
    settings = {"bootstrap.servers": broker.bootstrap, "transactional.id": f"{topic}-id"}
    producer = Producer(settings)
    producer.init_transactions(TIMEOUT_S)
    committed, everything = [], []
    for number in range(20):
        kept = rng.random() < 0.5
        producer.begin_transaction()
        for part in range(rng.randrange(1, 5)):
            value = b"%d-%d" % (number, part)
            producer.produce(topic, value)
            everything.append(value)
            committed.extend([value] if kept else [])
        producer.flush(TIMEOUT_S)
        if kept:
            producer.commit_transaction(TIMEOUT_S)
        else:
            producer.abort_transaction(TIMEOUT_S)
    producer.begin_transaction()
    producer.produce(topic, b"open")
    assert producer.flush(TIMEOUT_S) == 0

    def values(**query) -> list[bytes]:
        return [one.value for one in api.read(topic, limit=7, **query)]

    assert values(isolation="read_committed") == committed
    assert values(isolation="read_uncommitted") == [*everything, b"open"] == values()
    last = api.get(f"/topics/{topic}/records", from_="latest", limit=5, isolation="read_committed")
    assert [record(shown).value for shown in last["records"]] == committed[-5:]
    row = api.get(f"/topics/{topic}")["partition_list"][0]
    assert last["end"] == {"0": row["last_stable_offset"]} and row["last_stable_offset"] < row["high_watermark"]
    producer.commit_transaction(TIMEOUT_S)
    # Its marker is written after the outcome is decided.
    wait_until(lambda: values(isolation="read_committed") == [*committed, b"open"], "the last one is read")


def test_what_compaction_has_taken_out_is_passed_over(start_broker, topic, rng):
    """Offsets that are gone end no page early and hold none up; forward, backward and by key."""
    broker = start_broker({"log.cleaner.backoff.ms": 100})
    api = Api(broker.http)
    api.create(topic, 1, {"cleanup.policy": "compact", "segment.bytes": 1 << 20, "min.cleanable.dirty.ratio": 0.01})
    sent = [Message(rng.randbytes(2000), b"key-%d" % rng.randrange(50)) for _ in range(2000)]
    sent += [Message(rng.randbytes(100_000), b"filler") for _ in range(12)]
    produce(broker.bootstrap, topic, sent, **{"batch.num.messages": 20})

    def compacted():
        read = api.read(topic, limit=33, value_bytes_max=200_000)
        return read if len(read) < 200 else None

    read = wait_until(compacted, "it is compacted", 60, 0.2)
    assert all((one.key, one.value) == (sent[one.offset].key, sent[one.offset].value) for one in read)
    assert {one.key for one in read} == {one.key for one in sent}
    path = f"/topics/{topic}/records"
    last = api.get(path, from_="latest", limit=len(read) - 1, max_bytes=8 << 20, value_bytes_max=10)["records"]
    assert [shown["offset"] for shown in last] == [one.offset for one in read][1:]
    key = read[0].key.decode()
    found = [shown["offset"] for page in api.pages(topic, key=key) for shown in page["records"]]
    assert found == [one.offset for one in read if one.key == key.encode()]


def test_followers_miss_nothing_and_see_nothing_twice(broker, api, topic, rng):
    """A follower that goes away and comes back with its last id, again and again, while a producer writes."""
    create_topic(broker.bootstrap, topic, 4)
    sent = [Message(b"%d" % number, None, START_MS + number, rng.randrange(4)) for number in range(3000)]
    producing = threading.Thread(target=produce, args=(broker.bootstrap, topic, sent), kwargs={"linger.ms": 1})
    producing.start()
    read, last_id = [], None
    path = f"/topics/{topic}/records/stream"
    while len(read) < len(sent):
        until = min(len(read) + rng.randrange(1, 900), len(sent))
        with Events(api, path, last_id, from_="earliest") as events:
            for event, last_id, shown in events:
                assert event == "record"
                read.append(record(shown))
                if len(read) == until:
                    break
    producing.join()
    assert_same(read, sent)
    # From now on, by default: what is written after the stream has begun.
    with Events(api, path, key="k", limit=1) as events:
        api.post(f"/topics/{topic}/records", {"records": [{"key": "other"}, {"key": "k", "value": "new"}]})
        assert [record(shown).value for _, _, shown in events] == [b"new"], "and it ends with its limit"


def test_who_does_not_read_holds_nobody_up_and_fills_no_memory(start_broker, topic):
    """A follower that takes nothing: what it has not taken stays in the log, and a stop does not wait for it."""
    broker = start_broker()
    api = Api(broker.http)
    api.create(topic)
    message = Message(b"x" * 50_000)
    produce(broker.bootstrap, topic, [message] * 20)
    before = broker.resident_bytes()
    with Events(api, f"/topics/{topic}/records/stream", from_="earliest"):
        produce(broker.bootstrap, topic, [message] * 4000)
        api.get(f"/topics/{topic}")
        assert broker.resident_bytes() - before < 64 << 20, "200 MB were written"
        assert broker.stop() == 0


def test_what_is_not_in_memory_is_read_from_the_disk(start_broker, topic, rng):
    """After a restart nobody has opened the old segments: pages, the last records and a stream have all of them."""
    broker = start_broker()
    api = Api(broker.http)
    api.create(topic, 2, {"segment.bytes": 50_000})
    sent = [Message(b"%d" % number + rng.randbytes(900), None, START_MS + number, number % 2) for number in range(400)]
    produce(broker.bootstrap, topic, sent, **{"batch.num.messages": 5})

    def cold_reads() -> int:
        text = requests.get(f"{broker.http}/metrics", timeout=TIMEOUT_S).text
        return int(re.search(r"^highwater_cold_reads_total (\d+)$", text, re.MULTILINE)[1])

    def restart() -> None:
        assert broker.stop() == 0
        broker.start()
        assert cold_reads() == 0

    restart()
    assert_same(api.read(topic), sent)
    assert cold_reads() > 0
    restart()
    last = api.get(f"/topics/{topic}/records", from_="latest", limit=300)["records"]
    assert [record(shown).value for shown in last] == [message.value for message in sent[-300:]]
    assert cold_reads() > 0
    restart()
    with Events(api, f"/topics/{topic}/records/stream", from_="earliest", limit=400) as events:
        assert_same([record(shown) for _, _, shown in events], sent)
    assert cold_reads() > 0


def test_damage_is_an_error_and_never_shown(damaged, topic):
    """What is sound is shown up to the damage and behind it; the damage itself is named, by pages and by a stream."""
    broker, segment, hole = damaged({"scrub_period_ms": 0})
    assert broker.stop() == 0
    flip(segment, hole)
    broker.start()
    api = Api(broker.http)
    path = f"/topics/{topic}/records"

    def values(page: dict) -> dict[int, bytes]:
        return {shown["offset"]: record(shown).value for shown in page["records"]}

    page = api.get(path, limit=1000)
    while page["next"]["0"] < hole:
        assert values(page) == {offset: value(offset) for offset in values(page)}
        page = api.get(path, limit=1000, partition=0, offset=page["next"]["0"])
    error = api.get(path, 500, partition=0, offset=hole)["error"]
    assert f"partition 0 cannot be read at offset {hole}" in error, error
    behind = range(hole + 1, MESSAGES)
    assert values(api.get(path, partition=0, offset=hole + 1, limit=1000)) == {number: value(number) for number in behind}
    page = api.get(path, from_="latest", limit=MESSAGES)
    assert values(page) == {number: value(number) for number in behind} and page["incomplete"]
    assert "incomplete" not in api.get(path, from_="latest", limit=len(behind))
    with Events(api, f"{path}/stream", from_="earliest") as events:
        *shown, (event, _, end) = list(events)
    assert [record(one).value for _, _, one in shown] == [value(number) for number in range(hole)]
    assert event == "end" and f"offset {hole}" in end["error"]


def test_a_stream_ends_with_its_topic(api, topic):
    """The last event says why; the path is gone then."""
    api.create(topic)
    with Events(api, f"/topics/{topic}/records/stream") as events:
        api.request("DELETE", f"/topics/{topic}", 204)
        assert [(event, "deleted" in data["error"]) for event, _, data in events] == [("end", True)]
    api.get(f"/topics/{topic}/records/stream", 404)


def test_refusals_are_those_of_a_producer(broker, api, topic):
    """Too large, without a key where there has to be one, the broker's own topics, and what is no record at all."""
    api.create(topic, 2, {"max.message.bytes": 1000, "cleanup.policy": "compact"})
    path = f"/topics/{topic}/records"
    too_large = {"records": [{"key": "k", "value": "x" * 2000}]}
    assert "partition" in api.post(path, too_large, 413)["error"]
    error = api.post(path, {"records": [{"value": "x", "partition": 0}]}, 400)["error"]
    assert "nothing was written to partition 0" in error and "record 0" in error, error
    api.post(path, {"records": [{"key": "k", "partition": 2}]}, 404)
    too_many = {"records": [{"value": "x"}] * 10_001}
    assert "more than 10000 records" in api.post(path, too_many, 400)["error"]
    assert "more than 1000 headers" in api.post(path, {"records": [{"headers": [{"name": ""}] * 1001}]}, 400)["error"]
    for body in ({}, {"records": []}, {"records": [{"value": 1}]}, {"records": [{"value": {"base64": "%"}}]}, [1]):
        api.post(path, body, 400)
    api.request("POST", path, 400, data=b"{", headers={"content-type": "application/json"})
    api.request("POST", path, 413, data=b"x" * (9 << 20))
    api.request("POST", path, 413, data=iter([b"x" * (9 << 20)]))
    api.post("/topics/no-such-topic/records", {"records": [{}]}, 404)
    internal = next(row["topic"] for row in api.get("/topics")["topics"] if row["internal"])
    api.post(f"/topics/{internal}/records", {"records": [{"partition": 0}]}, 400)
    assert api.get(f"/topics/{topic}")["records"] == 0


def test_topics_come_and_go(broker, api, topic):
    """Created with configurations, listed, refused where a Kafka client would be, and gone."""
    made = api.create(topic, 3, {"retention.ms": 1234})
    assert (made["topic"], made["partitions"], made["internal"]) == (topic, 3, False)
    assert [row["partition"] for row in made["partition_list"]] == [0, 1, 2]
    described = admin(broker.bootstrap).list_topics(timeout=TIMEOUT_S).topics[topic]
    assert len(described.partitions) == 3
    produce(broker.bootstrap, topic, [Message(b"value", partition=1)] * 10)
    row = next(row for row in api.get("/topics")["topics"] if row["topic"] == topic)
    assert row["records"] == 10 and row["bytes"] > 50 and row["topic_id"] == made["topic_id"]
    assert api.get(f"/topics/{topic}")["partition_list"][1]["newest_timestamp_ms"] == START_MS
    for body, status in [
        ({"topic": topic}, 409), ({"topic": "a/b"}, 400), ({"topic": f"{topic}-x", "partitions": 0}, 400),
        ({"topic": f"{topic}-x", "configs": {"no.such": "1"}}, 400), ({"topic": f"{topic}-x", "parts": 1}, 400),
        ({"topic": f"{topic}-x", "partitions": 1_000_000}, 403),
    ]:  # fmt: skip
        assert api.post("/topics", body, status)["error"]
    api.request("DELETE", f"/topics/{topic}", 204)
    assert topic not in admin(broker.bootstrap).list_topics(timeout=TIMEOUT_S).topics
    api.request("DELETE", f"/topics/{topic}", 404)
    api.get(f"/topics/{topic}", 404)


def test_configurations_are_shown_and_changed(start_broker, topic):
    """By whom a value is set; all of a change or nothing of it; what it does; and that it survives a kill."""
    broker = start_broker()
    api = Api(broker.http)
    api.create(topic, 1, {"retention.ms": 5000})

    def configs(path: str) -> dict:
        return {row["name"]: row for row in api.get(path)["configs"]}

    path = f"/topics/{topic}/configs"
    before = configs(path)
    assert (before["retention.ms"]["value"], before["retention.ms"]["source"]) == ("5000", "topic")
    assert before["retention.ms"]["default"] == "604800000" and before["retention.ms"]["type"] == "long"
    assert before["cleanup.policy"]["source"] == "default" and before["cleanup.policy"]["documentation"]
    change = {"set": {"max.message.bytes": "500"}, "unset": ["retention.ms"]}
    changed = {row["name"]: row for row in api.request("PATCH", path, json=change).json()["configs"]}
    assert changed["max.message.bytes"]["value"] == "500" and changed["retention.ms"]["source"] != "topic"
    api.request("POST", f"/topics/{topic}/records", 413, data=b"x" * 1000)
    wrong = {"set": {"max.message.bytes": "7", "retention.ms": "soon"}}
    assert "soon" in api.request("PATCH", path, 400, json=wrong).json()["error"]
    assert configs(path) == changed
    api.get("/topics/no-such-topic/configs", 404)
    assert configs("/broker/configs")["node.id"]["read_only"]
    api.request("PATCH", "/broker/configs", 400, json={"set": {"node.id": "2"}})
    api.request("PATCH", "/broker/configs", json={"set": {"log.retention.ms": "77000"}})
    broker.kill()
    broker.start()
    assert configs("/broker/configs")["log.retention.ms"]["source"] == "dynamic_broker"
    after = configs(path)
    assert (after["retention.ms"]["value"], after["max.message.bytes"]["value"]) == ("77000", "500")


def test_the_broker_says_what_it_is_and_who_is_connected(broker, api, topic):
    """Figures of the machine, and a client with the name that it goes by."""
    create_topic(broker.bootstrap, topic)
    producer = Producer({"bootstrap.servers": broker.bootstrap, "client.id": topic, "linger.ms": 0})
    producer.produce(topic, b"x")
    assert producer.flush(TIMEOUT_S) == 0
    mine = [row for row in api.get("/connections")["connections"] if row["client_id"] == topic]
    assert mine and all(row["software_name"] == "confluent-kafka-python" for row in mine), mine
    assert sum(row["requests"] for row in mine) >= 3 and all(row["received_bytes"] > 0 for row in mine)
    assert all(row["connected_at_ms"] <= row["last_request_at_ms"] for row in mine)
    about = api.get("/broker")
    assert about["kafka_address"] == broker.bootstrap and about["ready"] and about["health"] == "online"
    assert about["connections"] >= len(mine)
    disk = wait_until(lambda: api.get("/broker")["disk"], "the disk is looked at")
    assert 0 < disk["free_bytes"] <= disk["total_bytes"] and disk["hard_limit_bytes"] <= disk["soft_limit_bytes"]
    assert 0 < about["memory"]["own_bytes"] <= about["memory"]["resident_bytes"]

    def rate() -> float:
        producer.produce(topic, b"x" * 1000)
        producer.flush(TIMEOUT_S)
        return api.get(f"/topics/{topic}")["produce_bytes_per_second"]

    wait_until(lambda: rate() > 100, "the topic has a rate")


def test_pages_of_other_origins_are_refused(api, topic):
    """As browsers send it: another origin, a name that was rebound. And no answer that they may read."""
    api.create(topic)
    url = f"{api.base}/api/v1/topics/{topic}/records"
    for headers in (
        {"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"},
        {"Host": "evil.example"}, {"Origin": "null"},
    ):  # fmt: skip
        answer = requests.post(url, data=b"x", headers=headers, timeout=TIMEOUT_S)
        assert answer.status_code == 403 and answer.json()["error"], headers
        assert requests.get(url, headers=headers, timeout=TIMEOUT_S).status_code == 403
    answer = requests.get(url, headers={"Sec-Fetch-Site": "same-origin"}, timeout=TIMEOUT_S)
    assert answer.json()["records"] == []
    assert not [name for name in answer.headers if name.lower().startswith("access-control-")]
    preflight = {"Origin": "https://evil.example", "Access-Control-Request-Method": "PATCH"}
    assert requests.options(url, headers=preflight, timeout=TIMEOUT_S).status_code == 403


def test_everything_that_can_be_looked_at_answers_as_it_is_described(broker, api, topic):
    """Each GET of the description, over a topic, a group and an objective that there are."""
    api.create(topic)
    api.post(f"/topics/{topic}/records", {"records": [{"value": "x", "headers": [{"name": "h"}]}]})
    consumer = Consumer({"bootstrap.servers": broker.bootstrap, "group.id": topic, "auto.offset.reset": "earliest"})
    consumer.subscribe([topic])
    assert consumer.poll(TIMEOUT_S).value() == b"x"
    consumer.commit(asynchronous=False)
    objective = {"lag_seconds_objective": 5}
    api.request("PUT", f"/slos/{topic}", json=objective)
    try:
        scale = f"{api.base}/api/v1/groups/{topic}/scale"
        wait_until(lambda: requests.get(scale, timeout=TIMEOUT_S).ok, "the group's lag is known")
        paths = [path for path, methods in api.description["paths"].items() if "get" in methods]
        beneath = [path.removeprefix("/api/v1") for path in paths if path.startswith("/api/v1/")]
        assert len(beneath) > 15
        for path in beneath:
            query = {"from": "earliest", "limit": 1} if path.endswith("/stream") else {}
            api.request("GET", path.replace("{topic}", topic).replace("{group}", topic), params=query)
        for path in set(paths) - {f"/api/v1{path}" for path in beneath}:
            answer = requests.get(f"{api.base}{path}", timeout=TIMEOUT_S)
            assert str(answer.status_code) in api.operation("GET", path)["responses"], path
    finally:
        consumer.close()
        api.request("DELETE", f"/slos/{topic}", 204)


def test_every_path_is_in_the_documentation(api):
    """docs/http-api.md names each path that the broker describes, and none that it does not."""
    text = (REPOSITORY / "docs" / "http-api.md").read_text()
    described = {
        f"{method.upper()} {path}" for path, methods in api.description["paths"].items() for method in methods
    }
    named = {line.split("`")[1] for line in text.splitlines() if line.startswith("| `") and " /" in line.split("`")[1]}
    assert named == described


def examples() -> list[tuple[str, str]]:
    """Commands of docs/http-api.md with what they print: a block of sh, and the block behind it."""
    blocks = (REPOSITORY / "docs" / "http-api.md").read_text().split("```")[1::2]
    blocks = [block.split("\n", 1) for block in blocks]
    commands = []
    for (kind, text), (next_kind, printed) in zip(blocks, [*blocks[1:], ["", ""]]):
        if kind == "sh":
            commands.append((text, printed if next_kind in ("json", "text") else ""))
    return commands


# What is another one with every run, wherever it stands.
VOLATILE = {"topic_id", "timestamp_ms", "newest_timestamp_ms"}


def same(printed: object, seen: object) -> bool:
    """Whether what was seen is what is printed, but for rates, times and ids."""
    if isinstance(printed, dict):
        return isinstance(seen, dict) and printed.keys() == seen.keys() and all(
            name in VOLATILE or name.endswith("_per_second") or same(value, seen[name])
            for name, value in printed.items()
        )  # fmt: skip
    if isinstance(printed, list):
        return isinstance(seen, list) and len(printed) == len(seen) and all(map(same, printed, seen))
    return printed == seen


def test_the_examples_of_the_documentation_print_what_stands_there(start_broker, tmp_path):
    """docs/http-api.md from top to bottom in one shell's directory, the address of the broker excepted."""
    broker = start_broker()
    ran = 0
    for command, printed in examples():
        command = command.replace("http://127.0.0.1:9080", broker.http)
        shell = subprocess.run(["bash", "-euo", "pipefail", "-c", f"API={broker.http}/api/v1; {command}"],
                               capture_output=True, text=True, timeout=TIMEOUT_S, cwd=tmp_path, env={**os.environ})  # fmt: skip
        assert shell.returncode == 0, f"{command}\n{shell.stdout}\n{shell.stderr}"
        ran += 1
        if not printed:
            continue
        try:
            wanted, seen = json.loads(printed), json.loads(shell.stdout)
        except json.JSONDecodeError:
            pattern = re.escape(printed.strip()).replace("…", r"\d+")
            assert re.fullmatch(pattern, shell.stdout.strip()), f"{command}\n{shell.stdout}"
            continue
        assert same(wanted, seen), f"{command}\n{shell.stdout}"
    assert ran == 8
