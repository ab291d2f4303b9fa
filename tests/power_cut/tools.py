"""What the binary does with a data directory that no broker is in."""

import json
import subprocess
from pathlib import Path

from harness.broker import Highwater, end_with_parent

from .batches import batches, segments

TIMEOUT_S = 60


def repair_command(data_dir: Path, *partitions: str) -> list[str]:
    """The command that gives up what is damaged in partitions."""
    return [str(Highwater.binary()), "repair", "--json", "--data-dir", str(data_dir), *partitions, "--skip-holes"]


def repair(data_dir: Path, partitions: list[str]) -> list[str]:
    """Gives up what is damaged in those partitions that are there; what goes wrong with that."""
    partitions = [name for name in partitions if (data_dir / "topics" / name).exists()]
    if not partitions:
        return []
    result = _run(repair_command(data_dir, *partitions))
    if result.returncode == 0:
        return []
    return [f"repair of {partitions} ends with {result.returncode}: {(result.stdout + result.stderr)[-500:]}"]


def verify(data_dir: Path) -> list[str]:
    """The damage that `verify` finds."""
    result = _verify(data_dir)
    if result.returncode == 0:
        return []
    return [f"verify ends with {result.returncode}: {_findings(result, 'damage')[:3]} {result.stderr.strip()[-500:]}"]


def torn(data_dir: Path) -> set[Path]:
    """The segments with tails that the next start is going to cut, by what `verify` finds."""
    return {data_dir / json.loads(line)["file"] for line in _findings(_verify(data_dir), "torn")}


def behind(data_dir: Path, tails: set[Path]) -> int:
    """How many sound segments the next start is going to remove, since they lie behind torn tails."""
    count = 0
    for directory in (data_dir / "topics").glob("*"):
        is_behind, end = False, None
        for path in segments(directory):
            found = list(batches(path))
            is_behind |= end is not None and end < int(path.stem)
            count += is_behind and bool(found) and path not in tails
            is_behind |= path in tails
            end = found[-1].base_offset + found[-1].offsets if found else int(path.stem)
    return count


def _verify(data_dir: Path) -> subprocess.CompletedProcess:
    return _run([str(Highwater.binary()), "verify", "--json", "--data-dir", str(data_dir)])


def _findings(result: subprocess.CompletedProcess, severity: str) -> list[str]:
    return [line for line in result.stdout.splitlines() if json.loads(line).get("severity") == severity]


def _run(command: list[str]) -> subprocess.CompletedProcess:
    return subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=TIMEOUT_S, preexec_fn=end_with_parent
    )
