"""The kernel's side of a file system in user space: requests from /dev/fuse, and answers, by number of the node.

As in include/uapi/linux/fuse.h. The library that is usual for it, libfuse, names files by their paths, and knows none
for one that is open and has been removed, so a daemon behind it cannot tell which one is cut short. Nor does what there
is of it for Python see how a rename is meant.

Request: | length 4 | opcode 4 | unique 8 | node 8 | uid 4 | gid 4 | pid 4 | 0 4 | arguments … |
Answer:  | length 4 | -errno 4 | unique 8 | … |
"""

import ctypes
import errno
import os
import select
import stat
import struct
import time
from collections import deque
from enum import IntEnum
from typing import Callable, Iterator, NamedTuple

_REQUEST = struct.Struct("<IIQQIIIxxxx")
_ANSWER = struct.Struct("<IiQ")
_ATTRIBUTES = struct.Struct("<QQQQQQIIIIIIIIII")
_ENTRY = struct.Struct("<QQQQII")
_VALID = struct.Struct("<QII")
_OPENED = struct.Struct("<QII")
_STATFS = struct.Struct("<QQQQQIIII24x")
_DIRENT = struct.Struct("<QQII")
_INIT = struct.Struct("<IIIIHHIIHHI28x")

# The version that is spoken here; newer kernels come down to it.
_MAJOR, _MINOR = 7, 31
_WRITE_BYTES_MAX = 1 << 20
_READ_BYTES = _WRITE_BYTES_MAX + 8192
_BLOCK = 4096
# Nothing changes but through the kernel, so it may believe for ever what it was told: seconds.
_VALID_S = 1 << 30

# Capabilities: what is asked of the kernel. Not FUSE_WRITEBACK_CACHE: every write arrives at once, and what is stored
# through a map before the sync of its file. With FUSE_EXPLICIT_INVAL_DATA the kernel drops no pages by itself.
_ASYNC_READ, _BIG_WRITES, _MAX_PAGES, _EXPLICIT_INVAL_DATA = 1 << 0, 1 << 5, 1 << 22, 1 << 25
_KEEP_CACHE = 1 << 1
SET_SIZE = 1 << 3


class Opcode(IntEnum):
    """What a request asks for. Any that is not here is answered with ENOSYS."""

    LOOKUP = 1
    FORGET = 2
    GETATTR = 3
    SETATTR = 4
    MKDIR = 9
    UNLINK = 10
    RMDIR = 11
    RENAME = 12
    READ = 15
    WRITE = 16
    STATFS = 17
    FSYNC = 20
    INIT = 26
    READDIR = 28
    FSYNCDIR = 30
    CREATE = 35
    INTERRUPT = 36
    DESTROY = 38
    BATCH_FORGET = 42
    FALLOCATE = 43
    RENAME2 = 45
    SYNCFS = 50


_UNANSWERED = {Opcode.FORGET, Opcode.BATCH_FORGET, Opcode.INTERRUPT}


class Attributes(NamedTuple):
    """What stat shows of a node."""

    node: int
    is_directory: bool
    length: int


def mount(at: str, block_device: str | None = None) -> int:
    """Mounts a file system on a directory; the descriptor that its requests come from. To be done by root.

    With a block device, of which nothing is read, the kernel passes `syncfs` on, and `sync` of whoever calls that.
    """
    # What can be read may be gone before it is read: whoever asked has been killed.
    device = os.open("/dev/fuse", os.O_RDWR | os.O_NONBLOCK)
    options = f"fd={device},rootmode={stat.S_IFDIR:o},user_id=0,group_id=0"
    source, kind = "posix", "fuse"
    if block_device:
        options += f",blksize={_BLOCK}"
        source, kind = block_device, "fuseblk"
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(source.encode(), at.encode(), kind.encode(), 0, options.encode()) != 0:
        raise OSError(ctypes.get_errno(), f"mount: {os.strerror(ctypes.get_errno())}")
    return device


class Request(NamedTuple):
    """A request, how its answer is told from others, and the thread that asks."""

    opcode: int
    unique: int
    thread: int
    node: int
    arguments: memoryview


def serve(
    device: int,
    handlers: dict[Opcode, Callable[[int, memoryview], bytes]],
    put_off: Callable[[int], float] = lambda opcode: 0,
    is_idle: Callable[[Request], bool] = lambda request: False,
) -> None:
    """Answers one request after the other until the file system is unmounted.

    A handler gets the node and the arguments, and gives the answer's bytes or raises OSError. A request of a kind that
    is put off waits for so many seconds, in which others are answered. To one that is idle nothing is done, and the answer
    is that all is well.
    """
    handlers = {Opcode.INIT: _init, **handlers}
    waiting: deque[tuple[float, Request]] = deque()
    for request in _requests(device, lambda: waiting[0][0] if waiting else None):
        if request is None:
            _answer(device, handlers, waiting.popleft()[1])
        elif is_idle(request):
            _answer(device, {Opcode(request.opcode): lambda _node, _arguments: b""}, request)
        elif seconds := put_off(request.opcode):
            waiting.append((time.monotonic() + seconds, request._replace(arguments=request.arguments.tobytes())))
        else:
            _answer(device, handlers, request)


