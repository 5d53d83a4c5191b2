# SPDX-License-Identifier: Apache-2.0
"""What the rows of a merge cost by shape, tasks and budget: a law fitted to item_costs.json.

Of a matrix of m x n, T tasks and a budget of b models, k = b m n / ((m + n) T) is the rank that each
task would have were ranks equal. An item of decompose, pursue or refine then takes

    cpu = a (T + 1) m n k + b (T + 1) m n + c (T + 1) k^2 (m + n) + d

seconds, with coefficients for each row, none below 0: products, what is done once for each number
read, and what is done with rows and squares. The span has the same form with T + 1 replaced by the
experts that one lane takes one after the other. Fitted to relative errors.
"""

import itertools
import json
import math
import pathlib

import numpy as np

import cluster_model

FILE = pathlib.Path(__file__).with_name("item_costs.json")
EACH = ("decompose", "pursue", "refine")
BYTES_OF_NUMBER = 2  # bf16
LANES = 16  # experts at once, where so many threads were opened for


def uniform_rank(rows, columns, tasks, budget):
    return budget * rows * columns / ((rows + columns) * tasks)


def features(rows, columns, tasks, budget, at_once=1):
    """The four sums of the law; `at_once`: experts that are worked on side by side."""
    k = uniform_rank(rows, columns, tasks, budget)
    chain = math.ceil(tasks / at_once) + 1
    return np.array([chain * rows * columns * k, chain * rows * columns,
                     chain * k * k * (rows + columns), 1.0])


def fit(inputs, outputs):
    """Coefficients >= 0 of least relative squares: the best of all choices of features."""
    scaled = np.asarray(inputs) / np.asarray(outputs)[:, None]
    norms = np.linalg.norm(scaled, axis=0)
    scaled = scaled / norms
    wanted = np.ones(len(scaled))
    best, least = np.zeros(scaled.shape[1]), np.inf
    for size in range(1, scaled.shape[1] + 1):
        for chosen in map(list, itertools.combinations(range(scaled.shape[1]), size)):
            found = np.linalg.lstsq(scaled[:, chosen], wanted, rcond=None)[0]
            rest = np.linalg.norm(scaled[:, chosen] @ found - wanted)
            if found.min() >= 0 and rest < least - 1e-9:
                best, least = np.zeros(scaled.shape[1]), rest
                best[chosen] = found
    return best / norms


class Costs:
    """The law, from what was measured."""

    def __init__(self, file=FILE):
        self.cases = json.loads(pathlib.Path(file).read_text())["cases"]
        self.cpu = {row: self._fit(row, "cpu_median", wide=None) for row in EACH}
        self.span = {row: self._fit(row, "span", wide=True) for row in EACH}
        self.written = {row: self._fit_written(row) for row in EACH}
        self._fit_rest()

    def items(self, row, wide=None):
        """(case, item) of matrices; `wide`: opened for many threads."""
        for case in self.cases.values():
            for item in case["items"]:
                if item["row"] == row and item.get("rows") and wide in (None, case["workers"] > 1):
                    yield case, item

    def _fit(self, row, field, wide):
        inputs, outputs = [], []
        for case, item in self.items(row, wide):
            at_once = min(case["tasks"], LANES) if wide else 1
            inputs.append(features(item["rows"], item["columns"], case["tasks"], case["budget"],
                                   at_once))
            outputs.append(item[field])
        return fit(inputs, outputs)

    def _fit_written(self, row):
        def sums(rows, columns, tasks, budget):
            k = uniform_rank(rows, columns, tasks, budget)
            return np.array([(tasks + 1) * (rows + columns) * k, tasks * (rows + columns), 1.0])

        self._written_sums = sums
        found = list(self.items(row))
        return fit([sums(item["rows"], item["columns"], case["tasks"], case["budget"])
                    for case, item in found], [max(item["written"], 1) for _, item in found])

    def each(self, row, rows, columns, tasks, budget, heavy=None):
        """An item of a row. The engine serves matrices by their size, so that is its weight."""
        at = features(rows, columns, tasks, budget)
        side = features(rows, columns, tasks, budget, min(tasks, LANES))
        cpu = float(self.cpu[row] @ at)
        return cluster_model.Item(
            cpu=cpu, span=min(float(self.span[row] @ side), cpu),
            read_bytes=(tasks + 1) * rows * columns * BYTES_OF_NUMBER,
            written_bytes=float(self.written[row] @ self._written_sums(rows, columns, tasks,
                                                                       budget)),
            weight=rows * columns if heavy is None else heavy)

    def errors(self, row, field="cpu_median"):
        """Of the law against what was measured: (case, rows, columns, measured, law)."""
        wide = True if field == "span" else None
        table = []
        for name, case in self.cases.items():
            for item in case["items"]:
                if item["row"] != row or not item.get("rows") or (wide and case["workers"] < 2):
                    continue
                at = features(item["rows"], item["columns"], case["tasks"], case["budget"],
                              min(case["tasks"], LANES) if wide else 1)
                law = (self.span if wide else self.cpu)[row] @ at
                table.append((name, item["rows"], item["columns"], item[field], float(law)))
        return table

    # ---- the rest: by bytes, by tensors, by singular values ----

    def _values(self, case):
        """Singular values that the `once` rows look at: those of the sketches."""
        return sum(count * case["tasks"] * sketch_rows(rows, columns, case["tasks"], case["budget"])
                   for rows, columns, count in case["shapes"])

    def _fit_rest(self):
        rest = {"digest": [], "write": [], "schedule": [], "ranks": [], "open": [], "seal": []}
        for case in self.cases.values():
            tensors, tasks = case["layers"], case["tasks"]
            for item in case["items"]:
                row, cpu = item["row"], item["cpu_median"]
                if row == "digest" and item["read"] > 1e6:
                    rest[row].append(([item["read"], 1.0], cpu))
                elif row == "write" and item["written"] > 0:
                    rest[row].append(([item["written"], tensors], cpu))
                elif row in ("schedule", "ranks"):
                    rest[row].append(([self._values(case), 1.0], cpu))
                elif row == "open":
                    recalled = {"digest": 0, "decompose": 0, "schedule": 1}[item["before"]]
                    # the mean of two openings, before pursue and before refine
                    snapshots = 1.5 * recalled * tensors * (tasks + 1)
                    rest[row].append(([tensors * (tasks + 1), snapshots, 1e-3], cpu))
                elif row == "seal":
                    published = sum(other["written"] * other["count"] / case["runs"]
                                    for other in case["items"] if other["row"] == "write")
                    rest[row].append(([published, tensors * (tasks + 1)], cpu))
        self.rest = {row: fit([sums for sums, _ in found], [cpu for _, cpu in found])
                     for row, found in rest.items()}

    def digest(self, size):
        return float(self.rest["digest"] @ [size, 1.0])

    def write(self, size, tensors):
        return float(self.rest["write"] @ [size, tensors])

    def seal(self, size, tensors, tasks):
        return float(self.rest["seal"] @ [size, tensors * (tasks + 1)])

    def once(self, row, values):
        return float(self.rest[row] @ [values, 1.0])

    def open(self, tensors, tasks, recalled):
        """CPU seconds of opening a merge of which `recalled` rows are done."""
        blocks = tensors * (tasks + 1)
        return float(self.rest["open"] @ [blocks, recalled * blocks, 1e-3])


