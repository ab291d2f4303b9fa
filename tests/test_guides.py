"""The documentation: links lead somewhere, and the guides' commands work as they are written.

A block of a guide is run if it says `sh`; those that need a system of their own to run on say `text`. The maps, of the
pages and of the code, have all that there is and nothing else.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from harness.broker import REPOSITORY, Highwater, end_with_parent
from quick_start.private_network import NOT_PERMITTED
from quick_start.wait_ready import WAIT_READY

GUIDES = REPOSITORY / "docs" / "guides"
PRIVATE_NETWORK = REPOSITORY / "tests" / "quick_start" / "private_network.py"
API = "http://127.0.0.1:9080/api/v1"
# What a reader's own pace does: lag is sampled every second. By a part of the block that comes after the wait.
WAIT_BEFORE = {
    "highwater lag --summary": f"until curl -s {API}/groups/billing/lag/history | grep -q at_ms; do sleep 0.2; done",
    "/scale": f"until curl -s {API}/slos/billing | grep -q '\"lag_seconds\":[0-9]'; do sleep 0.2; done",
}
PAGES = sorted(
    [*REPOSITORY.glob("*.md"), *REPOSITORY.glob("docs/**/*.md")], key=lambda page: page.relative_to(REPOSITORY).parts
)


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)


def anchors(page: Path) -> set[str]:
    """The names that a page's headings have, as GitHub makes them."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    names = set()
    for heading in re.findall(r"^#+ (.*)$", text, re.MULTILINE):
        words = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).lower()
        names.add(re.sub(r"[^\w\- ]", "", words).replace(" ", "-"))
    return names


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_links_lead_somewhere(page):
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    text = re.sub(r"`[^`]*`", "`code`", text)
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        if not there.exists() or (anchor and there.suffix == ".md" and anchor not in anchors(there)):
            broken.append(target)
    assert not broken


def test_the_maps_have_every_page():
    """docs/README.md those that are no decisions, docs/decisions/README.md the decisions, by their titles."""
    docs = REPOSITORY / "docs"
    linked = set(re.findall(r"\]\(([\w./-]+\.md)\)", (docs / "README.md").read_text()))
    pages = {str(page.relative_to(docs)) for page in docs.glob("**/*.md") if page.parent.name != "decisions"}
    assert pages - {"README.md"} <= linked
    rows = re.findall(r"^\| \[(\d+)\]\((.+)\) \| (.+) \|$", (docs / "decisions" / "README.md").read_text(), re.MULTILINE)
    titles = {page.name: page.read_text().splitlines()[0] for page in docs.glob("decisions/0*.md")}
    assert {name: f"# {number}. {title}" for number, name, title in rows} == titles


CRATES = ("log-core", "log-server", "log-client")
# Files of these names say nothing that their directory does not; tests lie beside what they test.
NOT_MAPPED = re.compile(r"(mod|lib|tests|testing|\w+_tests)\.rs")


def mapped() -> set[Path]:
    """What the code map names: files and directories, in the crate of the heading, and beside the first of its row."""
    code_map = (REPOSITORY / "docs" / "ARCHITECTURE.md").read_text().split("\n## Code map\n")[1].split("\n## ")[0]
    found = set()
    for heading, table in re.findall(r"^### (.+?)\n(.*?)(?=^### |\Z)", code_map, re.DOTALL | re.MULTILINE):
        root = REPOSITORY / heading.partition(":")[0] if heading.startswith(("log-core", "log-server")) else REPOSITORY
        for cell in re.findall(r"^\| (`.+?) \|", table, re.MULTILINE):
            names = re.findall(r"`([^`]+)`", cell)
            beside = (root / names[0]).parent
            for name in names:
                pattern = name.replace("kNN", "k[0-9][0-9]").rstrip("/")
                there = set(beside.glob(pattern)) | set(root.glob(pattern))
                assert there, f"the code map has {name} under {heading!r}, and there is none"
                found |= there
    return found


def test_the_code_map_has_every_file_of_the_crates():
    """By itself, or in a directory that the map has."""
    named = mapped()
    missing = [
        str(file.relative_to(REPOSITORY))
        for crate in CRATES
        for file in sorted((REPOSITORY / crate / "src").glob("**/*.rs"))
        if not NOT_MAPPED.fullmatch(file.name) and named.isdisjoint([file, *file.parents])
    ]
    assert not missing, "docs/ARCHITECTURE.md lacks them"


@pytest.mark.highwater_only("the guides are Highwater's")
@pytest.mark.parametrize("guide", ["measure-lag", "replay-history", "choose-durability"])
def test_a_guide_s_commands_work_as_they_are_written(guide, tmp_path):
    commands = []
    for block in blocks(GUIDES / f"{guide}.md", "sh"):
        commands += [wait for part, wait in WAIT_BEFORE.items() if part in block]
        commands.append(block)
    assert "".join(commands).count("highwater ") >= 3
    script = "\n".join(
        [
            "set -e -o pipefail",
            "trap 'kill $(jobs -p) 2>/dev/null || true' EXIT",
            f"highwater serve & {WAIT_READY}",
            "set -x",
            *commands,
            "kill $!; wait $!",
        ]
    )
    done = subprocess.run(
        [sys.executable, PRIVATE_NETWORK, "bash", "-c", script],
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
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    # curl ends well with an error of the API too.
    assert '{"error"' not in done.stdout, done.stdout[-4000:]


@pytest.mark.highwater_only("the guides are Highwater's")
def test_guides_name_files_and_commands_that_there_are():
    for guide in GUIDES.glob("*.md"):
        text = guide.read_text()
        for path in re.findall(r"\bpackaging/[\w.]+", text):
            assert (REPOSITORY / path).exists(), f"{guide.name}: {path}"
        for command in set(re.findall(r"^(?:docker exec \w+ )?highwater (\w+)", "\n".join(blocks(guide, "(?:sh|text)")), re.MULTILINE)):
            helped = subprocess.run([Highwater.binary(), command, "--help"], capture_output=True)
            assert helped.returncode == 0, f"{guide.name}: highwater {command}"
