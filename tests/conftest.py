# SPDX-License-Identifier: Apache-2.0
"""What the Python tests share: where the programs and the demo family are, and a running daemon."""

import os
import pathlib
import socket
import subprocess
import sys
import time
import urllib.request

import pytest

TESTS = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(TESTS / "family"))

START_SECONDS = 30
STOP_SECONDS = 30


def program(name, folder):
    """An executable: from the environment (DIDID, DIDICTL), else from build/."""
    path = os.environ.get(name.upper()) or TESTS.parent / "build" / folder / name
    if not pathlib.Path(path).exists():
        pytest.skip(f"{path} is not built")
    return str(path)


@pytest.fixture(scope="session")
def didid():
    return program("didid", "daemon")


@pytest.fixture(scope="session")
def didictl():
    return program("didictl", "client")


@pytest.fixture(scope="session")
def family():
    """The directory of the demo family."""
    return TESTS / "family" / "glyphmini"


def free_port():
    """A loopback port nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Daemon:
    """One didid on a free loopback port, with its own state directory; its log goes to a file."""

    def __init__(self, didid, state, models, *arguments, environment=None):
        self.command = [didid, "--state-dir", str(state), "--models", str(models)]
        self.arguments = arguments
        self.log_path = pathlib.Path(state).parent / "didid.log"
        self.environment = {**os.environ, **(environment or {})}
        self.process = None
        self.url = None

    def start(self):
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(
                [*self.command, "--listen", f"127.0.0.1:{port}", *self.arguments],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self.environment)
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise RuntimeError(f"didid ended at start:\n{self.log()}")
            try:
                with urllib.request.urlopen(self.url + "/readyz", timeout=2) as answer:
                    if answer.status == 200:
                        return self
            except OSError:
                time.sleep(0.05)
        self.stop()
        raise RuntimeError(f"didid was not ready in {START_SECONDS} s:\n{self.log()}")

    def log(self):
        return self.log_path.read_text(errors="replace")[-4000:]

    def stop(self):
        """SIGTERM, and the exit status; SIGKILL after a while."""
        if self.process is None:
            return None
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        return self.process.returncode


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
