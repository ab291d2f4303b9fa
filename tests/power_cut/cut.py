"""A life that is over: its files, and every image that a power cut in it could have left."""

import pickle
import random
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Callable

from harness.broker import REPOSITORY

from . import mounts
from .check import Checker
from .image import DurableImage, Piece, some_of
from .journal import Span, spans
from .ledger import Ledger
from .workload import settings

# Images of each flush: what was durable alone, and with some of what was in flight.
VARIANTS = 2
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
    image: Path
    journal: Path
    ledger_file: Path

    @staticmethod
    def of(seed: str, directory: Path) -> "Cut":
        """The life in a directory."""
        return Cut(seed, directory / "image", directory / "journal", directory / "ledger")

    @staticmethod
    def kept(directory: Path) -> "Cut":
        """A life that `keep` has put there."""
        return Cut.of((directory / "seed").read_text(), directory)

    def keep(self) -> Path:
        """Puts the files where they outlast the rig."""
        directory = KEPT / self.seed.replace("/", "-")
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)
        mounts.copy_sparse(self.image, directory / "image")
        shutil.copy(self.journal, directory / "journal")
        shutil.copy(self.ledger_file, directory / "ledger")
        (directory / "seed").write_text(self.seed)
        return directory

    def ledger(self) -> Ledger:
        """What was promised."""
        return pickle.loads(self.ledger_file.read_bytes())

    def names(self) -> list[str]:
        """The images' names, FLUSH/VARIANT: every flush with something in flight; one without looks like the next."""
        flushes = [span.flushes for span in spans(self.journal) if span.writes]
        return [f"{flush}/{variant}" for flush in flushes for variant in range(VARIANTS)]

    def arrived(self, span: Span, variant: int) -> list[Piece]:
        """What reached the disk of what was in flight. The image's name decides, whatever other images there are."""
        if variant == 0:
            return []
        return some_of(span.writes, random.Random(f"{self.seed}/{span.flushes}/{variant}"))


def check_images(cut: Cut, directory: Path, wanted: Callable[[str], bool]) -> list[str]:
    """What is wrong with the images whose names are wanted. Works in `directory`, which it makes and removes."""
    checker = Checker(directory, BROKER_SETTINGS)
    durable = DurableImage(directory / "durable", cut.image)
    ledger, findings = cut.ledger(), []
    for span in spans(cut.journal):
        for variant in range(VARIANTS) if span.writes else ():
            name = f"{span.flushes}/{variant}"
            if wanted(name) and len(findings) < FINDINGS_MAX:
                durable.cut(checker.image, cut.arrived(span, variant))
                findings += [f"image {name} of {cut.seed}: {what}" for what in checker.check(ledger, span.end)]
        durable.flush(span)
    shutil.rmtree(directory)
    return findings


def check_share(cut: Cut, directory: Path, share: int, shares: int) -> list[str]:
    """What is wrong with every `shares`-th image. For a process of its own."""
    mine = set(cut.names()[share::shares])
    return check_images(cut, directory, mine.__contains__)
