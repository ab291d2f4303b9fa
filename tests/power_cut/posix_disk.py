"""The disk under the broker that promises what POSIX does: a file system of the rig's own.

`syncfs` does not reach a file system in user space that is mounted as usual: the kernel answers that all is well. The
broker knows that and syncs one file after the other on it (log-core/src/storage/whole_sync.rs), so there is no such call
to be judged, and what is wrong with "everything at once" does not show. If the file system has a block device, kernels
since Linux 6.18 pass the call on. The broker does not count on that, so it takes one that does to see such a call:
log-core/tests/crash/remove_each_sync.py builds it. `sync_file_range` promises nothing and is not seen either.
"""

import ctypes
import os
import subprocess
import sys
from pathlib import Path

from harness.broker import end_with_parent, wait_until

from . import mounts
from .state import FAIL_FLUSHES, DiskState

# A block device for show.
_DEVICE_BYTES = 1 << 20


class PosixDisk:
    """A mounted file system that begins as the directory `image`, and logs all that is done to it to `journal`.

    `image` stays as it is. Everything else lies in `directory`.
    """

    interrupts = True

    def __init__(self, directory: Path, image: Path, journal: Path, syncs_everything: bool = False):
        # Whether `syncfs` reaches it.
        self.syncs_everything = syncs_everything
        self.mount_point = directory / "mnt"
        self.mount_point.mkdir()
        journal.touch()
        self.state = DiskState(directory / "state")
        self._log = directory / "daemon.log"
        command = [sys.executable, "-m", f"{__package__}.posix_daemon", self.mount_point, image, journal,
                   directory / "state"]  # fmt: skip
        if syncs_everything:
            command.append(directory / "device")
            with command[-1].open("wb") as device:
                device.truncate(_DEVICE_BYTES)
        with self._log.open("wb") as log:
            self._daemon = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, preexec_fn=end_with_parent,
                cwd=Path(__file__).parents[1],
            )  # fmt: skip
        wait_until(self._serves, "the POSIX disk is mounted", interval_s=0.01)
        if syncs_everything and not self._hears_of_syncfs():
            self.close()
            raise mounts.Unable(f"Linux {os.uname().release} passes no syncfs on to a file system in user space")

    def _serves(self) -> bool:
        if self._daemon.poll() is not None:
            raise mounts.Unable(f"the POSIX disk ended: {self._log.read_text(errors='replace')}")
        return os.path.ismount(self.mount_point)

    def _hears_of_syncfs(self) -> bool:
        """Tries it: one that is told to fail does so if it gets there."""
        self.state.fail(FAIL_FLUSHES, count=1)
        try:
            sync_everything(self.mount_point)
        except OSError:
            return True
        finally:
            self.state.heal()
        return False

    def close(self) -> None:
        """Takes everything down, whatever state it is in."""
        subprocess.run(["umount", "--lazy", str(self.mount_point)], capture_output=True)
        mounts.end(self._daemon)
        said = self._log.read_text(errors="replace")
        assert not said, f"the POSIX disk says {said}"


def sync_everything(path: Path) -> None:
    """`syncfs` of the file system that a directory is on."""
    libc, directory = ctypes.CDLL(None, use_errno=True), os.open(path, os.O_RDONLY)
    try:
        if libc.syncfs(directory) != 0:
            raise OSError(ctypes.get_errno(), f"syncfs: {os.strerror(ctypes.get_errno())}")
    finally:
        os.close(directory)
