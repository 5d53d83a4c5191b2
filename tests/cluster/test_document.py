# SPDX-License-Identifier: Apache-2.0
"""docs/cluster.md, as it is written, with a Slurm of its own."""

import pathlib
import sys

from service import free_port

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "tests" / "docs"))

import walk  # noqa: E402 (the path above is needed first)
from shell import Shell  # noqa: E402


def test_the_page(slurm, didid, didictl, family, tmp_path):
    addresses = {f"127.0.0.1:{port}": f"127.0.0.1:{free_port()}" for port in (7878, 7879)}
    for folder in ("shared", "page"):
        (tmp_path / folder).mkdir()
    (tmp_path / "shared" / "models").symlink_to(family)
    programs = walk.programs(tmp_path / "programs", didid=didid, didictl=didictl)
    words = {**addresses, "/shared/": f"{tmp_path}/shared/",
             "/var/lib/didid": f"{tmp_path}/state"}
    shell = Shell(tmp_path / "page", programs, words, {
        **walk.ENVIRONMENT, **slurm.environment,
        "DIDI_HOST": f"http://{addresses['127.0.0.1:7878']}"})
    try:
        walk.run(shell, ROOT / "docs" / "cluster.md")
    finally:
        shell.close()
