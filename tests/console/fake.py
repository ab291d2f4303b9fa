"""The HTTP API with made-up data: the same figures at every run, and whatever is hard to bring about for real.

The page itself comes from log-server/console/ as it is on disk, with the headers that the broker sends. By hand:

    tests/.venv/bin/python -m console.fake 9081      # from tests/, then http://127.0.0.1:9081/
"""

import json
import math
import re
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

PAGE = Path(__file__).resolve().parents[2] / "log-server" / "console"

# What the broker sends with the page; test_console.py holds the two against each other.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)

CONTENT_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}

GIB = 2**30


def topic_row(name: str, partitions: int, records: int, rate: float, priority="normal", internal=False) -> dict:
    """A row of GET /topics."""
    return {
        "topic": name, "topic_id": "b3c1a0de-7d1f-4c4e-9a55-0a54d3a6c0ff", "internal": internal,
        "partitions": partitions, "records": records, "bytes": records * 312, "priority": priority,
        "produce_records_per_second": rate, "produce_bytes_per_second": rate * 312,
        "fetch_bytes_per_second": rate * 640,
    }  # fmt: skip


def group_row(name: str, lag_records: int, lag_seconds: float, consume, produce, slo=None, **more) -> dict:
    """A row of GET /groups."""
    gain = consume - produce
    catch_up = 0.0 if lag_records == 0 else lag_records / gain if gain > 0 else None
    return {
        "group": name, "state": "Stable", "protocol_type": "consumer", "protocol": "classic", "members": 2,
        "lag_records": lag_records, "lag_seconds": lag_seconds, "consume_records_per_second": consume,
        "produce_records_per_second": produce, "catch_up_seconds": catch_up, "slo_state": slo, **more,
    }  # fmt: skip


