# SPDX-License-Identifier: Apache-2.0
"""read_package(PACKAGE, BASE, TASK): a task's weights by its names, with NumPy alone: format.md."""
import json
from pathlib import Path

import numpy as np


def read_file(path):  # name -> array; bf16 is read as float32
    return read_parts(path)[0]


def read_parts(path):  # tensors and what __metadata__ says
    raw, tensors, said = Path(path).read_bytes(), {}, {}
    start = 8 + int.from_bytes(raw[:8], "little")
    for name, entry in json.loads(raw[8:start]).items():
        if name == "__metadata__":
            said = entry
            continue
        kind, (first, end) = entry["dtype"], entry["data_offsets"]
        number = {"BF16": "<u2", "BOOL": "?"}.get(kind) or f"<{kind[0]}{int(kind[1:]) // 8}"
        data = np.frombuffer(raw[start + first:start + end], number.lower())
        data = (data.astype("<u4") << 16).view("<f4") if kind == "BF16" else data
        tensors[name] = data.reshape(entry["shape"])
    if said.get("didi_format", "1") not in ("1", "2", "3", "4", "5", "6"):
        raise ValueError(f"{path}: format {said['didi_format']} is not known")
    same = json.loads(said.get("own_same", "{}"))
    return {**tensors, **{name: tensors[same[name]] for name in same}}, said


def key_of(name):  # of what is gathered
    code = 0xCBF29CE484222325
    for byte in name.encode():
        code = (code ^ byte) * 0x100000001B3 % 2**64
    return (code ^ code >> 44) % 2**44


def spread(stored, names):  # the gathered tensors of a file under their own names
    if "parts" not in stored:
        return stored
    raw, found = stored["parts"], {name: stored[name] for name in stored if name != "parts"}
    count = int.from_bytes(raw[:4].tobytes(), "little")
    index = raw[4:4 + 8 * count].copy().view("<u8").tolist()
    starts = np.cumsum([4 + 8 * count] + [entry % 2**20 for entry in index]).tolist()
    parts = {entry >> 20: raw[first:end] for entry, first, end in zip(index, starts, starts[1:])}
    for name in (f"{x}.{part}_packed" for x in names
                 for part in ("shared", "expert", "delta", "masked")):
        if name not in found and key_of(name) in parts:
            found[name] = parts[key_of(name)]
    return found


