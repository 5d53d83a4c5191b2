# SPDX-License-Identifier: Apache-2.0
"""What the Python tests share: where the programs and the demo family are, and a running daemon."""

import os
import pathlib
import sys

import pytest

TESTS = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(TESTS), str(TESTS / "family")]

import small  # noqa: E402 (the path above is needed first)
from s3 import S3  # noqa: E402
from service import Daemon  # noqa: E402


def program(name, folder):
    """An executable: from the environment (DIDID, DIDICTL), else from build/."""
    path = pathlib.Path(os.environ.get(name.upper(), TESTS.parent / "build" / folder / name))
    assert path.exists(), f"{path} is not built"
    return str(path)


@pytest.fixture(scope="session")
def didid():
    return program("didid", "daemon")


@pytest.fixture(scope="session")
def didictl():
    return program("didictl", "client")


@pytest.fixture(scope="session")
def demo_family():
    """The directory of the demo family."""
    return TESTS / "family" / "glyphmini"


@pytest.fixture(scope="session")
def small_family(demo_family, tmp_path_factory):
    """The demo family with one layer."""
    place = tmp_path_factory.mktemp("family") / "small"
    small.write(demo_family, place)
    return place


@pytest.fixture(scope="session")
def family(demo_family):
    """What a folder's tests merge: the small one in those that are not about merges."""
    return demo_family


@pytest.fixture
def start_daemon(didid, tmp_path):
    """start_daemon(models, *arguments) -> a running Daemon, stopped when the test ends."""
    running = []

    def start(models, *arguments, state=None, environment=None):
        state = state or tmp_path / f"state{len(running)}"
        state.mkdir(exist_ok=True)
        daemon = Daemon(didid, state, models, *arguments, environment=environment)
        running.append(daemon)
        return daemon.start()

    yield start
    for daemon in running:
        daemon.stop()


@pytest.fixture
def s3():
    """A server of S3 with the bucket `artifacts`."""
    server = S3("artifacts")
    yield server
    server.stop()
    assert server.problems == []
