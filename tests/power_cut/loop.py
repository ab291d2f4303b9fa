"""A block device of a file."""

import errno
import fcntl
import os
import struct
from pathlib import Path

# As in include/uapi/linux/loop.h.
_CONFIGURE, _GET_FREE = 0x4C0A, 0x4C82
_AUTOCLEAR = 4
# Of struct loop_config: the file, and what its struct loop_info64 has of flags.
_CONFIG = struct.Struct("<I56xI240x")


def loop_device(file: Path) -> tuple[str, int]:
    """The path of a new device, and a descriptor of it. It is gone once nobody has it open or mounted any more."""
    with file.open("r+b") as backing, open("/dev/loop-control", "r+b", buffering=0) as control:
        while True:
            path = f"/dev/loop{fcntl.ioctl(control, _GET_FREE)}"
            device = os.open(path, os.O_RDWR | os.O_CLOEXEC)
            try:
                fcntl.ioctl(device, _CONFIGURE, _CONFIG.pack(backing.fileno(), _AUTOCLEAR))
                return path, device
            except OSError as error:
                os.close(device)
                # Somebody else was faster.
                if error.errno != errno.EBUSY:
                    raise
