# SPDX-License-Identifier: Apache-2.0
"""What the rows of a merge cost by shape, tasks and budget: a law fitted to item_costs.json.

Let r be the numbers that factors may have at most, to those of a model, as the plan says. For a
matrix of m x n with T tasks, k = r m n / ((m + n) T) is the rank that each task would have were
ranks equal, and 1.3 k + 10 the rows of its sketch, which stand for k in the row decompose. An item
of decompose, pursue or refine then takes

    cpu = a (T + 1) m n k + b (T + 1) m n + c (T + 1) k^2 (m + n) + d T^2 m n + e K^2 (m + n) + f

seconds, with coefficients for each row, none below 0: products, what is done once for each number
read, what is done with rows and squares, the tasks' inner products, and the same for the shared
block's rows, K = min(T k, m, n) at most. The span has the same form with T + 1 replaced by the
experts that one lane takes one after the other. Fitted to relative errors.
"""

import itertools
import json
import math
import pathlib
import typing

import numpy as np

import cluster_model
import families

FILE = pathlib.Path(__file__).with_name("item_costs.json")
EACH = ("decompose", "pursue", "refine")
FIELDS = ("cpu", "span", "written")
BYTES_OF_NUMBER = 2  # bf16
REWEIGHTED = 8
LANES = 16  # experts at once, where so many threads were opened for


class Matrix(typing.NamedTuple):
    """What an item's cost depends on."""

    rows: int
    columns: int
    tasks: int
    ratio: float

    def uniform_rank(self):
        wanted = self.ratio * self.rows * self.columns / ((self.rows + self.columns) * self.tasks)
        return min(wanted, self.rows, self.columns)

    def sketch_rows(self):
        return min(math.ceil(1.3 * self.uniform_rank()) + 10, self.rows, self.columns)

    def features(self, row, at_once=1):
        """The sums of the law; `at_once`: experts that are worked on side by side."""
        k = self.sketch_rows() if row == "decompose" else self.uniform_rank()
        chain = math.ceil(self.tasks / at_once) + 1
        numbers = self.rows * self.columns
        shared = min(self.tasks * k, self.rows, self.columns)
        sides = self.rows + self.columns
        return np.array([chain * numbers * k, chain * numbers, chain * k * k * sides,
                         self.tasks ** 2 * numbers, shared ** 2 * sides, 1.0])

    def span_features(self, row):
        return self.features(row, min(self.tasks, LANES))

    def written_features(self, row):
        """Of the snapshot: factors, what each of their rows has, and the header."""
        k = self.sketch_rows() if row == "decompose" else self.uniform_rank()
        sides = self.rows + self.columns
        return np.array([(self.tasks + 1) * sides * k, self.tasks * sides, 1.0])


def fit(inputs, outputs):
    """Coefficients >= 0 of least relative errors, too high and too low alike: squares of
    (law - measured) / sqrt(law measured), by a few fits of which each weighs by the one before."""
    inputs, outputs = np.asarray(inputs, dtype=float), np.asarray(outputs, dtype=float)
    law = outputs
    for _ in range(REWEIGHTED):
        found = fit_once(inputs, outputs, np.sqrt(np.maximum(law, 0.1 * outputs) * outputs))
        law = inputs @ found
    return found


