# SPDX-License-Identifier: Apache-2.0
"""Playwright for Debian's Chromium, in an environment of its own beside the build. Tests, pictures
and benchmarks share it."""

import pathlib
import shutil
import sys

import registry_packages

REQUIREMENTS = pathlib.Path(__file__).resolve().parent / "requirements.txt"
Missing = registry_packages.Missing  # or no browser


def packages(build):
    """The folder of Playwright's and axe's packages, importable from then on."""
    if shutil.which("chromium-headless-shell") is None:
        raise Missing("chromium-headless-shell is not installed")
    place = registry_packages.environment(build, "dashboard",
                                          REQUIREMENTS.read_text(encoding="utf-8"))
    folder = next(place.glob("lib/python3*/site-packages"))
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    return folder


def playwright(build):
    """Its synchronous driver, a context manager."""
    packages(build)
    from playwright.sync_api import sync_playwright  # pylint: disable=import-outside-toplevel
    return sync_playwright()


def launch(driver):
    return driver.chromium.launch(executable_path=shutil.which("chromium-headless-shell"),
                                  args=["--no-sandbox", "--disable-dev-shm-usage"])
