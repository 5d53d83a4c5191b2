# SPDX-License-Identifier: Apache-2.0
"""Playwright for Debian's Chromium, in an environment of its own beside the build. Tests, pictures
and benchmarks share it."""

import pathlib
import shutil
import subprocess
import sys

REQUIREMENTS = pathlib.Path(__file__).resolve().parent / "requirements.txt"
INSTALL_SECONDS = 600


class Missing(Exception):
    """No browser, or no registry that answers."""


def packages(build):
    """The folder of Playwright's and axe's packages, made anew when requirements change; importable
    from then on."""
    if shutil.which("chromium-headless-shell") is None:
        raise Missing("chromium-headless-shell is not installed")
    place = pathlib.Path(build).resolve() / "dashboard"
    wanted = REQUIREMENTS.read_text(encoding="utf-8")
    made = place / "requirements.txt"
    if not made.exists() or made.read_text(encoding="utf-8") != wanted:
        shutil.rmtree(place, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", place], check=True, capture_output=True)
        installed = subprocess.run([place / "bin/pip", "install", "-q", "-r", REQUIREMENTS],
                                   capture_output=True, text=True, timeout=INSTALL_SECONDS,
                                   check=False)
        if installed.returncode != 0:
            raise Missing("Playwright could not be installed from the package registry: "
                          + installed.stderr.strip().splitlines()[-1])
        made.write_text(wanted, encoding="utf-8")
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
