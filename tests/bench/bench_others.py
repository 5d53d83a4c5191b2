# SPDX-License-Identifier: Apache-2.0
"""Accuracy kept by other systems and by didid, at the bytes that each stores.

The others are written here from their publications and published code, in NumPy, with their
published settings: average (Wortsman et al. 2022), task arithmetic (Ilharco et al. 2023), TIES
(Yadav et al. 2023), TALL masks over TIES (Wang et al. 2024), EMR (Huang et al. 2024), BitDelta
without its distillation (Liu et al. 2024), TSV-C (Gargiulo et al. 2025). None of them sees data, as
didid sees none.
"""

import pathlib

import numpy as np

import artifacts
import common
import evaluate

SCALE = 0.3  # of task arithmetic
KEPT = 0.2  # of TIES
TALL = 0.4  # lambda of the masks
BYTES = (0.3, 0.5, 0.72, 1.0, 1.24)  # of didid, to one model in 16 bits
WIDTHS = (30, 8, 8, 10, 8)


class Family:
    """Base and task vectors as one long vector each, and the way back."""

    def __init__(self, suite):
        self.base = artifacts.read_model(suite.base_directory())
        self.names = sorted(name for name, values in self.base.items() if values.dtype.kind == "f")
        self.start = self.flat(self.base)
        self.tau = {task: self.flat(suite.fine_tune(task)) - self.start for task in suite.tasks}

    def flat(self, tensors):
        return np.concatenate([np.asarray(tensors[name], np.float32).ravel()
                               for name in self.names])

    def model(self, tau):
        """Tensors of base + tau."""
        out, at = dict(self.base), 0
        for name in self.names:
            size = self.base[name].size
            out[name] = (self.start + tau)[at:at + size].reshape(self.base[name].shape)
            at += size
        return out

    def matrices(self):
        """(first, end) of each matrix of the layers, and of the other tensors."""
        at, found, others = 0, [], []
        for name in self.names:
            size = self.base[name].size
            inside = self.base[name].ndim > 1 and ".layers." in name
            (found if inside else others).append((at, at + size))
            at += size
        return found, others


def ties(family, combine):
    """Keep the largest fifth, elect a sign, and combine those that agree."""
    tau = np.stack(list(family.tau.values()))
    kept = int(tau.shape[1] * KEPT)
    least = np.partition(np.abs(tau), -kept - 1, axis=1)[:, -kept - 1]
    tau = np.where(np.abs(tau) >= least[:, None], tau, 0)
    sign = np.sign(tau.sum(0))
    sign[sign == 0] = np.sign(sign.sum())
    tau = np.where(np.sign(tau) == sign, tau, 0)
    if combine == "sum":
        return tau.sum(0)
    return tau.sum(0) / np.maximum(np.count_nonzero(tau, axis=0), 1)


def average(family):
    return dict.fromkeys(family.tau, sum(family.tau.values()) / len(family.tau)), 1


def task_arithmetic(family):
    return dict.fromkeys(family.tau, np.float32(SCALE) * sum(family.tau.values())), 1


def ties_mean(family):
    return dict.fromkeys(family.tau, ties(family, "mean")), 1


def tall_masks(family):
    """Of the TIES sum, each task keeps what its own vector is near to."""
    merged = ties(family, "sum")
    return {task: np.where(np.abs(tau) > TALL * np.abs(merged - tau), merged, 0)
            for task, tau in family.tau.items()}, 1 + len(family.tau) / 16


def emr(family):
    """The largest entries of the elected sign, a mask and a factor for each task."""
    tau = np.stack(list(family.tau.values()))
    sign = np.sign(tau.sum(0))
    united = sign * np.where(tau * sign > 0, np.abs(tau), 0).max(0)
    out = {}
    for task, own in family.tau.items():
        masked = np.where(own * united > 0, united, 0)
        out[task] = masked * (np.abs(own).mean() / np.abs(masked).mean())
    return out, 1 + len(family.tau) / 16


