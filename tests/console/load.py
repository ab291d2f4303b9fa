"""A small shop as load: orders, payments and page views come in, and four groups consume them, each in its way."""

import itertools
import json
import random
import threading
import time

import requests
from confluent_kafka import Consumer, Producer

from harness.admin import create_topic

# Records a second. Low enough for an unoptimised broker that shares two cores with a browser.
RATES = {"orders": 120, "payments": 40, "page-views": 400}
PARTITIONS = {"orders": 6, "payments": 3, "page-views": 12}
PRIORITIES = {"orders": "high", "payments": "high", "page-views": "low"}

PAGES = ["/", "/books", "/books/4711", "/cart", "/checkout", "/search?q=tide+tables", "/account/orders"]


class Shop:
    """The load, for as long as the context lasts."""

    def __init__(self, broker, seed: int = 7):
        self.broker = broker
        self.random = random.Random(seed)
        self.stopped = threading.Event()
        # Set while billing consumes.
        self.billing = threading.Event()
        self.billing.set()
        self.threads = []

    def __enter__(self) -> "Shop":
        for topic, partitions in PARTITIONS.items():
            create_topic(self.broker.bootstrap, topic, partitions, {"highwater.priority": PRIORITIES[topic]})
        self._run(self._produce)
        self._run(self._consume, "shipping", "orders", protocol="consumer")
        self._run(self._consume, "audit", "payments")
        # Keeps up with three quarters of what comes in.
        self._run(self._consume, "analytics", "page-views", rate=RATES["page-views"] * 0.75)
        self._run(self._consume, "billing", "orders", gate=self.billing)
        for group, lag_seconds in [("billing", 30), ("shipping", 10), ("analytics", 300)]:
            body = {"lag_seconds_objective": lag_seconds}
            requests.put(f"{self.broker.http}/api/v1/slos/{group}", json=body, timeout=30).raise_for_status()
        return self

    def __exit__(self, *_) -> None:
        self.stopped.set()
        for thread in self.threads:
            thread.join()

    def _run(self, work, *arguments, **options) -> None:
        thread = threading.Thread(target=work, args=arguments, kwargs=options)
        thread.start()
        self.threads.append(thread)

    def _produce(self) -> None:
        producer = Producer({"bootstrap.servers": self.broker.bootstrap, "client.id": "shop", "linger.ms": 20})
        started = time.monotonic()
        sent = dict.fromkeys(RATES, 0)
        while not self.stopped.wait(0.02):
            passed = time.monotonic() - started
            for topic, rate in RATES.items():
                while sent[topic] < passed * rate:
                    key, value, headers = self._record(topic, sent[topic])
                    producer.produce(topic, key=key, value=json.dumps(value), headers=headers)
                    sent[topic] += 1
            producer.poll(0)
        producer.flush(30)

    def _record(self, topic: str, number: int) -> tuple[str, dict, list]:
        customer = f"customer-{self.random.randrange(400)}"
        trace = f"00-{self.random.getrandbits(128):032x}-{self.random.getrandbits(64):016x}-01"
        headers = [("traceparent", trace.encode()), ("content-type", b"application/json")]
        match topic:
            case "orders":
                items = [
                    {"sku": f"book-{self.random.randrange(9000)}", "count": self.random.randint(1, 3)}
                    for _ in range(self.random.randint(1, 3))
                ]
                value = {"order": 500_000 + number, "customer": customer, "items": items,
                         "total": {"amount": self.random.randint(700, 9900) / 100, "currency": "EUR"},
                         "gift": self.random.random() < 0.1, "note": None}  # fmt: skip
            case "payments":
                value = {"order": 500_000 + number, "method": self.random.choice(["card", "transfer"]), "ok": True}
            case _:
                value = {"page": self.random.choice(PAGES), "customer": customer, "ms": self.random.randint(8, 900)}
        return customer, value, headers

    def _consume(self, group: str, topic: str, protocol: str = "classic", rate: float | None = None, gate=None) -> None:
        settings = {
            "bootstrap.servers": self.broker.bootstrap, "group.id": group, "client.id": f"{group}-1",
            "group.protocol": protocol, "auto.offset.reset": "earliest", "auto.commit.interval.ms": 500,
            # So that what is committed moves with what is consumed, not in leaps.
            "queued.max.messages.kbytes": 256,
        }  # fmt: skip
        for _ in itertools.count():
            consumer = Consumer(settings)
            consumer.subscribe([topic])
            taken, started = 0, time.monotonic()
            while not self.stopped.is_set() and (gate is None or gate.is_set()):
                if rate is not None and taken > (time.monotonic() - started) * rate:
                    consumer.poll(0.02) if taken == 0 else time.sleep(0.02)
                    continue
                taken += len(consumer.consume(50, 0.1))
            consumer.close()
            if gate is None:
                return
            while not gate.wait(0.1):
                if self.stopped.is_set():
                    return
            if self.stopped.is_set():
                return
