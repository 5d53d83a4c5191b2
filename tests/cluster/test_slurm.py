# SPDX-License-Identifier: Apache-2.0
"""The executor slurm with a Slurm of its own, and a stand-in for the worker."""

import pathlib
import signal

import pytest

from slurm_rig import Slurm


@pytest.fixture
def by_slurm(slurm, executor):
    return executor(slurm.environment, executor="slurm")


def test_tasks_run_and_tell_how_they_ended(by_slurm):
    by_slurm.plan(t1="missing", t2="killed")
    by_slurm.submit()
    found = by_slurm.wait_over()
    assert found[0][0] == found[3][0] == "ended"
    assert found[1][:2] == ("failed", 66) and "NonZeroExitCode on n" in found[1][2]
    assert found[2][:2] == ("failed", 137)
    assert "task 0 on n" in (by_slurm.order / "task-0.log").read_text()
    assert "no such model" in (by_slurm.order / "task-1.log").read_text()
    assert by_slurm.must("find") == by_slurm.handle


def test_tasks_get_little_of_the_environment(by_slurm):
    by_slurm.environment.update(SECRET="x", SLURM_JOB_ID="7", OPENBLAS_CORETYPE="Haswell")
    by_slurm.worker.write_text("#!/bin/sh\nenv\n")
    by_slurm.numbers = "0"
    by_slurm.submit()
    by_slurm.wait_over()
    said = (by_slurm.order / "task-0.log").read_text()
    assert "OPENBLAS_CORETYPE=Haswell" in said and "SECRET" not in said
    assert "SLURM_JOB_ID=7\n" not in said


def test_names_with_spaces_and_marks_of_slurms(by_slurm, tmp_path):
    by_slurm.order = tmp_path / "an 'order' %a $HOME"
    by_slurm.order.mkdir()
    by_slurm.submit()
    assert set(state for state, _, _ in by_slurm.wait_over().values()) == {"ended"}
    assert (by_slurm.order / "task-2.log").read_text().startswith("task 2 on")


def test_cancelling(by_slurm):
    by_slurm.plan(t0="sleep", t1="sleep", t2="sleep", t3="sleep")
    by_slurm.submit()
    by_slurm.wait(lambda found: found[0][0] == "running")
    by_slurm.must("cancel", by_slurm.handle)
    assert set(state for state, _, _ in by_slurm.wait_over().values()) == {"killed"}
    by_slurm.must("cancel", by_slurm.handle)  # again
    by_slurm.must("cancel", "99999")  # what is gone


def test_an_order_that_slurm_does_not_know(by_slurm):
    assert by_slurm.must("find") == "nothing"
    by_slurm.handle = "99999"
    assert set(by_slurm.states().values()) == {"unknown"}
    by_slurm.submit()  # one array of two is gone
    by_slurm.handle = f"3:0-{by_slurm.handle}.1-99999"
    by_slurm.numbers = "0-3,1000"
    assert by_slurm.wait_over(0, 1, 2, 3)[3][0] == "ended"
    assert by_slurm.states()[1000] == "unknown"


@pytest.mark.parametrize("settings, said", [
    ({"slurm_partition": "nowhere"}, "invalid partition specified: nowhere"),
    ({"slurm_arguments": "--no-such-option"}, "unrecognized option"),
    ({"slurm_arguments": "--begin=never"}, "Invalid --begin specification"),
])
def test_what_slurm_refuses_is_told_in_its_words(by_slurm, settings, said):
    by_slurm.configure(executor="slurm", **settings)
    told, fine = by_slurm.ask("submit")
    assert not fine and told.startswith("cluster_failed: ") and said in told


@pytest.mark.parametrize("settings, reasons", [
    ({"slurm_partition": "closed"}, ["PartitionDown"]),
    ({"task_cores": "100"}, ["PartitionConfig"]),
    ({"slurm_time": "6000"}, ["PartitionConfig", "PartitionTimeLimit"]),
    ({"slurm_arguments": "--hold"}, ["JobHeldUser", "JobHeldAdmin"]),
])
def test_why_tasks_wait_for_ever(by_slurm, settings, reasons):
    by_slurm.configure(executor="slurm", **settings)
    by_slurm.submit()
    found = by_slurm.wait(lambda found: found[0][2] not in ("", "Priority"))
    assert found[0][0] == "waiting" and found[0][2] in reasons


