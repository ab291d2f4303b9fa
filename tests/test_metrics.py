"""Metrics: what is served is what docs/metrics.md says, and what the dashboard and the alerts ask for is served."""

import json
import re
import socket

import promql_parser
import pytest
import requests
import yaml
from confluent_kafka import Consumer, Producer

from harness.admin import create_topic
from harness.broker import REPOSITORY, Highwater, wait_until
from harness.exposition import OPEN_METRICS, families, prometheus_families, scrape, value

pytestmark = pytest.mark.highwater_only("the metrics are Highwater's")

PAGE = REPOSITORY / "docs" / "metrics.md"
DASHBOARD = REPOSITORY / "docs" / "grafana" / "highwater.json"
ALERTS = REPOSITORY / "docs" / "grafana" / "alerts.yml"

# Labels that Prometheus adds.
OF_THE_SCRAPE = {"instance", "job"}

# What the broker below has no reason to show, and where it is shown that it does: damage (test_corruption.py), a client
# over its quota (log-server/tests/admin_quotas.rs), and rates of a group that has members (test_slo.py).
NOT_HERE = {"highwater_scrub_holes", "highwater_throttle_seconds", "highwater_slo_desired_workers"}

RECORDS = 100


@pytest.fixture(scope="module")
def busy(tmp_path_factory) -> Highwater:
    """A broker that has had work of every kind that brings series with it."""
    broker = Highwater(tmp_path_factory.mktemp("metrics"), {"quota_window_ms": 1000}).start()
    create_topic(broker.bootstrap, "orders", 2)
    producer = Producer({"bootstrap.servers": broker.bootstrap, "client.id": "writer"})
    for number in range(RECORDS):
        producer.produce("orders", b"value", str(number).encode(), partition=number % 2)
    assert producer.flush(30) == 0
    transactional = Producer({"bootstrap.servers": broker.bootstrap, "transactional.id": "mover"})
    transactional.init_transactions(30)
    transactional.begin_transaction()
    transactional.produce("orders", b"moved", partition=0)
    transactional.commit_transaction(30)
    settings = {"bootstrap.servers": broker.bootstrap, "group.id": "billing", "auto.offset.reset": "earliest"}
    consumer = Consumer({**settings, "enable.auto.commit": False})
    consumer.subscribe(["orders"])
    seen = 0
    while seen <= RECORDS:
        message = consumer.poll(30)
        assert message and not message.error()
        seen += 1
    consumer.commit(asynchronous=False)
    consumer.close()
    objective = {"lag_seconds_objective": 30, "target": 0.99, "window_seconds": 3600}
    assert requests.put(f"{broker.http}/api/v1/slos/billing", json=objective, timeout=30).ok
    # A frame whose length is no length.
    with socket.create_connection(("127.0.0.1", broker.port)) as stranger:
        stranger.sendall(b"\xff\xff\xff\xff")
        assert stranger.recv(1) == b""
    expected = {"highwater_groups", "highwater_slo_state"}
    wait_until(lambda: expected <= samples(broker), "the first sample of lag")
    yield broker
    broker.discard()


def samples(broker) -> set[str]:
    """The names of all samples that are served."""
    return {sample.name for family in families(broker).values() for sample in family.samples}


def documented() -> dict[str, tuple[str, str, frozenset[str]]]:
    """Type, unit and labels of each metric, by name, from the page's tables."""
    rows = {}
    for line in PAGE.read_text().splitlines():
        match = re.fullmatch(r"\| `(\w+)` \| (\w+) \| ([^|]+) \| ?([^|]*) ?\| ([^|]+) \|", line)
        if match:
            name, kind, unit, labels, meaning = match.groups()
            assert name not in rows and meaning.strip()
            rows[name] = kind, unit, frozenset(re.findall(r"`(\w+)`", labels))
    return rows


def test_every_metric_is_documented(busy):
    """By name, type and labels; and none that is not served."""
    rows = documented()
    served = families(busy)
    missing = [f"| `{name}` | {served[name].type} | … | … | {served[name].documentation} |" for name in served.keys() - rows]
    assert not missing, f"{PAGE} lacks the rows\n" + "\n".join(missing)
    assert rows.keys() - NOT_HERE <= served.keys(), "documented, and not served"
    for name, family in served.items():
        kind, unit, labels = rows[name]
        assert family.type == kind, name
        for suffix in ("bytes", "seconds", "ratio"):
            assert not name.endswith(f"_{suffix}") or unit.startswith(suffix), f"the unit of {name}"
        for sample in family.samples:
            assert sample.labels.keys() - {"le"} == labels, name


