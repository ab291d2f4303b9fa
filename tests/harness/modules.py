"""The suites that are programs: run as such, each in a process of its own."""

import subprocess
import sys
from pathlib import Path


def run_module(tests_dir: Path, name: str, *arguments, timeout_s: float) -> subprocess.CompletedProcess:
    """Runs one, which fails if it finds something. What it says is printed."""
    arguments = [str(argument) for argument in arguments]
    result = subprocess.run(
        [sys.executable, "-m", name, *arguments],
        cwd=tests_dir, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout_s,
    )  # fmt: skip
    print(result.stdout, result.stderr, sep="")
    assert result.returncode == 0, f"{name}/run {' '.join(arguments)} finds something"
    return result
