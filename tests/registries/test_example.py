# SPDX-License-Identifier: Apache-2.0
"""docs/examples/mlflow, as it is written, with MLflow itself."""

import pathlib
import sys

from service import free_port

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "tests" / "docs"))

import walk  # noqa: E402 (the path above is needed first)
from shell import Shell  # noqa: E402

FOLDER = ROOT / "docs" / "examples" / "mlflow"


def test_the_walk_from_mlflow_to_adapters(mlflow, mlflow_programs, didid, didictl, family,
                                          tmp_path):
    address = f"127.0.0.1:{free_port()}"
    programs = walk.programs(tmp_path / "programs", didid=didid, didictl=didictl,
                             python=mlflow_programs / "python")
    words = {"127.0.0.1:7878": address, "127.0.0.1:5000": mlflow.url.removeprefix("http://"),
             "/srv/models": str(family)}
    place = tmp_path / "walk"
    place.mkdir()
    for file in FOLDER.iterdir():
        if file.suffix != ".md":
            (place / file.name).write_text(walk.replaced(file.read_text(encoding="utf-8"), words),
                                           encoding="utf-8")
    shell = Shell(place, programs, words, {**walk.ENVIRONMENT, "DIDI_HOST": f"http://{address}",
                                           "MLFLOW_DISABLE_TELEMETRY": "true"})
    try:
        walk.run(shell, FOLDER / "README.md")
    finally:
        shell.close()
