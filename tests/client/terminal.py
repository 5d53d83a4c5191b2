# SPDX-License-Identifier: Apache-2.0
"""A terminal that a program runs in: a pseudo terminal of some width, and what it was told."""

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time

SECONDS = 60
ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Terminal:
    def __init__(self, command, environment, columns=80, rows=24):
        self.master, slave = pty.openpty()
        self.shown = b""
        self.set_size(columns, rows)
        self.process = subprocess.Popen(
            command, env={**environment, "TERM": environment.get("TERM_OF_TEST", "xterm")},
            stdin=slave, stdout=slave, stderr=slave, start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0))
        os.close(slave)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self.master)

    def set_size(self, columns, rows=24):
        """The kernel tells the program by SIGWINCH."""
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def read(self, seconds):
        """Takes what comes within so long; False when the program has closed its end."""
        if not select.select([self.master], [], [], seconds)[0]:
            return True
        try:
            self.shown += os.read(self.master, 65536)
        except OSError:
            return False
        return True

    def text(self):
        return self.shown.decode("utf-8", "replace")

    def wait_for(self, *patterns, after=0, without_escapes=False):
        """Until all of the regular expressions are in what came after so many bytes."""
        deadline = time.monotonic() + SECONDS
        while True:
            text = self.shown[after:].decode("utf-8", "replace")
            text = ESCAPE.sub("", text) if without_escapes else text
            if all(re.search(pattern, text) for pattern in patterns):
                return text
            assert time.monotonic() < deadline and self.read(0.2), text

    def press(self, keys):
        os.write(self.master, keys)

    def end(self, status=0):
        """All that was written, once the program has ended."""
        deadline = time.monotonic() + SECONDS
        while self.read(0.2):
            assert time.monotonic() < deadline, self.text()
        assert self.process.wait(SECONDS) == status, self.text()
        return self.text()

    def interrupt(self):
        self.process.send_signal(signal.SIGINT)


def lines_of(text):
    """What stood on a line at some time, without escapes: each is redrawn from its beginning."""
    return [line for line in re.split(r"[\r\n]+", ESCAPE.sub("", text)) if line]
