# SPDX-License-Identifier: Apache-2.0
"""The closing lines of a run of `meson test`: each runner's own, then all of them together.

usage: totals.py BUILD
"""

import json
import pathlib
import re
import sys

PYTEST_CLOSING = re.compile(r"^=*\s*((?:\d+ [a-z]+, )*\d+ [a-z]+)( in [\d.]+s)\b.*$", re.MULTILINE)
TAP_LINE = re.compile(r"^(not )?ok\b(.*)$", re.MULTILINE)
GOOD = ("OK", "SKIP", "EXPECTEDFAIL")


def pytest_counts(text):
    """Closing line of pytest and its (passed, failed, skipped), or None."""
    found = PYTEST_CLOSING.findall(text)
    if not found:
        return None
    words, seconds = found[-1]
    counts = {word.rstrip("s"): int(number)
              for number, word in (part.split() for part in words.split(", "))}
    failed = counts.get("failed", 0) + counts.get("error", 0)
    return words + seconds, (counts.get("passed", 0), failed, counts.get("skipped", 0))


def tap_counts(text):
    """(passed, failed, skipped) of a run that speaks TAP, or None."""
    found = TAP_LINE.findall(text)
    if not found:
        return None
    skipped = sum("# skip" in rest.lower() for bad, rest in found if not bad)
    failed = sum(bool(bad) for bad, _ in found)
    return len(found) - failed - skipped, failed, skipped


def counts_of(row):
    """What one test of meson counts for, and the line to show."""
    text = row.get("stdout") or ""
    good = row["result"] in GOOD
    closing, counts = None, None
    if (seen := pytest_counts(text)) is not None:
        closing, counts = seen
    elif (seen := tap_counts(text)) is not None:
        counts = seen
    else:
        counts = (int(row["result"] == "OK"), 0, int(row["result"] == "SKIP"))
    if not good and counts[1] == 0:  # it timed out, crashed, or a sanitizer ended it
        counts = (counts[0], 1, counts[2])
    if closing is None:
        closing = f"{counts[0]} passed, {counts[1]} failed"
    return counts, f"{row['name']}: {closing}" + ("" if good else f" ({row['result']})")


def main():
    log = pathlib.Path(sys.argv[1]) / "meson-logs" / "testlog.json"
    if not log.exists():
        return 0  # nothing was run: `./run test --list` and the like
    passed = failed = skipped = 0
    for line in log.read_text(errors="replace").splitlines():
        counts, shown = counts_of(json.loads(line))
        print(shown)
        passed, failed, skipped = passed + counts[0], failed + counts[1], skipped + counts[2]
    print(f"{passed} passed, {failed} failed" + (f", {skipped} skipped" if skipped else ""))
    return int(failed > 0)


sys.exit(main())
