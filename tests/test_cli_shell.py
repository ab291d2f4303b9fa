"""Shell completions and manual pages: what a shell and groff make of them."""

import os
import re
import shutil
import subprocess

import pytest

from harness.broker import Highwater

SUBCOMMANDS = {"serve", "topic", "produce", "consume", "group", "lag", "completions", "man"}


def highwater(*arguments) -> str:
    """What `highwater` prints, with nothing in the environment that changes its defaults."""
    return subprocess.run(
        [str(Highwater.binary()), *map(str, arguments)], capture_output=True, text=True, check=True, timeout=60
    ).stdout


@pytest.fixture(scope="module")
def bash_script(tmp_path_factory):
    """The file that bash sources."""
    path = tmp_path_factory.mktemp("completions") / "highwater.bash"
    path.write_text(highwater("completions", "bash"))
    return path


def complete(script, *words: str) -> set[str]:
    """What bash offers for the last of `words`."""
    line = "\n".join(
        [
            f"source {script}",
            f"COMP_WORDS=({' '.join(repr(word) for word in words)})",
            f"COMP_CWORD={len(words) - 1}",
            f"_highwater highwater {words[-1]!r} {words[-2]!r}",
            'printf "%s\\n" "${COMPREPLY[@]}"',
        ]
    )
    result = subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=60)
    assert result.returncode == 0 and not result.stderr, result.stderr
    return set(result.stdout.split())


def test_bash_completes(bash_script):
    """Subcommands, their subcommands, flags, and the values of a flag."""
    checked = subprocess.run(["bash", "-n", str(bash_script)], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stderr
    assert SUBCOMMANDS <= complete(bash_script, "highwater", "")
    assert complete(bash_script, "highwater", "compl") == {"completions"}
    assert {"list", "describe", "reset", "delete"} <= complete(bash_script, "highwater", "group", "")
    assert {"--to-earliest", "--to-latest"} <= complete(bash_script, "highwater", "group", "reset", "--to-")
    assert complete(bash_script, "highwater", "group", "reset", "--format", "") == {"table", "json", "csv"}
    assert {"bash", "zsh", "fish"} <= complete(bash_script, "highwater", "completions", "")


@pytest.mark.parametrize(("shell", "word"), [("zsh", "#compdef highwater"), ("fish", "complete -c highwater")])
def test_other_shells(shell, word, tmp_path):
    """The script is for that shell, knows the subcommands, and the shell can read it where it is installed."""
    script = highwater("completions", shell)
    assert word in script
    assert all(re.search(rf"\b{name}\b", script) for name in SUBCOMMANDS)
    if shutil.which(shell):
        path = tmp_path / "script"
        path.write_text(script)
        checked = subprocess.run([shell, "-n", str(path)], capture_output=True, text=True)
        assert checked.returncode == 0, checked.stderr


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """The directory of manual pages."""
    directory = tmp_path_factory.mktemp("man")
    highwater("man", directory / "man1")
    return directory / "man1"


def test_manual_pages(pages):
    """Every subcommand has a page, groff has nothing to say about any, and options and examples are readable."""
    names = {path.name for path in pages.iterdir()}
    assert {f"highwater-{name}.1" for name in SUBCOMMANDS} | {"highwater.1", "highwater-group-reset.1"} <= names
    shown = {}
    for path in sorted(pages.iterdir()):
        rendered = subprocess.run(
            ["groff", "-man", "-Tutf8", "-P-cbou", "-ww", "-rLL=100n", str(path)],
            capture_output=True, env={**os.environ, "LC_ALL": "C.UTF-8"}, timeout=60,
        )  # fmt: skip
        assert rendered.returncode == 0 and not rendered.stderr, f"{path.name}: {rendered.stderr.decode()}"
        shown[path.name] = rendered.stdout.decode()
    reset = shown["highwater-group-reset.1"]
    assert re.search(r"^ +--to-datetime <TIME>", reset, re.MULTILINE)
    assert re.search(r"^ +highwater group reset billing --topic orders --to first$", reset, re.MULTILINE)
    assert "highwater-group-reset(1)" in shown["highwater-group.1"]