def bitdelta(family):
    """A sign for each number of a matrix and one level for the matrix; the rest as it is."""
    matrices, others = family.matrices()
    out = {}
    for task, tau in family.tau.items():
        out[task] = tau.copy()
        for first, end in matrices:
            part = tau[first:end]
            out[task][first:end] = np.abs(part).mean() * np.sign(part)
    share = sum(end - first for first, end in matrices) / 16
    share += sum(end - first for first, end in others)
    return out, len(family.tau) * share / family.start.size


def tsv_c(family):
    """Each matrix of each task at a rank of its own: the full rank's share of a task."""
    out, share = {}, 0
    for task, tau in family.tau.items():
        out[task], at = tau.copy(), 0
        for name in family.names:
            shape = family.base[name].shape
            size = family.base[name].size
            rank = min(shape) // len(family.tau) if len(shape) == 2 else 0
            if len(shape) == 2:
                left, sigma, right = np.linalg.svd(tau[at:at + size].reshape(shape),
                                                   full_matrices=False)
                out[task][at:at + size] = ((left[:, :rank] * sigma[:rank]) @ right[:rank]).ravel()
            share += rank * (sum(shape) + 1) if len(shape) == 2 else size
            at += size
    return out, share / family.start.size


OTHERS = {"average": average, "task arithmetic, 0.3": task_arithmetic, "TIES, 20 %": ties_mean,
          "EMR": emr, "TALL masks over TIES": tall_masks, "BitDelta, not distilled": bitdelta,
          "TSV-C": tsv_c}


def measure_own(arguments, suite, budget, out):
    """(accuracy kept by task, bytes) of a merge of output dtype auto."""
    tasks = {name: str(pathlib.Path(task["model"]).parent) for name, task in suite.tasks.items()}
    text = common.specification("base", tasks, budget, output={"dtype": "auto"})
    common.merge(arguments.build, text, suite.directory, out, arguments.workers)
    base = artifacts.read_model(suite.base_directory())
    result = evaluate.evaluate(suite, lambda task: artifacts.rebuild(base, out, task),
                               limit=arguments.limit)
    files = [*out.glob("*.safetensors"), *out.glob("experts/*.safetensors")]
    stored = sum(path.stat().st_size for path in files)
    return result, stored / (2 * artifacts.float_parameters(suite.base_directory()))


def show(system, stored, result):
    worst = min(row["kept"] for row in result["tasks"].values())
    common.print_row(WIDTHS, (system, f"{stored:.2f}x", f"{result['average']:.4f}",
                              f"{result['retention']:.4f}", f"{worst:.3f}"))
    return stored, result["retention"], system


def measure_suite(arguments, directory, scratch):
    """One table; whether no other system keeps as much as didid does at its bytes or less."""
    suite = evaluate.Suite(directory)
    family = Family(suite)
    name = suite.description["name"]
    print(f"\n{name}: bytes to one model in 16 bits", flush=True)
    common.print_row(WIDTHS, ("system", "bytes", "average", "retention", "worst"))
    show("the fine-tunes", len(suite.tasks), evaluate.evaluate(suite, suite.fine_tune,
                                                              limit=arguments.limit))
    others = []
    for system, formula in OTHERS.items():
        tau, stored = formula(family)
        result = evaluate.evaluate(suite, lambda task: family.model(tau[task]),
                                   limit=arguments.limit)
        others.append(show(system, stored, result))
    own = []
    for budget in BYTES:
        result, stored = measure_own(arguments, suite, budget, scratch / f"{name}-{budget}")
        own.append(show(f"didid, auto {budget:g}", stored, result))
    ahead = [system for stored, kept, system in others
             if kept >= max((row[1] for row in own if row[0] <= stored), default=-1)]
    return common.verdict(f"{name}: ahead of didid at its bytes", ", ".join(ahead) or "none",
                          "none", not ahead)


def measure(arguments, scratch):
    directories = [common.FAMILY, *([arguments.glyph8] if arguments.glyph8 else [])]
    return all([measure_suite(arguments, directory, scratch) for directory in directories])