def fit_once(inputs, outputs, scale):
    """The best of all choices of features: of those whose coefficients are above 0."""
    scaled = inputs / scale[:, None]
    norms = np.maximum(np.linalg.norm(scaled, axis=0), np.finfo(float).tiny)
    scaled = scaled / norms
    wanted = outputs / scale
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
        known = json.loads(pathlib.Path(file).read_text())
        self.cases, self.plans, self.kernel = known["cases"], known["plans"], known["kernel"]
        self.laws = {(row, field): fit(*zip(*[(features, measured) for _, _, features, measured
                                              in self._measured(row, field)]))
                     for row in EACH for field in FIELDS}
        self._fit_rest()

    def _measured(self, row, field):
        """(case, matrix, features, measured). Spans are of what was opened for many threads.
        Seconds are of one kernel of BLAS, bytes of any."""
        for name, case in self.cases.items():
            for item in case["items"]:
                if item["row"] != row or not item.get("rows"):
                    continue
                of = Matrix(item["rows"], item["columns"], case["tasks"], case["ratio"])
                if field == "written":
                    yield name, of, of.written_features(row), max(item["written"], 1)
                elif case["kernel"] != self.kernel:
                    continue
                elif field == "cpu":
                    yield name, of, of.features(row), item["cpu"]
                elif case["workers"] >= LANES and field in item:
                    yield name, of, of.span_features(row), item[field]

    def errors(self, row, field="cpu"):
        """Of the law against what was measured: (case, matrix, measured, law)."""
        return [(name, of, measured, float(self.laws[row, field] @ features))
                for name, of, features, measured in self._measured(row, field)]

    def each(self, row, of):
        """An item of a row."""
        cpu = float(self.laws[row, "cpu"] @ of.features(row))
        span = float(self.laws[row, "span"] @ of.span_features(row))
        before = EACH.index(row) - 1
        return cluster_model.Item(
            cpu=cpu, span=min(span, cpu),
            read_bytes=(of.tasks + 1) * of.rows * of.columns * BYTES_OF_NUMBER +
            (self._written(EACH[before], of) if before >= 0 else 0),
            written_bytes=self._written(row, of))

    def _written(self, row, of):
        return float(self.laws[row, "written"] @ of.written_features(row))

    # ---- the rest: by bytes, by tensors, by singular values ----

    def _values(self, case):
        """Singular values that the `once` rows look at: those of the sketches."""
        tasks, ratio = case["tasks"], case["ratio"]
        return sum(count * tasks * Matrix(rows, columns, tasks, ratio).sketch_rows()
                   for rows, columns, count in case["shapes"])

    def _fit_rest(self):
        rest = {"digest": [], "write": [], "schedule": [], "ranks": [], "open": [], "seal": []}
        for case in self.cases.values():
            tensors, tasks = case["layers"], case["tasks"]
            for item in case["items"]:
                row, cpu = item["row"], item["cpu"]
                if row == "digest" and item["read"] > 1e6:
                    rest[row].append(([item["read"], 1.0], cpu))
                elif row == "write" and item["written"] > 0:
                    rest[row].append(([item["written"], tensors], cpu))
                elif row in ("schedule", "ranks"):
                    rest[row].append(([self._values(case), tensors * (tasks + 1)], cpu))
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

    def once(self, row, values, blocks):
        return float(self.rest[row] @ [values, blocks])

    def open(self, tensors, tasks, recalled):
        """CPU seconds of opening a merge of which `recalled` rows are done."""
        blocks = tensors * (tasks + 1)
        return float(self.rest["open"] @ [blocks, recalled * blocks, 1e-3])


# ---- whole families ----

def rows_of(costs, family, once_again=True, publish="owner"):
    """The rows of a merge for the simulator. `once_again`: each worker computes the `once` rows
    anew, as opening a merge does; `publish`: where files are written."""
    of, plan = families.FAMILIES[family], costs.plans[family]
    tasks, files, ratio = of.tasks, of.files, plan["ratio"]
    whole, numbers = of.whole_numbers(), of.numbers()
    matrices = [Matrix(*shape, tasks, ratio) for shape in of.matrices()]
    size = BYTES_OF_NUMBER * (numbers + whole)
    tensors = len(matrices)
    published = of.budget * size / (tasks + 1)  # of a file, were all alike
    values = sum(tasks * matrix.sketch_rows() for matrix in matrices)
    blocks = tensors * (tasks + 1)
    schedule, ranks = (costs.once(row, values, blocks) for row in ("schedule", "ranks"))
    headers = (tasks + 1) * (files + 1)
    found = [cluster_model.Row("digest", [
        cluster_model.Item(cpu=costs.digest(size / files), read_bytes=size / files, streams=True)
        for _ in range((tasks + 1) * files)], open_cpu=costs.open(tensors, tasks, 0),
        open_operations=headers, open_bytes=opened_bytes(tensors, tasks, 0))]
    for recalled, row in enumerate(EACH):
        again = (0, schedule, schedule + ranks)[recalled] if once_again else 0
        items = [costs.each(row, matrix) for matrix in matrices]
        if row == "decompose" and whole > 0:
            moved = (tasks + 1) * BYTES_OF_NUMBER * whole
            items.append(cluster_model.Item(cpu=costs.digest(moved), read_bytes=moved))
        if recalled > 0:
            name, cpu = (("schedule", schedule), ("ranks", ranks))[recalled - 1]
            found.append(cluster_model.Row(name, [cluster_model.Item(cpu=cpu)], place="once"))
        found.append(cluster_model.Row(
            row, items, open_cpu=costs.open(tensors, tasks, recalled) + again,
            open_operations=headers + recalled * tensors,
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
