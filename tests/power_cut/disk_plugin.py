"""An nbdkit plugin: a disk in a sparse file whose every write and flush is logged, in order, and that can fail.

nbdkit runs this with the system's Python, so it uses nothing but the standard library. Parameters, all of them files
that exist: disk= holds the bytes, journal= is appended to, state= is a page that the rig shares (see state.py).

One request is served at a time, so the journal's order is the disk's. It is a list of entries:

    | at | bytes | field  |                                                   |
    |---:|------:|--------|---------------------------------------------------|
    |  0 |     1 | kind   | 1 write, 2 zeros, 3 flush, 4 answered with EIO    |
    |  1 |     3 |        | 0                                                 |
    |  4 |     4 | length | bytes that are written; 0 for the last two kinds  |
    |  8 |     8 | offset | where they are written                            |
    | 16 |     … | data   | of a write only                                   |

A flush that fails loses what was in flight: pages are clean in the caches above, and the disk has the old bytes. That
is logged as writes of the old bytes, so that the journal stays the disk's whole history.
"""

import errno
import mmap
import os
import struct
import time

import nbdkit

API_VERSION = 2

ENTRY = struct.Struct("<BxxxIQ")
WRITE, ZERO, FLUSH, FAILED = 1, 2, 3, 4

# Places in the shared page, as in state.py.
ENTRIES, FLUSHES, FAULTS, FLUSH_DELAY_US, FAIL_KINDS, FAIL_AFTER, FAIL_COUNT = range(7)
FAIL_WRITES, FAIL_FLUSHES, FAIL_READS = 1, 2, 4

files = {}
disk = journal = -1
state = None
# The bytes that lay where something was written since the last flush, in the order of the writes.
overwritten = []


def config(key, value):
    files[key] = value


def config_complete():
    global disk, journal, state
    disk = os.open(files["disk"], os.O_RDWR)
    journal = os.open(files["journal"], os.O_WRONLY | os.O_APPEND)
    page = os.open(files["state"], os.O_RDWR)
    state = memoryview(mmap.mmap(page, mmap.PAGESIZE)).cast("Q")
    os.close(page)


def thread_model():
    return nbdkit.THREAD_MODEL_SERIALIZE_ALL_REQUESTS


def open(readonly):
    return 1


def get_size(handle):
    return os.fstat(disk).st_size


def can_fua(handle):
    # A write with FUA becomes a write and a flush.
    return nbdkit.FUA_EMULATE


def can_trim(handle):
    return True


def can_zero(handle):
    return True


def pread(handle, buffer, offset, flags):
    refuse_if_told(FAIL_READS)
    buffer[:] = os.pread(disk, len(buffer), offset)


def pwrite(handle, buffer, offset, flags):
    refuse_if_told(FAIL_WRITES)
    write(offset, bytes(buffer))


def zero(handle, count, offset, flags):
    refuse_if_told(FAIL_WRITES)
    overwritten.append((offset, os.pread(disk, count, offset)))
    os.pwrite(disk, bytes(count), offset)
    log(ZERO, offset, count)


def trim(handle, count, offset, flags):
    zero(handle, count, offset, flags)


def flush(handle, flags):
    time.sleep(state[FLUSH_DELAY_US] / 1e6)
    try:
        refuse_if_told(FAIL_FLUSHES)
    except OSError:
        lost = overwritten[::-1]
        overwritten.clear()
        for offset, before in lost:
            write(offset, before)
        raise
    overwritten.clear()
    log(FLUSH)
    state[FLUSHES] += 1


def write(offset, data):
    overwritten.append((offset, os.pread(disk, len(data), offset)))
    os.pwrite(disk, data, offset)
    log(WRITE, offset, len(data), data)


def log(kind, offset=0, length=0, data=b""):
    """Appends an entry and then counts it: whoever has seen the count finds the entry."""
    os.writev(journal, [ENTRY.pack(kind, length, offset), data])
    state[ENTRIES] += 1


def refuse_if_told(kind):
    """Answers with EIO if it is the turn of a request of this kind to fail."""
    if not state[FAIL_KINDS] & kind:
        return
    if state[FAIL_AFTER] > 0:
        state[FAIL_AFTER] -= 1
        return
    if state[FAIL_COUNT] == 0:
        return
    state[FAIL_COUNT] -= 1
    state[FAULTS] += 1
    log(FAILED)
    nbdkit.set_error(errno.EIO)
    raise OSError(errno.EIO, "told to fail")

