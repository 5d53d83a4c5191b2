# SPDX-License-Identifier: Apache-2.0
"""Whole jobs on Slurm and on MPI: the bytes of the daemon's own threads."""

import os
import pathlib
import shutil
import signal
import time

import pytest

import service_client as client
from merges import MERGE, merged

SLURM = ("--executor", "slurm", "--cluster-tasks", "4", "--cluster-poll-seconds", "1")


def test_on_slurm(run, own, slurm):
    assert merged(run("slurm", *SLURM, environment=slurm.environment)) == own


def test_a_node_fails_and_comes_back(run, own, slurm):
    daemon = run("slurm", *SLURM, environment=slurm.environment)
    job = client.submit(daemon, MERGE, "key")
    slurm.wait(lambda: "n1" in slurm.run("squeue", "-h", "-o", "%N"))
    slurm.kill_node("n1")
    try:
        shown = client.wait_finished(daemon, job, 300)
        assert shown["state"] == "succeeded", (shown, daemon.log())
        assert client.artifact_digests(daemon.state / "jobs" / job / "artifacts") == own
    finally:
        slurm.start_node("n1")
        slurm.wait_nodes("n1")


def test_the_daemon_dies_while_slurm_works(run, own, slurm):
    daemon = run("slurm", *SLURM, environment=slurm.environment)
    job = client.submit(daemon, MERGE, "key")
    slurm.wait(lambda: slurm.run("squeue", "-h", "-o", "%i") != "")
    daemon.process.send_signal(signal.SIGKILL)
    daemon.process.wait()
    daemon.start()
    shown = client.wait_finished(daemon, job, 300)
    assert shown["state"] == "succeeded", (shown, daemon.log())
    assert client.artifact_digests(daemon.state / "jobs" / job / "artifacts") == own


def test_a_partition_that_is_not_there(run, slurm):
    daemon = run("slurm", *SLURM, "--slurm-partition", "nowhere", environment=slurm.environment)
    job = client.submit(daemon, MERGE, "key")
    shown = client.wait_finished(daemon, job)
    assert shown["state"] == "failed" and shown["error"]["type"].endswith(":cluster-failed")
    assert "invalid partition specified: nowhere" in shown["error"]["detail"]


def test_a_controller_that_comes_back_during_a_job(run, own, slurm):
    daemon = run("slurm", *SLURM, environment=slurm.environment)
    slurm.stop_controller()
    try:
        job = client.submit(daemon, MERGE, "key")
        deadline = time.monotonic() + 60
        while "scheduler" not in str(client.call(daemon, "GET", f"/v1/jobs/{job}")) and \
                "Unable to contact" not in str(
                    client.call(daemon, "GET", f"/v1/jobs/{job}/events?limit=1000")):
            assert time.monotonic() < deadline, daemon.log()
            time.sleep(0.2)
    finally:
        slurm.start_controller()
        slurm.wait_nodes("n0", "n1")
    shown = client.wait_finished(daemon, job, 300)
    assert shown["state"] == "succeeded", (shown, daemon.log())
    assert client.artifact_digests(daemon.state / "jobs" / job / "artifacts") == own


def test_a_partition_that_is_down_is_waited_for(run, own, slurm):
    daemon = run("slurm", *SLURM, "--slurm-partition", "closed", environment=slurm.environment)
    job = client.submit(daemon, MERGE, "key")
    client.wait_noted(daemon, job, "PartitionDown")
    slurm.run("scontrol", "update", "PartitionName=closed", "State=UP")
    try:
        shown = client.wait_finished(daemon, job, 300)
    finally:
        slurm.run("scontrol", "update", "PartitionName=closed", "State=DOWN")
    assert shown["state"] == "succeeded", (shown, daemon.log())
    assert client.artifact_digests(daemon.state / "jobs" / job / "artifacts") == own