def test_a_state_directory_that_nodes_do_not_see(slurm, by_slurm, tmp_path):
    """The order's directory is gone by the time that the nodes look for it."""
    by_slurm.configure(executor="slurm", slurm_arguments="--hold")
    by_slurm.submit()
    by_slurm.order.rename(tmp_path / "elsewhere")
    slurm.run("scontrol", "release", by_slurm.handle)
    found = by_slurm.wait_over()
    assert found[0][:2] == ("failed", 66) and "share" in found[0][2]


def test_a_worker_that_nodes_do_not_have(by_slurm):
    by_slurm.worker.unlink()
    by_slurm.submit()
    found = by_slurm.wait_over()
    assert found[0][:2] == ("failed", 127) and "worker_path" in found[0][2]
    assert "not found" in (by_slurm.order / "task-0.log").read_text()


def test_a_node_that_fails_loses_its_task_alone(slurm, by_slurm):
    by_slurm.plan(t0="waits", t1="waits")
    by_slurm.numbers = "0-1"
    by_slurm.submit()
    by_slurm.wait(lambda found: all((by_slurm.order / f"task-{number}.pid").exists()
                                    for number in found))
    nodes = {number: (by_slurm.order / f"task-{number}.log").read_text().split()[-1]
             for number in (0, 1)}
    lost = next(number for number in nodes if nodes[number] == "n1")
    slurm.kill_node("n1")
    try:
        found = by_slurm.wait(lambda found: found[lost][0] != "running")
        assert found[lost][0] == "killed" and "NODE_FAIL" in found[lost][2]
        assert found[1 - lost][0] == "running"
        (by_slurm.order / "go").touch()
        assert by_slurm.wait_over()[1 - lost][0] == "ended"
        by_slurm.name, by_slurm.numbers = by_slurm.name + "1", str(lost)
        by_slurm.submit()  # again, and the node that is left runs it
        assert by_slurm.wait_over()[lost][0] == "ended"
    finally:
        slurm.start_node("n1")
        slurm.wait_nodes("n1")


def test_a_controller_that_is_down_and_comes_back(slurm, by_slurm):
    by_slurm.plan(t0="waits", t1="waits")
    by_slurm.numbers = "0-1"
    by_slurm.submit()
    by_slurm.wait(lambda found: {row[0] for row in found.values()} == {"running"})
    slurm.stop_controller()
    try:
        for verb in ("look", "submit", "find", "cancel"):
            told, fine = by_slurm.ask(verb, *([by_slurm.handle] if verb != "submit" else []))
            assert not fine and told.startswith("scheduler_unavailable: "), (verb, told)
            assert "Unable to contact slurm controller" in told
        (by_slurm.order / "go").touch()
    finally:
        slurm.start_controller()
        slurm.wait_nodes("n0", "n1")
    assert {row[0] for row in by_slurm.wait_over().values()} == {"ended"}


def test_an_answer_that_takes_too_long(slurm, by_slurm):
    """The controller is there and says nothing."""
    by_slurm.configure(executor="slurm", cluster_command_seconds="2")
    slurm.processes["slurmctld"].send_signal(signal.SIGSTOP)
    try:
        told, fine = by_slurm.ask("find")
        assert not fine and told.startswith("scheduler_unavailable: "), told
    finally:
        slurm.processes["slurmctld"].send_signal(signal.SIGCONT)
    slurm.wait(lambda: "UP" in slurm.run("scontrol", "ping", check=False))


def test_more_tasks_than_an_array_may_have(tmp_path_factory, executor, slurm):
    """Of another Slurm, whose arrays are short."""
    slurm.run("squeue")
    with Slurm(tmp_path_factory.mktemp("short"), array_size=12) as short:
        by_short = executor(short.environment, executor="slurm")
        assert by_short.must("max") == "100"
        by_short.numbers = "8-12,40"
        by_short.submit()
        assert set(row[0] for row in by_short.wait_over().values()) == {"ended"}
        assert by_short.must("find") == by_short.handle
        for number in (8, 9, 10, 11, 12, 40):
            log = pathlib.Path(by_short.order / f"task-{number}.log").read_text()
            assert log.startswith(f"task {number} on ")