class Cluster:
    """What the fake answers. Tests change it while it serves."""

    def __init__(self):
        self.started = time.time()
        # When set, every request of the API is answered with this status, or with nothing for 0.
        self.failing: int | None = None
        # A path that alone fails, with its status.
        self.failing_path: tuple[str, int] | None = None
        self.requests: list[str] = []
        # When set, the lag of every group is as old as this says: it grows by a second a second.
        self.stopped_at: float | None = None
        self.topics = [
            topic_row("orders", 6, 18_400_211, 1_240.0, "high"),
            topic_row("payments", 3, 4_210_550, 310.5, "high"),
            topic_row("page-views", 12, 903_118_402, 8_450.0, "low"),
            topic_row("greetings", 1, 3, 0.0),
            topic_row("__consumer_offsets", 4, 88_213, 12.0, internal=True),
        ]
        self.groups = [
            group_row("billing", 74_400, 60.2, 0.0, 1_240.0, "violated", state="Empty", members=0),
            group_row("shipping", 1_240, 1.1, 1_900.0, 1_240.0, "ok", protocol="consumer"),
            group_row("analytics", 1_204_551, 143.7, 12_000.0, 8_450.0, "at_risk"),
            group_row("audit", 0, 0.0, 310.5, 310.5),
        ]
        self.slos = [
            self.slo("billing", 30.0, "violated", 60.2, 1.42, 14.4),
            self.slo("shipping", 10.0, "ok", 1.1, 0.08, 0.2),
            self.slo("analytics", 180.0, "at_risk", 143.7, 0.61, 3.1),
        ]
        self.disk = {
            "total_bytes": 512 * GIB, "free_bytes": 187 * GIB, "soft_limit_bytes": 51 * GIB,
            "hard_limit_bytes": 10 * GIB, "state": "ok",
        }  # fmt: skip
        self.health = "online"
        self.ready = True
        self.shedding = {"active": False, "level": 0, "reason": None, "since_ms": None, "classes": [
            {"priority": name, "action": "none", "topics": topics, "throttled_total": 0, "refused_total": 0}
            for name, topics in [("high", 2), ("normal", 1), ("low", 1)]
        ]}  # fmt: skip
        self.records = [self.record(offset) for offset in range(400)]
        # Whether the last records are said to be not all that were asked for.
        self.incomplete = False
        self.connections = [
            self.connection(f"127.0.0.1:{40_000 + number}", client, software, version)
            for number, (client, software, version) in enumerate(
                [("billing-1", "librdkafka", "2.11.0"), ("shipping-1", "apache-kafka-java", "4.1.0"),
                 ("shop", "librdkafka", "2.11.0"), ("rdkafka", "", "")]
            )
        ]  # fmt: skip
        self.stream: list[dict] = []
        self.stream_grew = threading.Condition()

    @staticmethod
    def slo(group, objective, state, lag, used, burn) -> dict:
        """A row of GET /slos."""
        return {
            "group": group, "lag_seconds_objective": objective, "target": 0.99, "window_seconds": 86_400,
            "state": state, "since_ms": int((time.time() - 95) * 1000), "lag_seconds": lag, "catch_up_seconds": None,
            "budget_used": used, "burn_rate": burn, "webhook": None,
        }  # fmt: skip

    @staticmethod
    def connection(address, client, software, version) -> dict:
        """A row of GET /connections."""
        now = int(time.time() * 1000)
        return {
            "address": address, "client_id": client, "software_name": software, "software_version": version,
            "connected_at_ms": now - 3_600_000, "last_request_at_ms": now - 240, "requests": 48_211,
            "received_bytes": 812_331_004, "sent_bytes": 55_120_900,
        }  # fmt: skip

    @staticmethod
    def record(offset: int, **more) -> dict:
        """A record of any topic, in partition offset % 4."""
        order = {
            "order": 5_000_000 + offset, "customer": f"c-{offset % 17}", "amount": 19.9 + offset,
            "items": [{"sku": f"sku-{offset % 5}", "count": 1 + offset % 3}], "gift": offset % 2 == 0, "note": None,
        }  # fmt: skip
        return {
            "partition": offset % 4, "offset": offset // 4, "timestamp_ms": 1_764_000_000_000 + offset * 1000,
            "timestamp_type": "create_time", "key": {"text": f"c-{offset % 17}"}, "value": {"json": order},
            "headers": [{"name": "traceparent", "value": {"text": f"00-{offset:032x}-{offset:016x}-01"}}],
            "size_bytes": 214, **more,
        }  # fmt: skip

    def push(self, record: dict) -> None:
        """Sends a record to everybody who follows."""
        with self.stream_grew:
            self.stream.append(record)
            self.stream_grew.notify_all()

    def answer(self, path: str, query: dict) -> tuple[int, object]:
        """Status and body of a GET beneath /api/v1."""
        parts = [unquote(part) for part in path.strip("/").split("/")]
        match parts:
            case ["broker"]:
                return 200, self.broker()
            case ["broker", "configs"] | ["topics", _, "configs"]:
                return 200, {"configs": CONFIGS}
            case ["connections"]:
                return 200, {"connections": self.connections}
            case ["topics"]:
                return 200, {"topics": self.topics}
            case ["topics", topic]:
                row = next((row for row in self.topics if row["topic"] == topic), None)
                return (200, self.topic(row)) if row else not_found(f"there is no topic {topic}")
            case ["topics", topic, "records"]:
                return self.read(topic, query)
            case ["groups"]:
                return 200, {"groups": self.groups}
            case ["groups", group, *rest]:
                row = next((row for row in self.groups if row["group"] == group), None)
                if row and self.stopped_at:
                    row = {**row, "lag_seconds": time.time() - self.stopped_at}
                return self.group(row, rest, query) if row else not_found(f"there is no group {group}")
            case ["slos"]:
                return 200, {"slos": self.slos}
            case ["slos", group]:
                row = next((row for row in self.slos if row["group"] == group), None)
                return (200, row) if row else not_found(f"{group} has no objective")
            case ["shedding"]:
                return 200, self.shedding
        return not_found("there is no such path")

    def broker(self) -> dict:
        """GET /broker."""
        own = [row for row in self.topics if not row["internal"]]
        return {
            "version": "0.1.0", "cluster_id": "q8YB2zNgT0CqkqVnR1q2Tw", "node_id": 1,
            "started_at_ms": int((self.started - 93_784) * 1000), "uptime_seconds": 93_784.0,
            "kafka_address": "127.0.0.1:9092", "data_dir": "/var/lib/highwater", "ready": self.ready,
            "health": self.health, "disk": self.disk,
            "memory": {"resident_bytes": 812 * 2**20, "own_bytes": 58 * 2**20}, "connections": len(self.connections),
            "partitions": sum(row["partitions"] for row in self.topics),
            "produce": {name: sum(row[f"produce_{name}"] for row in own) for name in
                        ("records_per_second", "bytes_per_second")},
            "fetch": {"bytes_per_second": sum(row["fetch_bytes_per_second"] for row in own)},
        }  # fmt: skip

    def topic(self, row: dict) -> dict:
        """GET /topics/{topic}."""
        each = row["records"] // row["partitions"]
        return {**row, "partition_list": [
            {"partition": index, "log_start_offset": 0, "high_watermark": each, "last_stable_offset": each,
             "log_end_offset": each, "bytes": each * 312, "segments": 1 + each // 500_000,
             "newest_timestamp_ms": int(self.started * 1000) if each else None,
             "produce_records_per_second": row["produce_records_per_second"] / row["partitions"]}
            for index in range(row["partitions"])
        ]}  # fmt: skip

    def group(self, row: dict, rest: list[str], query: dict) -> tuple[int, object]:
        """GET /groups/{group} and what is beneath."""
        members = [
            {"member_id": f"{row['group']}-{index}-6f1c", "instance_id": None, "client_id": f"{row['group']}-{index}",
             "client_host": "/127.0.0.1", "assignment": [{"topic": "orders", "partitions": [3 * index, 3 * index + 1,
                                                                                            3 * index + 2]}]}
            for index in range(row["members"])
        ]  # fmt: skip
        if not rest:
            return 200, {**row, "member_list": members}
        if rest == ["lag"]:
            return 200, {**row, "partitions": [self.partition_lag(row, members, index) for index in range(6)]}
        if rest == ["lag", "history"]:
            return 200, history(row, int(query.get("seconds", 3600)), int(query.get("points", 300)))
        return not_found("there is no such path")

    @staticmethod
    def partition_lag(row: dict, members: list, index: int) -> dict:
        """A partition of GET /groups/{group}/lag."""
        holder = members[index // 3] if members else {"member_id": None, "client_id": None}
        lag = row["lag_records"] // 6
        return {
            "topic": "orders", "partition": index, "committed_offset": 3_066_701 - lag, "log_end_offset": 3_066_701,
            "log_start_offset": 0, "lag_records": lag, "lag_seconds": max(0.0, row["lag_seconds"] - index * 0.1),
            "consume_records_per_second": row["consume_records_per_second"] / 6,
            "produce_records_per_second": row["produce_records_per_second"] / 6,
            "catch_up_seconds": row["catch_up_seconds"], "member_id": holder["member_id"],
            "client_id": holder["client_id"],
        }  # fmt: skip

    def read(self, topic: str, query: dict) -> tuple[int, object]:
        """GET /topics/{topic}/records, over the same records for each topic that has any."""
        row = next((row for row in self.topics if row["topic"] == topic), None)
        if row is None:
            return not_found(f"there is no topic {topic}")
        records = self.records if row["records"] else []
        end = {}
        for record in records:
            end[record["partition"]] = record["offset"] + 1
        if "partition" in query:
            wanted = int(query["partition"])
            records = [record for record in records if record["partition"] == wanted]
            end = {wanted: end.get(wanted, 0)}
        if "key" in query:
            records = [record for record in records if record["key"] == {"text": query["key"]}]
        limit = int(query.get("limit", 50))
        start = dict.fromkeys(end, 0)
        if "offset" in query:
            pairs = [pair.split(":") for pair in query["offset"].split(",")]
            start = {int(p[0]) if len(p) == 2 else int(query["partition"]): int(p[-1]) for p in pairs}
        if "timestamp_ms" in query:
            records = [record for record in records if record["timestamp_ms"] >= int(query["timestamp_ms"])]
        records = [record for record in records if record["offset"] >= start.get(record["partition"], 0)]
        records = records[-limit:] if query.get("from") == "latest" else records[:limit]
        following = dict(start)
        for record in records:
            following[record["partition"]] = record["offset"] + 1
        incomplete = {"incomplete": True} if self.incomplete and query.get("from") == "latest" else {}
        return 200, {"records": records, "next": following, "end": end, **incomplete}


def not_found(reason: str) -> tuple[int, object]:
    """A 404 as the API gives it."""
    return 404, {"error": reason}


def history(row: dict, seconds: int, points: int) -> dict:
    """A saw of lag with a gap in it: nothing was sampled while the broker was down."""
    now = int(time.time() * 1000)
    step = max(1.0, seconds / points)
    made = []
    for index in range(int(seconds / step)):
        age = seconds - index * step
        if 0.30 * seconds < age < 0.38 * seconds:
            continue
        share = max(0.0, math.sin(age / seconds * 9)) * 0.8 + (1 - age / seconds) * 0.4
        made.append({
            "at_ms": int(now - age * 1000), "lag_records": int(row["lag_records"] * share),
            "lag_seconds": round(row["lag_seconds"] * share, 3),
            "consume_records_per_second": row["produce_records_per_second"] * (1 - 0.4 * share),
            "produce_records_per_second": row["produce_records_per_second"] * (1 + 0.1 * math.sin(index / 7)),
        })  # fmt: skip
    return {"group": row["group"], "step_seconds": step, "points": made}


CONFIGS = [
    {"name": "retention.ms", "value": "604800000", "default": "604800000", "source": "default", "read_only": False,
     "type": "long", "documentation": "How long records are kept"},
    {"name": "cleanup.policy", "value": "compact", "default": "delete", "source": "topic", "read_only": False,
     "type": "list", "documentation": "What happens to old records"},
]  # fmt: skip


class Handler(BaseHTTPRequestHandler):
    """Serves the page and a cluster."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        url = urlsplit(self.path)
        if url.path.startswith("/api/v1/"):
            self.api(url.path.removeprefix("/api/v1/"), {k: v[0] for k, v in parse_qs(url.query).items()})
        elif url.path == "/" or url.path.startswith("/console/"):
            self.page(url.path.removeprefix("/console/") if url.path != "/" else "index.html")
        else:
            self.send(404, "application/json", b"{}")

    def api(self, path: str, query: dict) -> None:
        """Answers, or fails as the test wants it."""
        cluster = self.server.cluster
        cluster.requests.append(path)
        failing = cluster.failing
        if cluster.failing_path and cluster.failing_path[0] == path:
            failing = cluster.failing_path[1]
        if failing == 0:
            self.close_connection = True
            return
        if failing is not None:
            self.send_json(failing, {"error": "the fake was told to fail"})
        elif path.endswith("/records/stream"):
            self.stream(cluster)
        else:
            self.send_json(*cluster.answer(path, query))

    def stream(self, cluster: Cluster) -> None:
        """Server-sent events: what is pushed from now on."""
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        at = int(self.headers.get("Last-Event-ID", len(cluster.stream) - 1)) + 1
        self.wfile.write(b": connected\n\n")
        try:
            while not self.server.stopping and cluster.failing is None:
                with cluster.stream_grew:
                    cluster.stream_grew.wait_for(lambda: len(cluster.stream) > at, timeout=0.2)
                    fresh = list(enumerate(cluster.stream))[at:]
                for number, record in fresh:
                    self.wfile.write(f"event: record\nid: {number}\ndata: {json.dumps(record)}\n\n".encode())
                    at = number + 1
                self.wfile.flush()
        except OSError:
            pass

    def page(self, path: str) -> None:
        """A file of the console."""
        file = PAGE / path
        if not re.fullmatch(r"[a-z_/]+\.(html|css|js|svg)", path) or not file.is_file():
            self.send(404, "text/plain", b"not found")
        else:
            self.send(200, CONTENT_TYPES[file.suffix], file.read_bytes(), {"Content-Security-Policy": POLICY})

    def send_json(self, status: int, body: object) -> None:
        """A JSON answer."""
        self.send(status, "application/json", json.dumps(body).encode())

    def send(self, status: int, content_type: str, body: bytes, headers: dict | None = None) -> None:
        """A whole answer."""
        self.send_response(status)
        for name, value in {"Content-Type": content_type, "Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    """Takes it that browsers hang up."""

    daemon_threads = True

    def handle_error(self, request, client_address):
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)


class Fake:
    """The server, on a free port, on threads of its own."""

    def __init__(self, port: int = 0):
        self.server = Server(("127.0.0.1", port), Handler)
        self.server.stopping = False
        self.cluster = self.server.cluster = Cluster()
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05})

    def __enter__(self) -> "Fake":
        self.thread.start()
        return self

    def __exit__(self, *_) -> None:
        self.server.stopping = True
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


if __name__ == "__main__":
    with Fake(int(sys.argv[1]) if len(sys.argv) > 1 else 9081) as fake:
        print(fake.url)
        fake.thread.join()
