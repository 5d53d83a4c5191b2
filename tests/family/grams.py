#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Gram matrices of the inputs of a suite's layers, as method `cat` takes them; of norms the sums of
squares of what their scales multiply. Needs NumPy only.

  grams.py SUITE OUT [--images N]     OUT/<task>/model.safetensors: for each weight W of a linear
                                      layer, under its name, the sum of x x' over all its inputs x
                                      while the task's fine-tune looks at the first N images
"""

import argparse
import pathlib

import numpy as np

import artifacts
import evaluate


class Watched(evaluate.Transformer):
    """A model that adds up what goes into its linear layers and what its norms' scales multiply."""

    def __init__(self, shape, tensors):
        super().__init__(shape, tensors)
        self.grams = {}

    def watch(self, weight, x):
        rows = x.reshape(-1, x.shape[-1]).astype(np.float64)
        self.grams[weight] = self.grams.get(weight, 0) + rows.T @ rows

    def scaled(self, name, x):
        result = super().scaled(name, x)
        rows = result.reshape(-1, x.shape[-1]).astype(np.float64)
        self.grams[name + ".weight"] = self.grams.get(name + ".weight", 0) + (rows**2).sum(axis=0)
        return result

    def linear(self, name, x):
        self.watch(name + ".weight", x)
        return super().linear(name, x)

    def features(self, images):
        result = super().features(images)
        self.watch("visual_projection.weight", self.last_token)
        return result

    def normalize(self, name, x):
        result = super().normalize(name, x)
        if name == "vision_model.post_layernorm":
            self.last_token = result
        return result


def of_task(suite, task, images):
    """Weight's name -> Gram matrix, of a norm its diagonal; float64."""
    model = Watched(suite.description["model"], suite.fine_tune(task))
    model.features(suite.test(task)[1][:images])
    return model.grams


def write(suite, out, images):
    for task in suite.tasks:
        artifacts.write_file(pathlib.Path(out) / task / "model.safetensors",
                             of_task(suite, task, images))


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("suite")
    parser.add_argument("out")
    parser.add_argument("--images", type=int, default=5)
    given = parser.parse_args()
    write(evaluate.Suite(given.suite), given.out, given.images)


if __name__ == "__main__":
    main()
