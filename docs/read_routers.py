# SPDX-License-Identifier: Apache-2.0
"""Which task inputs belong to, by exported routers, with NumPy alone: routing.md."""
from pathlib import Path

import numpy as np

from read_package import read_file


def read_routers(folder):  # routers/ of an export -> the task's directions of each layer, by task
    return {path.name: read_file(path / "router.safetensors") for path in Path(folder).iterdir()}


def route(routers, layer, x):  # share of the energy of inputs x (... x n) that each task's catch
    rows = {task: found.get(f"{layer}.directions", np.zeros((0, x.shape[-1])))
            for task, found in routers.items()}
    k = min(np.count_nonzero(values.any(axis=1)) for values in rows.values())  # as many of each
    energy = np.square(x).sum(axis=-1) + 1e-12
    return {task: np.square(x @ values[:k].astype(x.dtype).T).sum(axis=-1) / energy
            for task, values in rows.items()}
