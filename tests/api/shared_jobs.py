# SPDX-License-Identifier: Apache-2.0
"""Jobs of a folder's daemon that its tests share: one that succeeded, and one that runs."""

import pytest

from wire import HOLD, Wire, specification


@pytest.fixture(scope="session")
def wire(daemon):
    return Wire(daemon.url)


@pytest.fixture(scope="session")
def finished(wire):
    """The id of a succeeded job of two tasks."""
    job = wire.submit(specification(name="finished", labels={"kind": "finished"}))
    wire.wait(job["id"], "succeeded")
    return job["id"]


@pytest.fixture
def held(wire):
    """The id of a job that runs until it is cancelled."""
    job = wire.submit(specification(name="held", labels={"kind": "held"}, **HOLD))
    wire.wait(job["id"], "running")
    yield job["id"]
    wire.post(f"/v1/jobs/{job['id']}/cancel")
    wire.wait(job["id"], "cancelled")
