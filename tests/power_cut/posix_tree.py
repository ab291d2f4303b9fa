"""Files and directories as processes see them, what of them is durable, and what a power cut makes of the rest.

The rules are those of the simulated disk (log-core/src/storage/sim/node.rs), which promises no more than POSIX, and
one more: a small file may be torn within a sector.

* Bytes and the length of a file are durable with a sync of the file. Until then each page, each sector, or of a small
  file each few bytes, is on the disk as it was at a moment of its own since the last sync, and the length at another.
* A name is durable with a sync of the directory it is in. Until then any part of the directory's changes may have
  arrived; some of the disks have a journal, on which that part is the beginning.
* To rename is one change: a file keeps its old name or has its new one, and never none or both.
* A sync of a file says nothing of its name, and one of a directory nothing of what is in its files.
* A sync of everything is one of each file and each directory. A cut or a kill in it leaves any of these done.
* A sync of a file that fails loses some of what it was to write, and the rest passes for written: processes see it, and
  the next sync does not write it. A page that had never been written before may be beyond the cache's reach then.
"""

import os
from pathlib import Path
from random import Random
from typing import Iterator, NamedTuple

from .image import PAGE, SECTOR

ROOT = 1

# No sector is promised to be written as a whole. That it is not is tried where it costs little.
WORD = 16
SMALL_BYTES = PAGE + SECTOR


class Write(NamedTuple):
    """Bytes of a file, through the page cache or past it."""

    node: int
    offset: int
    data: bytes
    is_direct: bool = False


class SetLength(NamedTuple):
    """A file is cut short, or grows by zeros."""

    node: int
    length: int


class Create(NamedTuple):
    """A new file or directory, under a name in `node`."""

    node: int
    name: str
    child: int
    is_directory: bool


class Rename(NamedTuple):
    """Another name in the same directory; what had that is gone."""

    node: int
    name: str
    to: str


class Remove(NamedTuple):
    """A name goes."""

    node: int
    name: str


class Sync(NamedTuple):
    """A file or a directory becomes durable."""

    node: int


class SyncAll(NamedTuple):
    """All files and directories become durable."""

    node: int = ROOT


class Lose(NamedTuple):
    """A sync of a file fails, and a draw with this seed decides what of it arrives."""

    node: int
    seed: int


Operation = Write | SetLength | Create | Rename | Remove | Sync | SyncAll | Lose


class Content:
    """The bytes of a file. Zeros that were never written are not stored."""

    def __init__(self, stored: bytes = b"", length: int = 0):
        self.stored = bytearray(stored)
        self.length = length

    def copy(self) -> "Content":
        """Another one that is alike."""
        return Content(self.stored, self.length)

    def read(self, offset: int, count: int) -> bytes:
        """What is there, up to the end of the file."""
        count = max(0, min(count, self.length - offset))
        return bytes(self.stored[offset : offset + count]).ljust(count, b"\0")

    def store(self, offset: int, data: bytes) -> None:
        """Writes, and grows as it has to."""
        if len(self.stored) < offset:
            self.stored.extend(bytes(offset - len(self.stored)))
        self.stored[offset : offset + len(data)] = data
        self.length = max(self.length, offset + len(data))

    def set_length(self, length: int) -> None:
        """Cuts it short, or lets it grow by zeros."""
        del self.stored[length:]
        self.length = length

    def apply(self, change: Write | SetLength) -> None:
        """Makes a change."""
        if isinstance(change, Write):
            self.store(change.offset, change.data)
        else:
            self.set_length(change.length)

    def apply_within(self, change: Write | SetLength, start: int, end: int) -> None:
        """Makes the part of a change that falls between two places. The length only grows."""
        if isinstance(change, Write):
            begin, stop = max(start, change.offset), min(end, change.offset + len(change.data))
            if begin < stop:
                self.store(begin, change.data[begin - change.offset : stop - change.offset])
        else:
            begin, stop = max(start, change.length), min(end, len(self.stored))
            if begin < stop:
                self.stored[begin:stop] = bytes(stop - begin)


