"""The images that a power cut could have left of the POSIX disk: plain directories, for each moment before a sync."""

import random
from pathlib import Path
from typing import Iterator

from .posix_journal import operations
from .posix_tree import Directory, File, Survival, Sync, SyncAll, Tree, Write


class PosixMoment:
    """The moment before a sync completes. It can be cut at until the next one is asked for."""

    def __init__(self, number: int, end: int, tree: Tree, sync: Sync | SyncAll):
        numbers = tree.changed() if isinstance(sync, SyncAll) else [sync.node]
        synced = [node for node in map(tree.nodes.get, numbers) if node.changes]
        # So many syncs have completed, and the journal has so many entries.
        self.number = number
        self.end = end
        # A sync that has nothing to do leaves everything as the next one finds it.
        self.is_cut = bool(synced)
        # Of two names, or of two nodes, one may be there without the other, and it is the only moment for that.
        names = sum(len(node.changes) for node in synced if isinstance(node, Directory))
        self.variants = 6 if names > 1 or len(synced) > 1 else 2
        self._synced = synced
        self._tree = tree

    def arriving(self) -> list[bytes]:
        """What is written with the sync."""
        changes = [change for node in self._synced if isinstance(node, File) for _, change in node.changes]
        return [change.data for change in changes if isinstance(change, Write)]

    def cut(self, target: Path, rng: random.Random | None) -> None:
        """Makes a directory of what is durable, and with `rng` of some of what is not."""
        self._tree.write(target, Survival(rng, self.end))


def posix_moments(image: Path, journal: Path) -> Iterator[PosixMoment]:
    """The moments of a life that began as `image`."""
    tree, syncs = Tree.load(image), 0
    for position, operation in enumerate(operations(journal)):
        if isinstance(operation, Sync | SyncAll):
            yield PosixMoment(syncs, position, tree, operation)
            syncs += 1
        tree.apply(position, operation)
