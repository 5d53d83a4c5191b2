# SPDX-License-Identifier: Apache-2.0
"""Limits of address space: refused at start with the figure, or enough for whole merges."""

import json
import re
import resource
import subprocess

import pytest
import service_client as client
from service import UNDER_SANITIZER
from test_kill import specification

pytestmark = pytest.mark.skipif(UNDER_SANITIZER, reason="a sanitizer takes terabytes of addresses")
MEBIBYTE = 1 << 20


def under(limit):
    """Arguments of Popen that set the limit."""
    return {"preexec_fn": lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit))}


def refusal(command, limit):
    """What a program says that must end at once under the limit."""
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True,
                          timeout=30, check=False, **under(limit))
    assert done.returncode == 1, done
    line, = done.stderr.splitlines()
    assert "RLIMIT_AS" in line and str(limit) in line
    return int(re.search(r"need (\d+) bytes", line).group(1))


def serve_command(didid, family, tmp_path):
    return [didid, "--state-dir", tmp_path / "refused", "--models", family, "--listen",
            "127.0.0.1:0", "--workers", "2"]


@pytest.mark.parametrize("mebibytes", [120, 200, 400])
def test_too_little_address_space_is_refused_with_the_figure(didid, family, tmp_path, mebibytes):
    limit = mebibytes * MEBIBYTE
    needed = refusal(serve_command(didid, family, tmp_path), limit)
    assert limit < needed < 2048 * MEBIBYTE
    written = tmp_path / "one.json"
    written.write_text(json.dumps(specification(family, "joint")))
    refusal([didid, "run", written, "--models", family, "--out", tmp_path / "out",
             "--workers", "2"], limit)
    assert not (tmp_path / "out").exists()


def test_what_it_asked_for_is_enough(didid, start_daemon, family, tmp_path):
    limit = refusal(serve_command(didid, family, tmp_path), 400 * MEBIBYTE)
    daemon = start_daemon(family, "--workers", "2")
    daemon.stop()
    daemon.command = ["prlimit", f"--as={limit}", *daemon.command]
    daemon.start()
    for number in range(2):
        job = client.submit(daemon, specification(family, "pursuit"), f"{number}")
        assert client.wait_finished(daemon, job)["state"] == "succeeded", daemon.log()
    assert daemon.stop() == 0
    written = tmp_path / "one.json"
    written.write_text(json.dumps(specification(family, "joint")))
    subprocess.run([didid, "run", written, "--models", family, "--out", tmp_path / "out",
                    "--workers", "2"], check=True, capture_output=True, timeout=60,
                   **under(limit))
    client.check_whole(tmp_path / "out")