class File:
    """A file: `live` is what processes see, and the changes make that of what is durable."""

    def __init__(self, content: Content | None = None):
        self.live = content or Content()
        self.durable = self.live.copy()
        # Each with its position in the journal, the oldest first.
        self.changes: list[tuple[int, Write | SetLength]] = []
        # Pages whose first write has failed: what is written to them through the cache never arrives.
        self.stuck: set[int] = set()

    def change(self, position: int, change: Write | SetLength) -> None:
        """Makes a change that is not durable yet."""
        self.live.apply(change)
        self.changes.append((position, change))
        if isinstance(change, SetLength):
            # Blocks that are given back, and with them what was wrong with them.
            self.stuck = {page for page in self.stuck if page * PAGE < change.length}
        elif change.is_direct:
            self.stuck -= set(range(change.offset // PAGE, -(-(change.offset + len(change.data)) // PAGE)))

    def sync(self) -> None:
        """Everything is durable that can be."""
        for _, change in self.changes:
            self.durable.apply(change)
        self.changes.clear()
        self._blank_stuck(self.durable)

    def lose(self, rng: Random) -> None:
        """A sync fails: some of it has arrived, and the rest counts as written from now on."""
        if self.changes:
            self.durable = self._torn(rng)
            self.changes.clear()
        self.durable.set_length(self.live.length)
        self._blank_stuck(self.durable)
        for page in range(-(-len(self.live.stored) // PAGE)):
            place = slice(page * PAGE, (page + 1) * PAGE)
            if any(self.live.stored[place]) and not any(self.durable.stored[place]) and rng.random() < 0.5:
                self.stuck.add(page)

    def left(self, survival: "Survival") -> Content:
        """What is there after a cut."""
        if survival.is_anything and self.changes:
            content = self._torn(survival.rng)
        else:
            content = self.durable.copy()
            for position, change in self.changes:
                if position < survival.before:
                    content.apply(change)
        self._blank_stuck(content)
        return content

    def _blank_stuck(self, content: Content) -> None:
        for page in self.stuck:
            start, end = page * PAGE, min((page + 1) * PAGE, len(content.stored))
            if start < end:
                content.stored[start:end] = bytes(end - start)

    def _torn(self, rng: Random) -> Content:
        changes = [change for _, change in self.changes]
        length, cuts = self.durable.length, []
        for number, change in enumerate(changes[: _moment(len(changes), rng)], 1):
            if isinstance(change, Write):
                length = max(length, change.offset + len(change.data))
            else:
                if change.length < length:
                    cuts.append((number, -(-change.length // PAGE) * PAGE))
                length = change.length
        torn = self.durable.copy()
        end = max(len(torn.stored), *(at.offset + len(at.data) for at in changes if isinstance(at, Write)), 0)
        unit = rng.choice([SECTOR, PAGE] if end > SMALL_BYTES else [WORD, SECTOR, PAGE])
        for start in range(0, end, unit):
            # Blocks that were given back when the file was cut short come back empty.
            freed = max((number for number, end in cuts if end <= start), default=0)
            for change in changes[: max(_moment(len(changes), rng), freed)]:
                torn.apply_within(change, start, start + unit)
        torn.set_length(length)
        return torn


class Directory:
    """A directory: names, each with the node it belongs to."""

    def __init__(self):
        self.live: dict[str, int] = {}
        self.durable: dict[str, int] = {}
        # Each with its position in the journal: the name that goes, and the one that comes, with its node.
        self.changes: list[tuple[int, str | None, tuple[str, int] | None]] = []

    def change(self, position: int, gone: str | None, come: tuple[str, int] | None) -> None:
        """Makes a change that is not durable yet."""
        _change_names(self.live, gone, come)
        self.changes.append((position, gone, come))

    def sync(self) -> None:
        """All names are durable."""
        self.durable = dict(self.live)
        self.changes.clear()

    def left(self, survival: "Survival") -> dict[str, int]:
        """The names that are there after a cut."""
        names = dict(self.durable)
        arrives = [position < survival.before for position, _, _ in self.changes]
        if survival.is_anything:
            arrives = self._arriving(survival.rng)
        for (_, gone, come), there in zip(self.changes, arrives):
            if there:
                _change_names(names, gone, come)
        return names

    def _arriving(self, rng: Random) -> list[bool]:
        """Which of the changes are on the disk that are not durable."""
        count = len(self.changes)
        way = rng.choice(["journal", "journal", "each", "one", "all but one", "by kind"])
        if way == "journal":
            arrived = _moment(count, rng)
            return [number < arrived for number in range(count)]
        if way in ("one", "all but one"):
            one = rng.randrange(max(1, count))
            return [(number == one) == (way == "one") for number in range(count)]
        if way == "by kind":
            # Creations, renamings and removals: of each all or none.
            arrived = {kind: rng.random() < 0.5 for kind in (Create, Rename, Remove)}
            return [arrived[_kind(gone, come)] for _, gone, come in self.changes]
        return [rng.random() < 0.5 for _ in range(count)]


class Survival:
    """Which of the changes that are not durable have reached the disk: those before a position, or any."""

    def __init__(self, rng: Random | None, position: int):
        """For a cut at a position: nothing survives without `rng`, and else what it draws."""
        self.rng, self.before, self.is_anything = rng, 0, False
        if rng is None:
            return
        way = rng.randrange(7)
        if way == 0:
            self.before = position
        elif way == 1:
            self.before = rng.randrange(position + 1)
        else:
            self.is_anything = True


class Tree:
    """All of it. What has lost its name stays, since a cut may bring the name back, or a process have it open."""

    def __init__(self):
        self.nodes: dict[int, File | Directory] = {ROOT: Directory()}

    @staticmethod
    def load(directory: Path) -> "Tree":
        """What lies in a directory, all of it durable. Nodes have the same numbers each time."""
        tree = Tree()
        tree._load(tree.nodes[ROOT], directory)
        return tree

    def _load(self, directory: Directory, path: Path) -> None:
        for entry in sorted(path.iterdir()):
            number = len(self.nodes) + 1
            directory.live[entry.name] = number
            if entry.is_dir():
                self.nodes[number] = Directory()
                self._load(self.nodes[number], entry)
            else:
                data = entry.read_bytes()
                self.nodes[number] = File(Content(data, len(data)))
        directory.sync()

    def apply(self, position: int, operation: Operation) -> None:
        """Does what stands at a position of the journal."""
        node = self.nodes[operation.node]
        match operation:
            case Write() | SetLength():
                node.change(position, operation)
            case Create(_, name, child, is_directory):
                self.nodes[child] = Directory() if is_directory else File()
                node.change(position, None, (name, child))
            case Rename(_, name, to):
                node.change(position, name, (to, node.live[name]))
            case Remove(_, name):
                node.change(position, name, None)
            case Sync():
                node.sync()
            case SyncAll():
                for each in self.changed():
                    self.nodes[each].sync()
            case Lose(_, seed):
                node.lose(Random(seed))

    def changed(self) -> list[int]:
        """The nodes that are not durable as they are."""
        return [number for number, node in self.nodes.items() if node.changes]

    def left(self, survival: Survival) -> Iterator[tuple[Path, Content | None]]:
        """What a cut leaves that has a name: paths, each after its directory's, with None for a directory."""
        yield from self._left(ROOT, Path(), survival)

    def _left(self, number: int, path: Path, survival: Survival) -> Iterator[tuple[Path, Content | None]]:
        for name, child in sorted(self.nodes[number].left(survival).items()):
            node = self.nodes[child]
            if isinstance(node, File):
                yield path / name, node.left(survival)
            else:
                yield path / name, None
                yield from self._left(child, path / name, survival)

    def write(self, target: Path, survival: Survival) -> None:
        """Makes a directory of what a cut leaves."""
        target.mkdir()
        for path, content in self.left(survival):
            if content is None:
                (target / path).mkdir()
                continue
            with (target / path).open("wb") as file:
                file.write(content.stored)
                os.truncate(file.fileno(), content.length)


def _kind(gone: str | None, come: tuple[str, int] | None) -> type:
    if gone is None:
        return Create
    return Remove if come is None else Rename


def _change_names(names: dict[str, int], gone: str | None, come: tuple[str, int] | None) -> None:
    names.pop(gone, None)
    if come is not None:
        # Of two renamings the second may have arrived alone, and a file still has one name.
        for name in [name for name, node in names.items() if node == come[1]]:
            del names[name]
        names[come[0]] = come[1]


def _moment(count: int, rng: Random) -> int:
    """How many of so many changes had been made. Before the first and after the last are as likely as all between."""
    return [0, count, rng.randrange(count + 1)][rng.randrange(3)]
