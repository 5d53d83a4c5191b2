# SPDX-License-Identifier: Apache-2.0
"""A daemon under test: one didid on a free loopback port."""

import collections
import fcntl
import os
import pathlib
import random
import re
import socket
import subprocess
import time
import urllib.error
import urllib.request

START_SECONDS = 60
STOP_SECONDS = 60
UNDER_SANITIZER = "ASAN_OPTIONS" in os.environ or "TSAN_OPTIONS" in os.environ

PORTS = range(20000, 32000)  # below those that the kernel gives to clients
PORTS_HELD = 200
# Jobs that tests want to last take little of the processor, once they have taken some steps.
LASTING = {"DIDI_FAULT": "step:1000+:WAIT"}
LOCKS = pathlib.Path("/tmp/didid-test-ports")
held = collections.deque()  # locks of the last ports that this process took


def lock_port(port):
    """The descriptor of a lock on the port, or None where another process of tests has it."""
    LOCKS.mkdir(mode=0o1777, exist_ok=True)
    try:
        lock = os.open(LOCKS / str(port), os.O_RDWR | os.O_CREAT, 0o666)
    except PermissionError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        return None
    return lock


def free_port():
    """A loopback port nobody listens on, and that no other process of tests is given meanwhile: a
    daemon that found its port taken would be spoken to in another's name."""
    for port in random.SystemRandom().sample(PORTS, 1000):
        lock = lock_port(port)
        if lock is None:
            continue
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                os.close(lock)
                continue
        held.append(lock)
        if len(held) > PORTS_HELD:
            os.close(held.popleft())
        return port
    raise RuntimeError("no port is free")


class Daemon:
    """didid with a state directory of its own; its log goes to didid.log beside that directory."""

    def __init__(self, didid, state, models, *arguments, environment=None,
                 listen=("127.0.0.1:{port}",)):
        self.command = [str(didid), "--state-dir", str(state), "--models", str(models), *arguments]
        self.log_path = pathlib.Path(state).parent / "didid.log"
        lasting = LASTING if "PYTEST_CURRENT_TEST" in os.environ else {}
        self.environment = {**lasting, **os.environ, **(environment or {})}
        self.listen = ",".join(listen)  # the first is the one that tests speak to
        self.process = None
        self.url = None

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.stop()

    def start(self, port=None):
        """Starts, on this port or on a free one, and returns when /readyz says so."""
        port = port or free_port()
        self.url = f"http://127.0.0.1:{port}"
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(
                [*self.command, "--listen", self.listen.format(port=port)], env=self.environment,
                stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            self.wait_until_ready()
        except BaseException:
            self.stop()
            raise
        return self

    def wait_until_ready(self):
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise RuntimeError(f"didid ended at start:\n{self.log()}")
            try:
                with urllib.request.urlopen(self.url + "/readyz", timeout=5):
                    return
            except urllib.error.HTTPError as refused:
                if refused.code == 401:
                    return  # it serves, those with tokens
                time.sleep(0.05)
            except OSError:
                time.sleep(0.05)
        raise RuntimeError(f"didid was not ready in {START_SECONDS} s:\n{self.log()}")

    def log(self):
        """The end of its log."""
        return self.log_path.read_text(errors="replace")[-4000:]

    def wait_logged(self, text, times=1, seconds=60):
        """Returns once the text stands so often in the log: lines come after what they tell."""
        deadline = time.monotonic() + seconds
        while self.log_path.read_text(errors="replace").count(text) < times:
            assert time.monotonic() < deadline, (text, self.log())
            time.sleep(0.02)

    def anonymous_bytes(self):
        """Resident anonymous memory now."""
        return anonymous_bytes(self.process.pid)

    def stop(self):
        """SIGTERM, after a while SIGKILL; the exit status."""
        if self.process is None:
            return None
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.check_log()
        return self.process.returncode

    def check_log(self):
        """A sanitizer's report fails the test, whatever else went well."""
        if not self.log_path.exists():
            return  # it lay on a disk the test has unmounted
        text = self.log_path.read_text(errors="replace")
        for mark in ("Sanitizer", "runtime error:"):
            assert mark not in text, text[max(0, text.index(mark) - 500):][:8000]


def anonymous_bytes(pid):
    """RssAnon of a process; 0 when it is gone."""
    return memory_bytes(pid, "RssAnon")


def memory_bytes(pid, key):
    """A line of /proc/PID/status that is in kB: RssAnon, VmHWM; 0 when the process is gone."""
    try:
        status = pathlib.Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    found = re.search(rf"^{key}:\s+(\d+) kB", status, re.MULTILINE)
    return int(found.group(1)) * 1024 if found else 0
