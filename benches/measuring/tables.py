"""Tables in Markdown, and the places in docs/performance.md that they are written to."""

import os
import platform
from datetime import date
from pathlib import Path

# Of the minute before anything was measured: who else was at work.
LOAD_BEFORE = os.getloadavg()[0]

PERFORMANCE = Path(__file__).resolve().parents[2] / "docs" / "performance.md"


def markdown(header: list[str], rows: list[list[str]]) -> str:
    """A table; all columns but the first and the last are set to the right if the last is called "remark"."""
    right = range(1, len(header) - (header[-1] == "remark"))
    rule = ["---:" if column in right else "---" for column in range(len(header))]
    return "\n".join("| " + " | ".join(row) + " |" for row in [header, rule, *rows])


def machine() -> str:
    """Cores, memory and kernel, as one sentence's end."""
    fields = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
    gib = round(int(fields["MemTotal"].split()[0]) / (1 << 20))
    cores = sum(line.startswith("processor") for line in Path("/proc/cpuinfo").read_text().splitlines())
    return f"{cores} cores, {gib} GiB, Linux {platform.release()}, load average before {LOAD_BEFORE:.1f}"


def measured(command: str) -> str:
    """The line beneath a table that says when, where and by which command it was made."""
    return f"\n\nMeasured by `{command}` on {date.today().isoformat()}: {machine()}."


def write(name: str, text: str) -> None:
    """Replaces what stands between `<!-- name -->` and `<!-- /name -->` in docs/performance.md."""
    document = PERFORMANCE.read_text()
    begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    if document.count(begin) != 1 or document.count(end) != 1:
        raise SystemExit(f"{PERFORMANCE} has no place for {name}: {begin} … {end}")
    before, rest = document.split(begin)
    after = rest.split(end)[1]
    PERFORMANCE.write_text(f"{before}{begin}\n\n{text}\n\n{end}{after}")
