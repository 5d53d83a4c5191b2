# SPDX-License-Identifier: Apache-2.0
"""Debian's Chromium at the dashboard of a real daemon."""

import pathlib
import subprocess
import sys

import pytest

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "api"))

import chromium  # noqa: E402 (paths come first)
from service import Daemon  # noqa: E402 (paths come first)
from shared_jobs import finished, held, wire  # noqa: E402, F401 (fixtures)
from visitor import Visitor  # noqa: E402


@pytest.fixture(scope="session")
def packages(didid):
    """The folder of Playwright's and axe's packages; a skip where they cannot be had."""
    try:
        return chromium.packages(pathlib.Path(didid).resolve().parents[1])
    except chromium.Missing as reason:
        pytest.skip(str(reason))


@pytest.fixture(scope="session")
def browser(didid, packages):
    with chromium.playwright(pathlib.Path(didid).resolve().parents[1]) as driver:
        running = chromium.launch(driver)
        yield running
        running.close()


@pytest.fixture
def visit(browser, start_daemon):  # pylint: disable=unused-argument
    """visit(url, token=None, **options of a browser context) -> a Visitor, checked at the end,
    before the daemons of the test stop."""
    visitors = []

    def begin(url, **options):
        visitors.append(Visitor(browser, url, **options))
        return visitors[-1]

    yield begin
    for visitor in visitors:
        visitor.close()
    for visitor in visitors:
        visitor.check()


@pytest.fixture(scope="session")
def daemon(didid, family, tmp_path_factory):
    """A daemon without tokens, with the demo family."""
    state = tmp_path_factory.mktemp("dashboard") / "state"
    state.mkdir()
    with Daemon(didid, state, family) as running:
        yield running


@pytest.fixture(scope="session")
def axe(packages):
    """The text of axe-core."""
    return (packages / "axe_playwright_python/axe.min.js").read_text(encoding="utf-8")


@pytest.fixture
def token(didid, tmp_path):
    """token(scope) -> a new token of the daemon whose state directory is tmp_path/state0."""

    def make(scope, name=None):
        done = subprocess.run([didid, "token", "create", "--state-dir", tmp_path / "state0",
                               "--name", name or scope, "--scope", scope],
                              capture_output=True, text=True, timeout=60, check=True)
        return done.stdout.strip().splitlines()[-1].split()[-1]

    return make