def test_both_formats_say_the_same(busy):
    """Prometheus' older text has the same families with the same types and labels; a scraper gets what it ranks first."""
    assert scrape(busy).headers["Content-Type"] == OPEN_METRICS

    def differs() -> list:
        older, newer = prometheus_families(busy), families(busy)
        # The older format has no type for what a build is, and names the family as its sample.
        older["highwater_build"] = older.pop("highwater_build_info")
        newer["highwater_build"].type = "gauge"
        return sorted(name for name in older.keys() | newer.keys() if series(older, name) != series(newer, name))

    # Between two scrapes a rate may have become known.
    wait_until(lambda: not differs(), f"both are the same; they differ in {differs()}")


def series(served: dict, name: str) -> tuple:
    """The type of a family, and its samples without their values."""
    family = served.get(name)
    return family and (family.type, {(s.name, tuple(sorted(s.labels.items()))) for s in family.samples})


def test_the_parts_of_a_request_make_the_whole(busy):
    """What is spent in the handler, behind others and waiting is the time to answer, to the nanosecond."""
    served = families(busy)
    total = {s.labels["api"]: s.value for s in served["highwater_request_seconds"].samples if s.name.endswith("_sum")}
    parts = dict.fromkeys(total, 0.0)
    for sample in served["highwater_request_phase_seconds"].samples:
        if sample.name.endswith("_sum") and sample.labels["phase"] != "send":
            parts[sample.labels["api"]] += sample.value
    for api in ("Produce", "ListOffsets", "OffsetCommit", "JoinGroup"):
        assert parts[api] == pytest.approx(total[api], abs=1e-8), api
    answered = value(busy, "highwater_requests_total", api="Produce")
    assert value(busy, "highwater_request_seconds_count", api="Produce") == answered > 0
    assert value(busy, "highwater_request_phase_seconds_count", api="Produce", phase="wait") == answered, "acks=all"
    assert value(busy, "highwater_requests_total", api="ElectLeaders") == 0, "there before it is used"


def test_what_is_counted_is_what_was_done(busy):
    """Records, offsets, sizes, group commits, and why connections ended."""
    records = RECORDS + 1
    assert value(busy, "highwater_topic_produced_records_total", topic="orders") == records
    assert value(busy, "highwater_produced_records_total") == records
    # The transaction's marker has an offset too.
    ends = [value(busy, "highwater_partition_high_watermark", topic="orders", partition=p) for p in "01"]
    assert sum(ends) == records + 1 == value(busy, "highwater_topic_log_offsets", topic="orders")
    sizes = [value(busy, "highwater_partition_log_bytes", topic="orders", partition=p) for p in "01"]
    assert sum(sizes) == value(busy, "highwater_topic_log_bytes", topic="orders") > 0
    fetched = value(busy, "highwater_topic_fetched_bytes_total", topic="orders")
    assert fetched == value(busy, "highwater_fetched_bytes_total") >= sum(sizes)
    logs = sum(f.value for f in families(busy)["highwater_topic_log_bytes"].samples)
    assert value(busy, "highwater_flush_bytes_sum") == logs, "all of it was synced once"
    offsets = sum(f.value for f in families(busy)["highwater_topic_log_offsets"].samples)
    assert value(busy, "highwater_flush_records_sum") == offsets
    assert value(busy, "highwater_flush_seconds_count") == value(busy, "highwater_flush_bytes_count") > 0
    assert value(busy, "highwater_connections_closed_total", reason="frame_size") == 1
    assert value(busy, "highwater_connections_closed_total", reason="client") >= 1
    assert value(busy, "highwater_groups", protocol="classic", state="Empty") == 1
    memory = busy.memory_bytes()
    assert value(busy, "highwater_memory_own_bytes") == pytest.approx(memory["RssAnon"], rel=0.5)
    assert 0 < value(busy, "process_cpu_seconds_total") <= busy.cpu_seconds() + 0.01


def test_partitions_beyond_the_cap_have_no_series(start_broker):
    """They are counted, and in the sums of their topics."""
    broker = start_broker({"metrics_partitions_max": 3})
    create_topic(broker.bootstrap, "a", 2)
    create_topic(broker.bootstrap, "b", 4)
    served = families(broker)
    shown = [(s.labels["topic"], s.labels["partition"]) for s in served["highwater_partition_log_bytes"].samples]
    assert shown == [("a", "0"), ("a", "1"), ("b", "0")]
    assert value(broker, "highwater_partitions_without_series") == 3
    assert value(broker, "highwater_topic_partitions", topic="b") == 4


