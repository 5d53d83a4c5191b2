#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""How far a router gets that knows neither task nor data, as SMILE's gate.

  routing.py DIDID SUITE... [--budget S] [--images N]

Of each task of a package the right singular directions of its served change to every linear layer
are taken, a share of the layer's rank. A sample goes through the base, and the task is chosen in
whose directions most of the inputs' energy lies, summed over layers and tokens. Printed are the
share of samples whose task is found, and the accuracy kept by the model so chosen, beside what is
kept where the task is given. Of each task N test images are looked at.
"""

import argparse
import pathlib
import sys
import tempfile

import numpy as np

import paper

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "family"))
import artifacts  # noqa: E402 (the path above is needed first)
import evaluate  # noqa: E402

SHARES = (1 / 8, 1 / 4, 1 / 2)


class Listener(evaluate.Transformer):
    """A model that scores what goes into its linear layers."""

    def __init__(self, shape, tensors, directions):
        super().__init__(shape, tensors)
        self.directions = directions  # weight's name -> task's rows, tasks x k x n
        self.scores = 0

    def linear(self, name, x):
        rows = self.directions.get(name + ".weight")
        if rows is not None:
            caught = np.square(np.einsum("bln,tkn->bltk", x, rows, optimize=True)).sum(axis=3)
            energy = np.square(x).sum(axis=2)[:, :, None] + np.float32(1e-12)
            self.scores = self.scores + (caught / energy).mean(axis=1)
        return super().linear(name, x)


def directions_of(base, models, share):
    """Leading right singular vectors of each task's change to the linear layers of the blocks."""
    found = {}
    for name, start in base.items():
        if name.endswith(".weight") and start.ndim == 2 and ".layers." in name:
            kept = max(1, int(share * min(start.shape)))
            found[name] = np.stack([
                np.linalg.svd(np.asarray(model[name] - start, np.float64), full_matrices=False)[2]
                [:kept].astype(np.float32) for model in models])
    return found


def accuracy(suite, model, task, images, labels):
    head = suite.test(task)[0]
    answers = evaluate.Transformer(suite.description["model"], model).features(images) @ head.T
    return np.count_nonzero(answers.argmax(axis=1) == labels)


def measure(suite, base, models, share, count):
    """Shares found and kept by the router, and kept with the task given; means over tasks."""
    directions = directions_of(base, list(models.values()), share)
    rows = []
    for number, task in enumerate(suite.tasks):
        _, images, labels = suite.test(task)
        images, labels = images[:count], labels[:count]
        listener = Listener(suite.description["model"], base, directions)
        listener.features(images)
        chosen = listener.scores.argmax(axis=1)
        routed = sum(accuracy(suite, models[name], task, images[chosen == other],
                              labels[chosen == other])
                     for other, name in enumerate(models) if np.any(chosen == other))
        own = max(accuracy(suite, suite.fine_tune(task), task, images, labels), 1)
        given = accuracy(suite, models[task], task, images, labels)
        rows.append((np.mean(chosen == number), routed / own, given / own))
    return np.array(rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("didid")
    parser.add_argument("suites", nargs="+")
    parser.add_argument("--budget", default="S")
    parser.add_argument("--images", type=int, default=100)
    given = parser.parse_args()
    print("| suite | share of rank | task found | kept by the router, worst | kept with the task |")
    print("|---|---|---|---|---|")
    for directory in given.suites:
        suite = evaluate.Suite(directory)
        base = artifacts.read_model(suite.base_directory())
        with tempfile.TemporaryDirectory() as scratch:
            out = pathlib.Path(scratch) / "out"
            paper.merge(given.didid, suite, {}, given.budget, out)
            models = {task: artifacts.rebuild(base, out, task) for task in suite.tasks}
        for share in SHARES:
            rows = measure(suite, base, models, share, given.images)
            print(f"| {suite.directory.name} | {share:.3g} | {rows[:, 0].mean():.3f} | "
                  f"{rows[:, 1].mean():.4f}, {rows[:, 1].min():.3f} | {rows[:, 2].mean():.4f} |",
                  flush=True)


if __name__ == "__main__":
    main()