def unpack_groups(raw, count, bits, group, exponents):  # each row of bytes: `count` numbers
    codes, level = raw[:, :(count * bits + 7) // 8], raw[:, (count * bits + 7) // 8:].astype("i4")
    stream = np.unpackbits(codes, axis=1, count=count * bits, bitorder="little")
    units = stream.reshape(-1, count, bits) @ (1 << np.arange(bits)) - (2**bits - 1) / 2
    levels = np.ldexp(np.float32(16) + level % 16, level // 16 - 20 + exponents) * (level > 0)
    steps = levels.astype("f4") / np.float32((2**bits - 1) / 2)
    return (units.astype("f4") * np.repeat(steps, group, axis=1)[:, :count]).astype("f8")


GRIDS = {1: (36, 156), 2: (26, 74, 138, 244), 3: (16, 44, 74, 104, 140, 184, 244, 332),
         4: (6, 16, 30, 40, 52, 64, 76, 90, 104, 118, 138, 160, 188, 226, 276, 358)}


def unpack_trellis(raw, count, bits, exponent):  # each row of bytes: `count` numbers
    stream = np.unpackbits(raw[:, :-1], axis=1, count=count * bits, bitorder="little")
    codes = stream.reshape(-1, count, bits) @ (1 << np.arange(bits))
    windows = np.pad(codes & 1, ((0, 0), (7, 0)))  # the lowest bits, with those before them
    upper, lower = (sum(windows[:, 7 - i:7 - i + count] for i in taps) % 2
                    for taps in ((0, 2, 3, 4, 7), (1, 2, 4, 6)))
    grid = np.concatenate([-np.array(GRIDS[bits])[::-1], GRIDS[bits]])
    level = raw[:, -1:].astype("i4")
    steps = np.ldexp(16.0 + level % 16, level // 16 - 27 + min(exponent, 125)) * (level > 0)
    return (grid[4 * (codes >> 1) + 2 * upper + lower] * steps).astype("f8")


def unpack_factors(raw, m, n):  # B and A of packed factors
    group, signed, at, parts = 1 << (raw[0] >> 4), raw.view("i1"), 4 + 5 * int(raw[3]), []
    for segment in raw[4:at].reshape(-1, 5):
        bits, components = int(segment[0]) % 64, int.from_bytes(segment[1:].tobytes(), "little")
        trellis = segment[0] > 64
        split, rest = ((x * bits + 7) // 8 + (1 if trellis else -(-x // group)) for x in (m, n))
        rows = raw[at:at + components * (split + rest)].reshape(components, split + rest)
        sides = (rows[:, :split], m, int(signed[1])), (rows[:, split:], n, int(signed[2]))
        parts.append([unpack_trellis(side, count, bits, exponent) if trellis else
                      unpack_groups(side, count, bits, group, exponent)
                      for side, count, exponent in sides])
        at += rows.size
    left, right = (np.concatenate(rows) for rows in zip(*parts))
    return left.T, right


def unpack(raw, m, n):  # the m x n matrix of a packed tensor
    if raw[0] & 15 == 2:
        rows, exponents = raw[2:].reshape(m, -1), raw[2:].view("i1").reshape(m, -1)[:, :1]
        group, bits = 1 << (raw[0] >> 4), int(raw[1])
        return unpack_groups(rows[:, 1:], n, bits, group, exponents.astype("i4"))
    left, right = unpack_factors(raw, m, n)
    return left @ right


def pick(stored, tensor, part, size, masked):  # what an expert picks of a tensor's numbers
    if part == "expert_columns":
        columns = stored[f"{tensor}.{part}"].astype("i8")
        added = np.zeros((len(columns), size // len(columns)))
        np.put_along_axis(added, columns, stored[f"{tensor}.expert_values"].astype("f8"), axis=1)
        return added
    bits = np.unpackbits(stored[f"{tensor}.{part}"], count=size, bitorder="little").astype("f8")
    scale = float(stored.get(f"{tensor}.expert_scale", [1])[0])
    return scale * (bits * masked[tensor].ravel() if part == "expert_mask" else 2 * bits - 1)


def sum_parts(stored, model, sums, masked):  # adds what one file has for each tensor of the base
    stored = spread(stored, model)
    for (tensor, part), values in ((key.rsplit(".", 1), stored[key]) for key in stored):
        if part in ("own", "own_rows", "expert_scale", "expert_values") or part.endswith("_A"):
            continue
        if part.endswith("_packed"):
            m = len(model[tensor]) if model[tensor].ndim > 1 else 1
            values = unpack(values, m, model[tensor].size // m)
        elif part.endswith("_B"):
            values = values.astype("f8") @ stored[f"{tensor}.{part[:-1]}A"].astype("f8")
        elif part in ("expert_mask", "expert_sign", "expert_columns"):
            values = pick(stored, tensor, part, model[tensor].size, masked)
        if part.startswith("masked"):
            masked[tensor] = values.astype("f8")
            continue
        sums[tensor] = sums.get(tensor, 0) + values.astype("f8").reshape(model[tensor].shape)


def read_package(package, base, task):  # the task's names -> arrays
    files = [read_file(path) for path in Path(base).glob("model*.safetensors")]
    model, found = {name: file[name] for file in files for name in file}, {}
    sums, masked = {}, {}
    expert, said = read_parts(Path(package, f"experts/{task}.safetensors"))
    for stored in (read_file(Path(package, "shared.safetensors")), expert):
        sum_parts(stored, model, sums, masked)
    lacks, as_base = (json.loads(said.get(key, "[]")) for key in ("lacks", "as_base"))
    added, dropped = said.get("prefix_added", ""), said.get("prefix_dropped", "")
    for name, values in model.items():
        if name not in lacks and name.startswith(dropped):
            if name in sums and name not in as_base:
                values = values + sums[name]
            if f"{name}.own_rows" in expert:
                values = np.concatenate([values, expert[f"{name}.own_rows"]])
            found[added + name[len(dropped):]] = values
    own = {key[:-len(".own")]: expert[key] for key in expert if key.endswith(".own")}
    return {**found, **own}
