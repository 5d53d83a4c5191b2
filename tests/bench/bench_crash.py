# SPDX-License-Identifier: Apache-2.0
"""The crash loop of tests/crash at its full length."""

import os
import subprocess
import sys

import common


def measure(arguments, scratch):
    tests = common.FAMILY.parents[1]
    environment = {**os.environ, "DIDID": str(arguments.build / "daemon" / "didid"),
                   "DIDICTL": str(arguments.build / "client" / "didictl"),
                   "DIDI_CRASH_KILLS": str(arguments.kills), "TMPDIR": str(scratch)}
    done = subprocess.run([sys.executable, "-m", "pytest", "-q", "-s", "-p", "no:cacheprovider",
                           str(tests / "crash" / "test_kill.py")], env=environment, check=False)
    return common.verdict(f"{arguments.kills} kills", f"status {done.returncode}", "status 0",
                          done.returncode == 0)
