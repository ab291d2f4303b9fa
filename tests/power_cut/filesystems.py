"""What a broker of the rig can live on: ext4 on a logged device, which is real, and a disk that promises POSIX alone.

Each brings an empty image, a disk that begins as one and logs what is done to it, the moments at which the power could
have been cut, and a way to look at the image of one.
"""

import random
import shutil
from abc import ABC, abstractmethod
from contextlib import contextmanager
from pathlib import Path
from typing import ContextManager, Iterator, Protocol

from . import mounts
from .disk import LoggedDisk, format_image
from .image import block_moments
from .posix_disk import PosixDisk
from .posix_image import posix_moments
from .state import DiskState

# An image is looked at once and thrown away: its own flushes need not reach any disk.
MOUNT_OPTIONS = "loop,nobarrier"


class Disk(Protocol):
    """A disk that a broker lives on."""

    mount_point: Path
    state: DiskState
    # Whether it knows how to interrupt a sync, by a kill or an error that its images are true to.
    interrupts: bool
    # Whether it knows how to hold up a sync of everything, and to fail it.
    syncs_everything: bool

    def close(self) -> None:
        """Takes everything down, whatever state it is in."""


class Moment(Protocol):
    """The moment before a flush completes, or on the POSIX disk a sync. It is valid until the next one is asked for.

    `number` flushes have completed, and the journal has `end` entries: what was known by then has to be in its images.
    """

    number: int
    end: int
    # Whether it is worth an image: without anything in flight it looks like the next one.
    is_cut: bool
    # How many images it is worth: of what was durable alone, and with some of what was in flight.
    variants: int

    def arriving(self) -> list[bytes]:
        """What becomes durable with the flush."""

    def cut(self, target: Path, rng: random.Random | None) -> None:
        """Makes an image of what is durable, and with `rng` of some of what is in flight."""


class Filesystem(ABC):
    """One kind of disk."""

    @abstractmethod
    def format(self, image: Path) -> None:
        """Makes an empty image."""

    @abstractmethod
    def disk(self, directory: Path, image: Path, journal: Path) -> Disk:
        """A disk that begins as the image, which stays as it is. Works in the directory."""

    @abstractmethod
    def moments(self, image: Path, journal: Path, scratch: Path) -> Iterator[Moment]:
        """The moments of a life that began as the image. Works in a directory."""

    @abstractmethod
    def opened(self, image: Path, at: Path) -> ContextManager[None]:
        """Has what is in an image lie in the directory `at`, for a while; then the image is gone.

        Raises OSError if nothing can be made of it.
        """

    @abstractmethod
    def copy(self, image: Path, target: Path) -> None:
        """Copies an image."""


class Ext4(Filesystem):
    """ext4 on a block device. An image is a file."""

    def __init__(self, name: str):
        self._name = name

    def format(self, image: Path) -> None:
        format_image(image, self._name)

    def disk(self, directory: Path, image: Path, journal: Path) -> LoggedDisk:
        return LoggedDisk(directory, image, journal, self._name)

    def moments(self, image: Path, journal: Path, scratch: Path) -> Iterator[Moment]:
        return block_moments(image, journal, scratch)

    @contextmanager
    def opened(self, image: Path, at: Path) -> Iterator[None]:
        try:
            mounts.mount(image, at, MOUNT_OPTIONS)
            try:
                yield
            finally:
                mounts.unmount(at)
        finally:
            image.unlink()

    def copy(self, image: Path, target: Path) -> None:
        mounts.copy_sparse(image, target)


class Posix(Filesystem):
    """The file system that is the rig's own. An image is a directory."""

    def __init__(self, syncs_everything: bool):
        self._syncs_everything = syncs_everything

    def format(self, image: Path) -> None:
        image.mkdir()

    def disk(self, directory: Path, image: Path, journal: Path) -> PosixDisk:
        return PosixDisk(directory, image, journal, self._syncs_everything)

    def moments(self, image: Path, journal: Path, scratch: Path) -> Iterator[Moment]:
        return posix_moments(image, journal)

    @contextmanager
    def opened(self, image: Path, at: Path) -> Iterator[None]:
        image.rename(at)
        try:
            yield
        finally:
            shutil.rmtree(at)

    def copy(self, image: Path, target: Path) -> None:
        shutil.copytree(image, target)


FILESYSTEMS: dict[str, Filesystem] = {
    "posix": Posix(syncs_everything=False),
    "posix-syncfs": Posix(syncs_everything=True),
    **{name: Ext4(name) for name in mounts.FILESYSTEMS},
}
