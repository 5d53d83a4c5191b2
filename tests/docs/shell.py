# SPDX-License-Identifier: Apache-2.0
"""A shell that runs the commands of a document one after the other in a scratch directory."""

import os
import pathlib
import selectors
import signal
import subprocess
import time

COMMAND_SECONDS = 300
STOP_SECONDS = 30


class Shell:
    """Bash in a process group of its own: variables and programs started in the background stay
    until it is closed. `words` are replaced in commands, and back in what they print."""

    def __init__(self, folder, programs, words, environment):
        self.folder = pathlib.Path(folder)
        self.words = words
        self.count = 0
        self.answers, answer = os.pipe()
        path = os.pathsep.join([str(programs), os.environ["PATH"]])
        self.process = subprocess.Popen(
            ["bash", "--norc", "--noprofile"], cwd=folder, stdin=subprocess.PIPE, text=True,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
            pass_fds=[answer], env={**os.environ, **environment, "PATH": path, "NO_COLOR": "1",
                                    "COLUMNS": "100", "TERM": "dumb", "LC_ALL": "C.UTF-8"})
        self.answer = answer

    def run(self, command):
        """(exit status, lines printed) of one command."""
        self.count += 1
        script = self.folder / f".command{self.count}"
        printed = self.folder / f".printed{self.count}"
        for word, value in self.words.items():
            command = command.replace(word, value)
        script.write_text(command + "\n", encoding="utf-8")
        self.process.stdin.write(f". ./{script.name} >{printed.name} 2>&1 </dev/null; "
                                 f"echo $? >&{self.answer}\n")
        self.process.stdin.flush()
        status = self.wait(command)
        text = printed.read_text(encoding="utf-8", errors="replace")
        for word, value in self.words.items():
            text = text.replace(value, word)
        return status, text.replace("\r", "\n").splitlines()

    def wait(self, command):
        deadline = time.monotonic() + COMMAND_SECONDS
        with selectors.DefaultSelector() as selector:
            selector.register(self.answers, selectors.EVENT_READ)
            while time.monotonic() < deadline:
                if selector.select(timeout=0.5):
                    return int(os.read(self.answers, 16).split()[0])
                assert self.process.poll() is None, f"the shell ended at: {command}"
        raise AssertionError(f"no end within {COMMAND_SECONDS} s: {command}")

    def close(self):
        """Ends the shell and all that it started."""
        for number in (signal.SIGTERM, signal.SIGCONT):
            self.signal(number)
        self.process.stdin.close()
        deadline = time.monotonic() + STOP_SECONDS
        while self.alive() and time.monotonic() < deadline:
            self.process.poll()
            time.sleep(0.02)
        self.signal(signal.SIGKILL)
        self.process.wait()
        os.close(self.answers)
        os.close(self.answer)

    def signal(self, number):
        try:
            os.killpg(self.process.pid, number)
        except ProcessLookupError:
            pass

    def alive(self):
        try:
            os.killpg(self.process.pid, 0)
        except ProcessLookupError:
            return False
        return True
