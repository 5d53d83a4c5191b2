# SPDX-License-Identifier: Apache-2.0
"""Files that are no good safetensors files, each for one reason."""

import json


def header_of(entries, data=b"", size=None):
    text = entries if isinstance(entries, bytes) else json.dumps(entries).encode()
    return (len(text) if size is None else size).to_bytes(8, "little") + text + data


def entry(dtype="F32", shape=(1,), offsets=(0, 4)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


FILES = {
    "empty": b"",
    "shorter than a length": b"\1\2\3",
    "header longer than the file": header_of({"x": entry()}, b"\0" * 4, size=1 << 20),
    "header over the limit": header_of({"x": entry()}, b"\0" * 4, size=100_000_001),
    "header length beyond 63 bits": header_of({"x": entry()}, b"\0" * 4, size=(1 << 64) - 1),
    "malformed header": header_of(b'{"x": '),
    "header that is no object": header_of(b"[1, 2]"),
    "overlap": header_of({"x": entry(), "y": entry(offsets=(2, 6))}, b"\0" * 6),
    "hole": header_of({"x": entry(), "y": entry(offsets=(8, 12))}, b"\0" * 12),
    "data beyond the tensors": header_of({"x": entry()}, b"\0" * 9),
    "data too short": header_of({"x": entry()}, b"\0" * 3),
    "duplicate name": header_of(
        b'{"x":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},'
        b'"x":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}', b"\0" * 8),
    "unknown dtype": header_of({"x": entry(dtype="F31")}, b"\0" * 4),
    "size overflow": header_of({"x": entry(shape=(1 << 40, 1 << 40))}, b"\0" * 4),
    "negative dimension": header_of({"x": entry(shape=(-1,))}, b"\0" * 4),
    "shape and bytes differ": header_of({"x": entry(shape=(2,))}, b"\0" * 4),
    "offsets reversed": header_of({"x": entry(offsets=(4, 0))}, b"\0" * 4),
}
