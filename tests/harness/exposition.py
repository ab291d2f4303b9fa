"""What a broker serves on /metrics, read by the strict parser of Prometheus' Python client."""

import requests
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_open_metrics
from prometheus_client.parser import text_string_to_metric_families as parse_prometheus

OPEN_METRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"
PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"

# Of clients that push metrics of their own.
FOREIGN = "highwater_client_"


def scrape(broker, accept: str = "*/*") -> requests.Response:
    """One scrape."""
    answer = requests.get(f"{broker.http}/metrics", headers={"Accept": accept}, timeout=30)
    assert answer.status_code == 200, answer.text
    return answer


def families(broker) -> dict:
    """The broker's own families by name, out of OpenMetrics. Fails if the text is not valid, or has a family twice."""
    return _by_name(parse_open_metrics(scrape(broker).text))


def prometheus_families(broker) -> dict:
    """The same out of the older format; the parser leaves a counter's suffix off here as well."""
    answer = scrape(broker, "text/plain; version=0.0.4")
    assert answer.headers["Content-Type"] == PROMETHEUS
    return _by_name(parse_prometheus(answer.text))


def _by_name(parsed) -> dict:
    parsed = [family for family in parsed if not family.name.startswith(FOREIGN)]
    by_name = {family.name: family for family in parsed}
    assert len(by_name) == len(parsed), sorted(family.name for family in parsed)
    return by_name


def value(broker, sample: str, **labels) -> float:
    """The value of one sample; 0 where there is none."""
    for family in families(broker).values():
        for found in family.samples:
            if found.name == sample and found.labels == labels:
                return found.value
    return 0.0
