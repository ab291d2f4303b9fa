"""The command line of the power-cut rig."""

import argparse
import os
import random
import shutil
import sys
from pathlib import Path

from . import faults, mounts
from .cut import Cut, check_images
from .filesystems import FILESYSTEMS
from .rig import Rig

FLUSHES = 500


def main() -> int:
    arguments = parse()
    try:
        mounts.require()
        mounts.enter_namespace()
    except mounts.Unable as error:
        print(error, file=sys.stderr)
        return 2
    if arguments.again:
        return report(look_again(arguments.again, arguments.image))
    say(f"seed {arguments.seed} on {arguments.filesystem} (repeat with --seed {arguments.seed})")
    if arguments.faults:
        return report(faults.run(arguments.seed, arguments.faults, say))
    rig = Rig(arguments.seed, arguments.filesystem, arguments.part, tuple(arguments.often), say)
    try:
        if arguments.prove:
            totals = rig.prove(arguments.flushes, arguments.prove)
        else:
            totals = rig.run(arguments.lives, arguments.minutes, arguments.flushes)
    except mounts.Unable as error:
        print(error, file=sys.stderr)
        return 2
    finally:
        rig.close()
    say(f"{totals.lives} lives, {totals.flushes} flushes, {totals.images} images; steps: {totals.steps}")
    if arguments.filesystem == "posix-syncfs":
        say(f"{totals.whole_syncs} of the flushes were syncs of everything")
    return report(totals.findings)


def say(line: str) -> None:
    """Prints a line at once."""
    print(line, flush=True)


def look_again(kept: Path, image: str | None) -> list[str]:
    """What is wrong with the images of a life that was kept, or with the one of that name."""
    directory = mounts.work_directory()
    try:
        return check_images(Cut.kept(kept), directory / "again", lambda name: image in (None, name))
    finally:
        shutil.rmtree(directory)


def report(findings: list[str]) -> int:
    """Prints what was found; the exit status."""
    for finding in findings[:20]:
        print(f"FOUND {finding}")
    print(f"{len(findings)} findings")
    return 1 if findings else 0


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="tests/power_cut/run", description="Cuts the power of a broker, and looks.")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32))
    parser.add_argument("--minutes", type=float, default=1, help="begin no life after that (default 1)")
    parser.add_argument("--lives", type=int, help="run so many lives, however long it takes")
    parser.add_argument("--flushes", type=int, default=FLUSHES, help=f"flushes in a life (default {FLUSHES})")
    on = (
        "what the broker lives on (default ext4); posix is the rig's own, and keeps what POSIX promises and no more;"
        " posix-syncfs has a sync of everything, for brokers that count on it"
    )
    parser.add_argument("--filesystem", choices=sorted(FILESYSTEMS), default="ext4", help=on)
    parser.add_argument("--faults", type=int, help="instead: so many lives on an ext4 whose disk answers EIO")
    parser.add_argument("--part", type=float, default=1, help="look at this part of the images only (default 1)")
    often = "a step that comes more often, by its name in one of the rig's modules: fail_sync, leave_segment"
    parser.add_argument("--often", metavar="STEP", action="append", default=[], help=often)
    prove = "instead: at most so many images of a life that lack a flush, all to be found out"
    parser.add_argument("--prove", type=int, help=prove)
    parser.add_argument("--again", type=Path, metavar="DIR", help="check the images of a life that was kept")
    parser.add_argument("--image", metavar="FLUSH/VARIANT", help="with --again: only this image")
    return parser.parse_args()


if __name__ == "__main__":
    status = main()
    # Threads of clients whose broker is gone would keep the process for a while.
    sys.stdout.flush()
    os._exit(status)
