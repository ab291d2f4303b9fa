"""What the packaging promises: the unit file, what a supervisor is told, the Dockerfile."""

import configparser
import json
import os
import re
import shutil
import signal
import socket
import subprocess
from pathlib import Path

import pytest

from harness.broker import REPOSITORY, Highwater, end_with_parent, wait_until

pytestmark = pytest.mark.highwater_only("about Highwater's own packages")

UNIT = REPOSITORY / "packaging" / "highwater.service"
DOCKERFILE = REPOSITORY / "Dockerfile"


@pytest.fixture(scope="module")
def unit() -> configparser.ConfigParser:
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str
    parser.read(UNIT)
    return parser


def needs(program: str) -> str:
    path = shutil.which(program)
    if path is None:
        pytest.skip(f"{program} is missing: tests/setup installs it")
    return path


def test_systemd_takes_the_unit_and_finds_it_confined(tmp_path):
    analyze = needs("systemd-analyze")
    # Of the unit with the binary of this run, since it looks whether that is there.
    copy = tmp_path / "highwater.service"
    copy.write_text(UNIT.read_text().replace("/usr/local/bin/highwater", str(Highwater.binary())))
    verified = subprocess.run([analyze, "verify", copy], capture_output=True, text=True)
    assert verified.returncode == 0 and not verified.stderr, verified.stderr
    # The threshold is the exposure in tenths: 1.4 of 10 when this was written.
    confined = subprocess.run(
        [analyze, "security", "--offline=yes", "--threshold=15", copy], capture_output=True, text=True
    )
    assert confined.returncode == 0, confined.stdout


def test_the_unit_waits_longer_for_a_stop_than_the_broker_takes(unit, broker):
    settings = broker.cli("config").stdout.decode()
    shutdown_wait_ms = int(re.search(r"^#shutdown_wait_ms = (\d+)$", settings, re.MULTILINE)[1])
    # Half of it is for syncing and closing the logs.
    assert int(unit["Service"]["TimeoutStopSec"]) * 1000 >= 2 * shutdown_wait_ms


def test_the_unit_s_command_is_one_that_the_binary_takes(unit, tmp_path):
    words = unit["Service"]["ExecStart"].replace("%E", str(tmp_path)).replace("%S", str(tmp_path)).split()
    (tmp_path / "highwater").mkdir()
    shutil.copy(REPOSITORY / "packaging" / "highwater.toml", tmp_path / "highwater" / "highwater.toml")
    ports = ["--listen", "127.0.0.1:0", "--http", "127.0.0.1:0"]
    process = subprocess.Popen([Highwater.binary(), *words[1:], *ports], stdout=subprocess.PIPE, preexec_fn=end_with_parent)
    assert b"is ready" in process.stdout.readline()
    process.terminate()
    process.communicate(timeout=30)
    assert process.returncode == 0


def test_system_calls_are_those_that_the_unit_allows(unit, tmp_path, start_broker, monkeypatch):
    strace, analyze = needs("strace"), needs("systemd-analyze")

    def calls_of(group: str) -> set[str]:
        listed = subprocess.run([analyze, "syscall-filter", group], capture_output=True, text=True, check=True)
        calls = set()
        for line in map(str.strip, listed.stdout.splitlines()):
            if line.startswith("@") and line != group:
                calls |= calls_of(line)
            elif re.fullmatch(r"[a-z0-9_]+", line):
                calls.add(line)
        return calls

    # One line allows, the other takes away of that.
    lines = re.findall(r"^SystemCallFilter=(.*)$", UNIT.read_text(), re.MULTILINE)
    assert lines == ["@system-service mincore", "~@privileged"]
    allowed = (calls_of("@system-service") | {"mincore"}) - calls_of("@privileged")

    trace = tmp_path / "trace"
    plain = Highwater._command
    monkeypatch.setattr(Highwater, "_command", lambda self: [strace, "-f", "-qq", "-o", str(trace), *plain(self)])
    broker = start_broker()
    broker.cli("topic", "--bootstrap", broker.bootstrap, "create", "calls", "--partitions", "2")
    broker.cli("produce", "calls", "--bootstrap", broker.bootstrap, stdin=b"one\ntwo\n")
    broker.cli("consume", "calls", "--bootstrap", broker.bootstrap, "--group", "readers")
    [traced] = Path(f"/proc/{broker.process.pid}/task/{broker.process.pid}/children").read_text().split()
    os.kill(int(traced), signal.SIGTERM)
    broker.wait_stopped()
    called = set(re.findall(r"^\d+ +([a-z0-9_]+)\(", trace.read_text(errors="replace"), re.MULTILINE))
    assert {"fdatasync", "fallocate", "accept4", "mincore"} <= called
    # What it takes more for than this test has: old history, many partitions, threads of low priority, limits.
    called |= {"fadvise64", "syncfs", "setpriority", "prlimit64", "pwritev"}
    # execve is strace's: systemd starts the process before the filter is in force.
    assert called - allowed - {"execve"} == set()


def test_a_supervisor_is_told_when_it_serves_and_when_it_stops(start_broker, tmp_path, monkeypatch):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
        told.bind(str(tmp_path / "notify"))
        told.settimeout(60)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        broker = start_broker()
        assert told.recv(4096) == b"READY=1\n"
        with socket.create_connection(("127.0.0.1", broker.port), timeout=10):
            pass
        broker.terminate()
        assert told.recv(4096) == b"STOPPING=1\n"
        assert broker.wait_stopped() == 0


