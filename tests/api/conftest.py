# SPDX-License-Identifier: Apache-2.0
"""One daemon for all tests of the interface, and one finished job."""

import pytest

from service import Daemon
from wire import HOLD, Wire, specification

BODY_BYTES = 65536
REQUEST_SECONDS = 3


@pytest.fixture(scope="session")
def daemon(didid, family, tmp_path_factory):
    state = tmp_path_factory.mktemp("api") / "state"
    state.mkdir()
    with Daemon(didid, state, family, "--http-body-bytes-max", str(BODY_BYTES),
                "--http-request-seconds", str(REQUEST_SECONDS)) as running:
        yield running


@pytest.fixture(scope="session")
def wire(daemon):
    return Wire(daemon.url)


@pytest.fixture(scope="session")
def finished(wire):
    """The id of a succeeded job."""
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
