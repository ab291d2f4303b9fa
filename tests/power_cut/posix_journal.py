"""The journal of the POSIX disk: every operation in order, as the daemon writes it and the images are made from it.

It is a list of entries:

    | at | bytes | field  |                                                                                 |
    |---:|------:|--------|---------------------------------------------------------------------------------|
    |  0 |     1 | kind   | 1 write, 2 length, 3 new file, 4 new directory, 5 rename, 6 remove, 7 sync,      |
    |    |       |        | 8 sync that failed, 9 write past the page cache, 10 sync of everything          |
    |  1 |     3 |        | 0                                                                               |
    |  4 |     4 | length | bytes of data                                                                   |
    |  8 |     8 | node   | what is changed: a file, or the directory that a name is in                     |
    | 16 |     8 | number | 1, 9: where it is written; 2: how long the file is; 3, 4: the new node;          |
    |    |       |        | 8: the seed of what is lost; else 0                                             |
    | 24 |     … | data   | 1, 9: the bytes; 3, 4, 6: the name; 5: the old name, a zero byte, the new name  |
"""

import mmap
import struct
from pathlib import Path
from typing import Iterator

from .posix_tree import Create, Lose, Operation, Remove, Rename, SetLength, Sync, SyncAll, Write

_ENTRY = struct.Struct("<BxxxIQQ")
_WRITE, _LENGTH, _FILE, _DIRECTORY, _RENAME, _REMOVE, _SYNC, _LOSE, _DIRECT_WRITE, _SYNC_ALL = range(1, 11)


def encoded(operation: Operation) -> bytes:
    """The entry of an operation."""
    match operation:
        case Write(node, offset, data, is_direct):
            kind, number = _DIRECT_WRITE if is_direct else _WRITE, offset
        case SetLength(node, length):
            kind, number, data = _LENGTH, length, b""
        case Create(node, name, child, is_directory):
            kind, number, data = _DIRECTORY if is_directory else _FILE, child, name.encode()
        case Rename(node, name, to):
            kind, number, data = _RENAME, 0, f"{name}\0{to}".encode()
        case Remove(node, name):
            kind, number, data = _REMOVE, 0, name.encode()
        case Sync(node):
            kind, number, data = _SYNC, 0, b""
        case SyncAll(node):
            kind, number, data = _SYNC_ALL, 0, b""
        case Lose(node, seed):
            kind, number, data = _LOSE, seed, b""
    return _ENTRY.pack(kind, len(data), node, number) + data


def operations(path: Path) -> Iterator[Operation]:
    """What a journal holds. One may stand at its end that was not written to the end; that is left out."""
    if path.stat().st_size == 0:
        return
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as entries:
        at = 0
        while at + _ENTRY.size <= len(entries):
            kind, length, node, number = _ENTRY.unpack_from(entries, at)
            at += _ENTRY.size + length
            if at > len(entries):
                return
            yield _decoded(kind, node, number, entries[at - length : at])


def _decoded(kind: int, node: int, number: int, data: bytes) -> Operation:
    if kind in (_WRITE, _DIRECT_WRITE):
        return Write(node, number, data, kind == _DIRECT_WRITE)
    if kind == _LENGTH:
        return SetLength(node, number)
    if kind in (_FILE, _DIRECTORY):
        return Create(node, data.decode(), number, kind == _DIRECTORY)
    if kind == _RENAME:
        return Rename(node, *data.decode().split("\0"))
    if kind == _REMOVE:
        return Remove(node, data.decode())
    if kind == _LOSE:
        return Lose(node, number)
    if kind == _SYNC_ALL:
        return SyncAll(node)
    assert kind == _SYNC, f"an entry is of kind {kind}"
    return Sync(node)
