"""What the binary does with a data directory that no broker is in."""

import json
import subprocess
from pathlib import Path

from harness.broker import Highwater, end_with_parent

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


def torn(data_dir: Path) -> int:
    """How many tails `verify` finds that the next start is going to cut."""
    return len(_findings(_verify(data_dir), "torn"))


def _verify(data_dir: Path) -> subprocess.CompletedProcess:
    return _run([str(Highwater.binary()), "verify", "--json", "--data-dir", str(data_dir)])


def _findings(result: subprocess.CompletedProcess, severity: str) -> list[str]:
    return [line for line in result.stdout.splitlines() if json.loads(line).get("severity") == severity]


def _run(command: list[str]) -> subprocess.CompletedProcess:
    return subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=TIMEOUT_S, preexec_fn=end_with_parent
    )
