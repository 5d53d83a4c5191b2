# SPDX-License-Identifier: Apache-2.0
"""Options of the crash tests."""

import os

import pytest


def pytest_addoption(parser):
    parser.addoption("--kills", type=int, default=int(os.environ.get("DIDI_CRASH_KILLS", "5")),
                     help="how often the daemon is killed")
    parser.addoption("--crash-seed", type=int, default=None, help="repeats a run")


@pytest.fixture(scope="session")
def family(small_family):
    return small_family
