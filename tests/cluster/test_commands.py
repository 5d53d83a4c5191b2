# SPDX-License-Identifier: Apache-2.0
"""The executor command by the example that docs/cluster.md shows: machines.py, here with no ssh."""

import os
import pathlib
import signal
import sys

import pytest

from merges import merged

ROOT = pathlib.Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "docs" / "examples" / "cluster" / "machines.py"


def settings(machines="localhost:2"):
    return {"executor": "command",
            "command_submit": f"{sys.executable} {EXAMPLE} submit {machines}",
            "command_status": f"{sys.executable} {EXAMPLE} status",
            "command_cancel": f"{sys.executable} {EXAMPLE} cancel"}


@pytest.fixture
def by_machines(executor, tmp_path):
    made = executor({"MACHINES_DIR": str(tmp_path / "machines")}, **settings())
    made.keeper = tmp_path / "machines" / made.name / "keeper"
    return made


def test_tasks_run_and_tell_how_they_ended(by_machines):
    by_machines.plan(t1="missing", t2="killed")
    assert by_machines.must("find") == "nothing"
    by_machines.submit()
    assert by_machines.wait_over() == {
        0: ("ended", 0, ""), 1: ("failed", 66, "on localhost"), 2: ("killed", 0, "on localhost"),
        3: ("ended", 0, "")}
    assert "no such model" in (by_machines.order / "task-1.log").read_text()
    assert by_machines.must("find") == by_machines.handle
    by_machines.submit()  # told twice
    assert by_machines.states()[0] == "ended"


def test_no_more_at_once_than_a_machine_takes(by_machines):
    by_machines.plan(t0="waits", t1="waits")
    by_machines.submit()
    found = by_machines.wait(lambda found: found[0][0] == found[1][0] == "running")
    assert found[3] == ("waiting", 0, "for a machine")
    (by_machines.order / "go").touch()
    assert {row[0] for row in by_machines.wait_over().values()} == {"ended"}


def test_cancelling(by_machines):
    by_machines.plan(t0="sleep", t1="sleep")
    by_machines.submit()
    by_machines.wait(lambda found: found[0][0] == "running")
    by_machines.must("cancel", by_machines.handle)
    assert by_machines.wait_over()[3][0] == "killed"
    by_machines.must("cancel", by_machines.handle)
    by_machines.must("cancel", "gone")


def test_who_keeps_the_order_dies(by_machines):
    by_machines.plan(t0="waits", t1="waits")
    by_machines.submit()
    by_machines.wait(lambda found: found[0][0] == "running")
    os.kill(int(by_machines.keeper.read_text()), signal.SIGKILL)
    found = by_machines.wait_over()
    assert found[3] == ("killed", 0, "with the machine that kept the order")
    (by_machines.order / "go").touch()  # what is left ends by itself


def test_no_room_for_its_files(by_machines, tmp_path):
    (tmp_path / "machines").write_text("a file")
    told, fine = by_machines.ask("submit")
    assert not fine and told.startswith("scheduler_unavailable: ") and "Not a directory" in told


def test_a_job(run, own, tmp_path):
    words = [word for key, value in settings().items() for word in
             (f"--{key.replace('_', '-')}", value)]
    daemon = run("machines", *words, "--cluster-tasks", "3", "--cluster-poll-seconds", "1",
                 environment={"MACHINES_DIR": str(tmp_path / "kept")})
    assert merged(daemon) == own
