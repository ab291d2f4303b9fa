"""Filesystems on files, in a mount namespace of the rig's own.

Whatever ends the rig ends the namespace with its last process, and the kernel takes its mounts and loop devices back.
"""

import ctypes
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

REQUIRED = {
    "nbdkit": "nbdkit (and nbdkit-plugin-python)",
    "nbdfuse": "libnbd-bin",
    "fusermount3": "fuse3",
    "mkfs.ext4": "e2fsprogs",
    "mount": "mount",
}
PREFIX = "highwater-power-cut-"

_CLONE_NEWNS = 0x00020000
_MS_REC, _MS_PRIVATE = 0x4000, 0x40000

# What the tests run on, and beside it filesystems that promise less, each with how it is made and mounted.
# Commits of the filesystem's own accord are rare, so that none stands in for a sync that was forgotten.
FILESYSTEMS = {
    "ext4": (["mkfs.ext4", "-q", "-F", "-b", "4096", "-E", "lazy_itable_init=0,nodiscard"], "commit=300"),
    "ext4-writeback": (
        ["mkfs.ext4", "-q", "-F", "-b", "4096", "-E", "lazy_itable_init=0,nodiscard"],
        "commit=300,data=writeback,noauto_da_alloc",
    ),
    "ext4-fast-commit": (
        ["mkfs.ext4", "-q", "-F", "-b", "4096", "-O", "fast_commit", "-E", "lazy_itable_init=0,nodiscard"],
        "commit=300",
    ),
}


class Unable(Exception):
    """This machine lacks what the rig needs; the message says what."""


def require() -> None:
    """Raises Unable, with all that is missing."""
    missing = []
    if os.geteuid() != 0:
        missing.append("to be root, for mounting")
    for device in ("/dev/fuse", "/dev/loop-control"):
        if not Path(device).exists():
            missing.append(device)
    missing += [f"{command}, of {package}" for command, package in REQUIRED.items() if not shutil.which(command)]
    if missing:
        raise Unable("the power-cut rig needs " + "; ".join(missing))


def enter_namespace() -> None:
    """Gives this process and those it starts mounts of their own. To be called before any thread is started."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNS) != 0 or libc.mount(None, b"/", None, _MS_REC | _MS_PRIVATE, None) != 0:
        raise Unable(f"no mount namespace: {os.strerror(ctypes.get_errno())}")


def work_directory() -> Path:
    """A new directory, in memory if there is room. Those of processes that are gone are removed first."""
    memory = Path("/dev/shm")
    parent = memory if memory.is_dir() and shutil.disk_usage(memory).free > 2 << 30 else Path(tempfile.gettempdir())
    for left in parent.glob(f"{PREFIX}*"):
        pid = left.name.removeprefix(PREFIX).split("-")[0]
        if not Path("/proc", pid).exists():
            shutil.rmtree(left, ignore_errors=True)
    return Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-", dir=parent))


def mount(device: Path | str, at: Path, options: str = "") -> None:
    """Mounts a device, or with the option `loop` a file."""
    at.mkdir(exist_ok=True)
    run("mount", "-t", "ext4", "-o", options or "defaults", str(device), str(at))


def repair(device: str) -> bool:
    """Checks a filesystem that is not mounted, and repairs it. Whether structures of its own were wrong."""
    result = subprocess.run(["e2fsck", "-f", "-y", device], stdin=subprocess.DEVNULL, capture_output=True, text=True)
    # 1: errors were found and corrected.
    if result.returncode not in (0, 1):
        raise OSError(f"e2fsck ended with {result.returncode}: {result.stdout.strip()}")
    lines = result.stdout.splitlines()
    answered = [before for before, line in zip(lines, lines[1:]) if line.endswith("? yes")]
    # Sums in the superblock, which ext4 brings up to date when it is unmounted.
    return any(not re.match("Free (blocks|inodes) count wrong", problem) for problem in answered)


def unmount(at: Path) -> None:
    """Unmounts, which also gives the loop device back."""
    run("umount", str(at))


def run(*command: str) -> str:
    """Runs a command; what it printed. Raises with what it complained about."""
    result = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if result.returncode != 0:
        raise OSError(f"{' '.join(command)} ended with {result.returncode}: {result.stderr.strip()}")
    return result.stdout


def end(server: subprocess.Popen) -> None:
    """Waits for a process that has nothing to serve any more, and not for long."""
    try:
        server.wait(5)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()


def copy_sparse(source: Path, target: Path) -> None:
    """Copies a file without its holes."""
    with source.open("rb") as read, target.open("wb") as written:
        size = os.fstat(read.fileno()).st_size
        os.ftruncate(written.fileno(), size)
        at = 0
        while at < size:
            try:
                start = os.lseek(read.fileno(), at, os.SEEK_DATA)
            except OSError:
                break
            at = os.lseek(read.fileno(), start, os.SEEK_HOLE)
            _copy(read.fileno(), written.fileno(), start, at)


def _copy(source: int, target: int, start: int, end: int) -> None:
    os.lseek(target, start, os.SEEK_SET)
    while start < end:
        start += os.sendfile(target, source, start, end - start)
