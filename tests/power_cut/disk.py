"""The disk under the broker: ext4 on a loop device, over a file that nbdfuse serves from the plugin that logs."""

import subprocess
from pathlib import Path

from harness.broker import end_with_parent, wait_until

from . import mounts
from .state import DiskState

PLUGIN = Path(__file__).with_name("disk_plugin.py")
SIZE = 128 << 20


def format_image(path: Path, filesystem: str) -> None:
    """Makes an empty filesystem in a file."""
    with path.open("wb") as file:
        file.truncate(SIZE)
    mounts.run(*mounts.FILESYSTEMS[filesystem][0], str(path))


class LoggedDisk:
    """A mounted filesystem that begins as `image`, and whose device logs every write and flush to `journal`.

    `image` stays as it is. Everything else lies in `directory`.
    """

    interrupts = False
    syncs_everything = False

    def __init__(self, directory: Path, image: Path, journal: Path, filesystem: str = "ext4"):
        self.mount_point = directory / "mnt"
        self._options = mounts.FILESYSTEMS[filesystem][1]
        self._disk = directory / "disk"
        self._device = directory / "device"
        self._server_log = directory / "nbdkit.log"
        self._loop: str | None = None
        # Whether the filesystem had lost structures of its own.
        self.repaired = False
        mounts.copy_sparse(image, self._disk)
        journal.touch()
        self._device.touch()
        self.state = DiskState(directory / "state")
        self._server = self._serve(journal, directory / "state")
        self.mount()

    def _serve(self, journal: Path, state: Path) -> subprocess.Popen:
        command = ["nbdfuse", str(self._device), "--command", "nbdkit", "--single", "--exit-with-parent", "python",
                   str(PLUGIN), f"disk={self._disk}", f"journal={journal}", f"state={state}"]  # fmt: skip
        with self._server_log.open("wb") as log:
            server = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, preexec_fn=end_with_parent
            )

        def served() -> bool:
            if server.poll() is not None:
                raise mounts.Unable(f"nbdfuse ended: {self._server_log.read_text(errors='replace')}")
            return self._device.stat().st_size == SIZE

        wait_until(served, "nbdfuse serves the disk", interval_s=0.01)
        return server

    def mount(self) -> None:
        """Mounts what the disk holds now. Nothing of it is in a cache: the loop device reads around them."""
        self._loop = self._attach()
        mounts.mount(self._loop, self.mount_point, self._options)

    def check_and_mount(self) -> None:
        """Mounts it as a system does that starts after its disk has failed: with the filesystem repaired before."""
        self._loop = self._attach()
        self.repaired |= mounts.repair(self._loop)
        mounts.mount(self._loop, self.mount_point, self._options)

    def is_damaged(self) -> bool:
        """Whether the kernel has found errors in the filesystem's own structures since it was mounted."""
        return int(Path("/sys/fs/ext4", Path(self._loop).name, "errors_count").read_text()) > 0

    def _attach(self) -> str:
        return mounts.run("losetup", "--find", "--show", "--direct-io=on", str(self._device)).strip()

    def unmount(self) -> None:
        """Unmounts, and forgets whatever the caches hold of the disk."""
        mounts.unmount(self.mount_point)
        mounts.run("losetup", "--detach", self._loop)
        self._loop = None

    def close(self) -> None:
        """Takes everything down, whatever state it is in."""
        if self._loop is not None:
            subprocess.run(["umount", "--lazy", str(self.mount_point)], capture_output=True)
            subprocess.run(["losetup", "--detach", self._loop], capture_output=True)
            self._loop = None
        subprocess.run(["umount", "--lazy", str(self._device)], capture_output=True)
        mounts.end(self._server)
