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

    def names(self) -> list[str]:
        """The images' names, FLUSH/VARIANT."""
        moments = [(moment.number, moment.variants) for moment in self.moments() if moment.is_cut]
        return [f"{number}/{variant}" for number, variants in moments for variant in range(variants)]

    def moments(self) -> Iterator[Moment]:
        """The moments at which the power could have been cut."""
        with tempfile.TemporaryDirectory(prefix="moments-", dir=self.image.parent) as scratch:
            yield from self.filesystem.moments(self.image, self.journal, Path(scratch))

    def draw(self, moment: Moment, variant: int) -> random.Random | None:
        """What decides which of what was in flight has arrived: the image's name, whatever other images there are."""
        return random.Random(f"{self.seed}/{moment.number}/{variant}") if variant else None


def check_images(cut: Cut, directory: Path, wanted: Callable[[str], bool]) -> list[str]:
    """What is wrong with the images whose names are wanted. Works in `directory`, which it makes and removes."""
    checker = Checker(directory, BROKER_SETTINGS, cut.filesystem)
    ledger, findings = cut.ledger(), []
    for moment in cut.moments():
        for variant in range(moment.variants) if moment.is_cut else ():
            name = f"{moment.number}/{variant}"
            if wanted(name) and len(findings) < FINDINGS_MAX:
                moment.cut(checker.image, cut.draw(moment, variant))
                findings += [f"image {name} of {cut.seed}: {what}" for what in checker.check(ledger, moment.end)]
    shutil.rmtree(directory)
    return findings


def drawn(cut: Cut, part: float) -> list[str]:
    """The names of a part of the images, which the seed draws."""
    return [name for name in cut.names() if random.Random(f"{cut.seed}/drawn/{name}").random() < part]


def check_share(cut: Cut, directory: Path, part: float, share: int, shares: int) -> list[str]:
    """What is wrong with every `shares`-th of a part of the images. For a process of its own."""
    mine = set(drawn(cut, part)[share::shares])
    return check_images(cut, directory, mine.__contains__)
