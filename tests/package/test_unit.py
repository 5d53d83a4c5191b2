# SPDX-License-Identifier: Apache-2.0
"""The systemd unit: how far it is closed, and that it leaves open what the daemon needs."""

import pathlib
import re
import shutil
import subprocess

import pytest

EXPOSURE_MAX = 12  # tenths, of `systemd-analyze security`

# System calls that merging, serving and telling the service manager cannot do without.
NEEDED = ["accept4", "bind", "clone3", "close_range", "connect", "copy_file_range", "epoll_wait",
          "eventfd2", "execve", "landlock_add_rule", "landlock_create_ruleset",
          "landlock_restrict_self", "memfd_create", "pidfd_open", "prctl", "prlimit64", "setsid",
          "fallocate", "fdatasync", "flock", "fsync", "futex", "getrandom", "io_uring_setup",
          "listen", "madvise", "mmap", "openat2", "pread64", "pwrite64", "renameat2", "sendfile",
          "sendmsg", "setsockopt", "socket", "timerfd_create", "umask", "unlinkat"]
# What only the operator of a machine may do.
CLOSED = ["mount", "ptrace", "setuid", "reboot", "bpf", "init_module", "mbind", "setpriority"]

pytestmark = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd here")


@pytest.fixture(scope="module")
def unit(didid):
    path = pathlib.Path(didid).resolve().parents[1] / "systemd" / "didid.service"
    assert path.is_file()
    return path


def security(unit, threshold):
    return subprocess.run(
        ["systemd-analyze", "security", "--offline=true", f"--threshold={threshold}", "--no-pager",
         unit], capture_output=True, text=True, check=False)


def test_exposure_is_low(unit):
    done = security(unit, EXPOSURE_MAX)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr


def test_the_bar_can_be_missed(unit, tmp_path):
    """What an open unit is told: so that the test above means something."""
    text = re.sub(r"^(Protect|Private|Restrict|SystemCall|Capability)\w*=.*\n", "",
                  unit.read_text(), flags=re.MULTILINE)
    opened = tmp_path / "didid.service"
    opened.write_text(text)
    assert security(opened, EXPOSURE_MAX).returncode != 0


def calls_of(word):
    """The system calls that a name or a @set stands for."""
    if not word.startswith("@"):
        return {word}
    text = subprocess.run(["systemd-analyze", "--no-pager", "syscall-filter", word], check=True,
                          capture_output=True, text=True).stdout
    members = [line.strip() for line in text.splitlines()[1:]]
    return set().union(*(calls_of(member) for member in members
                         if member and not member.startswith("#")))


def allowed_calls(unit):
    allowed = set()
    for line in re.findall(r"^SystemCallFilter=(.*)$", unit.read_text(), re.MULTILINE):
        named = set().union(*(calls_of(word) for word in line.lstrip("~").split()))
        allowed = allowed - named if line.startswith("~") else allowed | named
    return allowed


def test_system_calls_that_are_needed_are_allowed(unit):
    allowed = allowed_calls(unit)
    assert [call for call in NEEDED if call not in allowed] == []
    assert [call for call in CLOSED if call in allowed] == []


def test_a_refused_call_does_not_kill(unit):
    assert "SystemCallErrorNumber=EPERM" in unit.read_text().splitlines()


def test_names_that_documents_rely_on(unit):
    lines = unit.read_text().splitlines()
    for line in ("Type=notify", "WatchdogSec=60", "LimitCORE=0", "RuntimeDirectory=didid",
                 "StateDirectory=didid", "ExecReload=/bin/sh -c \"kill -HUP $MAINPID\"",
                 "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6"):
        assert line in lines
