"""The HTTP API by plain requests, with every answer held against the broker's own description of it."""

import base64
import json
import re
from collections.abc import Iterator
from urllib.parse import urlsplit

import requests
from jsonschema import Draft202012Validator

from .records import Record

TIMEOUT_S = 60


class Api:
    """A broker's HTTP API. Whatever is not in the description, status included, fails the test that comes across it."""

    def __init__(self, base: str):
        self.base = base
        self.session = requests.Session()
        self.description = self.session.get(f"{base}/api/v1/openapi.json", timeout=TIMEOUT_S).json()
        self.components = {"schemas": closed(self.description["components"]["schemas"])}
        # Templates with fewer parameters first: /topics/{topic}/records before anything that would take it in.
        templates = sorted(self.description["paths"], key=lambda path: path.count("{"))
        self.templates = [(re.compile(re.sub(r"\{\w+\}", "[^/]+", path) + "$"), path) for path in templates]

    def operation(self, method: str, path: str) -> dict:
        """What the description says of a method and a path."""
        template = next((template for pattern, template in self.templates if pattern.match(path)), None)
        assert template is not None, f"{path} is not described"
        operation = self.description["paths"][template].get(method.lower())
        assert operation is not None, f"{method} {template} is not described"
        return operation

    def request(self, method: str, path: str, status: int = 200, **options) -> requests.Response:
        """Asks for a path beneath /api/v1, and checks status and body."""
        url = f"{self.base}/api/v1{path}"
        answer = self.session.request(method, url, timeout=TIMEOUT_S, **options)
        assert answer.status_code == status, f"{method} {path}: {answer.status_code} {answer.text[:1000]}"
        described = self.operation(method, urlsplit(url).path)["responses"].get(str(status))
        assert described is not None, f"{method} {path}: status {status} is not described"
        for schema in [content.get("schema") for content in described.get("content", {}).values()]:
            if schema is not None and "json" in answer.headers.get("content-type", ""):
                self.check(schema, answer.json())
        return answer

    def check(self, schema: dict, body: object) -> None:
        """Holds a body against a schema of the description."""
        whole = {**schema, "components": self.components}
        errors = [f"{error.json_path}: {error.message}" for error in Draft202012Validator(whole).iter_errors(body)]
        assert not errors, "\n".join(errors[:10])

    def get(self, path: str, status: int = 200, **query) -> dict:
        """GET, as JSON."""
        query = {name.rstrip("_"): value for name, value in query.items() if value is not None}
        return self.request("GET", path, status, params=query).json()

    def post(self, path: str, body: object, status: int = 200) -> dict:
        """POST of JSON, as JSON."""
        return self.request("POST", path, status, json=body).json()

    def create(self, topic: str, partitions: int = 1, configs: dict | None = None) -> dict:
        """Creates a topic."""
        configs = {name: str(value) for name, value in (configs or {}).items()}
        return self.post("/topics", {"topic": topic, "partitions": partitions, "configs": configs}, 201)

    def pages(self, topic: str, partition: int | None = None, **query) -> Iterator[dict]:
        """Pages from the earliest record, or from `offset`, to the end, each beginning where the last one says."""
        while True:
            page = self.get(f"/topics/{topic}/records", partition=partition, **query)
            yield page
            if page["next"] == page["end"]:
                return
            query.pop("from_", None)
            query.pop("timestamp_ms", None)
            offset = ",".join(f"{index}:{at}" for index, at in page["next"].items())
            assert offset != query.get("offset"), f"no progress at {offset}"
            query["offset"] = offset

    def read(self, topic: str, **query) -> list[Record]:
        """All records."""
        return [record(shown) for page in self.pages(topic, **query) for shown in page["records"]]


def closed(schemas: dict) -> dict:
    """The same schemas for objects that have what is described and nothing else.

    A part of another schema (`allOf`) has to let the other's properties pass, so it refers to the schema as it was.
    """
    text = json.dumps(schemas)
    made = json.loads(text)
    made.update({f"{name}.open": schema for name, schema in json.loads(text).items()})
    for schema in made.values():
        for part in schema.get("allOf", []):
            if "$ref" in part:
                part["$ref"] += ".open"
    for name in schemas:
        if made[name].get("type") == "object" or "allOf" in made[name]:
            if "additionalProperties" not in made[name]:
                made[name]["unevaluatedProperties"] = False
    return made


def datum(shown: dict | None) -> bytes | None:
    """The bytes that are shown. JSON is shown as it was written, so it cannot be had back from a parsed answer."""
    if shown is None:
        return None
    assert not shown.get("truncated")
    assert "json" not in shown, shown
    return shown["text"].encode() if "text" in shown else base64.b64decode(shown["base64"], validate=True)


def record(shown: dict) -> Record:
    """A record as the tests know it."""
    headers = tuple((header["name"], datum(header["value"])) for header in shown["headers"])
    key, value = datum(shown["key"]), datum(shown["value"])
    size = sum(len(name.encode()) + len(value or b"") for name, value in headers) + len(key or b"") + len(value or b"")
    assert shown["size_bytes"] == size
    return Record(shown["partition"], shown["offset"], shown["timestamp_ms"], key, value, headers)


def encoded(data: bytes | None) -> dict | None:
    """A key or a value for the API, whatever bytes it has."""
    return None if data is None else {"base64": base64.b64encode(data).decode()}


class Events:
    """Server-sent events of a path beneath /api/v1, as (event, id, data)."""

    def __init__(self, api: Api, path: str, last_event_id: str | None = None, **query):
        headers = {"Last-Event-ID": last_event_id} if last_event_id else {}
        query = {name.rstrip("_"): value for name, value in query.items()}
        self.api = api
        self.answer = requests.get(
            f"{api.base}/api/v1{path}", params=query, headers=headers, stream=True, timeout=(TIMEOUT_S, TIMEOUT_S)
        )
        assert self.answer.status_code == 200, self.answer.text
        assert self.answer.headers["content-type"] == "text/event-stream"

    def __enter__(self) -> "Events":
        return self

    def __exit__(self, *_) -> None:
        self.answer.close()

    def __iter__(self) -> Iterator[tuple[str, str, dict]]:
        fields: dict[str, str] = {}
        for line in self.answer.iter_lines(chunk_size=1):
            if line.startswith(b":"):
                continue
            if line:
                name, _, value = line.decode().partition(": ")
                fields[name] = value
            elif fields:
                data = json.loads(fields["data"])
                kind = "Record" if fields["event"] == "record" else "ErrorBody"
                self.api.check({"$ref": f"#/components/schemas/{kind}"}, data)
                yield fields["event"], fields.get("id", ""), data
                fields = {}
