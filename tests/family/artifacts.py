# SPDX-License-Identifier: Apache-2.0
"""Reads checkpoints and native artifacts with NumPy alone.

It shares no line with the C code, so that tests compare two independent readers of one format:
a task's model is the base plus whatever the shared file and the expert's file hold for a tensor.
Packed tensors are read by the reader of docs/format.md.
"""

import hashlib
import json
import pathlib
import sys

import numpy as np

sys.path.append(str(pathlib.Path(__file__).resolve().parents[2] / "docs"))
import read_package

DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "I64": "<i8", "I32": "<i4",
          "I16": "<i2", "I8": "|i1", "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "|u1",
          "BOOL": "|b1", "F8_E4M3": "|u1", "F8_E5M2": "|u1"}
FLOATS = ("F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2")
PARTS = (".shared_A", ".shared_B", ".expert_A", ".expert_B", ".delta",
         ".shared_packed", ".expert_packed", ".delta_packed")


def eight_values(dtype):
    """Value of each of the 128 codes of 8 bits without sign: E4M3 ends with one NaN, E5M2 with Inf
    and three of them."""
    mantissa_bits, bias = (3, 7) if dtype == "F8_E4M3" else (2, 15)
    codes = np.arange(128)
    exponent, mantissa = codes >> mantissa_bits, codes % (1 << mantissa_bits)
    values = np.where(exponent == 0, mantissa * 2.0 ** (1 - bias - mantissa_bits),
                      (1 + mantissa / (1 << mantissa_bits)) * 2.0 ** (exponent - bias))
    values[0x7F if dtype == "F8_E4M3" else 0x7D:] = np.nan
    values[0x7C if dtype == "F8_E5M2" else 128:0x7D] = np.inf
    return values.astype(np.float32)


def encode_eight(values, dtype):
    """The nearest code, of two the even one; values must be within the range."""
    table = eight_values(dtype)
    table = table[:np.flatnonzero(np.isfinite(table))[-1] + 1].astype(np.float64)
    values = np.asarray(values, np.float64)
    above = np.searchsorted(table, np.abs(values)).clip(1, len(table) - 1)
    down, up = np.abs(values) - table[above - 1], table[above] - np.abs(values)
    codes = above - (down < up) - ((down == up) & (above % 2 == 1))
    return (codes + 128 * np.signbit(values)).astype(np.uint8).tobytes()


def read_header(path):
    """The header's tensors (name -> dtype, shape, data_offsets) and where the data begins."""
    with open(path, "rb") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))
    header.pop("__metadata__", None)
    return header, 8 + size


def decode(raw, dtype, shape):
    """Bytes of a tensor as an array; every float dtype becomes float32, but F64 stays F64."""
    values = np.frombuffer(raw, DTYPES[dtype])
    if dtype == "BF16":
        values = (values.astype(np.uint32) << 16).view(np.float32)
    elif dtype == "F16":
        values = values.astype(np.float32)
    elif dtype.startswith("F8"):
        values = eight_values(dtype)[values & 127] * np.where(values > 127, -1, 1)
        values = values.astype(np.float32)
    return values.reshape(shape)


def encode(values, dtype):
    """The bytes of float values in a dtype, rounded to nearest even."""
    if dtype == "BF16":
        bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
        return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2").tobytes()
    if dtype.startswith("F8"):
        return encode_eight(values, dtype)
    return np.ascontiguousarray(values).astype(DTYPES[dtype]).tobytes()


def read_file(path):
    """All tensors of one safetensors file."""
    header, start = read_header(path)
    raw = pathlib.Path(path).read_bytes()
    tensors = {}
    for name, entry in header.items():
        first, end = entry["data_offsets"]
        tensors[name] = decode(raw[start + first:start + end], entry["dtype"], entry["shape"])
    return tensors


def write_file(path, tensors, dtypes=None, metadata=None):
    """Writes arrays as one safetensors file; `dtypes` maps names to dtypes other than F32."""
    header, chunks, offset = {}, [], 0
    if metadata:
        header["__metadata__"] = metadata
    for name in sorted(tensors):
        dtype = (dtypes or {}).get(name, "F32")
        raw = encode(tensors[name], dtype)
        header[name] = {"dtype": dtype, "shape": list(np.shape(tensors[name])),
                        "data_offsets": [offset, offset + len(raw)]}
        chunks.append(raw)
        offset += len(raw)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(len(text).to_bytes(8, "little") + text + b"".join(chunks))


def model_files(directory):
    """The safetensors files of a model directory: the single file, or the index's shards."""
    directory = pathlib.Path(directory)
    single = directory / "model.safetensors"
    if single.exists():
        return [single]
    index = json.loads((directory / "model.safetensors.index.json").read_text())
    return [directory / name for name in sorted(set(index["weight_map"].values()))]


def read_model(directory):
    """All tensors of a model directory."""
    tensors = {}
    for path in model_files(directory):
        tensors.update(read_file(path))
    return tensors


