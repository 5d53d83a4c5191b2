# SPDX-License-Identifier: Apache-2.0
"""An export that hangs: it fails, others go on, and it can be had after a restart."""

import time

import pytest
import service_client as client
from service import UNDER_SANITIZER
from test_hang import SECONDS, workers_lost
from test_kill import specification

pytestmark = pytest.mark.skipif(UNDER_SANITIZER,
                                reason="an item takes longer than a hanging one may")
TASKS = ["hiragana", "latin"]


@pytest.fixture(scope="session")
def family(demo_family):
    """Exports of the small one are over before all of them run."""
    return demo_family


def exports(daemon, job):
    rows = client.call(daemon, "GET", f"/v1/jobs/{job}/exports")["data"]
    return {row["task"]: row for row in rows}


def ask(daemon, job, form, *tasks):
    client.call(daemon, "POST", f"/v1/jobs/{job}/exports", {"format": form, "tasks": list(tasks)})


def wait_ended(daemon, job, task, seconds=60):
    deadline = time.monotonic() + seconds
    while (row := exports(daemon, job)[task])["state"] not in ("succeeded", "failed"):
        assert time.monotonic() < deadline, row
        time.sleep(0.05)
    return row


@pytest.mark.parametrize("form", ["full", "peft"])
def test_an_export_that_hangs_fails_and_others_go_on(start_daemon, family, tmp_path, form):
    state = tmp_path / "state"
    daemon = start_daemon(family, "--workers", "2", "--shutdown-seconds", "1", *SECONDS,
                          state=state, environment={"DIDI_FAULT": "export:1:HANG"})
    job = client.submit(daemon, specification(family, "joint"), "job")
    assert client.wait_finished(daemon, job)["state"] == "succeeded", daemon.log()
    ask(daemon, job, form, TASKS[0])
    row = wait_ended(daemon, job, TASKS[0])
    assert row["state"] == "failed" and row["error"]["type"].endswith(":worker-lost"), row
    assert "item_seconds_max (1 s)" in row["error"]["detail"]
    assert workers_lost(daemon) == 1
    warning, = client.call(daemon, "GET", "/readyz")["warnings"]
    assert warning.startswith("1 of 2 workers hang")
    ask(daemon, job, form, TASKS[1])
    assert wait_ended(daemon, job, TASKS[1])["state"] == "succeeded", daemon.log()
    ask(daemon, job, form, TASKS[0])
    row = wait_ended(daemon, job, TASKS[0])
    assert row["state"] == "failed" and "restart the daemon" in row["error"]["detail"], row
    daemon.stop()  # by its deadline
    del daemon.environment["DIDI_FAULT"]
    daemon.start()
    assert workers_lost(daemon) == 0
    assert exports(daemon, job)[TASKS[0]]["state"] == "failed"
    ask(daemon, job, form, TASKS[0])
    assert wait_ended(daemon, job, TASKS[0])["state"] == "succeeded", daemon.log()
    assert daemon.stop() == 0


def test_as_many_as_run_at_once_may_hang(start_daemon, family, tmp_path):
    daemon = start_daemon(family, "--workers", "3", "--shutdown-seconds", "1", *SECONDS,
                          state=tmp_path / "state", environment={"DIDI_FAULT": "export:1+:HANG"})
    job = client.submit(daemon, specification(family, "joint"), "job")
    assert client.wait_finished(daemon, job)["state"] == "succeeded", daemon.log()
    ask(daemon, job, "full", *TASKS)
    for task in TASKS:
        assert wait_ended(daemon, job, task)["state"] == "failed"
    assert workers_lost(daemon) == 2
    again = client.submit(daemon, specification(family, "average"), "again")
    assert client.wait_finished(daemon, again)["state"] == "succeeded", daemon.log()
    ask(daemon, again, "full", TASKS[0])  # takes the last
    assert wait_ended(daemon, again, TASKS[0])["state"] == "failed"
    assert workers_lost(daemon) == 3
    daemon.process.kill()
    daemon.process.wait()
    del daemon.environment["DIDI_FAULT"]
    daemon.start()
    ask(daemon, again, "full", TASKS[0])
    assert wait_ended(daemon, again, TASKS[0])["state"] == "succeeded", daemon.log()
    assert daemon.stop() == 0
