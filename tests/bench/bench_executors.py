# SPDX-License-Identifier: Apache-2.0
"""The same jobs by the daemon's own threads, by Slurm and by MPI, on the same two cores: bytes and
seconds. Slurm is one of its own, two nodes of a core each, as tests/cluster has it."""

import json
import pathlib
import shutil
import subprocess
import sys
import time

import common

BLOCKS, TASKS, CORES, BUDGET = 12, 4, 2, 0.3
RUNS = 1
MORE_AT_MOST = 0.25  # of the seconds, by Slurm


def run_job(daemon, specification):
    import service_client as client
    began = time.monotonic()
    job = client.submit(daemon, specification, f"job-{time.time_ns()}")
    shown = client.wait_finished(daemon, job, 3600)
    if shown["state"] != "succeeded":
        raise RuntimeError(f"{shown['error']}\n{daemon.log()}")
    state = daemon.state / "jobs" / job / "artifacts"
    manifest = json.loads((state / "manifest.json").read_text())
    return time.monotonic() - began, client.artifact_digests(state), manifest["stages"]


def executors(build, slurm):
    """name -> (arguments, environment)"""
    few = ("--cluster-tasks", str(CORES), "--cluster-poll-seconds", "2")
    found = {"local": (("--workers", str(CORES)), {})}
    if slurm is not None:
        found["slurm"] = (("--executor", "slurm", *few), slurm.environment)
    program = build / "daemon" / "didid-mpi"
    if program.exists() and shutil.which("mpiexec.mpich"):
        found["mpi, 2 ranks and one that hands out"] = (
            ("--executor", "mpi", "--mpi-command", "mpiexec.mpich", "--mpi-ranks", "3",
             "--mpi-program", str(program), "--cluster-tasks", "16", "--cluster-poll-seconds",
             "2"), {})
    return found


def start(build, place, models, arguments, environment):
    from service import Daemon
    place.mkdir()
    state = place / "state"
    state.mkdir()
    daemon = Daemon(build / "daemon" / "didid", state, models, *arguments,
                    environment=environment)
    daemon.state = state
    return daemon.start()


def family(name, scratch, suite=None):
    """Where its models lie, and a specification. `suite`: a directory of base and tasks."""
    if suite is not None:
        suite = pathlib.Path(suite)
        return suite, {"base": "base", "budget": 1.4, "tasks": [
            {"name": task.name, "model": f"tasks/{task.name}"}
            for task in sorted((suite / "tasks").iterdir())]}
    place = scratch / "family"
    subprocess.run([sys.executable, common.FAMILY.parents[1] / "bench" / "make_family.py", place,
                    "--blocks", str(BLOCKS), "--tasks", str(TASKS)], check=True)
    return place, {"base": "base", "budget": BUDGET, "tasks": [
        {"name": f"task{number}", "model": f"task{number}"} for number in range(TASKS)]}


def compare(name, scratch, build, slurm, runs, suite=None):
    models, specification = family(name, scratch, suite)
    seconds, digests, fine = {}, {}, True
    for run in range(runs):
        for executor, (arguments, environment) in executors(build, slurm).items():
            place = scratch / f"{name}-{executor.split(',')[0]}-{run}"
            daemon = start(build, place, models, arguments, environment)
            try:
                took, found, stages = run_job(daemon, specification)
            finally:
                daemon.stop()
            cpu = sum(stage.get("cpu_seconds") or 0 for stage in stages.values())
            seconds.setdefault(executor, []).append(took)
            digests.setdefault(executor, found)
            shutil.rmtree(place)
            print(f"  {name}, {executor}: {took:.1f} s, {cpu:.1f} CPU s of items", flush=True)
    for executor, found in digests.items():
        same = found == digests["local"]
        fine = fine and same
        more = min(seconds[executor]) / min(seconds["local"]) - 1
        print(f"  {name}, {executor}: {'equal bytes' if same else 'OTHER BYTES'}, "
              f"{100 * more:+.0f} % of the seconds of local")
    return fine, min(seconds.get("slurm", [float("inf")])) / min(seconds["local"]) - 1


def measure(arguments, scratch):
    sys.path[:0] = [str(common.FAMILY.parents[1] / "cluster"),
                    str(common.FAMILY.parents[1] / "crash")]
    import slurm_rig
    if not slurm_rig.is_here():
        print("  Slurm is not installed, or we are not root")
        return False
    with slurm_rig.Slurm(scratch / "slurm") as slurm:
        equal, _ = compare("glyphmini", scratch, arguments.build, slurm, 1, common.FAMILY)
        if arguments.glyph8 is None:
            print("  no larger suite was given (DIDI_GLYPH8): its bytes are not compared")
        else:
            equal &= compare("glyph8", scratch, arguments.build, slurm, 1, arguments.glyph8)[0]
        large, more = compare("vitb32", scratch, arguments.build, slurm, RUNS)
    fine = common.verdict("bytes of all executors", "equal" if equal and large else "other",
                          "equal", equal and large)
    return common.verdict("seconds by Slurm, more than by threads", f"{100 * more:.0f} %",
                          f"{100 * MORE_AT_MOST:.0f} %", more <= MORE_AT_MOST) and fine
