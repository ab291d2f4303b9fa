"""The disk under the broker that promises what POSIX does: a file system of the rig's own.

`syncfs` does not reach a file system in user space: the kernel answers that all is well. The broker knows that and
syncs one file after the other on it (log-core/src/storage/whole_sync.rs), so there is no such call to be judged, and
what is wrong with "everything at once" does not show here. `sync_file_range` promises nothing and is not seen either.
"""

import os
import subprocess
import sys
from pathlib import Path

from harness.broker import end_with_parent, wait_until

from . import mounts
from .state import DiskState


class PosixDisk:
    """A mounted file system that begins as the directory `image`, and logs all that is done to it to `journal`.

    `image` stays as it is. Everything else lies in `directory`.
    """

    interrupts = True

    def __init__(self, directory: Path, image: Path, journal: Path):
        self.mount_point = directory / "mnt"
        self.mount_point.mkdir()
        journal.touch()
        self.state = DiskState(directory / "state")
        self._log = directory / "daemon.log"
        command = [sys.executable, "-m", f"{__package__}.posix_daemon", self.mount_point, image, journal,
                   directory / "state"]  # fmt: skip
        with self._log.open("wb") as log:
            self._daemon = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, preexec_fn=end_with_parent,
                cwd=Path(__file__).parents[1],
            )  # fmt: skip
        wait_until(self._serves, "the POSIX disk is mounted", interval_s=0.01)

    def _serves(self) -> bool:
        if self._daemon.poll() is not None:
            raise mounts.Unable(f"the POSIX disk ended: {self._log.read_text(errors='replace')}")
        return os.path.ismount(self.mount_point)

    def close(self) -> None:
        """Takes everything down, whatever state it is in."""
        subprocess.run(["umount", "--lazy", str(self.mount_point)], capture_output=True)
        mounts.end(self._daemon)
        said = self._log.read_text(errors="replace")
        assert not said, f"the POSIX disk says {said}"