def _requests(device: int, until: Callable[[], float | None]) -> Iterator[Request | None]:
    """What is asked for, and None whenever it is so late. A request's arguments are there until the next one comes."""
    buffer = bytearray(_READ_BYTES)
    while True:
        due = until()
        left = None if due is None else due - time.monotonic()
        if (left is not None and left <= 0) or not select.select([device], [], [], left)[0]:
            yield None
            continue
        try:
            length = os.readv(device, [buffer])
        except OSError as error:
            if error.errno == errno.ENODEV:
                return
            # The request was interrupted before it was read, or a signal came.
            if error.errno in (errno.ENOENT, errno.EINTR, errno.EAGAIN):
                continue
            raise
        _, opcode, unique, node, _, _, thread = _REQUEST.unpack_from(buffer)
        if opcode not in _UNANSWERED:
            yield Request(opcode, unique, thread, node, memoryview(buffer)[_REQUEST.size : length])


def _answer(device: int, handlers: dict[Opcode, Callable[[int, memoryview], bytes]], request: Request) -> None:
    try:
        handler = handlers.get(request.opcode)
        if handler is None:
            raise OSError(errno.ENOSYS, "")
        status, body = 0, handler(request.node, request.arguments)
    except OSError as error:
        status, body = -error.errno, b""
    try:
        os.writev(device, [_ANSWER.pack(_ANSWER.size + len(body), status, request.unique), body])
    except OSError as error:
        # Whoever asked is gone.
        if error.errno != errno.ENOENT:
            raise


def _init(_node: int, arguments: memoryview) -> bytes:
    _, _, readahead, offered = struct.unpack_from("<IIII", arguments)
    wanted = _ASYNC_READ | _BIG_WRITES | _MAX_PAGES | _EXPLICIT_INVAL_DATA
    assert offered & wanted == wanted, f"the kernel offers {offered:x} only"
    return _INIT.pack(_MAJOR, _MINOR, readahead, wanted, 16, 12, _WRITE_BYTES_MAX, 1, _WRITE_BYTES_MAX // _BLOCK, 0, 0)


def _attributes(what: Attributes) -> bytes:
    mode = stat.S_IFDIR | 0o755 if what.is_directory else stat.S_IFREG | 0o644
    sectors = -(-what.length // _BLOCK) * (_BLOCK // 512)
    links = 2 if what.is_directory else 1
    return _ATTRIBUTES.pack(what.node, what.length, sectors, 0, 0, 0, 0, 0, 0, mode, links, 0, 0, 0, _BLOCK, 0)


def entry(what: Attributes) -> bytes:
    """The answer to LOOKUP and MKDIR."""
    return _ENTRY.pack(what.node, 0, _VALID_S, _VALID_S, 0, 0) + _attributes(what)


def attributes(what: Attributes) -> bytes:
    """The answer to GETATTR and SETATTR."""
    return _VALID.pack(_VALID_S, 0, 0) + _attributes(what)


def created(what: Attributes) -> bytes:
    """The answer to CREATE."""
    return entry(what) + _OPENED.pack(0, _KEEP_CACHE, 0)


def written(count: int) -> bytes:
    """The answer to WRITE."""
    return struct.pack("<II", count, 0)


def statfs(size: int, free: int) -> bytes:
    """The answer to STATFS, for sizes in bytes."""
    blocks = free // _BLOCK
    return _STATFS.pack(size // _BLOCK, blocks, blocks, 1 << 20, 1 << 20, _BLOCK, 255, _BLOCK, 0)


def listing(entries: list[tuple[str, Attributes]], arguments: memoryview) -> bytes:
    """The answer to READDIR: as many as fit of the nodes behind the last one that was listed."""
    _, behind, size = struct.unpack_from("<QQI", arguments)
    listed = bytearray()
    # By the node's number, which no other entry's removal changes.
    for name, what in sorted(entries, key=lambda named: named[1].node):
        encoded = name.encode()
        padded = -(-(_DIRENT.size + len(encoded)) // 8) * 8
        if what.node > behind and len(listed) + padded > size:
            break
        if what.node > behind:
            kind = stat.S_IFDIR if what.is_directory else stat.S_IFREG
            listed += (_DIRENT.pack(what.node, what.node, len(encoded), kind >> 12) + encoded).ljust(padded, b"\0")
    return bytes(listed)


def names(arguments: memoryview, skipped: int = 0) -> list[str]:
    """The names at the end of a request's arguments, which have so many bytes before them."""
    return bytes(arguments[skipped:]).rstrip(b"\0").decode().split("\0")
