"""The POSIX disk's process: a file system in memory that logs what is done to it, in order.

    python -m power_cut.posix_daemon MOUNT_POINT IMAGE JOURNAL STATE [DEVICE]

It begins with what lies in the directory IMAGE, appends to JOURNAL, and shares the page STATE with the rig. One request
is served at a time, so the journal's order is that in which things happened, and whoever has an answer finds what he
asked for in the journal. With DEVICE, a file for a block device to be made of, it is asked for syncs of everything too.
"""

import errno
import os
import struct
import sys
import time
from pathlib import Path
from random import Random
from typing import Iterator

from . import fuse
from .fuse import Attributes, Opcode
from .loop import loop_device
from .posix_journal import encoded
from .posix_tree import (
    ROOT, Content, Create, Directory, File, Lose, Operation, Remove, Rename, SetLength, Sync, SyncAll, Tree, Write,
)  # fmt: skip
from .state import DIRECTORIES, FAIL_FLUSHES, FILES, DiskState

SIZE = 128 << 20


class Daemon:
    """Answers the kernel's requests."""

    def __init__(self, image: Path, journal: Path, state: Path):
        self._tree = Tree.load(image)
        self._next = len(self._tree.nodes) + 1
        # The name that each node has had last.
        self._last_names = {ROOT: "", **dict(self._all_names(ROOT))}
        self._journal = os.open(journal, os.O_WRONLY | os.O_APPEND)
        self._state = DiskState.shared(state)
        self.handlers = {
            Opcode.LOOKUP: self._lookup, Opcode.GETATTR: self._getattr, Opcode.SETATTR: self._setattr,
            Opcode.MKDIR: self._mkdir, Opcode.CREATE: self._create, Opcode.UNLINK: self._unlink,
            Opcode.RMDIR: self._rmdir, Opcode.RENAME: self._rename, Opcode.RENAME2: self._rename2,
            Opcode.READ: self._read, Opcode.WRITE: self._write, Opcode.FALLOCATE: self._fallocate,
            Opcode.FSYNC: self._sync, Opcode.FSYNCDIR: self._sync, Opcode.READDIR: self._readdir,
            Opcode.SYNCFS: self._sync_all, Opcode.STATFS: self._statfs, Opcode.DESTROY: lambda _node, _arguments: b"",
        }  # fmt: skip

    def _do(self, operation: Operation) -> None:
        """Logs an operation, does it and counts it: whoever has seen the count finds the entry."""
        os.write(self._journal, encoded(operation))
        self._tree.apply(self._state.position(), operation)
        self._state.count_entry()

    def _all_names(self, directory: int) -> Iterator[tuple[int, str]]:
        for name, node in self._names(directory).items():
            yield node, name
            if isinstance(self._tree.nodes[node], Directory):
                yield from self._all_names(node)

    def _content(self, node: int) -> Content:
        return self._tree.nodes[node].live

    def _names(self, node: int) -> dict[str, int]:
        return self._tree.nodes[node].live

    def _attributes(self, node: int) -> Attributes:
        there = self._tree.nodes[node]
        return Attributes(node, isinstance(there, Directory), there.live.length if isinstance(there, File) else 0)

    def _found(self, directory: int, name: str) -> int:
        node = self._names(directory).get(name)
        if node is None:
            raise OSError(errno.ENOENT, name)
        return node

    def _lookup(self, directory: int, arguments: memoryview) -> bytes:
        return fuse.entry(self._attributes(self._found(directory, *fuse.names(arguments))))

    def _getattr(self, node: int, _arguments: memoryview) -> bytes:
        return fuse.attributes(self._attributes(node))

    def _setattr(self, node: int, arguments: memoryview) -> bytes:
        """Lengths; owners, modes and times are not kept."""
        valid, length = struct.unpack_from("<I12xQ", arguments)
        if valid & fuse.SET_SIZE:
            self._do(SetLength(node, length))
        return fuse.attributes(self._attributes(node))

    def _new(self, directory: int, name: str, is_directory: bool) -> Attributes:
        if name in self._names(directory):
            raise OSError(errno.EEXIST, name)
        node, self._next = self._next, self._next + 1
        self._do(Create(directory, name, node, is_directory))
        self._last_names[node] = name
        return self._attributes(node)

    def _mkdir(self, directory: int, arguments: memoryview) -> bytes:
        return fuse.entry(self._new(directory, *fuse.names(arguments, 8), is_directory=True))

    def _create(self, directory: int, arguments: memoryview) -> bytes:
        return fuse.created(self._new(directory, *fuse.names(arguments, 16), is_directory=False))

    def _unlink(self, directory: int, arguments: memoryview) -> bytes:
        (name,) = fuse.names(arguments)
        self._found(directory, name)
        self._do(Remove(directory, name))
        return b""

    def _rmdir(self, directory: int, arguments: memoryview) -> bytes:
        (name,) = fuse.names(arguments)
        if self._names(self._found(directory, name)):
            raise OSError(errno.ENOTEMPTY, name)
        self._do(Remove(directory, name))
        return b""

    def _rename(self, directory: int, arguments: memoryview) -> bytes:
        return self._renamed(directory, struct.unpack_from("<Q", arguments)[0], 0, *fuse.names(arguments, 8))

    def _rename2(self, directory: int, arguments: memoryview) -> bytes:
        to, flags = struct.unpack_from("<QI", arguments)
        return self._renamed(directory, to, flags, *fuse.names(arguments, 16))

    def _renamed(self, directory: int, to_directory: int, flags: int, name: str, to: str) -> bytes:
        """Within one directory, as on the simulated disk: what a cut between two syncs leaves is nobody's promise."""
        if flags:
            raise OSError(errno.EINVAL, "flags")
        if directory != to_directory:
            raise OSError(errno.EXDEV, name)
        node, there = self._found(directory, name), self._names(directory).get(to)
        if there is not None and isinstance(self._tree.nodes[there], Directory) and self._names(there):
            raise OSError(errno.ENOTEMPTY, to)
        if node != there:
            self._do(Rename(directory, name, to))
            self._last_names[node] = to
        return b""

    def _read(self, node: int, arguments: memoryview) -> bytes:
        _, offset, count = struct.unpack_from("<QQI", arguments)
        return self._content(node).read(offset, count)

    def _write(self, node: int, arguments: memoryview) -> bytes:
        _, offset, count, flags = struct.unpack_from("<QQI12xI", arguments)
        self._do(Write(node, offset, bytes(arguments[40 : 40 + count]), bool(flags & os.O_DIRECT)))
        return fuse.written(count)

    def _fallocate(self, node: int, arguments: memoryview) -> bytes:
        _, offset, length, mode = struct.unpack_from("<QQQI", arguments)
        if mode:
            raise OSError(errno.EOPNOTSUPP, "mode")
        if offset + length > self._content(node).length:
            self._do(SetLength(node, offset + length))
        return b""

    def _sync(self, node: int, _arguments: memoryview) -> bytes:
        time.sleep(self._state.flush_delay())
        if self._state.is_killing() or (self._tree.nodes[node].changes and self._kills(node)):
            # Nobody lives to hear it.
            raise OSError(errno.EIO, "killed")
        if self._state.is_to_fail(FAIL_FLUSHES, self._last_names.get(node, "")):
            # Names that did not arrive stay what they are, in doubt.
            if isinstance(self._tree.nodes[node], File):
                self._do(Lose(node, self._state.position()))
            raise OSError(errno.EIO, "told to fail")
        self._do(Sync(node))
        self._state.count_flush()
        return b""

    def _sync_all(self, _node: int, _arguments: memoryview) -> bytes:
        """Syncs everything, in no order that anybody could count on. The time that it takes has passed.

        What came in meanwhile is done with the rest, which is more than is promised.
        """
        if self._state.is_killing():
            raise OSError(errno.EIO, "killed")
        changed = self._tree.changed()
        Random(self._state.position()).shuffle(changed)
        for done, node in enumerate(changed):
            if self._kills(node):
                for before in changed[:done]:
                    self._do(Sync(before))
                raise OSError(errno.EIO, "killed")
        if any(self._state.is_to_fail(FAIL_FLUSHES, name) for name in map(self._last_names.get, changed or [ROOT])):
            # Of which file something was lost nobody is told.
            for node in changed:
                if isinstance(self._tree.nodes[node], File):
                    self._do(Lose(node, self._state.position()))
            raise OSError(errno.EIO, "told to fail")
        self._do(SyncAll())
        self._state.count_flush()
        self._state.count_whole_sync()
        return b""

    def is_idle(self, request: fuse.Request) -> bool:
        """Whether it is a sync of everything that somebody else has asked for, who syncs all disks that there are."""
        return request.opcode == Opcode.SYNCFS and not self._is_of_the_rig(request.thread)

    def _is_of_the_rig(self, thread: int) -> bool:
        """Whether it is of the process that has started this one, or of another that it has started."""
        try:
            status = Path(f"/proc/{thread}/status").read_text()
        except OSError:
            # Nobody lives to hear the answer.
            return False
        fields = dict(line.split(":", 1) for line in status.splitlines())
        return os.getppid() in (int(fields["Tgid"]), int(fields["PPid"]))

    def put_off(self, opcode: int) -> float:
        """For how long a request waits: a sync of everything takes its time, in which others may write and sync."""
        return self._state.ask_whole_sync() if opcode == Opcode.SYNCFS else 0

    def _kills(self, node: int) -> bool:
        there, names = self._tree.nodes[node], [self._last_names.get(node, "")]
        if isinstance(there, File):
            return self._state.kill_if_told(FILES, names)
        for _, gone, come in there.changes:
            names += [gone] if gone else []
            names += [come[0]] if come else []
        return self._state.kill_if_told(DIRECTORIES, names)

    def _readdir(self, node: int, arguments: memoryview) -> bytes:
        entries = [(name, self._attributes(child)) for name, child in self._names(node).items()]
        return fuse.listing(entries, arguments)

    def _statfs(self, _node: int, _arguments: memoryview) -> bytes:
        return fuse.statfs(SIZE, max(0, SIZE - self._used(self._tree.nodes[ROOT])))

    def _used(self, directory: Directory) -> int:
        used = 0
        for node in map(self._tree.nodes.get, directory.live.values()):
            used += self._used(node) if isinstance(node, Directory) else -(-node.live.length // 4096) * 4096
        return used


def main() -> None:
    mount_point, image, journal, state, *device_file = sys.argv[1:]
    daemon = Daemon(Path(image), Path(journal), Path(state))
    if device_file:
        block_device, opened = loop_device(Path(*device_file))
        requests = fuse.mount(mount_point, block_device)
        # It is the mount's now.
        os.close(opened)
    else:
        requests = fuse.mount(mount_point)
    fuse.serve(requests, daemon.handlers, daemon.put_off, daemon.is_idle)


if __name__ == "__main__":
    main()
