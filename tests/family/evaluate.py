#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Accuracy of models on a suite's test images. Needs NumPy only.

  evaluate.py SUITE                                 the fine-tunes themselves
  evaluate.py SUITE --models DIR                    DIR/<task>/model.safetensors of every task
  evaluate.py SUITE --artifacts DIR [--base DIR]    models rebuilt from base and artifacts
  evaluate.py SUITE --model DIR                     one model on every task

`kept` is accuracy / accuracy of the task's own fine-tune; `retention` is its mean over tasks.
"""

import argparse
import json
import pathlib
import sys

import numpy as np

import artifacts

BATCH = 25  # whose numbers a processor's cache holds


class Transformer:
    """A CLIP-shaped vision encoder over a dictionary of tensors."""

    def __init__(self, shape, tensors):
        self.shape = shape
        self.tensors = tensors

    def get(self, name):
        return self.tensors[name]

    def linear(self, name, x):
        weight = self.get(name + ".weight")
        flat = x.reshape(-1, x.shape[-1]) @ weight.T  # one product, not one for each image
        flat += self.get(name + ".bias")
        return flat.reshape(*x.shape[:-1], weight.shape[0])

    def scaled(self, _, x):
        centred = x - x.mean(axis=-1, keepdims=True)
        variance = np.mean(centred * centred, axis=-1, keepdims=True)
        centred /= np.sqrt(variance + self.shape["layer_norm_eps"])
        return centred

    def normalize(self, name, x):
        return self.scaled(name, x) * self.get(name + ".weight") + self.get(name + ".bias")

    def embed(self, images):
        patch, width = self.shape["patch_size"], self.shape["hidden_size"]
        count, side = images.shape[0], images.shape[1] // patch
        pixels = images.astype(np.float32) / np.float32(127.5) - np.float32(1)
        patches = pixels.reshape(count, side, patch, side, patch).swapaxes(2, 3)
        patches = patches.reshape(count, side * side, patch * patch)
        kernel = self.get("vision_model.embeddings.patch_embedding.weight").reshape(width, -1)
        tokens = np.empty((count, 1 + side * side, width), np.float32)
        tokens[:, 0] = self.get("vision_model.embeddings.class_embedding")
        tokens[:, 1:] = patches @ kernel.T
        return tokens + self.get("vision_model.embeddings.position_embedding.weight")

    def attend(self, name, x):
        count, length, width = x.shape
        heads = self.shape["num_attention_heads"]

        def split(projection):
            values = self.linear(f"{name}.{projection}", x)
            return values.reshape(count, length, heads, width // heads).swapaxes(1, 2)

        scale = np.float32(1 / np.sqrt(width // heads))
        scores = (split("q_proj") * scale) @ split("k_proj").swapaxes(2, 3)
        scores -= scores.max(axis=-1, keepdims=True)
        np.exp(scores, out=scores)
        scores /= scores.sum(axis=-1, keepdims=True)
        mixed = (scores @ split("v_proj")).swapaxes(1, 2).reshape(count, length, width)
        return self.linear(name + ".out_proj", mixed)

    def features(self, images):
        x = self.normalize("vision_model.pre_layrnorm", self.embed(images))
        for layer in range(self.shape["num_hidden_layers"]):
            prefix = f"vision_model.encoder.layers.{layer}."
            x = x + self.attend(prefix + "self_attn", self.normalize(prefix + "layer_norm1", x))
            hidden = self.linear(prefix + "mlp.fc1", self.normalize(prefix + "layer_norm2", x))
            with np.errstate(over="ignore"):
                gate = np.multiply(hidden, np.float32(-1.702))
                hidden /= np.add(np.exp(gate, out=gate), np.float32(1), out=gate)
            x = x + self.linear(prefix + "mlp.fc2", hidden)
        token = self.normalize("vision_model.post_layernorm", x[:, 0])
        return token @ self.get("visual_projection.weight").T


class Suite:
    """A directory with suite.json, base, tasks, heads and test images."""

    def __init__(self, directory):
        self.directory = pathlib.Path(directory)
        self.description = json.loads((self.directory / "suite.json").read_text())
        self.tasks = {task["name"]: task for task in self.description["tasks"]}
        self.images = {}

    def base_directory(self):
        return (self.directory / self.description["base"]).parent

    def fine_tune(self, task):
        return artifacts.read_model((self.directory / self.tasks[task]["model"]).parent)

    def test(self, task):
        if task not in self.images:
            head = artifacts.read_file(self.directory / self.tasks[task]["head"])
            test = artifacts.read_file(self.directory / self.tasks[task]["test"])
            self.images[task] = head["weight"], test["images"], test["labels"]
        return self.images[task]

    def check(self, tensors, name):
        for tensor, shape in self.description["parameters"].items():
            if tensor not in tensors:
                raise ValueError(f"{name}: lacks {tensor}")
            if list(tensors[tensor].shape) != shape:
                raise ValueError(f"{name}: {tensor} is {tensors[tensor].shape}, not {shape}")

    def accuracy(self, task, tensors, limit=None):
        self.check(tensors, task)
        head, images, labels = self.test(task)
        images, labels = images[:limit], labels[:limit]
        model = Transformer(self.description["model"], tensors)
        right = 0
        for first in range(0, len(images), BATCH):
            answers = (model.features(images[first:first + BATCH]) @ head.T).argmax(axis=1)
            right += int(np.count_nonzero(answers == labels[first:first + BATCH]))
        return right / len(images)

    def own_accuracy(self, task, limit=None):
        """Of the fine-tune: as recorded for all images, measured for fewer."""
        recorded = self.tasks[task]["individual_accuracy"]
        if limit is None or limit >= self.tasks[task]["test_samples"]:
            return recorded
        return self.accuracy(task, self.fine_tune(task), limit)


def evaluate(suite, load, tasks=None, limit=None):
    """Accuracy per task of load(task), and what is kept of the fine-tunes' accuracy."""
    rows = {}
    for task in tasks or suite.tasks:
        own = suite.own_accuracy(task, limit)
        accuracy = suite.accuracy(task, load(task), limit)
        rows[task] = {"accuracy": accuracy, "own": own, "kept": accuracy / own}
    return {"tasks": rows,
            "average": sum(row["accuracy"] for row in rows.values()) / len(rows),
            "retention": sum(row["kept"] for row in rows.values()) / len(rows)}


