"""The README's quick start, its commands as they are written: a clone, a build, and lag on the console.

They run in a network namespace of their own, where the default ports are free, with an empty home. The build is that of
the tests: a `cargo` that stands in for it takes the very arguments of the README. With HIGHWATER_QUICK_START=cold it is
cargo itself, on an empty cache of crates; the stopwatch is printed (`pytest -s`).
"""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from harness.broker import REPOSITORY, Highwater, end_with_parent
from quick_start.private_network import NOT_PERMITTED
from quick_start.wait_ready import WAIT_READY

pytestmark = pytest.mark.highwater_only("the quick start is Highwater's")

README = REPOSITORY / "README.md"
HERE = REPOSITORY / "tests" / "quick_start"
BLOCK = re.DOTALL | re.MULTILINE
COLD = os.environ.get("HIGHWATER_QUICK_START") == "cold"

STAND_IN = """#!/bin/sh
[ "$*" = "build --release --bin highwater" ] || { echo "cargo $*: not the build of the binary" >&2; exit 2; }
mkdir -p target/release && ln -s "$BINARY_OF_THE_TESTS" target/release/highwater
"""


# Whatever a command that fails leaves running.
END_WITH_SHELL = "trap 'kill $(jobs -p) 2>/dev/null || true' EXIT"


def section(heading: str) -> str:
    return README.read_text().split(f"\n## {heading}\n")[1].split("\n## ")[0]


def quick_start() -> tuple[list[str], str]:
    """The commands, and the address that is to be opened then."""
    text = section("Quick start")
    [block] = re.findall(r"^```sh\n(.*?)^```", text, BLOCK)
    [url] = re.findall(r"open <(http://127\.0\.0\.1:9080/\S+)>", text)
    return block.strip().splitlines(), url


def environment(tmp_path: Path) -> dict[str, str]:
    home = tmp_path / "home"
    stand_ins = tmp_path / "bin"
    home.mkdir()
    stand_ins.mkdir()
    names = ("LANG", "LD_LIBRARY_PATH", "HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "NO_PROXY", "no_proxy")
    kept = {name: os.environ[name] for name in names if name in os.environ}
    kept |= {"HOME": str(home), "PATH": f"{stand_ins}:{os.environ['PATH']}"}
    if COLD:
        # The toolchain and where crates come from are the machine's; what was fetched and built is not.
        there = Path(os.environ.get("CARGO_HOME", Path.home() / ".cargo"))
        (home / ".cargo").mkdir()
        for name in ("config.toml", "config"):
            if (there / name).exists():
                (home / ".cargo" / name).write_text((there / name).read_text())
        kept |= {"RUSTUP_HOME": os.environ.get("RUSTUP_HOME", str(Path.home() / ".rustup"))}
        kept |= {name: value for name, value in os.environ.items() if name.startswith(("CARGO_", "SSL_", "RUSTUP_"))}
        kept["CARGO_HOME"] = str(home / ".cargo")
        kept.pop("CARGO_TARGET_DIR", None)
    else:
        (stand_ins / "cargo").write_text(STAND_IN)
        (stand_ins / "cargo").chmod(0o755)
        kept["BINARY_OF_THE_TESTS"] = str(Highwater.binary())
    return kept


@pytest.mark.timeout(3600)
def test_five_commands_lead_to_the_lag_of_one_s_own_consumer_on_the_console(tmp_path):
    commands, url = quick_start()
    assert len(commands) <= 5, commands
    assert commands[0].startswith("git clone URL ")
    assert commands[2] == "highwater serve & sleep 1"
    private = f"{sys.executable} {HERE / 'private_network.py'}"
    # What comes by the network runs outside, the broker and whoever talks to it inside of the namespace.
    inside = "\n".join(
        [
            "set -e",
            END_WITH_SHELL,
            f"highwater serve & {WAIT_READY}",
            *commands[3:],
            "date +%s.%N >commands-done",
            f"{sys.executable} {HERE / 'look.py'} '{url}' >shown || status=$?",
            "kill $!; wait $! || status=${status:-$?}",
            "exit ${status:-0}",
        ]
    )
    outside = "\n".join(
        [
            "set -e",
            commands[0].replace("URL", f"'{REPOSITORY}'"),
            commands[1],
            "date +%s.%N >built",
            f"exec {private} bash -c \"$INSIDE\"",
        ]
    )
    began = time.time()
    done = subprocess.run(
        ["bash", "-c", outside],
        cwd=tmp_path,
        env={**environment(tmp_path), "INSIDE": inside},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        preexec_fn=end_with_parent,
    )
    if done.returncode == NOT_PERMITTED:
        pytest.skip(f"the default ports may be taken, and there is {done.stderr.strip()}")
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    assert "\n400\n" in done.stdout, "the consumer prints what it reads"
    clone = tmp_path / "highwater"
    shown = json.loads((clone / "shown").read_text())
    assert shown["records"] == "600"
    assert "readers" in shown["title"]
    assert re.fullmatch(r"[\d.]+ (ms|s|min)( \d+ s)?", shown["seconds"]), shown
    built, consumed = (float((clone / name).read_text()) for name in ("built", "commands-done"))
    print(f"built after {built - began:.0f} s, the last command done after {consumed - began:.0f} s; shown: {shown}")


def test_what_the_readme_says_to_kcat_and_python_works(tmp_path, kcat):
    """The rest of the README's examples, against the same kind of broker."""
    text = section("Point your client at it")
    first, second = re.findall(r"^```\n(.*?)^```\n", re.sub(r"^```python.*?^```\n", "", text, flags=BLOCK), BLOCK)
    [python] = re.findall(r"^```python\n(.*?)^```", text, BLOCK)
    script = "\n".join(
        [
            "set -e",
            END_WITH_SHELL,
            f"highwater serve & {WAIT_READY}",
            first,
            f"{sys.executable} - <<'END'\n{python}END",
            second,
            "kill $!; wait $!",
        ]
    )
    done = subprocess.run(
        [sys.executable, HERE / "private_network.py", "bash", "-c", script],
        cwd=tmp_path,
        env={**os.environ, "PATH": f"{Highwater.binary().parent}:{os.environ['PATH']}"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        preexec_fn=end_with_parent,
    )
    if done.returncode == NOT_PERMITTED:
        pytest.skip(f"the default ports may be taken, and there is {done.stderr.strip()}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "hello" in done.stdout and "b'hello'" in done.stdout
    assert '"group":"readers"' in done.stdout and "LAG RECORDS" in done.stdout
