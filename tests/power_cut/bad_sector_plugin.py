"""An nbdkit plugin: a disk in a file that has a bad sector. disk= is the file, at= its first byte that cannot be read.

nbdkit runs this with the system's Python, so it uses nothing but the standard library.
"""

import errno
import os

import nbdkit

API_VERSION = 2
BYTES = 4096

disk = -1
at = 0


def config(key, value):
    global disk, at
    if key == "disk":
        disk = os.open(value, os.O_RDWR)
    else:
        at = int(value)


def open(readonly):
    return 1


def get_size(handle):
    return os.fstat(disk).st_size


def pread(handle, buffer, offset, flags):
    if offset < at + BYTES and at < offset + len(buffer):
        nbdkit.set_error(errno.EIO)
        raise OSError(errno.EIO, "a bad sector")
    buffer[:] = os.pread(disk, len(buffer), offset)


def pwrite(handle, buffer, offset, flags):
    os.pwrite(disk, buffer, offset)


def flush(handle, flags):
    os.fsync(disk)
