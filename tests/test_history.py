"""Several clients at once under restarts, kill -9 and rebalances, and the checker of what they saw."""

import pytest

from history.checker import History, Outcome, check
from history.rig import run

SECONDS = 25


@pytest.mark.timeout(900)
def test_a_short_history(start_broker, request):
    """Nothing is lost, doubled, reordered, torn, or visible though aborted. `tests/history/run` makes long ones."""
    broker = start_broker({"group.min.session.timeout.ms": 1000})
    verdict = run(broker, SECONDS, request.config.getoption("--seed"))
    print(verdict.summary, *verdict.errors, sep="\n")
    assert not verdict.faults, "\n".join([*verdict.faults, verdict.summary, *verdict.errors])


def good() -> History:
    """A history without a fault."""
    return History(
        written=[(["w:0:0", "w:0:1"], Outcome.ACKNOWLEDGED), (["w:0:2"], Outcome.UNKNOWN),
                 (["t:0:0", "t:0:1"], Outcome.ACKNOWLEDGED), (["t:0:2"], Outcome.ABORTED)],
        transactions=[["t:0:0", "t:0:1"], ["t:0:2"]],
        read=[(("plain", 0, 0), "w:0:0"), (("plain", 0, 1), "w:0:1")],
        seen={"group": ["w:0:0", "w:0:0", "w:0:1"]},
        log={("plain", 0): [(0, "w:0:0"), (1, "w:0:1")], ("transacted", 0): [(0, "t:0:0"), (1, "t:0:1")]},
    )  # fmt: skip


def spoil(history: History, kind: str) -> None:
    """Makes it a history with a fault of that kind."""
    match kind:
        case "lost":
            history.log["plain", 0].pop()
        case "doubled":
            history.log["plain", 0].append((2, "w:0:1"))
        case "aborted but visible":
            history.log["transacted", 0].append((3, "t:0:2"))
        case "out of nowhere":
            history.log["plain", 0].append((2, "w:0:7"))
        case "taken back":
            history.seen["group"].append("w:0:2")
        case "torn":
            history.log["transacted", 0].pop()
        case "reordered":
            history.log["plain", 0] = [(0, "w:0:1"), (1, "w:0:0")]
        case "another value":
            history.read[0] = (("plain", 0, 0), "w:0:1")
        case "read twice":
            history.read.append(history.read[0])
        case "missed":
            history.seen["group"].remove("w:0:1")


def test_the_checker_takes_a_good_history():
    """What is unknown may be there or not, and a group may see a record again."""
    assert check(good()) == []


@pytest.mark.parametrize(
    "kind",
    ["lost", "doubled", "aborted but visible", "out of nowhere", "taken back", "torn", "reordered", "another value",
     "read twice", "missed"],
)  # fmt: skip
def test_the_checker_finds(kind):
    """Each kind of fault."""
    history = good()
    spoil(history, kind)
    assert any(kind in fault for fault in check(history)), check(history)
