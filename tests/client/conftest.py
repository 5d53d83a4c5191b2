# SPDX-License-Identifier: Apache-2.0
"""didictl as a user runs it, against a server made for the test or (`host`) a real daemon."""

import os
import subprocess

import pytest

from fake import Fake

RUN_SECONDS = 300


@pytest.fixture(scope="session")
def family(small_family):
    return small_family


@pytest.fixture
def fake():
    server = Fake()
    yield server
    server.stop()


@pytest.fixture
def host(fake):
    """The URL of the server that `call` talks to."""
    return fake.url


@pytest.fixture
def environment(host, tmp_path):
    """A user without settings."""
    kept = {name: value for name, value in os.environ.items()
            if not name.startswith("DIDI_") and name != "NO_COLOR"}
    return {
        **kept,
        "DIDI_HOST": host,
        "HOME": str(tmp_path),
        "XDG_CONFIG_HOME": "",
        "LC_ALL": "C.UTF-8",
    }


@pytest.fixture
def call(didictl, environment):
    """call(*arguments, status=0, ...) -> the finished process; its exit code must be `status`."""

    def run(*arguments, status=0, stdin="", **more):
        done = subprocess.run(
            [didictl, *arguments],
            env={**environment, **more},
            input=stdin,
            capture_output=True,
            text=True,
            timeout=RUN_SECONDS,
            check=False,
        )
        assert done.returncode == status, (done.returncode, done.stdout, done.stderr)
        assert "ERROR: " not in done.stderr, done.stderr  # of a sanitizer
        return done

    return run