def test_a_supervisor_that_watches_hears_from_a_broker_that_is_well(start_broker, tmp_path, monkeypatch):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
        told.bind(str(tmp_path / "notify"))
        told.settimeout(60)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        monkeypatch.setenv("WATCHDOG_USEC", "100000")
        broker = start_broker()
        assert [told.recv(4096) for _ in range(4)] == [b"READY=1\n", *3 * [b"WATCHDOG=1\n"]]
        broker.terminate()
        # What was sent before it heard of the signal; a broker that stops is watched no more.
        while (message := told.recv(4096)) == b"WATCHDOG=1\n":
            pass
        assert message == b"STOPPING=1\n"
        assert broker.wait_stopped() == 0


def test_a_supervisor_that_does_not_listen_is_no_reason_not_to_start(start_broker, tmp_path, monkeypatch):
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "nobody"))
    broker = start_broker()
    assert broker.stop() == 0
    assert "cannot tell the supervisor" in broker.log_tail()


def dockerfile(instruction: str) -> list[str]:
    """The arguments of that instruction, wherever it stands, with its lines joined."""
    text = DOCKERFILE.read_text().replace("\\\n", " ")
    return re.findall(rf"^{instruction}\s+(.*)$", text, re.MULTILINE)


def test_the_dockerfile_is_sound():
    hadolint = REPOSITORY / "tests" / ".venv" / "bin" / "hadolint"
    checked = subprocess.run([hadolint, DOCKERFILE], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout
    channel = re.search(r'^channel = "(.+)"$', (REPOSITORY / "rust-toolchain.toml").read_text(), re.MULTILINE)[1]
    assert dockerfile("FROM")[0].startswith(f"rust:{channel}-"), "the image has another toolchain than the repository"


def test_the_context_has_what_cargo_reads_and_no_more(tmp_path):
    """As .dockerignore makes it: all is left out, then some taken in, then parts of that left out."""
    everything, *lines = [line for line in (REPOSITORY / ".dockerignore").read_text().splitlines() if line[:1] not in ("", "#")]
    assert everything == "*"
    for line in lines:
        origin, there = REPOSITORY / line.lstrip("!"), tmp_path / line.lstrip("!")
        if not line.startswith("!"):
            shutil.rmtree(there)
        elif origin.is_dir():
            shutil.copytree(origin, there)
        else:
            shutil.copy(origin, there)
    assert dockerfile("COPY")[0] == ". ."
    assert not (tmp_path / "rust-toolchain.toml").exists(), "the image has the toolchain, and not all of its components"
    # It looks for every target of every member, and whether the lock file fits them.
    command = ["cargo", "metadata", "--locked", "--offline", "--format-version=1", "--filter-platform=x86_64-unknown-linux-gnu"]
    known = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert known.returncode == 0, known.stderr
    for file in tmp_path.glob("log-*/src/**/*.rs"):
        for included in re.findall(r'include_(?:str|bytes)!\("(.+?)"\)', file.read_text()):
            assert (file.parent / included).exists(), f"{file} includes {included}"


def test_the_container_s_user_is_not_root_and_owns_its_data():
    [user], [volume] = dockerfile("USER"), dockerfile("VOLUME")
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user), "by number, so that Kubernetes can tell that it is not root"
    assert any(f"--chown={user} " in copied and copied.endswith(f" {volume}") for copied in dockerfile("COPY"))


def test_the_image_has_what_the_binary_loads():
    loaded = subprocess.run(["ldd", Highwater.binary()], capture_output=True, text=True, check=True).stdout
    libraries = set(re.findall(r"^\s*(?:\S*/)?([a-z_+-]+)[.\d-]*", loaded.replace("ld-linux-x86-64", "ld"), re.MULTILINE))
    # What gcr.io/distroless/cc has, beside libstdc++.
    assert libraries <= {"linux-vdso", "libc", "libm", "libgcc_s", "ld"}, loaded


def test_the_container_s_command_and_health_check_work(tmp_path):
    [binary] = json.loads(dockerfile("ENTRYPOINT")[0])
    command = json.loads(dockerfile("CMD")[0])
    settings = dict(assignment.split("=", 1) for assignment in dockerfile("ENV")[0].split())
    [health] = re.findall(r"CMD (\[.*\])", dockerfile("HEALTHCHECK")[0])
    health_binary, *health = json.loads(health)
    assert binary == health_binary
    assert settings["HIGHWATER_DATA_DIR"] in dockerfile("VOLUME")
    assert [settings[name].rpartition(":")[2] for name in ("HIGHWATER_LISTEN", "HIGHWATER_HTTP")] == dockerfile("EXPOSE")[0].split()

    broker = Highwater(tmp_path / "unused")
    settings |= {
        "HIGHWATER_DATA_DIR": str(tmp_path / "data"),
        "HIGHWATER_LISTEN": f"0.0.0.0:{broker.port}",
        "HIGHWATER_HTTP": f"0.0.0.0:{broker.http_port}",
    }
    environment = os.environ | settings

    def is_healthy() -> bool:
        return subprocess.run([Highwater.binary(), *health], env=environment, capture_output=True).returncode == 0

    assert not is_healthy(), "there is no broker yet"
    process = subprocess.Popen([Highwater.binary(), *command], env=environment, preexec_fn=end_with_parent)
    try:
        wait_until(is_healthy, "the container is healthy")
    finally:
        process.terminate()
        assert process.wait(30) == 0