def test_a_cancelled_job_leaves_nothing_in_the_queue(run, slurm):
    daemon = run("slurm", *SLURM, environment=slurm.environment)
    job = client.submit(daemon, {**MERGE, "refine": {"optimizer": "adam", "steps": 20000}}, "key")
    client.wait_noted(daemon, job, "went to slurm")
    client.call(daemon, "POST", f"/v1/jobs/{job}/cancel")
    assert client.wait_finished(daemon, job)["state"] == "cancelled"
    assert slurm.run("squeue", "-h") == ""


@pytest.mark.parametrize("start", ["mpiexec.mpich", "mpiexec.openmpi --oversubscribe"])
def test_on_mpi(run, own, start, didid):
    """By the MPI that didid-mpi was built with; with another one it says so."""
    if shutil.which(start.split()[0]) is None:
        pytest.skip(f"{start.split()[0]} is not installed")
    program = pathlib.Path(didid).parent / "didid-mpi"
    if not program.exists():
        pytest.skip("didid-mpi is not built: no MPI was found")
    is_mpich = b"mpich" in program.read_bytes()
    daemon = run("mpi", "--executor", "mpi", "--mpi-ranks", "4", "--mpi-command", start,
                 "--cluster-poll-seconds", "1")
    if is_mpich == ("mpich" in start):
        assert merged(daemon) == own
        return
    job = client.submit(daemon, MERGE, "key")
    shown = client.wait_finished(daemon, job)
    assert shown["state"] == "failed" and "was built with" in shown["error"]["detail"], shown


def test_a_lost_rank_costs_its_items(run, didid):
    """mpiexec ends them all; the daemon starts it again, and what was done stays done."""
    program = (pathlib.Path(didid).parent / "didid-mpi").resolve()
    if not program.exists() or b"mpich" not in program.read_bytes():
        pytest.skip("didid-mpi is not built, or with another MPI than MPICH")
    slow = {**MERGE, "refine": {"optimizer": "adam", "steps": 400}}
    daemon = run("own")
    job = client.submit(daemon, slow, "key")
    assert client.wait_finished(daemon, job)["state"] == "succeeded"
    wanted = client.artifact_digests(daemon.state / "jobs" / job / "artifacts")
    daemon.stop()
    daemon = run("mpi", "--executor", "mpi", "--mpi-ranks", "3", "--mpi-command", "mpiexec.mpich",
                 "--cluster-tasks", "16", "--cluster-poll-seconds", "1")
    job = client.submit(daemon, slow, "key")
    lost = 0
    while lost < 2 and client.call(
            daemon, "GET", f"/v1/jobs/{job}")["state"] not in client.FINISHED:
        running = client.processes(program)
        if running:
            try:
                os.kill(running[-1], signal.SIGKILL)
                lost += 1
            except ProcessLookupError:
                pass
        time.sleep(1.5)
    shown = client.wait_finished(daemon, job, 300)
    assert lost > 0 and shown["state"] == "succeeded", (shown["error"], daemon.log())
    assert client.artifact_digests(daemon.state / "jobs" / job / "artifacts") == wanted


@pytest.mark.parametrize("start", ["mpiexec.mpich", "srun --mpi=pmi2", "srun"])
def test_on_mpi_as_a_job_of_slurms(run, own, slurm, didid, start):
    """A rank on each node, started by Slurm; one that was told of no other says so."""
    program = pathlib.Path(didid).parent / "didid-mpi"
    if not program.exists() or b"mpich" not in program.read_bytes():
        pytest.skip("didid-mpi is not built, or with another MPI than MPICH")
    daemon = run("mpi", "--executor", "mpi", "--mpi-ranks", "2", "--mpi-allocation", "slurm",
                 "--mpi-command", start, "--cluster-poll-seconds", "1",
                 environment=slurm.environment)
    if start != "srun":
        assert merged(daemon) == own
        return
    job = client.submit(daemon, MERGE, "key")
    shown = client.wait_finished(daemon, job)
    assert shown["state"] == "failed", shown
    assert "2 ranks were started and this program sees 1" in shown["error"]["detail"], shown
