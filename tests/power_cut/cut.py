"""A life that is over: its files, and every image that a power cut in it could have left."""

import pickle
import random
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Iterator

from harness.broker import REPOSITORY

from .check import Checker
from .filesystems import FILESYSTEMS, Filesystem, Moment
from .ledger import Ledger
from .settings import settings

# Nobody needs more findings of a life than so many.
FINDINGS_MAX = 5
# Of what a life has aimed at there are so many times as many images, where there are more than two.
WATCHED_TIMES = 2
# Where lives are kept that somebody has to look at.
KEPT = REPOSITORY / "target" / "power-cut"
# How the broker on an image is set up. Nothing of it depends on the life before.
BROKER_SETTINGS = settings(random.Random(0))


@dataclass(frozen=True)
class Cut:
    """The files of a life: the disk as it was at first, all that was written to it, all that was promised."""

    seed: str
    kind: str
    image: Path
    journal: Path
    ledger_file: Path

    @staticmethod
    def of(seed: str, kind: str, directory: Path) -> "Cut":
        """The life in a directory, on this kind of disk."""
        return Cut(seed, kind, directory / "image", directory / "journal", directory / "ledger")

    @staticmethod
    def kept(directory: Path) -> "Cut":
        """A life that `keep` has put there."""
        return Cut.of((directory / "seed").read_text(), (directory / "filesystem").read_text(), directory)

    @property
    def filesystem(self) -> Filesystem:
        """The kind of disk that it was on."""
        return FILESYSTEMS[self.kind]

    def keep(self) -> Path:
        """Puts the files where they outlast the rig."""
        directory = KEPT / self.seed.replace("/", "-")
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)
        self.filesystem.copy(self.image, directory / "image")
        shutil.copy(self.journal, directory / "journal")
        shutil.copy(self.ledger_file, directory / "ledger")
        (directory / "seed").write_text(self.seed)
        (directory / "filesystem").write_text(self.kind)
        return directory

    def ledger(self) -> Ledger:
        """What was promised."""
        return pickle.loads(self.ledger_file.read_bytes())

    def images(self) -> Iterator["Image"]:
        """All images. What is in one can be asked for until the next moment's."""
        watched = self.ledger().watched
        for moment in self.moments():
            is_watched = any(begin <= moment.end <= end for begin, end in watched)
            variants = moment.variants * (WATCHED_TIMES if is_watched and moment.variants > 2 else 1)
            yield from (Image(moment, variant, is_watched) for variant in range(variants if moment.is_cut else 0))

    def moments(self) -> Iterator[Moment]:
        """The moments at which the power could have been cut."""
        with tempfile.TemporaryDirectory(prefix="moments-", dir=self.image.parent) as scratch:
            yield from self.filesystem.moments(self.image, self.journal, Path(scratch))

    def draw(self, image: "Image") -> random.Random | None:
        """What decides which of what was in flight has arrived: the image's name, whatever other images there are."""
        return random.Random(f"{self.seed}/{image.name}") if image.variant else None


@dataclass(frozen=True)
class Image:
    """One of what a cut at a moment could have left."""

    moment: Moment
    variant: int
    # Whether it is of something that the life had aimed at.
    is_watched: bool

    @property
    def name(self) -> str:
        """FLUSH/VARIANT."""
        return f"{self.moment.number}/{self.variant}"


def check_images(cut: Cut, directory: Path, wanted: Callable[[str], bool]) -> list[str]:
    """What is wrong with the images whose names are wanted. Works in `directory`, which it makes and removes."""
    checker = Checker(directory, BROKER_SETTINGS, cut.filesystem)
    ledger, findings = cut.ledger(), []
    for image in cut.images():
        if wanted(image.name) and len(findings) < FINDINGS_MAX:
            image.moment.cut(checker.image, cut.draw(image))
            wrong = checker.check(ledger, image.moment.end)
            findings += [f"image {image.name} of {cut.seed}: {what}" for what in wrong]
    shutil.rmtree(directory)
    return findings


def drawn(cut: Cut, part: float) -> list[str]:
    """The names of a part of the images, which the seed draws, and of all that the life has aimed at."""
    return [
        image.name
        for image in cut.images()
        if image.is_watched or random.Random(f"{cut.seed}/drawn/{image.name}").random() < part
    ]


def check_share(cut: Cut, directory: Path, part: float, share: int, shares: int) -> list[str]:
    """What is wrong with every `shares`-th of a part of the images. For a process of its own."""
    mine = set(drawn(cut, part)[share::shares])
    return check_images(cut, directory, mine.__contains__)
