#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""How far the exported router gets that knows neither task nor data (docs/routing.md).

  routing.py DIDID SUITE... [--budget S] [--images N] [--directions K,...]

A package is merged and its routers are exported. A sample goes through the base, and the task is
chosen whose directions catch most of the inputs' energy, summed over layers and tokens. Printed are
the bytes of all routers beside the package's, the share of samples whose task is found, and the
accuracy kept by the model so chosen, beside what is kept where the task is given. Of each task N
test images are looked at.
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
import read_routers  # noqa: E402 (artifacts says where it is)


class Listener(evaluate.Transformer):
    """A model that scores what goes into its linear layers."""

    def __init__(self, shape, tensors, routers):
        super().__init__(shape, tensors)
        self.routers = routers
        self.scores = 0

    def linear(self, name, x):
        caught = read_routers.route(self.routers, f"{name}.weight", x)
        self.scores = self.scores + np.stack([caught[task].mean(axis=1) for task in self.routers])
        return super().linear(name, x)


def choose(suite, base, routers, images):
    """The place among the routers of the task that each image is given to."""
    listener = Listener(suite.description["model"], base, routers)
    listener.features(images)
    return listener.scores.argmax(axis=0)


def accuracy(suite, model, task, images, labels):
    head = suite.test(task)[0]
    answers = evaluate.Transformer(suite.description["model"], model).features(images) @ head.T
    return np.count_nonzero(answers.argmax(axis=1) == labels)


def measure(suite, base, models, routers, count):
    """Of each task: shares found and kept by the router, and kept with the task given."""
    rows = []
    for number, task in enumerate(suite.tasks):
        _, images, labels = suite.test(task)
        images, labels = images[:count], labels[:count]
        chosen = choose(suite, base, {name: routers[name] for name in models}, images)
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
    parser.add_argument("--directions", default="8,16,32,64")
    given = parser.parse_args()
    print("| suite | directions | KB of routers, of the package | task found | "
          "kept by the router, worst | kept with the task |")
    print("|---|---|---|---|---|---|")
    for directory in given.suites:
        suite = evaluate.Suite(directory)
        base = artifacts.read_model(suite.base_directory())
        for directions in given.directions.split(","):
            with tempfile.TemporaryDirectory() as scratch:
                out = pathlib.Path(scratch) / "out"
                _, manifest = paper.merge(given.didid, suite, {}, given.budget, out,
                                          "--export", "router", "--max-rank", directions)
                models = {task: artifacts.rebuild(base, out, task) for task in suite.tasks}
                routers = read_routers.read_routers(out / "routers")
                size = sum(path.stat().st_size for path in (out / "routers").glob("*/*"))
            rows = measure(suite, base, models, routers, given.images)
            print(f"| {suite.directory.name} | {directions} | {size / 1000:.0f}, "
                  f"{manifest['budget']['bytes'] / 1000:.0f} | {rows[:, 0].mean():.3f} | "
                  f"{rows[:, 1].mean():.4f}, {rows[:, 1].min():.3f} | {rows[:, 2].mean():.4f} |",
                  flush=True)


if __name__ == "__main__":
    main()
