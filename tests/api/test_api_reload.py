# SPDX-License-Identifier: Apache-2.0
"""SIGHUP: live settings are taken anew, others are named, a broken file changes nothing."""

import signal
import socket

from service import Daemon
from wire import Wire


def test_settings_are_read_again(didid, family, tmp_path):
    (tmp_path / "state").mkdir()
    file = tmp_path / "didid.conf"
    file.write_text("log_requests = 0\nqueued_jobs_max = 10\nhttp_body_bytes_max = 5000\n")
    manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    manager.bind(str(tmp_path / "notify"))
    manager.settimeout(20)
    with Daemon(didid, tmp_path / "state", family, "--config", str(file), "--log-level", "info",
                environment={"NOTIFY_SOCKET": str(tmp_path / "notify")}) as daemon:
        wire = Wire(daemon.url)
        assert manager.recv(100) == b"READY=1"
        file.write_text("log_requests = 1\nqueued_jobs_max = 77\nhttp_body_bytes_max = 6000\n"
                        "log_level = error\n")
        daemon.process.send_signal(signal.SIGHUP)
        daemon.wait_logged("settings read again")
        assert manager.recv(100).startswith(b"RELOADING=1\nMONOTONIC_USEC=")
        assert manager.recv(100) == b"READY=1"
        log = daemon.log()
        assert 'message="setting changed" key=queued_jobs_max' in log
        assert 'message="changed setting needs a restart" key=http_body_bytes_max' in log
        assert "key=log_level" not in log  # the option stands before the file
        limits = wire.get("/v1/version").json()["limits"]
        assert (limits["queued_jobs"], limits["body_bytes"]) == (77, 5000)
        daemon.wait_logged('message="request"')
        file.write_text("queued_jobs_max = 5\nlog_requests = banana\n")
        daemon.process.send_signal(signal.SIGHUP)
        daemon.wait_logged("nothing changed")
        daemon.wait_logged("line 2")
        assert wire.get("/v1/version").json()["limits"]["queued_jobs"] == 77
        assert 'outcome="failed"} 1' in wire.get("/metrics").body.decode()
    manager.close()