def sketch_rows(rows, columns, tasks, budget):
    wanted = math.ceil(1.3 * uniform_rank(rows, columns, tasks, budget)) + 10
    return min(wanted, rows, columns)


# ---- whole models ----

def llama(blocks, width, key_width, hidden, whole_embedding=False):
    """Matrices by shape -> how many; what is kept whole, numbers a model."""
    shapes = {(width, width): 2 * blocks, (key_width, width): 2 * blocks,
              (hidden, width): 2 * blocks, (width, hidden): blocks}
    vocabulary = 128256
    shapes[(vocabulary, width)] = 1 if whole_embedding else 2
    return shapes, vocabulary * width if whole_embedding else 0


SCENARIOS = {
    # name -> (shapes, numbers kept whole), tasks, files of a model
    "Llama-8B x 4": (llama(32, 4096, 1024, 14336), 4, 4),
    "Llama-70B x 8": (llama(80, 8192, 1024, 28672, whole_embedding=True), 8, 30),
    "ViT-L x 200": (({(1024, 1024): 96, (4096, 1024): 24, (1024, 4096): 24}, 0), 200, 1),
}


def rows_of(costs, scenario, budget=1.24, once_again=True, publish="owner"):
    """The rows of a merge for the simulator. `once_again`: each worker computes the `once` rows
    anew, as opening a merge does; `publish`: where files are digested and written."""
    (shapes, whole), tasks, files = SCENARIOS[scenario]
    matrices = [shape for shape, count in shapes.items() for _ in range(count)]
    numbers = sum(rows * columns for rows, columns in matrices)
    size = BYTES_OF_NUMBER * (numbers + whole)
    tensors = len(matrices)
    published = budget * size / (tasks + 1)  # of a file, were all alike
    values = sum(tasks * sketch_rows(*shape, tasks, budget) for shape in matrices)
    schedule, ranks = costs.once("schedule", values), costs.once("ranks", values)
    found = [cluster_model.Row("digest", [
        cluster_model.Item(cpu=costs.digest(size / files), read_bytes=size / files, streams=True)
        for _ in range((tasks + 1) * files)], place=publish)]
    for recalled, row in enumerate(EACH):
        again = (0, schedule, schedule + ranks)[recalled] if once_again else 0
        items = [costs.each(row, *shape, tasks, budget) for shape in matrices]
        if row == "decompose" and whole > 0:
            moved = (tasks + 1) * BYTES_OF_NUMBER * whole
            items.append(cluster_model.Item(cpu=costs.digest(moved), read_bytes=moved, weight=whole))
        if recalled > 0:
            name, cpu = (("schedule", schedule), ("ranks", ranks))[recalled - 1]
            found.append(cluster_model.Row(name, [cluster_model.Item(cpu=cpu)], place="once"))
        found.append(cluster_model.Row(
            row, items, open_cpu=costs.open(tensors, tasks, recalled) + again,
            open_operations=(tasks + 1) * (files + 1) + recalled * tensors,
            open_bytes=opened_bytes(tensors, tasks, recalled)))
    found.append(cluster_model.Row("write", [
        cluster_model.Item(cpu=costs.write(published, tensors), read_bytes=published,
                           written_bytes=published, streams=True)
        for _ in range(tasks + 1)], place=publish))
    found.append(cluster_model.Row("seal", [cluster_model.Item(
        cpu=costs.seal((tasks + 1) * published, tensors, tasks),
        read_bytes=(tasks + 1) * published, streams=True)], place="once"))
    return found


HEADER_BYTES = 150  # of a tensor in a model's header
SNAPSHOT_BYTES = 128 << 10  # that a page fault brings of a snapshot, with what is read ahead


def opened_bytes(tensors, tasks, recalled):
    return (tasks + 1) * tensors * HEADER_BYTES + recalled * tensors * SNAPSHOT_BYTES
