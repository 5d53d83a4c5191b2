# SPDX-License-Identifier: Apache-2.0
"""kill -9 in the middle of a bake-off: it goes on to the same table."""

import contextlib
import signal

import pytest

import service_client as client
from service import Daemon

REQUEST = {"base": "base", "methods": ["average", "bitdelta", "emr"],
           "tasks": [{"name": name, "model": f"tasks/{name}"} for name in ("hiragana", "latin")]}
FIGURES = ("label", "role", "state", "bytes", "relative_error")


def begin(daemon):
    return client.call(daemon, "POST", "/v1/bakeoffs", REQUEST, {"Idempotency-Key": "bake"})["id"]


def wait_ended(daemon, bakeoff):
    return client.wait_finished(daemon, bakeoff, of="bakeoffs")


def table(shown):
    return [tuple(row[name] for name in FIGURES) for row in shown["rows"]]


@pytest.fixture(scope="module")
def whole(didid, family, tmp_path_factory):
    """The table of one that nothing disturbed."""
    with Daemon(didid, tmp_path_factory.mktemp("whole"), family) as daemon:
        shown = wait_ended(daemon, begin(daemon))
    assert shown["state"] == "succeeded"
    return table(shown)


@pytest.mark.parametrize("fault", ["submit:3", "claim:2", "layer:20", "finish:4",
                                   "submit:5"])
def test_the_table_is_the_same(start_daemon, family, tmp_path, whole, fault):
    state = tmp_path / "state"
    daemon = start_daemon(family, state=state)
    client.restart_with_fault(daemon, fault)
    with contextlib.suppress(OSError):  # it may die before it has answered
        begin(daemon)
    assert daemon.process.wait(60) == -signal.SIGKILL
    daemon.start()
    bakeoff = begin(daemon)  # the key tells that it is the one
    shown = wait_ended(daemon, bakeoff)
    assert shown["state"] == "succeeded" and table(shown) == whole
    assert not client.jobs(daemon)
    assert len(client.call(daemon, "GET", "/v1/bakeoffs")["data"]) == 1
