# SPDX-License-Identifier: Apache-2.0
"""Listening and stopping."""

import http.client
import os
import signal
import socket
import subprocess
import threading
import time

import pytest

from wire import HOLD, Wire, specification


def start_failure(didid, family, tmp_path, listen):
    """Exit status and output of a daemon that cannot listen."""
    state = tmp_path / "refused"
    state.mkdir(exist_ok=True)
    ended = subprocess.run([didid, "--state-dir", state, "--models", family, "--listen", listen],
                           capture_output=True, text=True, timeout=60, check=False)
    return ended.returncode, ended.stdout + ended.stderr


@pytest.mark.parametrize("listen", ["0.0.0.0:0", "192.168.1.1:80", "[::]:0", "127.0.0.1",
                                    "127.0.0.1:x", "127.0.0.1:70000", "example.com:80", "",
                                    "unix:relative", "unix:/" + "x" * 200])
def test_other_addresses_are_refused(didid, family, tmp_path, listen):
    status, output = start_failure(didid, family, tmp_path, listen)
    assert status != 0
    assert "listen" in output


def test_port_in_use(didid, daemon, family, tmp_path):
    address = daemon.url.removeprefix("http://")
    status, output = start_failure(didid, family, tmp_path, address)
    assert status != 0
    assert "in use" in output and address in output


def test_stop_ends_long_polls_and_refuses_newcomers(start_daemon, family):
    daemon = start_daemon(family)
    wire = Wire(daemon.url)
    job_id = wire.submit(specification(**HOLD))["id"]
    wire.wait(job_id, "running")
    answers = []
    poller = threading.Thread(target=lambda: answers.append(
        wire.get(f"/v1/jobs/{job_id}/events?after=1000000&wait=60")))
    poller.start()
    idle = socket.create_connection((wire.host, wire.port))
    wire.wait_for_polls(1)
    os.kill(daemon.process.pid, signal.SIGTERM)
    poller.join(45)  # well before the poll's own end
    assert not poller.is_alive()
    assert daemon.process.wait(60) == 0
    assert answers and answers[0].status == 200 and answers[0].json()["data"] == []
    assert idle.recv(10) == b""
    idle.close()
    with pytest.raises(ConnectionRefusedError):
        wire.get("/livez")


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path):
        super().__init__("any.name")
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(10)
        self.sock.connect(self.path)


def unix_status(path):
    connection = UnixConnection(path)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status
    finally:
        connection.close()


def test_unix_socket(didid, family, tmp_path):
    path, state = str(tmp_path / "d.sock"), tmp_path / "unix"
    state.mkdir()
    left = socket.socket(socket.AF_UNIX)
    left.bind(path)
    left.close()  # a socket nobody answers on is replaced
    process = subprocess.Popen([didid, "--state-dir", state, "--models", family, "--listen",
                                f"unix:{path}"], stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 30
        status = None
        while status != 200 and time.monotonic() < deadline:
            try:
                status = unix_status(path)
            except OSError:
                time.sleep(0.05)
        assert status == 200
        assert os.stat(path).st_mode & 0o777 == 0o660
    finally:
        process.terminate()
        assert process.wait(30) == 0
    assert not os.path.exists(path)