def table(result):
    """The result as lines of text."""
    lines = [f"{'task':<14} {'fine-tuned':>10} {'merged':>8} {'kept':>8}"]
    for task, row in result["tasks"].items():
        lines.append(f"{task:<14} {row['own']:>10.4f} {row['accuracy']:>8.4f} {row['kept']:>8.4f}")
    own = sum(row["own"] for row in result["tasks"].values()) / len(result["tasks"])
    lines.append(f"{'average':<14} {own:>10.4f} {result['average']:>8.4f} "
                 f"{result['retention']:>8.4f}")
    return "\n".join(lines)


def loader(suite, arguments):
    """A function task -> tensors for what the command line names."""
    if arguments.models:
        return lambda task: artifacts.read_model(pathlib.Path(arguments.models) / task)
    if arguments.model:
        tensors = artifacts.read_model(arguments.model)
        return lambda task: tensors
    if arguments.artifacts:
        base = artifacts.read_model(arguments.base or suite.base_directory())
        return lambda task: artifacts.rebuild(base, arguments.artifacts, task)
    return suite.fine_tune


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("suite")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--models", metavar="DIR", help="holds <task>/model.safetensors")
    what.add_argument("--model", metavar="DIR", help="one model for every task")
    what.add_argument("--artifacts", metavar="DIR", help="shared.safetensors and experts/")
    parser.add_argument("--base", metavar="DIR", help="for --artifacts; default: the suite's")
    parser.add_argument("--task", action="append", help="only this one (repeatable)")
    parser.add_argument("--limit", type=int, metavar="N", help="only the first N images a task")
    parser.add_argument("-o", "--output", choices=("table", "json"), default="table")
    arguments = parser.parse_args()
    suite = Suite(arguments.suite)
    try:
        result = evaluate(suite, loader(suite, arguments), arguments.task, arguments.limit)
    except (OSError, KeyError, ValueError) as error:
        sys.exit(f"evaluate.py: {error}")
    print(json.dumps(result, indent=1) if arguments.output == "json" else table(result))


if __name__ == "__main__":
    main()
