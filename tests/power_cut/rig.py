"""Lives of a broker, one power cut after the other, and every image that each cut could have left."""

import pickle
import random
import shutil
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from typing import Callable

from harness.broker import end_with_parent

from . import mounts
from .check import DATA_DIR
from .cut import Cut, check_share, drawn
from .filesystems import Moment
from .ledger import Ledger
from .proof import unnoticed_losses
from .tools import behind, torn
from .workload import Life

WORKERS = 2
# Lives on one disk, before the next one is formatted.
LIVES_A_DISK = 4
# About so many syncs follow from what a life does last.
HURRY_MOMENTS = 12
# A life in which hardly a record is acknowledged is followed by another until there are so many proofs.
PROOFS_MIN = 5
# So many images of a cut are looked at for the next life to begin with, and so many if the life has left it something.
BEGINNINGS, BEGINNINGS_LEFT = 8, 30


@dataclass
class Totals:
    """What a run has come to."""

    lives: int = 0
    flushes: int = 0
    whole_syncs: int = 0
    images: int = 0
    steps: dict[str, int] = field(default_factory=dict)
    findings: list[str] = field(default_factory=list)


class Rig:
    """Runs lives, and checks the images of each before the next. All but the timing follows from the seed."""

    def __init__(self, seed: int, filesystem: str, part: float, often: tuple[str, ...], say: Callable[[str], None]):
        self.seed = seed
        self.filesystem = filesystem
        # How many of the images are looked at.
        self.part = part
        self.often = often
        self.totals = Totals()
        self._say = say
        self._directory = mounts.work_directory()
        self._pool = ProcessPoolExecutor(WORKERS, get_context("spawn"), end_with_parent)

    def run(self, lives: int | None, minutes: float, flushes: int) -> Totals:
        """Runs so many lives, or if that is None as many as begin within the time. Stops at a finding."""
        began, cut = time.monotonic(), None
        while not self.totals.findings:
            number = self.totals.lives + 1
            if number > lives if lives is not None else time.monotonic() - began >= minutes * 60:
                break
            cut = self._live(number, cut if (number - 1) % LIVES_A_DISK else None, flushes)
            self._check(number, cut)
        return self.totals

    def prove(self, flushes: int, images: int) -> Totals:
        """Lives, and of each at most so many images on a disk that lost a flush: each has to be a finding."""
        tried, unnoticed = 0, []
        while tried < min(images, PROOFS_MIN) and not self.totals.findings:
            cut = self._live(self.totals.lives + 1, None, flushes)
            more, passed = unnoticed_losses(cut, self._directory / "proof", images)
            shutil.rmtree(cut.image.parent)
            tried += more
            unnoticed += passed
        self.totals.images = tried
        self.totals.findings += unnoticed
        self._say(f"{tried} images lack an acknowledged record, {tried - len(unnoticed)} of them are found out")
        return self.totals

    def close(self) -> None:
        """Removes everything."""
        self._pool.shutdown(cancel_futures=True)
        shutil.rmtree(self._directory, ignore_errors=True)

    def _live(self, number: int, previous: Cut | None, flushes: int) -> Cut:
        """Lives until the disk has seen so many flushes, on a new disk or on what a cut in the life before has left."""
        rng = random.Random(f"{self.seed}/{number}")
        directory = self._directory / f"life-{number}"
        directory.mkdir()
        cut = Cut.of(f"{self.seed}/{number}", self.filesystem, directory)
        if previous is None:
            cut.filesystem.format(cut.image)
            ledger = Ledger()
        else:
            ledger = _cut_somewhere(previous, cut.image, rng)
            shutil.rmtree(previous.image.parent)
        disk = cut.filesystem.disk(directory, cut.image, cut.journal)
        life = Life(number, rng, disk, ledger, directory / "broker", self.often)
        try:
            life.run(flushes)
            life.last_step()
        except Exception as error:
            self.totals.findings.append(f"life {number}: {error!r}\n{life.broker.log_tail(30)}")
        finally:
            life.end()
            disk.close()
        cut.ledger_file.write_bytes(pickle.dumps(life.ledger))
        self.totals.lives += 1
        self.totals.flushes += disk.state.flushes()
        self.totals.whole_syncs += disk.state.whole_syncs()
        for step, count in life.steps.items():
            self.totals.steps[step] = self.totals.steps.get(step, 0) + count
        return cut

    def _check(self, number: int, cut: Cut) -> None:
        began = time.monotonic()
        results = [
            self._pool.submit(check_share, cut, self._directory / f"worker-{share}", self.part, share, WORKERS)
            for share in range(WORKERS)
        ]
        findings = [finding for result in results for finding in result.result()]
        images = len(drawn(cut, self.part))
        self.totals.images += images
        self.totals.findings += findings
        self._say(f"life {number}: {images} images in {time.monotonic() - began:.0f} s, {len(findings)} findings")
        if self.totals.findings:
            self._say(f"to look at it again: tests/power_cut/run --again {cut.keep()}")


def _cut_somewhere(previous: Cut, target: Path, rng: random.Random) -> Ledger:
    """The disk and the promises that a life begins with: those of some cut late in the one before.

    Of some images of that cut it is the one that a start has most to remove of, of which there are few.
    """
    ends, ledger = [moment.end for moment in previous.moments()], previous.ledger()
    count = len(ends)
    since_left = sum(end >= ledger.left_at for end in ends) if ledger.left_at is not None else 0
    # The end of a life has most in flight.
    first = count - since_left if since_left else max(0, rng.choice([count * 3 // 4, count - HURRY_MOMENTS]))
    chosen = rng.randrange(first, count)
    draws = [rng.randrange(2**32) for _ in range(BEGINNINGS_LEFT if since_left else BEGINNINGS)]
    with closing(previous.moments()) as moments:
        moment = next(islice(moments, chosen, None))
        moment.cut(target, random.Random(max(draws, key=lambda draw: _lost(previous, moment, draw, target.parent))))
        return ledger.carried_over(moment.end)


def _lost(cut: Cut, moment: Moment, draw: int, directory: Path) -> tuple[int, int]:
    """How many segments lie behind torn tails, and how many of these there are, in what a seed draws of a moment."""
    image, mount_point = directory / "beginning", directory / "beginning-mnt"
    moment.cut(image, random.Random(draw))
    with cut.filesystem.opened(image, mount_point):
        tails = torn(mount_point / DATA_DIR)
        return behind(mount_point / DATA_DIR, tails), len(tails)
