# SPDX-License-Identifier: Apache-2.0
"""Whole jobs on Slurm and on MPI: the same bytes as on the daemon's own threads, and the
scheduler's own words where they cannot run."""

import os
import shutil
import signal
import subprocess
import time

import pytest

import service_client as client

TASKS = ("hiragana", "latin", "mnist")
CLUSTER = ("--cluster-tasks", "2", "--cluster-poll-seconds", "1")


def merge_of(**options):
    return {"base": "base", "budget": 1.3, **options,
            "tasks": [{"name": name, "model": f"tasks/{name}"} for name in TASKS]}


def slow():
    return merge_of(refine={"optimizer": "adam", "steps": 300})


@pytest.fixture
def here(start_daemon, family, tmp_path):
    """here(specification): digests of the artifacts, by the daemon's own threads."""
    state = tmp_path / "here"
    daemon = start_daemon(family, state=state)

    def merge(specification):
        job = client.submit(daemon, specification, "here")
        shown = client.wait_finished(daemon, job)
        assert shown["state"] == "succeeded", (shown["error"], daemon.log())
        return client.artifact_digests(state / "jobs" / job / "artifacts")

    return merge


@pytest.fixture
def on(start_daemon, family, tmp_path):
    """on(executor, arguments...): a daemon with its state directory."""
    def start(executor, *arguments, environment=None):
        state = tmp_path / "state"
        daemon = start_daemon(family, "--executor", executor, *CLUSTER, *arguments, state=state,
                              environment=environment)
        daemon.state = state
        return daemon

    return start


def notes(daemon, job):
    events = client.call(daemon, "GET", f"/v1/jobs/{job}/events?limit=1000")["data"]
    return [event["text"] for event in events if event["kind"] == "note"]


def wait_noted(daemon, job, text, seconds=60):
    deadline = time.monotonic() + seconds
    while not any(text in note for note in notes(daemon, job)):
        assert time.monotonic() < deadline, notes(daemon, job)
        time.sleep(0.1)


def check(daemon, job, wanted):
    shown = client.wait_finished(daemon, job)
    assert shown["state"] == "succeeded", (shown["error"], daemon.log())
    assert client.artifact_digests(daemon.state / "jobs" / job / "artifacts") == wanted


def test_the_same_bytes_on_slurm(slurm, on, here):
    daemon = on("slurm", environment=slurm.environment)
    job = client.submit(daemon, merge_of(), "key")
    check(daemon, job, here(merge_of()))
    assert any("went to slurm" in note for note in notes(daemon, job))


@pytest.mark.parametrize("command", ["mpiexec.mpich", "mpiexec.openmpi --oversubscribe"])
def test_the_same_bytes_on_mpi(didid, on, here, command):
    if shutil.which(command.split()[0]) is None:
        pytest.skip(f"{command} is not installed")
    program = os.environ.get("DIDID_MPI", os.path.join(os.path.dirname(didid), "didid-mpi"))
    if not os.path.exists(program):
        pytest.skip("didid-mpi is not built")
    needs = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
    if ("libmpich" in needs) != ("mpich" in command):
        pytest.skip("didid-mpi is built for another MPI")
    daemon = on("mpi", "--mpi-command", command, "--mpi-ranks", "4", "--mpi-program", program,
                "--cluster-tasks", "8")
    job = client.submit(daemon, slow(), "key")
    check(daemon, job, here(slow()))


def test_a_partition_that_is_not_there(slurm, on):
    daemon = on("slurm", "--slurm-partition", "night", environment=slurm.environment)
    job = client.submit(daemon, merge_of(), "key")
    shown = client.wait_finished(daemon, job)
    assert shown["state"] == "failed"
    assert shown["error"]["type"].endswith("cluster-failed"), shown["error"]
    assert "invalid partition" in shown["error"]["detail"].lower(), shown["error"]


def test_a_partition_that_is_down_is_waited_for(slurm, on, here):
    daemon = on("slurm", "--slurm-partition", "closed", environment=slurm.environment)
    job = client.submit(daemon, merge_of(), "key")
    wait_noted(daemon, job, "PartitionDown")
    slurm.run("scontrol", "update", "PartitionName=closed", "State=UP")
    try:
        check(daemon, job, here(merge_of()))
    finally:
        slurm.run("scontrol", "update", "PartitionName=closed", "State=DOWN")


def test_a_cancelled_job_leaves_nothing_in_the_queue(slurm, on):
    daemon = on("slurm", environment=slurm.environment)
    job = client.submit(daemon, merge_of(refine={"optimizer": "adam", "steps": 20000}), "key")
    wait_noted(daemon, job, "went to slurm")
    client.call(daemon, "POST", f"/v1/jobs/{job}/cancel")
    assert client.wait_finished(daemon, job)["state"] == "cancelled"
    assert slurm.run("squeue", "-h") == ""


def test_nodes_controller_and_daemon_die(slurm, on, here):
    """What was done stays done, and the job ends with the same bytes."""
    wanted = here(slow())
    daemon = on("slurm", environment=slurm.environment)
    job = client.submit(daemon, slow(), "key")
    wait_noted(daemon, job, "went to slurm")
    slurm.kill_node("n1")
    time.sleep(1)
    slurm.start_node("n1")
    daemon.process.send_signal(signal.SIGKILL)
    daemon.process.wait()
    slurm.stop_controller()
    daemon.start()
    time.sleep(2)
    slurm.start_controller()
    check(daemon, job, wanted)
