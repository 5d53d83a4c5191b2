#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The executor `command` without a scheduler: tasks run on machines that ssh reaches and that share
the state directory and the models. Settings of didid:

  executor = command
  command_submit = /usr/bin/python3 .../machines.py submit localhost:2 node7:16
  command_status = /usr/bin/python3 .../machines.py status
  command_cancel = /usr/bin/python3 .../machines.py cancel

HOST:N takes N tasks at once. An order is kept by a process of its own, which outlives didid; what
it knows lies in MACHINES_DIR (/var/tmp/didid-machines), a folder for each order."""

import fcntl
import json
import os
import pathlib
import shlex
import signal
import subprocess
import sys
import threading

HOME = pathlib.Path(os.environ.get("MACHINES_DIR", "/var/tmp/didid-machines"))
LATER = 75  # exit code: ask again later
LOST = (255, -signal.SIGKILL, -signal.SIGTERM)  # ssh that got nowhere; killed


def note(place, task, text):
    """What status prints of a task: whole or not at all."""
    temporary = place / f".{task}"
    temporary.write_text(text)
    temporary.rename(place / task)


def words_on(host, words):
    if host == "localhost":
        return words
    return ["ssh", "-tt", "-o", "BatchMode=yes", host, "exec " + shlex.join(words)]


def run_tasks(order, place, host, tasks, lock):
    """One at a time, as long as there are some."""
    while True:
        with lock:
            if not tasks:
                return
            task = str(tasks.pop(0))
        note(place, task, "running")
        with open(pathlib.Path(order["directory"]) / f"task-{task}.log", "ab") as log:
            code = subprocess.run(words_on(host, [*order["command"], task]), check=False,
                                  stdin=subprocess.DEVNULL, stdout=log, stderr=log).returncode
        if code == 0:
            note(place, task, "ended")
        elif code in LOST:
            note(place, task, f"killed on {host}")
        else:
            note(place, task, f"failed {code if code > 0 else 128 - code} on {host}")


def keep(order, place, machines):
    tasks, lock = list(order["tasks"]), threading.Lock()
    threads = [threading.Thread(target=run_tasks, args=(order, place, host, tasks, lock))
               for host, count in machines for _ in range(int(count))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def submit(*machines):
    order = json.load(sys.stdin)
    place = HOME / order["name"]
    place.mkdir(parents=True, exist_ok=True)
    alive = open(place / "keeper", "a+")
    try:
        fcntl.flock(alive, fcntl.LOCK_EX | fcntl.LOCK_NB)
        is_new = not alive.seek(0, os.SEEK_END)
    except OSError:
        is_new = False  # told twice: the same order
    if is_new:
        for task in order["tasks"]:
            note(place, str(task), "waiting for a machine")
        if os.fork() == 0:  # the lock goes with it
            os.setsid()
            null = os.open(os.devnull, os.O_RDWR)
            for descriptor in range(3):
                os.dup2(null, descriptor)
            alive.write(str(os.getpid()))
            alive.flush()
            keep(order, place, [machine.rsplit(":", 1) for machine in machines])
            os._exit(0)
    print(order["name"])


def keeper(place):
    """The number of the process that keeps an order; None where it is gone."""
    with open(place / "keeper", encoding="utf-8") as alive:
        try:
            fcntl.flock(alive, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return int(alive.read() or 0)
    return None


def status(handle):
    place = HOME / handle
    if not place.exists():
        return  # known no more
    is_kept = keeper(place) is not None
    for path in place.glob("[0-9]*"):
        told = path.read_text()
        if not is_kept and told.split()[0] in ("waiting", "running"):
            told = "killed with the machine that kept the order"
        print(path.name, told)


def cancel(handle):
    pid = keeper(HOME / handle) if (HOME / handle).exists() else None
    if pid:
        os.killpg(pid, signal.SIGTERM)  # and what it runs


if __name__ == "__main__":
    try:
        {"submit": submit, "status": status, "cancel": cancel}[sys.argv[1]](*sys.argv[2:])
    except OSError as trouble:
        print(trouble, file=sys.stderr)
        sys.exit(LATER)
