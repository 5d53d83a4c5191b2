# SPDX-License-Identifier: Apache-2.0
"""read_package(PACKAGE, BASE, TASK): a task's weights by name, with NumPy alone. See format.md."""
import json
from pathlib import Path

import numpy as np


def read_file(path):
    raw, tensors = Path(path).read_bytes(), {}
    start = 8 + int.from_bytes(raw[:8], "little")
    for name, entry in json.loads(raw[8:start]).items():
        if name != "__metadata__":
            kind, (first, end) = entry["dtype"], entry["data_offsets"]
            number = {"BF16": "<u2", "BOOL": "?"}.get(kind) or f"<{kind[0]}{int(kind[1:]) // 8}"
            data = np.frombuffer(raw[start + first:start + end], number.lower())
            data = (data.astype("<u4") << 16).view("<f4") if kind == "BF16" else data
            tensors[name] = data.reshape(entry["shape"])
    return tensors


def unpack_rows(raw, count, bits, group):  # each row of bytes: `count` numbers
    codes, scales = raw[:, :(count * bits + 7) // 8], raw[:, (count * bits + 7) // 8:]
    stream = np.unpackbits(codes, axis=1, count=count * bits, bitorder="little")
    levels = stream.reshape(-1, count, bits) @ (1 << np.arange(bits)) - (2**bits - 1) / 2
    scales = (scales.copy().view("<u2").astype("<u4") << 15).view("<f4")
    return levels.astype("f4") * np.repeat(scales, group, axis=1)[:, :count]


def unpack(raw, m, n):  # the m x n matrix of a packed tensor
    form, group, last = raw[0], int(raw[1]) + 256 * int(raw[2]), int(raw[3])
    if form == 2:
        return unpack_rows(raw[4:].reshape(m, -1), n, last, group).astype("f8")
    at, total = 4 + 5 * last, np.zeros((m, n))
    for segment in raw[4:at].reshape(last, 5):
        bits, components = int(segment[0]), int.from_bytes(segment[1:].tobytes(), "little")
        split, rest = ((x * bits + 7) // 8 + 2 * -(-x // group) for x in (m, n))
        rows = raw[at:at + components * (split + rest)].reshape(components, split + rest)
        left = unpack_rows(rows[:, :split], m, bits, group).astype("f8")
        total += left.T @ unpack_rows(rows[:, split:], n, bits, group).astype("f8")
        at += rows.size
    return total


def read_package(package, base, task):  # name -> array; bf16 is read as float32
    files = [read_file(path) for path in Path(base).glob("model*.safetensors")]
    model, sums = {name: file[name] for file in files for name in file}, {}
    for name in ("shared.safetensors", f"experts/{task}.safetensors"):
        stored = read_file(Path(package, name))
        for (tensor, part), values in ((key.rsplit(".", 1), stored[key]) for key in stored):
            if part.endswith("_packed"):
                m = len(model[tensor]) if model[tensor].ndim > 1 else 1
                values = unpack(values, m, model[tensor].size // m)
            elif part.endswith("_B"):
                values = values.astype("f8") @ stored[f"{tensor}.{part[:-1]}A"].astype("f8")
            if not part.endswith("_A"):
                whole = values.astype("f8").reshape(model[tensor].shape)
                sums[tensor] = sums.get(tensor, 0) + whole
    return {name: model[name] + sums[name] if name in sums else model[name] for name in model}
