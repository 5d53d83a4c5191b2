# SPDX-License-Identifier: Apache-2.0
"""The demo family with the first of its three encoder layers alone: a merge of it takes less than
half the time. For tests of what surrounds a merge."""

import json
import re
import shutil
import struct

KEPT_LAYER = "0"


def write(family, place):
    """Writes it into a new folder."""
    shutil.copytree(family, place)
    for path in (place / "base/model.safetensors", *place.glob("tasks/*/model.safetensors")):
        path.write_bytes(shortened(path.read_bytes()))


def shortened(checkpoint):
    """The bytes of a safetensors file without the tensors of other layers."""
    size, = struct.unpack_from("<Q", checkpoint)
    header, data = json.loads(checkpoint[8:8 + size]), checkpoint[8 + size:]
    kept, pieces, at = {}, [], 0
    for name, entry in header.items():
        layer = re.search(r"\.layers\.(\d+)\.", name)
        if layer is not None and layer.group(1) != KEPT_LAYER:
            continue
        kept[name] = entry
        if name != "__metadata__":
            begin, end = entry["data_offsets"]
            pieces.append(data[begin:end])
            entry["data_offsets"] = [at, at := at + end - begin]
    text = json.dumps(kept, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + b"".join(pieces)