def model_dtypes(directory):
    """name -> dtype of a model directory, from its headers."""
    return {name: entry["dtype"] for path in model_files(directory)
            for name, entry in read_header(path)[0].items()}


def expert_files(directory):
    """task -> path of the expert's file."""
    return {path.name[:-len(".safetensors")]: path
            for path in sorted((pathlib.Path(directory) / "experts").glob("*.safetensors"))}


def split_name(name):
    """`<tensor>.<part>` -> (tensor, part)."""
    for part in PARTS:
        if name.endswith(part):
            return name[:-len(part)], part[1:]
    raise ValueError(f"{name}: not the name of a factor or a delta")


def delta(tensor, shape, shared, expert):
    """What the artifacts add to one base tensor, in float64; None when they hold nothing."""
    total = np.zeros(shape)
    rows = shape[0] if len(shape) > 1 else 1
    found = False
    for prefix, file in (("shared", shared), ("expert", expert)):
        left, right = file.get(f"{tensor}.{prefix}_B"), file.get(f"{tensor}.{prefix}_A")
        if (left is None) != (right is None):
            raise ValueError(f"{tensor}: only one of the {prefix} factors is stored")
        if left is not None:
            total += (left.astype(np.float64) @ right.astype(np.float64)).reshape(shape)
        dense = file.get(f"{tensor}.delta")
        if dense is not None:
            total += dense.astype(np.float64).reshape(shape)
        packed = [file[name] for name in (f"{tensor}.{prefix}_packed", f"{tensor}.delta_packed")
                  if name in file]
        for raw in packed:
            total += read_package.unpack(raw, rows, total.size // rows).reshape(shape)
        found = found or bool(packed) or left is not None or dense is not None
    return total if found else None


def rebuild(base, directory, task):
    """One task's model from the base's tensors and an artifact directory; float32 where changed."""
    shared_path = pathlib.Path(directory) / "shared.safetensors"
    shared = read_package.spread(read_file(shared_path) if shared_path.exists() else {}, base)
    expert = read_package.spread(read_file(expert_files(directory)[task]), base)
    for name in (*shared, *expert):
        if split_name(name)[0] not in base:
            raise ValueError(f"{name}: the base has no such tensor")
    model = {}
    for tensor, values in base.items():
        change = delta(tensor, values.shape, shared, expert)
        model[tensor] = values if change is None else \
            (values.astype(np.float64) + change).astype(np.float32)
    return model


def packed_numbers(raw, shape):
    """Numbers in a packed tensor of a base's tensor of that shape."""
    rows = shape[0] if len(shape) > 1 else 1
    size = int(np.prod(shape, dtype=np.int64))
    if raw[0] & 15 == 2:
        return size
    segments = raw[4:4 + 5 * int(raw[3])].reshape(-1, 5)[:, 1:].copy().view("<u4")
    return int(segments.sum()) * (rows + size // rows)


def recount(directory, shapes=None):
    """Stored numbers and bytes, from the files alone: factors, dense, parameters, bytes. `shapes`
    of the base's tensors are needed where some are packed."""
    total = {"factors": 0, "dense": 0, "parameters": 0, "bytes": 0}
    paths = list(expert_files(directory).values())
    shared = pathlib.Path(directory) / "shared.safetensors"
    if shared.exists():
        paths.append(shared)
    for path in paths:
        stored = read_package.spread(read_file(path), shapes or {})
        for name, values in stored.items():
            tensor, part = split_name(name)
            count = values.size
            if part.endswith("_packed"):
                count = packed_numbers(stored[name], shapes[tensor])
            kind = "dense" if part.startswith("delta") else "factors"
            total[kind] += count
            total["parameters"] += count
        total["bytes"] += path.stat().st_size
    return total


def factored(manifest):
    """Names of the tensors that got factors, as a manifest tells."""
    return {name for name, entry in manifest["tensors"].items() if entry["kept"] == "factors"}


def float_parameters(model_directory):
    """Numbers in one model's float tensors: the unit of a budget."""
    return sum(int(np.prod(entry["shape"], dtype=np.int64)) for path in model_files(model_directory)
               for entry in read_header(path)[0].values() if entry["dtype"] in FLOATS)


def relative_error(base, models, rebuilt, names=None):
    """sum |rebuilt - fine-tuned|^2 / sum |fine-tuned - base|^2 over tasks and tensors (`names`, or
    all). What is kept dense has no error but energy: the error of factors is that over matrices."""
    missed = moved = 0.0
    for task, model in models.items():
        for name, values in base.items():
            if values.dtype.kind != "f" or (names is not None and name not in names):
                continue
            wanted = model[name].astype(np.float64)
            missed += float(np.sum((rebuilt[task][name] - wanted) ** 2))
            moved += float(np.sum((wanted - values) ** 2))
    return missed / moved if moved else 0.0


def digests(directory):
    """Relative path -> SHA-256 of every safetensors file below a directory."""
    directory = pathlib.Path(directory)
    return {str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(directory.rglob("*.safetensors"))}
