# SPDX-License-Identifier: Apache-2.0
"""compare.py BASE FULL ADAPTER: the base with an adapter on it, by PEFT, beside the whole model.
Prints, as JSON, how far outputs are apart, and weights: squared, as shares of what changed."""

import json
import pathlib
import shutil
import sys
import warnings

import peft
import torch
import transformers


def load(directory):
    config = transformers.AutoConfig.from_pretrained(directory)
    kind = getattr(transformers, config.architectures[0])
    return kind.from_pretrained(directory, torch_dtype=torch.float32).eval()


def outputs(model):
    tokens = torch.arange(40).reshape(2, 20) * 7 % 96
    with torch.no_grad():
        return model(input_ids=tokens)[0]


def distance(one, other):
    """|one - other|^2 summed over tensors, in double."""
    return sum(float(((one[name].double() - values.double()) ** 2).sum())
               for name, values in other.items())


def main():
    base, full, adapter = map(pathlib.Path, sys.argv[1:4])
    shutil.copy(base / "config.json", full / "config.json")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        adapted = peft.PeftModel.from_pretrained(load(base), adapter).eval()
    wanted, plain = load(full), load(base)
    found, expected = outputs(adapted), outputs(wanted)
    merged = adapted.merge_and_unload().state_dict()
    energy = distance(plain.state_dict(), wanted.state_dict())
    print(json.dumps({
        "outputs": float((found - expected).norm() / expected.norm()),
        "change": float((outputs(plain) - expected).norm() / expected.norm()),
        "weights": distance(merged, wanted.state_dict()) / energy,
        "warnings": [str(warning.message) for warning in caught
                     if "peft" in str(warning.filename)],
    }))


main()