def selectors(expression: str):
    """The metrics that a PromQL expression selects, with the labels that it matches; and the labels that it groups by."""
    found, grouped = [], set()

    def visit(node) -> None:
        match node:
            case promql_parser.VectorSelector():
                found.append((node.name, {matcher.name for matcher in node.matchers.matchers}))
            case promql_parser.MatrixSelector():
                visit(node.vector_selector)
            case promql_parser.Call():
                for argument in node.args:
                    visit(argument)
            case promql_parser.AggregateExpr():
                visit(node.expr)
                if node.param is not None:
                    visit(node.param)
                if node.modifier is not None:
                    grouped.update(node.modifier.labels)
            case promql_parser.BinaryExpr():
                visit(node.lhs)
                visit(node.rhs)
            case promql_parser.ParenExpr() | promql_parser.UnaryExpr() | promql_parser.SubqueryExpr():
                visit(node.expr)
            case promql_parser.NumberLiteral() | promql_parser.StringLiteral():
                pass
            case _:
                raise AssertionError(f"what is {node!r}?")

    visit(promql_parser.parse(expression))
    assert found, expression
    return found, grouped


def check_expression(expression: str, mentioned: set[str], rows: dict) -> None:
    """Every metric and label that it names is one that is served. `mentioned` are labels of the text beside it."""
    found, grouped = selectors(expression)
    labels = set(OF_THE_SCRAPE)
    for name, matched in found:
        family, suffix = family_of(name, rows)
        own = rows[family][2] | OF_THE_SCRAPE | ({"le"} if suffix == "_bucket" else set())
        assert matched <= own, f"{name} has no labels {matched - own}: {expression}"
        labels |= own
    assert grouped <= labels, f"nothing has the labels {grouped - labels}: {expression}"
    kept = labels if not grouped else grouped
    assert mentioned <= kept, f"the result has no labels {mentioned - kept}: {expression}"


def family_of(sample: str, rows: dict) -> tuple[str, str]:
    """The family of a sample's name, and the suffix that its type has."""
    suffixes = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"], "info": ["_info"], "gauge": [""]}
    for family, (kind, _, _) in rows.items():
        for suffix in suffixes[kind]:
            if sample == family + suffix:
                return family, suffix
    raise AssertionError(f"{sample} is not served")


def test_the_dashboard_asks_for_what_is_served(busy):
    """Each expression, each legend, each variable; in rows, on a grid where nothing overlaps."""
    rows = documented()
    board = json.loads(DASHBOARD.read_text())
    panels = board["panels"]
    variables = {variable["name"]: variable for variable in board["templating"]["list"]}
    for variable in variables.values():
        if variable["type"] == "query":
            metric, label = re.fullmatch(r"label_values\((\w+), (\w+)\)", variable["query"]["query"]).groups()
            assert label in rows[family_of(metric, rows)[0]][2] | OF_THE_SCRAPE
    drawn = [panel for panel in panels if panel["type"] != "row"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    for panel in drawn:
        assert panel["fieldConfig"]["defaults"]["unit"] and panel["targets"], panel["title"]
        for target in panel["targets"]:
            used = set(re.findall(r"\$\{?(\w+)\}?", target["expr"])) - {"__rate_interval"}
            assert used <= variables.keys(), target["expr"]
            expression = target["expr"].replace("$__rate_interval", "5m")
            check_expression(expression, set(re.findall(r"{{(\w+)}}", target["legendFormat"])), rows)
    cells = [
        (x, y)
        for panel in panels
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    assert len(set(cells)) == len(cells) and all(0 <= x < 24 for x, _ in cells)
    headings = {panel["title"].split()[0] for panel in panels if panel["type"] == "row"}
    assert headings >= {"Overview", "Lag", "Latency", "Disk", "Groups", "Memory", "Errors"}


def test_the_alerts_ask_for_what_is_served(busy):
    """Each rule has what Prometheus wants of it, and its texts name labels that it has."""
    rows = documented()
    rules = [rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]
    assert len({rule["alert"] for rule in rules}) == len(rules) > 5
    for rule in rules:
        assert rule.keys() <= {"alert", "expr", "for", "labels", "annotations"}, rule
        assert rule["labels"]["severity"] in {"warning", "critical"}
        texts = " ".join(rule["annotations"].values())
        check_expression(rule["expr"], set(re.findall(r"\$labels\.(\w+)", texts)), rows)


def test_an_expression_that_is_wrong_is_noticed():
    """The check of the two tests above, checked."""
    rows = {"highwater_x": ("histogram", "seconds", frozenset({"api"})), "highwater_y": ("gauge", "1", frozenset())}
    check_expression('sum by (le, api) (rate(highwater_x_bucket{api="A"}[5m]))', {"api"}, rows)
    for expression, mentioned in [
        ("highwater_x", set()),
        ("highwater_z", set()),
        ('highwater_y{api="A"}', set()),
        ("sum by (topic) (highwater_x_count)", set()),
        ("sum by (api) (highwater_x_count)", {"instance"}),
    ]:
        with pytest.raises(AssertionError):
            check_expression(expression, mentioned, rows)
    with pytest.raises(ValueError):
        check_expression("sum by (", set(), rows)
