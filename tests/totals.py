# SPDX-License-Identifier: Apache-2.0
"""The closing lines of a run of `meson test`: each runner's own, then all of them together.

usage: totals.py BUILD
       totals.py BUILD --failed   the names of tests that failed, where few enough did to try again
"""

import json
import pathlib
import re
import sys

PYTEST_CLOSING = re.compile(r"^=*\s*((?:\d+ [a-z]+, )*\d+ [a-z]+)( in [\d.]+s)\b.*$", re.MULTILINE)
TAP_LINE = re.compile(r"^(not )?ok\b(.*)$", re.MULTILINE)
GOOD = ("OK", "SKIP", "EXPECTEDFAIL")
MOST_AGAIN = 3


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


def rows(log):
    return [json.loads(line) for line in log.read_text(errors="replace").splitlines()] \
        if log.exists() else []


def failed_names(first):
    """As `meson test` takes them; none where so many failed that it was no accident."""
    names = [row["name"].split(" / ")[-1] for row in first if row["result"] not in GOOD]
    return names if len(names) <= MOST_AGAIN else []


def main():
    logs = pathlib.Path(sys.argv[1]) / "meson-logs"
    first = rows(logs / "testlog.json")
    if sys.argv[2:] == ["--failed"]:
        print("\n".join(failed_names(first)))
        return 0
    again = {row["name"]: row for row in rows(logs / "again.json")}
    passed = failed = skipped = 0
    unsteady = []
    for row in first:
        if row["result"] not in GOOD and row["name"] in again:
            row = again[row["name"]]
            if row["result"] in GOOD:
                unsteady.append(row["name"])
        counts, shown = counts_of(row)
        print(shown)
        passed, failed, skipped = passed + counts[0], failed + counts[1], skipped + counts[2]
    for name in unsteady:
        print(f"UNSTEADY: {name} failed beside the others and passed alone: its output is above")
    if first:
        print(f"{passed} passed, {failed} failed" + (f", {skipped} skipped" if skipped else ""))
    return int(failed > 0)


sys.exit(main())
