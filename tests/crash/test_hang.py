# SPDX-License-Identifier: Apache-2.0
"""A worker that hangs: its job fails, others go on, and the service manager hears of the last."""

import socket

import pytest
import service_client as client
from service import UNDER_SANITIZER
from test_kill import specification

pytestmark = pytest.mark.skipif(UNDER_SANITIZER,
                                reason="an item takes longer than a hanging one may")
SECONDS = ("--item-seconds-max", "1")


def workers_lost(daemon):
    connection = client.http.client.HTTPConnection(daemon.url.split("//")[1], timeout=30)
    connection.request("GET", "/metrics")
    text = connection.getresponse().read().decode()
    connection.close()
    return float(next(line.split()[1] for line in text.splitlines()
                      if line.startswith("didid_workers_lost ")))


@pytest.mark.parametrize("point", ["layer", "publish"])
def test_a_job_that_hangs_fails_and_others_go_on(start_daemon, family, tmp_path, point):
    state = tmp_path / "state"
    daemon = start_daemon(family, "--workers", "2", "--running-jobs-max", "1",
                          "--shutdown-seconds", "1", *SECONDS, state=state,
                          environment={"DIDI_FAULT": f"{point}:1:HANG"})
    hung = client.submit(daemon, specification(family, "joint"), "hung")
    shown = client.wait_finished(daemon, hung)
    assert shown["state"] == "failed", shown
    assert shown["error"]["type"].endswith(":worker-lost")
    assert "item_seconds_max (1 s)" in shown["error"]["detail"]
    assert not (state / "jobs" / hung / "artifacts").exists()
    other = client.submit(daemon, specification(family, "joint"), "other")
    assert client.wait_finished(daemon, other)["state"] == "succeeded", daemon.log()
    assert workers_lost(daemon) == 1
    warning, = client.call(daemon, "GET", "/readyz")["warnings"]
    assert warning.startswith("1 of 2 workers hang")
    client.call(daemon, "POST", f"/v1/jobs/{hung}/retry")
    shown = client.wait_finished(daemon, hung)
    assert shown["state"] == "failed" and "restart the daemon" in shown["error"]["detail"], shown
    daemon.stop()  # by its deadline
    del daemon.environment["DIDI_FAULT"]
    daemon.start()
    assert workers_lost(daemon) == 0
    assert client.call(daemon, "GET", f"/v1/jobs/{hung}")["state"] == "failed"
    client.call(daemon, "POST", f"/v1/jobs/{hung}/retry")
    assert client.wait_finished(daemon, hung)["state"] == "succeeded", daemon.log()
    client.check_whole(state / "jobs" / hung / "artifacts")
    assert daemon.stop() == 0


def test_the_manager_hears_nothing_when_all_workers_hang(start_daemon, family, tmp_path):
    path = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(path))
        daemon = start_daemon(family, "--workers", "1", "--shutdown-seconds", "1", *SECONDS,
                              environment={"NOTIFY_SOCKET": str(path), "WATCHDOG_USEC": "200000",
                                           "DIDI_FAULT": "layer:1:HANG"})
        both = {client.submit(daemon, specification(family, variant), variant)
                for variant in ("joint", "average")}
        manager.settimeout(1.5)  # pings come far more often
        told = []
        with pytest.raises(TimeoutError):
            while len(told) < 200:
                told.append(manager.recv(64))
        assert b"WATCHDOG=1" in told
        daemon.wait_logged("all workers hang")
        shown = client.jobs(daemon)
        hung, = (job for job in both if shown[job]["state"] == "failed")
        waits, = both - {hung}
        assert shown[waits]["state"] in ("queued", "running")
        daemon.process.kill()
        daemon.process.wait()
        del daemon.environment["NOTIFY_SOCKET"], daemon.environment["DIDI_FAULT"]
        daemon.start()
        assert client.wait_finished(daemon, waits)["state"] == "succeeded"
        assert daemon.stop() == 0
