# SPDX-License-Identifier: Apache-2.0
"""Errors of two simpler methods at a budget, in NumPy: what a merge must stay below.

Both keep vectors and embeddings for each task, take components greedily by energy per number, and
measure sum |tau_hat - tau|^2 / sum |tau|^2 over the matrices.
"""

import numpy as np

SWEEPS = 4


class Baselines:
    """The spectra of one family, for any budget."""

    def __init__(self, base, models, names):
        self.tasks = list(models)
        self.names = sorted(names)
        self.tau = {name: np.stack([
            (np.asarray(models[task][name], np.float64) - base[name]).reshape(
                base[name].shape[0], -1) for task in self.tasks]) for name in self.names}
        self.parameters = sum(value.size for value in base.values() if value.dtype.kind == "f")
        matrices = sum(tau[0].size for tau in self.tau.values())
        self.dense = (self.parameters - matrices) * len(self.tasks)
        self.energy = sum(float(np.sum(tau ** 2)) for tau in self.tau.values())
        self.means = {name: tau.mean(0) for name, tau in self.tau.items()}

    def ranks(self, spectra, budget):
        """spectra: (name, block) -> singular values and how often they count."""
        room = budget * self.parameters - self.dense
        rows = []
        for key, (sigma, weight) in spectra.items():
            cost = sum(self.tau[key[0]].shape[1:])
            rows += [(-weight * value ** 2 / cost, key, cost) for value in sigma]
        taken = dict.fromkeys(spectra, 0)
        for _, key, cost in sorted(rows):
            if cost > room:
                break
            room -= cost
            taken[key] += 1
        return taken

    def separate(self, budget):
        """Each task's own singular value decomposition."""
        spectra = {(name, task): (np.linalg.svd(tau[task], compute_uv=False), 1)
                   for name, tau in self.tau.items() for task in range(len(self.tasks))}
        taken = self.ranks(spectra, budget)
        return sum(float(np.sum(sigma[taken[key]:] ** 2))
                   for key, (sigma, _) in spectra.items()) / self.energy

    def mean_and_residual(self, budget):
        """The mean and what each task differs from it by, refined at the greedy ranks."""
        count = len(self.tasks)
        spectra = {}
        for name, tau in self.tau.items():
            spectra[name, 0] = np.linalg.svd(self.means[name], compute_uv=False), count
            for task in range(count):
                own = np.linalg.svd(tau[task] - self.means[name], compute_uv=False)
                spectra[name, task + 1] = own, 1
        taken = self.ranks(spectra, budget)
        return sum(self.refined(name, [taken[name, block] for block in range(count + 1)])
                   for name in self.names) / self.energy

    def refined(self, name, ranks):
        """Blocks replaced by their best in turn; the squared error left."""
        tau = self.tau[name]
        shared = truncate(self.means[name], ranks[0])
        for _ in range(SWEEPS):
            experts = [truncate(one - shared, rank) for one, rank in zip(tau, ranks[1:])]
            shared = truncate((tau - np.stack(experts)).mean(0), ranks[0])
        experts = [truncate(one - shared, rank) for one, rank in zip(tau, ranks[1:])]
        return float(np.sum((tau - shared - np.stack(experts)) ** 2))


def truncate(matrix, rank):
    left, sigma, right = np.linalg.svd(matrix, full_matrices=False)
    return (left[:, :rank] * sigma[:rank]) @ right[:rank]
