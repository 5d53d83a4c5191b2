# SPDX-License-Identifier: Apache-2.0
"""docs/format.md and docs/read_package.py agree with each other and with the artifacts' readers."""

import json
import pathlib
import re

import numpy as np
import pytest

import artifacts
import read_package

DOCS = pathlib.Path(__file__).resolve().parents[2] / "docs"
LINES_MAX = 150


def examples():
    """The lines of bytes in the page, in order."""
    text = (DOCS / "format.md").read_text()
    lines = re.findall(r"^    ((?:[0-9A-F]{2})+(?: +(?:[0-9A-F]{2})+)+)$", text, re.MULTILINE)
    return [np.frombuffer(bytes.fromhex(line.replace(" ", "")), np.uint8) for line in lines]


def test_examples_of_the_page_are_what_it_says():
    factors, dense = examples()
    np.testing.assert_array_equal(read_package.unpack(factors, 2, 3),
                                  [[114.5, 95.5, -110.5], [-110.5, -99.5, 114.5]])
    np.testing.assert_array_equal(read_package.unpack(dense, 2, 3), [[3, -1, 1], [0, 0, 0]])


def test_the_reader_is_short():
    assert len((DOCS / "read_package.py").read_text().splitlines()) <= LINES_MAX


def pack_groups(values, bits, exponent):
    """Groups whose levels are powers of two: not the best, but groups."""
    codes, levels = [], b""
    for first in range(0, len(values), 64):
        group = values[first:first + 64]
        level = int(np.ceil(np.log2(np.abs(group).max())))
        step = 2.0 ** level / ((2**bits - 1) / 2)
        codes += list(np.clip(np.floor(group / step + 2**bits / 2), 0, 2**bits - 1).astype(int))
        levels += bytes([(level + 16 - exponent) * 16])
    stream = sum(int(code) << (i * bits) for i, code in enumerate(codes))
    return stream.to_bytes((len(codes) * bits + 7) // 8, "little") + levels


def exponent_of(values):
    return int(np.ceil(np.log2(np.abs(values).max()))) + 1


def pack_factors(left, right, bits):
    """Columns of B and rows of A, as rows both, with bits for each, descending."""
    kinds = sorted(set(bits), reverse=True)
    exponents = exponent_of(left), exponent_of(right)
    head = bytes([0x61, *(exponent % 256 for exponent in exponents), len(kinds)])
    for kind in kinds:
        head += bytes([kind]) + bits.count(kind).to_bytes(4, "little")
    rows = [pack_groups(row, kind, exponent) for *pair, kind in zip(left, right, bits)
            for row, exponent in zip(pair, exponents)]
    return np.frombuffer(head + b"".join(rows), np.uint8)


def pack_dense(values, bits):
    rows = [bytes([exponent_of(row) % 256]) + pack_groups(row, bits, exponent_of(row))
            for row in values]
    return np.frombuffer(bytes([0x62, bits]) + b"".join(rows), np.uint8)


@pytest.mark.parametrize("bits", range(1, 9))
@pytest.mark.parametrize("m, n", [(1, 1), (3, 65), (70, 9)])
def test_errors_stay_below_half_a_step(bits, m, n):
    values = np.random.default_rng(bits).normal(size=(m, n))
    found = read_package.unpack(pack_dense(values, bits), m, n)
    assert np.abs(found - values).max() <= np.abs(values).max() * 2 / (2**bits - 1)


def write_packed(directory):
    """A package with every kind of part, plain and packed; returns the task's model."""
    generator = np.random.default_rng(3)
    base = {"conv.weight": generator.normal(size=(6, 4, 3)), "bias": generator.normal(size=70),
            "plain": generator.normal(size=(5, 4)), "kept": np.ones(3)}
    factors = pack_factors(generator.normal(size=(3, 6)), generator.normal(size=(3, 12)), [8, 4, 4])
    expert = pack_factors(generator.normal(size=(2, 6)), generator.normal(size=(2, 12)), [3, 1])
    bias, conv = (pack_dense(generator.normal(size=shape), 4) for shape in ((1, 70), (6, 12)))
    shared = {"conv.weight.shared_packed": factors, "bias.delta": np.arange(70.0),
              "plain.shared_B": np.ones((5, 1)), "plain.shared_A": np.arange(4.0).reshape(1, 4)}
    own = {"conv.weight.expert_packed": expert, "conv.weight.delta_packed": conv,
           "bias.delta_packed": bias}
    dtypes = {name: "U8" for name in (*shared, *own) if name.endswith("packed")}
    artifacts.write_file(directory / "base" / "model.safetensors", base, {"kept": "BF16"})
    artifacts.write_file(directory / "shared.safetensors", shared, dtypes)
    artifacts.write_file(directory / "experts" / "one.safetensors", own, dtypes)
    conv_change = sum(read_package.unpack(raw, 6, 12) for raw in (factors, expert, conv))
    change = {"conv.weight": conv_change.reshape(6, 4, 3), "kept": np.zeros(3),
              "bias": np.arange(70.0) + read_package.unpack(bias, 1, 70)[0],
              "plain": np.ones((5, 1)) * np.arange(4.0)}
    return {name: values.astype(np.float32) + change[name] for name, values in base.items()}


def test_readers_agree_on_packages_with_everything(tmp_path):
    wanted = write_packed(tmp_path)
    found = read_package.read_package(tmp_path, tmp_path / "base", "one")
    rebuilt = artifacts.rebuild(artifacts.read_model(tmp_path / "base"), tmp_path, "one")
    assert found.keys() == wanted.keys() == rebuilt.keys()
    for name, values in wanted.items():
        np.testing.assert_allclose(found[name], values, rtol=1e-12)
        np.testing.assert_array_equal(found[name].astype(np.float32), rebuilt[name])


def test_recount_counts_what_is_packed(tmp_path):
    write_packed(tmp_path)
    shapes = {name: values.shape
              for name, values in artifacts.read_model(tmp_path / "base").items()}
    count = artifacts.recount(tmp_path, shapes)
    assert count["factors"] == (3 + 2) * (6 + 12) + 5 + 4
    assert count["dense"] == 70 + 70 + 72


BASE = {"enc.w": np.arange(6.0).reshape(3, 2), "enc.b": np.arange(3.0), "head": np.ones(4)}


def write_third(directory, own, **said):
    """A package of format 3; all of `enc.w` and `enc.b` is shared to be 1 more."""
    shared = {"enc.w.delta": np.ones((3, 2)), "enc.b.delta": np.ones(3)}
    artifacts.write_file(directory / "base" / "model.safetensors", BASE)
    artifacts.write_file(directory / "shared.safetensors", shared)
    artifacts.write_file(directory / "experts" / "one.safetensors", own,
                         metadata={"didi_format": "3", **said})
    return read_package.read_package(directory, directory / "base", "one")


def assert_tensors(found, wanted):
    assert found.keys() == wanted.keys()
    for name, values in wanted.items():
        np.testing.assert_array_equal(found[name], values)


def test_tensors_of_one_task_alone_are_read(tmp_path):
    own = {"head.own": np.zeros((2, 2)), "new.own": np.ones(2), "enc.w.own_rows": np.ones((1, 2))}
    assert_tensors(write_third(tmp_path, own),
                   {"enc.w": np.vstack([BASE["enc.w"] + 1, np.ones((1, 2))]),
                    "enc.b": BASE["enc.b"] + 1, "head": np.zeros((2, 2)), "new": np.ones(2)})


def test_own_tensors_that_are_another_are_read(tmp_path):
    own = {"head.own": np.full((2, 2), 7), "enc.w.own_rows": np.ones((1, 2))}
    same = '{"tied.own": "head.own", "enc.b.own": "head.own"}'
    assert_tensors(write_third(tmp_path, own, didi_format="4", own_same=same),
                   {"enc.w": np.vstack([BASE["enc.w"] + 1, np.ones((1, 2))]),
                    "enc.b": own["head.own"], "head": own["head.own"], "tied": own["head.own"]})


@pytest.mark.parametrize("same", ['{"tied.own": "gone.own"}',
                                  '{"a.own": "b.own", "b.own": "a.own"}'])
def test_own_tensors_that_are_nowhere_are_refused(tmp_path, same):
    with pytest.raises(KeyError, match="own"):
        write_third(tmp_path, {"head.own": np.ones(2)}, didi_format="4", own_same=same)


def test_names_of_the_task_are_read(tmp_path):
    assert_tensors(write_third(tmp_path, {}, prefix_dropped="enc.", as_base='["enc.b"]'),
                   {"w": BASE["enc.w"] + 1, "b": BASE["enc.b"]})
    assert_tensors(write_third(tmp_path, {}, prefix_added="bert.", lacks='["head"]'),
                   {"bert.enc.w": BASE["enc.w"] + 1, "bert.enc.b": BASE["enc.b"] + 1})


PICKS = [("A5 02", {"expert_scale": [0.5]}, [[0.5, 0, 1.5, 0, 0], [3, 0, 4, 0, 5]]),
         ("0F 00", {"expert_scale": [2]}, [[2, 2, 2, 2, -2], [-2, -2, -2, -2, -2]]),
         ("0100 0400 0000 0300", {"expert_values": [[7, 8], [9, 4]]},
          [[0, 7, 0, 0, 8], [9, 0, 0, 4, 0]])]


@pytest.mark.parametrize("part, row", zip(("expert_mask", "expert_sign", "expert_columns"), PICKS))
def test_what_is_picked_is_what_the_page_says(tmp_path, part, row):
    text, beside, wanted = row
    assert f"`{text}`" in (DOCS / "format.md").read_text()
    assert f"`{json.dumps(wanted)}`" in (DOCS / "format.md").read_text()
    dtype = "U16" if part == "expert_columns" else "U8"
    raw = np.frombuffer(bytes.fromhex(text), artifacts.DTYPES[dtype])
    own = {f"x.{name}": np.array(values) for name, values in beside.items()}
    own[f"x.{part}"] = raw.reshape(2, 2) if dtype == "U16" else raw
    artifacts.write_file(tmp_path / "base" / "model.safetensors", {"x": np.ones((2, 5))})
    artifacts.write_file(tmp_path / "shared.safetensors",
                         {"x.masked": np.arange(1.0, 11).reshape(2, 5)})
    artifacts.write_file(tmp_path / "experts" / "one.safetensors", own, {f"x.{part}": dtype},
                         metadata={"didi_format": "5"})
    found = read_package.read_package(tmp_path, tmp_path / "base", "one")
    np.testing.assert_array_equal(found["x"], np.array(wanted) + 1)


def test_formats_that_are_not_known_are_refused(tmp_path):
    with pytest.raises(ValueError, match="format 7"):
        write_third(tmp_path, {}, didi_format="7")


def test_trellis_rows_of_the_document():
    for raw, bits, exponent, wanted in (("0B 80", 1, 19, [576, 2496, 576, 2496, -2496]),
                                        ("4D 02 80", 2, 15, [-74, 244, -74, -26, 26])):
        row = np.frombuffer(bytes.fromhex(raw), np.uint8)[None]
        found = read_package.unpack_trellis(row, 5, bits, exponent)
        np.testing.assert_array_equal(found, [wanted])


def test_gathered_tensors_have_their_names_back(tmp_path):
    artifacts.write_file(tmp_path / "base" / "model.safetensors", {"x": np.ones((2, 3))})
    artifacts.write_file(tmp_path / "shared.safetensors", {})
    dense = bytes.fromhex("62 02  02 27 F8  9C 2A 00")
    index = (1).to_bytes(4, "little") + (read_package.key_of("x.delta_packed") << 20 |
                                         len(dense)).to_bytes(8, "little")
    parts = np.frombuffer(index + dense, np.uint8)
    artifacts.write_file(tmp_path / "experts" / "one.safetensors", {"parts": parts},
                         {"parts": "U8"}, metadata={"didi_format": "6"})
    found = read_package.read_package(tmp_path, tmp_path / "base", "one")
    np.testing.assert_array_equal(found["x"], [[4, 0, 2], [1, 1, 1]])
