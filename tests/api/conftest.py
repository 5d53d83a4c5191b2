# SPDX-License-Identifier: Apache-2.0
"""One daemon for all tests of the interface."""

import pytest

from service import Daemon
from shared_jobs import finished, held, wire  # noqa: F401 (fixtures)

BODY_BYTES = 65536
REQUEST_SECONDS = 3


@pytest.fixture(scope="session")
def family(small_family):
    return small_family


@pytest.fixture(scope="session")
def daemon(didid, family, tmp_path_factory):
    state = tmp_path_factory.mktemp("api") / "state"
    state.mkdir()
    with Daemon(didid, state, family, "--http-body-bytes-max", str(BODY_BYTES),
                "--http-request-seconds", str(REQUEST_SECONDS)) as running:
        yield running
