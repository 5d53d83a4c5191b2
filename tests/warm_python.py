# SPDX-License-Identifier: Apache-2.0
"""A Python that has slow modules imported already: each program it is asked to run is a fork of
it, as if it were started anew, without the seconds that imports of torch take.

    warm_python.py serve SOCKET MODULE...    until its standard input ends
    warm_python.py ask SOCKET PYTHON ARGUMENT...

What `ask` is given that no fork can do is done by PYTHON itself."""

import importlib
import json
import os
import pathlib
import runpy
import select
import signal
import socket
import subprocess
import sys
import time

START_SECONDS = 180
HEADER_BYTES_MAX = 1 << 20


def run(arguments):
    """The program that the arguments of `python` name, in this process."""
    if arguments[0] == "-m":
        sys.argv = arguments[1:]
        sys.path[0] = os.getcwd()
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv = arguments
        sys.path[0] = str(pathlib.Path(arguments[0]).resolve().parent)
        runpy.run_path(arguments[0], run_name="__main__")


def status_of(arguments):
    status = 0
    try:
        run(arguments)
    except SystemExit as end:
        status = end.code or 0
        if not isinstance(status, int):
            print(status, file=sys.stderr)
            status = 1
    except BaseException:  # pylint: disable=broad-exception-caught # as the interpreter does
        sys.excepthook(*sys.exc_info())
        status = 1
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    return status


def receive(connection):
    """(what to run, the descriptors of its standard streams)"""
    text, descriptors, _, _ = socket.recv_fds(connection, HEADER_BYTES_MAX, 3)
    while not text.endswith(b"\n"):
        more = connection.recv(HEADER_BYTES_MAX)
        if not more:
            raise EOFError("who asked went away")
        text += more
    return json.loads(text), descriptors


def attend(connection):
    """One program: its process is a child of this one, which tells its status."""
    asked, streams = receive(connection)
    child = os.fork()
    if child == 0:
        connection.close()
        for place, descriptor in enumerate(streams):
            os.dup2(descriptor, place)
            os.close(descriptor)
        os.chdir(asked["folder"])
        os.environ.clear()
        os.environ.update(asked["environment"])
        os._exit(status_of(asked["arguments"]))
    for descriptor in streams:
        os.close(descriptor)
    # who asks may be killed: so is then what it asked for
    while True:
        gone, status = os.waitpid(child, os.WNOHANG)
        if gone:
            break
        if select.select([connection], [], [], 0.02)[0]:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return
    connection.sendall(str(os.waitstatus_to_exitcode(status)).encode())


def serve(place, modules):
    for name in modules:
        importlib.import_module(name)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(place + ".new")
    listener.listen(16)
    os.rename(place + ".new", place)
    while True:
        ready, _, _ = select.select([listener, sys.stdin], [], [])
        if sys.stdin in ready:
            return
        connection, _ = listener.accept()
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            listener.close()
            attend(connection)
            os._exit(0)
        connection.close()


def ask(place, python, arguments):
    if not arguments or (arguments[0].startswith("-") and arguments[0] != "-m"):
        os.execv(python, [python, *arguments])
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(place)
    asked = {"arguments": arguments, "folder": os.getcwd(), "environment": dict(os.environ)}
    text = json.dumps(asked).encode() + b"\n"
    sent = socket.send_fds(connection, [text], [0, 1, 2])
    connection.sendall(text[sent:])
    answer = connection.recv(16)
    if not answer:
        sys.exit("warm_python.py: the program was lost")
    status = int(answer)
    if status < 0:  # by a signal
        signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    sys.exit(status)


class Warm:
    """A context of a program in `folder` that is run as `python` would be."""

    def __init__(self, python, folder, modules, environment=None):
        self.place = folder / "warm"
        self.server = subprocess.Popen([python, __file__, "serve", self.place, *modules],
                                       stdin=subprocess.PIPE, env=environment)
        self.program = folder / "python"
        self.program.write_text(
            f'#!/bin/sh\nexec {sys.executable} -S -E {__file__} ask {self.place} {python} "$@"\n',
            encoding="utf-8")
        self.program.chmod(0o755)

    def __enter__(self):
        deadline = time.monotonic() + START_SECONDS
        while not self.place.exists():
            if self.server.poll() is not None or time.monotonic() > deadline:
                self.server.kill()
                raise RuntimeError(f"{self.program} could not import what it should have")
            time.sleep(0.05)
        return self.program

    def __exit__(self, *_):
        self.server.stdin.close()
        self.server.wait(START_SECONDS)


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(sys.argv[2], sys.argv[3:])
    else:
        ask(sys.argv[2], sys.argv[3], sys.argv[4:])
