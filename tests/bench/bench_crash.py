# SPDX-License-Identifier: Apache-2.0
"""The crash loop of tests/crash at its full length, in several daemons side by side."""

import collections
import json
import os
import re
import subprocess
import sys

import common

LANES = 4


def measure(arguments, scratch):
    tests = common.FAMILY.parents[1]
    lanes = []
    for lane in range(LANES):
        kills = arguments.kills // LANES + (lane < arguments.kills % LANES)
        place = scratch / f"lane{lane}"
        place.mkdir()
        environment = {**os.environ, "DIDID": str(arguments.build / "daemon" / "didid"),
                       "DIDICTL": str(arguments.build / "client" / "didictl"),
                       "DIDI_CRASH_KILLS": str(kills), "TMPDIR": str(place)}
        lanes.append(subprocess.Popen(
            [sys.executable, "-m", "pytest", "-q", "-s", "-p", "no:cacheprovider",
             str(tests / "crash" / "test_kill.py"), "-k", "test_killed_at_random_instants"],
            env=environment, stdout=subprocess.PIPE, text=True))
    total, jobs, events, ended = collections.Counter(), 0, 0, []
    for process in lanes:
        output = process.communicate()[0]
        ended.append(process.returncode)
        if process.returncode != 0:
            print(output)
        for tally in re.findall(r"^killed (.*)$", output, re.MULTILINE):
            total.update(json.loads(tally))
        jobs += sum(map(int, re.findall(r"^(\d+) jobs, all equal", output, re.MULTILINE)))
        events += sum(map(int, re.findall(r"(\d+) events, all told$", output, re.MULTILINE)))
    print(f"  {dict(sorted(total.items()))}; {jobs} jobs, all equal to uninterrupted runs; "
          f"{events} events, all told to a webhook")
    found = f"{total.total()} kills, status {max(ended)}"
    return common.verdict(f"{arguments.kills} kills", found, "status 0",
                          max(ended) == 0 and total.total() >= arguments.kills)
