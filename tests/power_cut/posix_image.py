"""The images that a power cut could have left of the POSIX disk: plain directories, for each moment before a sync."""

import random
from pathlib import Path
from typing import Iterator

from .posix_journal import operations
from .posix_tree import Directory, File, Survival, Sync, Tree, Write


class PosixMoment:
    """The moment before a sync completes. It can be cut at until the next one is asked for."""

    def __init__(self, number: int, end: int, tree: Tree, node: int):
        synced = tree.nodes[node]
        # So many syncs have completed, and the journal has so many entries.
        self.number = number
        self.end = end
        # A sync that has nothing to do leaves everything as the next one finds it.
        self.is_cut = bool(synced.changes)
        # Of two names one may be there without the other, and it is the only moment for that.
        self.variants = 6 if isinstance(synced, Directory) and len(synced.changes) > 1 else 2
        self._synced = synced
        self._tree = tree

    def arriving(self) -> list[bytes]:
        """What is written with the sync."""
        if not isinstance(self._synced, File):
            return []
        return [change.data for _, change in self._synced.changes if isinstance(change, Write)]

    def cut(self, target: Path, rng: random.Random | None) -> None:
        """Makes a directory of what is durable, and with `rng` of some of what is not."""
        self._tree.write(target, Survival(rng, self.end))


def posix_moments(image: Path, journal: Path) -> Iterator[PosixMoment]:
    """The moments of a life that began as `image`."""
    tree, syncs = Tree.load(image), 0
    for position, operation in enumerate(operations(journal)):
        if isinstance(operation, Sync):
            yield PosixMoment(syncs, position, tree, operation.node)
            syncs += 1
        tree.apply(position, operation)
