#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A scheduler for tests of the executor `command`: tasks are processes on this machine, each beside
a keeper that outlives the daemon. Run as `processes.py DIRECTORY submit|status|cancel
[HANDLE]`.

Files in DIRECTORY steer it: `closed` (it does not answer: its text is what it says), `refuses`
(it refuses for good), `deaf` (it takes one order and says that it does not answer), `at_once` (how
many tasks run; the others wait). `asked` gets a line for each time that it did not answer."""

import fcntl
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

HOME = pathlib.Path(sys.argv[1])
LATER = 75


def answers():
    for name, code in (("closed", LATER), ("refuses", 1)):
        if (HOME / name).exists():
            with open(HOME / "asked", "a") as file:
                print(sys.argv[2], file=file)
            print((HOME / name).read_text(), file=sys.stderr)
            sys.exit(code)


def locked(path):
    """An open file that nobody else holds, or None."""
    file = open(path, "a+")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        return None
    return file


def may_begin(at_once):
    """One of the places where tasks run, as long as it is held."""
    for place in range(at_once):
        lock = locked(HOME / f"place-{place}")
        if lock:
            return lock
    return None


def keep(order, task):
    """A task from its start to its end, beside whoever asked for it."""
    place = HOME / order["name"]
    alive = locked(place / f"{task}.lock")
    begun = None
    while not begun and not (place / "cancelled").exists():
        limit = HOME / "at_once"
        # empty for an instant while a test writes it
        begun = may_begin(int(limit.read_text() or 0) if limit.exists() else 64)
        time.sleep(0 if begun else 0.02)
    if begun:
        with open(pathlib.Path(order["directory"]) / f"task-{task}.log", "ab") as log:
            child = subprocess.Popen([*order["command"], str(task)], stdout=log, stderr=log,
                                     stdin=subprocess.DEVNULL)
        (place / f"{task}.pid").write_text(str(child.pid))
        code = child.wait()
    else:
        code = -signal.SIGTERM
    temporary = place / f".{task}.end"
    temporary.write_text(str(code))
    temporary.rename(place / f"{task}.end")
    alive.close()


def submit():
    order = json.load(sys.stdin)
    place = HOME / order["name"]
    if place.exists():  # the name is known: it is this order
        print(order["name"])
        return
    place.mkdir()
    (place / "order.json").write_text(json.dumps(order))
    for task in order["tasks"]:
        if os.fork() == 0:
            os.setsid()
            null = os.open(os.devnull, os.O_RDWR)
            for descriptor in range(3):
                os.dup2(null, descriptor)
            os.closerange(3, 256)
            try:
                keep(order, task)
            finally:
                os._exit(0)
    while not all((place / f"{task}.lock").exists() for task in order["tasks"]):
        time.sleep(0.005)
    if (HOME / "deaf").exists():
        (HOME / "deaf").unlink()
        sys.exit(LATER)
    print(order["name"])


def state(place, task):
    end = place / f"{task}.end"
    if end.exists():
        code = int(end.read_text())
        if code == 0:
            return "ended"
        if code == -signal.SIGKILL:
            return "killed its node is gone"
        return f"failed {code if code > 0 else 128 - code}"
    if (place / f"{task}.pid").exists():
        return "running"
    return "waiting all places are taken"


def status(handle):
    place = HOME / handle
    for task in json.loads((place / "order.json").read_text())["tasks"]:
        print(task, state(place, task))


def cancel(handle):
    place = HOME / handle
    (place / "cancelled").touch()
    for pid in place.glob("*.pid"):
        if not pid.with_suffix(".end").exists():
            try:
                os.kill(int(pid.read_text()), signal.SIGTERM)
            except ProcessLookupError:
                pass


if __name__ == "__main__":
    answers()
    {"submit": submit, "status": status, "cancel": cancel}[sys.argv[2]](*sys.argv[3:])
