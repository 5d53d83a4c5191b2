# SPDX-License-Identifier: Apache-2.0
"""A daemon whose allocations, writes and clock the test decides (tests/fault/shim.c)."""

import mmap
import pathlib
import struct
import subprocess

import pytest

from service import UNDER_SANITIZER

SOURCE = pathlib.Path(__file__).resolve().parents[1] / "fault" / "shim.c"
FIELDS = ("allocations_left", "allocations_failed", "writes_left", "writes_failed", "write_errno",
          "writes_sticky", "clock_offset_s", "writes_held")


class Shim:
    """The library, and the numbers that steer it; a skip where a sanitizer is in its place."""

    def __init__(self, directory, below):
        if UNDER_SANITIZER:
            pytest.skip("a sanitizer has the allocations")
        library = directory / "shim.so"
        subprocess.run(["cc", "-O1", "-shared", "-fPIC", "-o", library, SOURCE, "-ldl"],
                       check=True)
        path = directory / "shim.control"
        path.write_bytes(bytes(4096))
        with open(path, "r+b") as file:
            self.map = mmap.mmap(file.fileno(), 4096)
        self.environment = {"LD_PRELOAD": str(library), "SHIM_CONTROL": str(path),
                            "SHIM_BELOW": str(below)}

    def get(self, field):
        return struct.unpack_from("q", self.map, 8 * FIELDS.index(field))[0]

    def set(self, **values):
        for field, value in values.items():
            struct.pack_into("q", self.map, 8 * FIELDS.index(field), value)

    def calm(self):
        """No more faults; the clock stays."""
        self.set(allocations_left=0, writes_left=0, writes_sticky=0)
